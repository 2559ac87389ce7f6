"""Linking: local speakers of overlapping windows become speakers of the recording, whatever they are called in each window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast import linking

FRAMES, SHIFT = 250, 62  # of 40 ms: windows of 10 s every 2.5 s
SETS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=np.float32)


def talk(seconds: float, speakers: int, seed: int) -> np.ndarray:
    """Who speaks in each frame, [F, K]: turns of 1 to 4 s, some of them begun before the last one ends, pauses in between."""
    draw = np.random.default_rng(seed)
    truth = np.zeros((round(seconds / 0.04), speakers), dtype=bool)
    at, who = 0, 0
    while at < len(truth):
        long = int(draw.integers(25, 100))
        truth[at : at + long, who] = True
        at += long + int(draw.integers(-15, 20))
        who = int((who + draw.integers(1, speakers)) % speakers) if speakers > 1 else 0
    return truth


def windows(truth: np.ndarray, seed: int) -> tuple[np.ndarray, list[int], np.ndarray]:
    """What a perfect segmentation hears, names drawn anew in each window: [W, T, S], where windows begin, and who is meant, [W, S]."""
    draw = np.random.default_rng(seed)
    starts = list(range(0, max(1, len(truth) - FRAMES + 1), SHIFT))
    if starts[-1] + FRAMES < len(truth):
        starts.append(len(truth) - FRAMES)
    heard, meant = np.zeros((len(starts), FRAMES, 3), dtype=bool), np.zeros((len(starts), 3), dtype=int)
    for w, start in enumerate(starts):
        piece = truth[start : start + FRAMES]
        most = draw.permutation(np.argsort(-piece.sum(0), kind="stable")[:3])
        meant[w, : len(most)] = most
        heard[w, : len(piece), : len(most)] = piece[:, most]
    return heard, starts, meant


def voices_of(some: list[linking.Local], meant: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Embeddings [N, 16]: a direction a speaker, and noise."""
    draw = np.random.default_rng(seed)
    own = np.linalg.qr(draw.standard_normal((16, 16)))[0]
    return np.array([own[meant[one.window, one.speaker]] + noise * draw.standard_normal(16) for one in some])


def matched(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of frames in which speakers are as they should be, by the names that fit best."""
    from scipy.optimize import linear_sum_assignment

    both = found.T.astype(float) @ truth
    rows, columns = linear_sum_assignment(-both)
    renamed = np.zeros_like(truth)
    renamed[:, columns] = found[:, rows]
    return float((renamed == truth).all(axis=1).mean())


@pytest.mark.parametrize("seconds", [8.0, 40.0, 700.0])
def test_perfect_windows_and_likely_voices_give_back_who_spoke_when(seconds: float):
    truth = talk(seconds, 3, seed=1)
    heard, starts, meant = windows(truth, seed=2)
    assert seconds < 600 or len(starts) > 2 * linking.BLOCK
    some = linking.locals_of(heard, 10)
    labels = linking.linked(voices_of(some, meant, 0.1, seed=3), some, heard, starts, same=0.4)
    found = linking.together(heard, some, labels, starts, truth.any(axis=1))
    assert labels.max() + 1 == truth.any(axis=0).sum()
    assert matched(found, truth) > 0.98


def test_shared_time_links_what_voices_leave_open():
    truth = talk(40.0, 2, seed=4)
    heard, starts, _ = windows(truth, seed=5)
    some = linking.locals_of(heard, 10)
    alike = np.ones((len(some), 4))  # everybody sounds the same
    labels = linking.linked(alike, some, heard, starts, same=0.9)
    assert matched(linking.together(heard, some, labels, starts, truth.any(axis=1)), truth) > 0.98


def test_two_of_one_window_are_two_however_alike_they_sound():
    truth = talk(9.9, 2, seed=6)
    heard, starts, _ = windows(truth, seed=7)
    some = linking.locals_of(heard, 10)
    assert (len(some), len(starts)) == (2, 1)
    assert linking.linked(np.ones((2, 4)), some, heard, starts, same=0.9).tolist() == [0, 1]
    assert linking.linked(np.ones((2, 4)), some, heard, starts, same=0.9, high=1).tolist() == [0, 0]


@pytest.mark.parametrize("wanted", [1, 2, 5])
@pytest.mark.parametrize("seconds", [40.0, 700.0])
def test_the_wanted_number_of_speakers_is_found(wanted: int, seconds: float):
    truth = talk(seconds, 3, seed=8)
    heard, starts, meant = windows(truth, seed=9)
    some = linking.locals_of(heard, 10)
    labels = linking.linked(voices_of(some, meant, 0.1, seed=10), some, heard, starts, same=0.4, low=wanted, high=wanted)
    assert sorted(set(labels.tolist())) == list(range(wanted))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.floats(1.0, 60.0), st.integers(0, 99))
def test_somebody_speaks_wherever_there_is_speech_and_nobody_elsewhere(speakers: int, seconds: float, seed: int):
    truth = talk(seconds, speakers, seed)
    heard, starts, meant = windows(truth, seed)
    some = linking.locals_of(heard, 10)
    labels = linking.linked(voices_of(some, meant, 0.3, seed), some, heard, starts, same=0.4)
    found = linking.together(heard, some, labels, starts, truth.any(axis=1))
    assert found.shape[0] == len(truth)
    assert not some or (found.any(axis=1) == truth.any(axis=1)).all()


def test_the_best_set_that_speaks_is_taken_where_there_is_speech():
    activity = np.array([[[0.9, 0.06, 0.04, 0, 0, 0, 0], [0.1, 0.3, 0.1, 0.05, 0.24, 0.2, 0.0], [0.8, 0.2, 0, 0, 0, 0, 0]]])
    found = linking.active(activity, SETS, np.array([[True, True, False]]))
    assert found.tolist() == [[[True, False, False], [True, False, False], [False, False, False]]]
    assert linking.active(activity, SETS, np.array([[True, True, True]]), together=0.4)[0, 1].tolist() == [True, True, False]


def test_who_says_little_joins_whom_they_sound_like():
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    labels = np.array([0, 1, 2, 2])
    assert linking.strays_joined(labels, rows, np.array([9.0, 0.5, 5.0, 5.0]), 2.0).tolist() == [0, 0, 1, 1]
    assert linking.strays_joined(labels, rows, np.array([9.0, 2.5, 5.0, 5.0]), 2.0).tolist() == [0, 1, 2, 2]


def test_a_stray_is_nobody_of_those_who_were_asked_for():
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6], [0.8, 0.6], [-1.0, 0.2]])
    seconds = np.array([8.0, 8.0, 8.0, 8.0, 0.5])
    trees = {1: [0, 0, 0, 0, 0], 2: [0, 0, 0, 0, 1], 3: [0, 0, 1, 1, 2], 4: [0, 1, 2, 2, 3], 5: [0, 1, 2, 3, 4]}

    def settled(low: int, high: int, least_s: float = 2.0) -> list[int]:
        return linking.settled(lambda low, high: np.array(trees[max(low, min(2, high))]), rows, seconds, least_s, low, high).tolist()

    assert settled(1, 20) == [0, 0, 0, 0, 0], "free, it stays as many as are found, strays joined"
    assert settled(2, 2) == [0, 0, 1, 1, 1]
    assert settled(2, 20) == [0, 0, 1, 1, 1]
    assert settled(3, 4) == [0, 1, 2, 2, 2]
    assert settled(2, 2, least_s=0.1) == [0, 0, 0, 0, 1]
    alone = linking.settled(lambda low, high: np.array(trees[2]), rows, seconds, 2.0, 2, 2)
    assert alone.tolist() == trees[2], "where more groups do not help, the stray counts after all"
