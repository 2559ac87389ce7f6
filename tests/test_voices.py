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


@pytest.mark.parametrize("counts", [[40], [30, 30], [50, 10], [25, 30, 20], [20, 20, 20, 20], [300, 60, 120]])
def test_speakers_far_apart_are_found_and_counted(counts: list[int]) -> None:
    rows, truth = people(counts)
    assert voices.assign(rows).tolist() == truth.tolist()


def test_more_windows_than_are_compared_pairwise_are_all_given_a_speaker() -> None:
    rows, truth = people([voices.MAX_POINTS, voices.MAX_POINTS // 2, 900])
    assert voices.assign(rows).tolist() == truth.tolist()


def test_a_small_share_is_a_speaker_where_it_is_long_enough() -> None:
    rows, truth = people([1000, 70])
    assert voices.assign(rows, min_share=0.1, enough=60).tolist() == truth.tolist()
    assert set(voices.assign(rows, min_share=0.1, enough=80).tolist()) == {0}
    assert voices.assign(rows, min_share=0.05, enough=80).tolist() == truth.tolist()


def test_groups_of_one_speaker_are_joined_and_a_scattered_recording_asks_for_less() -> None:
    for spread in (0.3, 1.2):
        rows, truth = people([60, 60], spread=spread)
        split = 2 * truth + (np.arange(120) % 2)  # each speaker in two halves
        found = voices.joined(rows, split, np.arange(120.0), 1.0, 0.68, 2)
        assert found.tolist() == truth.tolist()
    one, _ = people([120], spread=1.2)
    assert set(voices.joined(one, np.arange(120) % 3, np.arange(120.0), 1.0, 0.68, 2).tolist()) == {0}


def test_windows_that_share_sound_do_not_make_a_group_look_alike() -> None:
    """Two runs of one speaker's overlapping windows: within a run they resemble each other because they hold the same words."""
    rng = np.random.default_rng(0)
    voice = voices.unit(rng.standard_normal((1, 64)))
    words = np.repeat(voices.unit(rng.standard_normal((20, 64))), 4, axis=0)  # four windows of each word
    rows = voices.unit(voice + words + 0.05 * rng.standard_normal((80, 64)))
    halves = (np.arange(80) % 8 < 4).astype(np.int64)  # words in turns
    assert set(voices.joined(rows, halves, np.arange(80.0), 4.0, 0.68, 2).tolist()) == {0}
    blocks = np.arange(80) // 4
    assert len(set(voices.joined(rows, blocks, np.arange(80.0), 0.0, 0.68, 2).tolist())) > 1


def test_a_small_group_joins_the_most_alike_even_where_it_is_not_alike() -> None:
    rows, truth = people([50, 40, 6])
    found = voices.joined(rows, truth, np.arange(96.0), 0.0, 0.68, 10)
    assert set(found.tolist()) == {0, 1}
    assert voices.joined(rows, truth, np.arange(96.0), 0.0, 0.68, 5).tolist() == truth.tolist()


def test_similarities_and_centres_are_those_of_all_windows_at_once() -> None:
    rows, truth = people([4000, 1500, 600])  # more than one part
    centres = voices.centroids(rows.astype(np.float32), truth)
    wanted = voices.unit(np.stack([rows[truth == k].mean(axis=0) for k in range(3)]))
    np.testing.assert_allclose(centres, wanted, atol=1e-6)
    found = voices.similarities(rows.astype(np.float32), centres)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows @ wanted.T, atol=1e-5)
    assert (voices.nearest(rows, centres) == truth).all()


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
