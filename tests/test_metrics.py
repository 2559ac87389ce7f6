"""Scores against scikit-learn, intervals against what a bootstrap over speakers must give."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.special import rel_entr
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torchmetrics.functional import concordance_corrcoef
from torchmetrics.functional.classification import multiclass_calibration_error

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


def random_distributions(rng: np.random.Generator, num: int = 200, classes: int = 5) -> np.ndarray:
    return rng.dirichlet(np.full(classes, 0.7), size=num)


def test_recall_of_a_class_equals_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, 90), rng.integers(0, 4, 90)
    found = metrics.recall(metrics.confusion(truth.tolist(), guess.tolist(), 4))
    np.testing.assert_allclose(found, recall_score(truth, guess, average=None))


def test_calibration_error_equals_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    probabilities, truth = random_distributions(rng), rng.integers(0, 5, 200)
    theirs = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=5, n_bins=15, norm="l1")
    ours = metrics.calibration_error(metrics.confidence_sums(probabilities, truth).sum(0))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_one_who_is_always_sure_and_right_half_the_time_is_off_by_a_half() -> None:
    sure = np.tile([1.0, 0.0], (10, 1))
    sums = metrics.confidence_sums(sure, np.arange(10) % 2)
    assert float(metrics.calibration_error(sums.sum(0))) == 0.5
    assert sums.sum((0, 1)).tolist() == [10, 10, 5]


def test_a_confidence_on_the_edge_of_two_bins_belongs_to_the_lower() -> None:
    given = np.array([[0.5, 0.5], [0.52, 0.48], [0.9, 0.1], [1.0, 0.0]])
    sums = metrics.confidence_sums(given, np.zeros(4, dtype=int), bins=10)
    assert sums[..., 0].argmax(1).tolist() == [4, 5, 8, 9]


def test_concordance_equals_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(4)
    truth = rng.random((80, 2))
    guess = 0.4 * truth + 0.3 * rng.random((80, 2)) + 0.1
    theirs = concordance_corrcoef(torch.from_numpy(guess), torch.from_numpy(truth))
    np.testing.assert_allclose(metrics.ccc(metrics.moments(truth, guess).sum(0)), theirs, atol=2e-2)  # it divides by N - 1
    x, y = truth[:, 0], guess[:, 0]
    exact = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert metrics.ccc(metrics.moments(truth, guess).sum(0))[0] == pytest.approx(exact)


def test_a_constant_answer_has_no_concordance_and_an_unlabelled_row_does_not_count() -> None:
    truth = np.array([[0.1], [0.5], [0.9], [np.nan]])
    assert metrics.ccc(metrics.moments(truth, np.full((4, 1), 0.5)).sum(0))[0] == 0.0
    assert metrics.ccc(metrics.moments(truth, np.array([[0.1], [0.5], [0.9], [0.0]])).sum(0))[0] == pytest.approx(1.0)


def test_a_concordance_stays_in_its_bounds_where_hardly_anything_varies() -> None:
    for spread in (0.0, 1e-9, 3e-9, 1e-8, 1e-7, 1e-6, 1e-5):
        truth, guess = 0.7 + spread * np.random.default_rng(0).random((2, 50, 20))
        found = metrics.ccc(metrics.moments(truth, guess).sum(0))
        assert np.all(np.isnan(found) | (np.abs(found) <= 1))
    for times, value in itertools.product((3, 6, 7, 11, 50), (0.1, 0.2, 0.3, 0.55, 0.7)):  # sums of some of these are rounded
        always = np.full((times, 1), value)
        assert np.all(np.isnan(metrics.ccc(metrics.moments(always, always).sum(0)))), (times, value)


def test_distances_of_distributions_equal_the_formulas() -> None:
    rng = np.random.default_rng(5)
    d, p = random_distributions(rng), random_distributions(rng)
    found = metrics.distances(d, p)
    np.testing.assert_allclose(found["chebyshev"], [distance.chebyshev(a, b) for a, b in zip(d, p, strict=True)])
    np.testing.assert_allclose(found["canberra"], [distance.canberra(a, b) for a, b in zip(d, p, strict=True)])
    np.testing.assert_allclose(found["cosine"], [1 - distance.cosine(a, b) for a, b in zip(d, p, strict=True)])
    np.testing.assert_allclose(found["kl"], [rel_entr(a, b).sum() for a, b in zip(d, p, strict=True)])
    np.testing.assert_allclose(found["intersection"], 1 - 0.5 * np.abs(d - p).sum(1))
    np.testing.assert_allclose(
        found["clark"] ** 2, [sum(((a - b) / (a + b)) ** 2 for a, b in zip(x, y, strict=True)) for x, y in zip(d, p, strict=True)]
    )


@pytest.mark.corpora
def test_the_train_mean_of_em2ldl_has_the_recomputed_distances(corpora: Path) -> None:
    """The constants of a public corpus of distributions over 32 emotions, recomputed from its table (labels alone, no audio)."""
    folder = corpora / "em2ldl_labels"
    table = np.genfromtxt(folder / "labels_distributions_Info.csv", delimiter=",", skip_header=1, usecols=range(33), encoding="utf-8-sig")
    labels = dict(zip(table[:, 0].astype(int).tolist(), table[:, 1:], strict=True))
    train, test = (
        np.array([labels[int(line)] for line in (folder / f"{side}_ids.csv").read_text().split()[1:]]) for side in ("train", "test")
    )
    found = metrics.distances(test, np.tile(train.mean(0), (len(test), 1)))
    means = {name: round(float(values.mean()), 4) for name, values in found.items()}
    assert len(test) == 894
    assert (means["kl"], means["cosine"], means["chebyshev"], means["intersection"]) == (0.8477, 0.7947, 0.1578, 0.5257)
    assert (round(means["clark"], 3), round(means["canberra"], 2)) == (4.971, 26.37)


def test_skill_is_nothing_for_the_baseline_itself_and_one_for_the_truth() -> None:
    assert metrics.skill(np.array([2.0, 2.0])) == 0.0
    assert metrics.skill(np.array([0.0, 2.0])) == 1.0
    assert metrics.skill(np.array([3.0, 2.0])) == -0.5


def test_sums_by_speaker_add_up_and_give_the_mean_over_utterances() -> None:
    values = np.arange(10.0)
    sums = metrics.summed_by_speaker(metrics.with_count(values), ["a", "b"] * 5)
    assert sums.tolist() == [[20.0, 5.0], [25.0, 5.0]]
    interval = metrics.speaker_bootstrap(metrics.mean, sums)
    assert interval.value == 4.5
    assert (interval.low, interval.high) == (4.0, 5.0)


def test_one_speaker_gives_no_paired_interval_either() -> None:
    one = metrics.by_speaker([0, 1], [0, 1], ["a", "a"], 2)
    other = metrics.by_speaker([0, 1], [0, 0], ["a", "a"], 2)
    found = metrics.paired_bootstrap(metrics.uar, one, other)
    assert (found.value, found.low, found.high) == (0.5, -1.0, 1.0)


def test_a_single_speaker_leaves_open_all_that_the_score_can_be() -> None:
    one = np.array([[3.2, 2.0]])  # a sum of values and their number
    assert metrics.speaker_bootstrap(metrics.mean, one, bounds=(0.0, np.inf)) == metrics.Interval(1.6, 0.0, np.inf)
    assert metrics.speaker_bootstrap(metrics.uar, np.eye(2)[None]) == metrics.Interval(1.0, 0.0, 1.0)
