from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast import voices


def people(counts: list[int], spread: float = 0.35, width: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around as many random directions as counts, and who is who, in a random order."""
    rng = np.random.default_rng(seed)
    centres = voices.unit(rng.standard_normal((len(counts), width)))
    truth = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    noise = rng.standard_normal((len(truth), width)) / np.sqrt(width)
    return voices.unit(centres[truth] + spread * noise), voices.by_appearance(truth)


@pytest.mark.parametrize("counts", [[40], [30, 30], [50, 10], [25, 30, 20], [20, 20, 20, 20], [300, 40, 120]])
def test_speakers_far_apart_are_found_and_counted(counts: list[int]) -> None:
    rows, truth = people(counts)
    assert voices.assign(rows).tolist() == truth.tolist()


def test_more_windows_than_are_compared_pairwise_are_all_given_a_speaker() -> None:
    rows, truth = people([voices.MAX_POINTS, voices.MAX_POINTS // 2, 900])
    assert voices.assign(rows).tolist() == truth.tolist()


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_a_given_number_of_speakers_is_kept(num: int) -> None:
    rows, _ = people([30, 30, 30])
    assert len(set(voices.assign(rows, num_speakers=num).tolist())) == num


def test_bounds_on_the_number_are_kept() -> None:
    rows, _ = people([30, 30, 30])
    assert len(set(voices.assign(rows, max_speakers=2).tolist())) == 2
    assert len(set(voices.assign(rows, min_speakers=4).tolist())) == 4
    assert len(set(voices.assign(rows, min_speakers=2, max_speakers=5).tolist())) == 3


def test_no_windows_one_window_and_equal_windows_are_no_problem() -> None:
    assert voices.assign(np.zeros((0, 8))).tolist() == []
    assert voices.assign(np.ones((1, 8)), num_speakers=2).tolist() == [0]
    assert voices.assign(np.ones((9, 8))).tolist() == [0] * 9
    assert set(voices.assign(np.ones((9, 8)), num_speakers=3).tolist()) <= {0, 1, 2}
    assert voices.assign(np.zeros((4, 8))).tolist() == [0] * 4


def test_a_stray_window_is_no_speaker() -> None:
    rows, truth = people([60, 60])
    stray = voices.unit(np.random.default_rng(9).standard_normal((1, 64)))
    found = voices.assign(np.concatenate([rows, stray]))
    assert found[:-1].tolist() == truth.tolist()
    assert found[-1] in (0, 1)


@pytest.mark.parametrize(
    ("limits", "words"),
    [((2, 1, None), "not both"), ((0, None, None), "wanted 1 <="), ((None, 4, 3), "wanted 1 <="), ((None, None, 0), "wanted 1 <=")],
)
def test_numbers_of_speakers_that_contradict_each_other_are_refused(limits: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        voices.speaker_limits(*limits)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_the_best_path_is_the_best_of_all_paths(seed: int, steps: int, num: int, varying: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((steps, num))
    penalty = rng.uniform(0, 2, steps) if varying else np.full(steps, 0.7)

    def value(path: tuple[int, ...]) -> float:
        gains = sum(scores[t, k] for t, k in enumerate(path))
        return float(gains - sum(penalty[t] for t in range(1, steps) if path[t] != path[t - 1]))

    best = max(value(path) for path in itertools.product(range(num), repeat=steps))
    found = voices.best_path(scores, penalty if varying else 0.7)
    assert value(tuple(found.tolist())) == pytest.approx(best)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_speakers_are_numbered_as_they_are_first_heard(labels: list[int]) -> None:
    found = voices.by_appearance(np.array(labels)).tolist()
    assert list(dict.fromkeys(found)) == list(range(len(set(labels))))
    assert all((a == b) == (x == y) for (a, x), (b, y) in itertools.combinations(zip(labels, found, strict=True), 2))
