"""Which layers carry over: covariances that are the same, classes that can be told, groups that are neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.nn import anchors


def test_the_same_distribution_is_as_alike_as_halves_and_another_is_not() -> None:
    rng = np.random.default_rng(0)
    source, same, other = rng.normal(size=(200, 6)), rng.normal(size=(80, 6)), rng.normal(size=(80, 6))
    other[:, 1] = 0.9 * other[:, 0] + 0.1 * other[:, 1]
    assert anchors.likeness(source, same) > 0.7
    assert anchors.likeness(source, other) < 0.4
    assert anchors.likeness(100 * source, 100 * same) == pytest.approx(anchors.likeness(source, same))  # of no scale
    assert anchors.likeness(source + 50, same) == pytest.approx(anchors.likeness(source, same))  # and of no mean


def test_halves_of_speakers_differ_more_than_halves_of_stretches() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), 30)
    voices = rng.normal(size=(8, 4))[groups]
    source, target = voices + 0.3 * rng.normal(size=(240, 4)), rng.normal(size=(100, 4))
    assert anchors.likeness(source, target, groups) > anchors.likeness(source, target)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 99))
def test_distances_of_few_rows_are_those_of_many(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rows, width)), rng.normal(size=(rows, width))
    wanted = np.square(np.cov(a.T).reshape(width, width) - np.cov(b.T).reshape(width, width)).sum()
    assert anchors._apart(a, b) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_a_probe_tells_what_is_there() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 150)
    assert anchors.probe(np.eye(3)[truth] + 0.2 * rng.normal(size=(150, 3)), truth) > 0.9
    assert anchors.probe(rng.normal(size=(150, 3)), truth) < 0.5
    assert anchors.probe(rng.normal(size=(5, 3)), np.array([0, 0, 0, 0, 1])) == 0.5  # too few to try
    speakers = np.repeat(np.arange(30), 5)
    named = np.eye(30)[speakers] + 0.01 * rng.normal(size=(150, 30))
    of_speakers = rng.integers(0, 3, 30)[speakers]
    assert anchors.probe(named, of_speakers) > 0.9 > 0.6 > anchors.probe(named, of_speakers, speakers)


def test_too_few_stretches_are_refused() -> None:
    with pytest.raises(ValueError, match="four stretches"):
        anchors.likeness(np.zeros((3, 2)), np.zeros((9, 2)))


def test_groups_are_neighbours() -> None:
    assert anchors.best_group([0.1, 0.9, 0.2, 0.8, 0.7], 2) == [3, 4]
    assert anchors.best_group([0.5, 0.5], 1) == [0]
    assert anchors.best_group([0.5, 0.6], 9) == [0, 1]
    drawn = [anchors.random_group(6, 3, draw) for draw in range(40)]
    assert {tuple(group) for group in drawn} == {(i, i + 1, i + 2) for i in range(4)}
    assert anchors.random_group(6, 3, 7) == anchors.random_group(6, 3, 7)
