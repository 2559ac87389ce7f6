"""Scores against scikit-learn, intervals against what a bootstrap over speakers must give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from moodcast import metrics


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_scores_equal_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = zip(*pairs, strict=True)
    counts = metrics.confusion(truth, guess, 4)
    present = sorted(set(truth))
    assert metrics.uar(counts) == pytest.approx(recall_score(truth, guess, labels=present, average="macro", zero_division=0))
    assert metrics.accuracy(counts) == pytest.approx(accuracy_score(truth, guess))
    seen = sorted(set(truth) | set(guess))
    assert metrics.macro_f1(counts) == pytest.approx(f1_score(truth, guess, labels=seen, average="macro", zero_division=0))


def test_counts_by_speaker_add_up_to_the_pool() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 50).tolist(), rng.integers(0, 3, 50).tolist()
    speakers = [f"s{i % 7}" for i in range(50)]
    assert np.array_equal(metrics.by_speaker(truth, guess, speakers, 3).sum(0), metrics.confusion(truth, guess, 3))


def test_a_speaker_interval_is_wider_than_an_utterance_interval_where_speakers_differ() -> None:
    """Six speakers, each all right or all wrong: as good as six observations, however many utterances they hold."""
    truth = [i % 2 for i in range(600)]
    speakers = [f"s{i // 100}" for i in range(600)]
    guess = [t if i // 100 % 2 else 1 - t for i, t in enumerate(truth)]
    by_speaker = metrics.speaker_bootstrap(metrics.uar, metrics.by_speaker(truth, guess, speakers, 2))
    each_alone = metrics.speaker_bootstrap(metrics.uar, metrics.by_speaker(truth, guess, [str(i) for i in range(600)], 2))
    assert by_speaker.value == each_alone.value == 0.5
    assert by_speaker.high - by_speaker.low > 5 * (each_alone.high - each_alone.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(100):
        skill = rng.beta(8, 4, size=30)  # mean 2/3
        hit = rng.random((30, 20)) < skill[:, None]
        truth = np.zeros(600, dtype=int)
        counts = metrics.by_speaker(
            truth.tolist(), (~hit).ravel().astype(int).tolist(), np.repeat(np.arange(30), 20).astype(str).tolist(), 2
        )
        interval = metrics.speaker_bootstrap(metrics.accuracy, counts, draws=400, seed=trial)
        covered += interval.low <= 2 / 3 <= interval.high
    assert 86 <= covered <= 100


def test_a_single_speaker_gives_no_interval() -> None:
    interval = metrics.speaker_bootstrap(metrics.uar, metrics.by_speaker([0, 1], [0, 1], ["a", "a"], 2))
    assert (interval.value, interval.low, interval.high) == (1.0, 0.0, 1.0)


def test_a_paired_difference_is_tighter_than_two_intervals_apart() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 2, 800)
    speakers = [f"s{i // 40}" for i in range(800)]
    hard = rng.random(20).repeat(40) < 0.5  # whole speakers are hard for both systems
    ours = np.where(hard & (rng.random(800) < 0.5), 1 - truth, truth)
    theirs = np.where((ours == truth) & (rng.random(800) < 0.05), 1 - truth, ours)
    a, b = (metrics.by_speaker(truth.tolist(), guess.tolist(), speakers, 2) for guess in (ours, theirs))
    paired = metrics.paired_bootstrap(metrics.uar, a, b)
    alone = metrics.speaker_bootstrap(metrics.uar, a)
    assert paired.low > 0
    assert paired.high - paired.low < (alone.high - alone.low) / 2


def test_a_class_that_never_occurs_does_not_count_in_uar() -> None:
    assert metrics.uar(metrics.confusion([0, 0, 1], [0, 0, 1], 5)) == 1.0
    assert np.isnan(metrics.uar(np.zeros((3, 3))))
