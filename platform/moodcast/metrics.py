"""Scores from a confusion matrix, and intervals by bootstrap over speakers.

Utterances of one speaker are not independent, so whole speakers are resampled, never utterances (a speaker-independent score answers
"how well for a new speaker?"). Shapes: N utterances, S speakers, K classes; a confusion matrix [..., K, K] counts rows = reference,
columns = answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Score = Callable[[Counts], Counts]


@dataclass(frozen=True)
class Interval:
    """A score in [0, 1] with its 95 % speaker-bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def confusion(truth: Sequence[int], guess: Sequence[int], num_classes: int) -> Counts:
    """Counts [K, K], rows = reference.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (np.asarray(truth, dtype=int), np.asarray(guess, dtype=int)), 1)
    return counts


def uar(counts: Counts) -> Counts:
    """Unweighted average recall: mean recall of the classes that occur in the reference. NaN where none does."""
    support = counts.sum(-1)
    recall = np.divide(np.diagonal(counts, axis1=-2, axis2=-1), support, out=np.zeros_like(support), where=support > 0)
    return _mean_where(recall, support > 0)


def accuracy(counts: Counts) -> Counts:
    """Share of utterances answered as labelled."""
    total = counts.sum((-2, -1))
    hits = np.diagonal(counts, axis1=-2, axis2=-1).sum(-1)
    share: Counts = np.divide(hits, total, out=np.full_like(total, np.nan), where=total > 0)
    return share


def macro_f1(counts: Counts) -> Counts:
    """Mean F1 = 2 TP / (2 TP + FP + FN) of the classes that occur in the reference or among the answers."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    seen = counts.sum(-1) + counts.sum(-2)
    f1 = np.divide(2 * hits, seen, out=np.zeros_like(seen), where=seen > 0)
    return _mean_where(f1, seen > 0)


SCORES: Mapping[str, Score] = {"uar": uar, "accuracy": accuracy, "macro_f1": macro_f1}


def by_speaker(truth: Sequence[int], guess: Sequence[int], speakers: Sequence[str], num_classes: int) -> Counts:
    """One confusion matrix a speaker, [S, K, K], speakers in sorted order."""
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    counts = np.zeros((len(names), num_classes, num_classes))
    np.add.at(counts, (which, np.asarray(truth, dtype=int), np.asarray(guess, dtype=int)), 1)
    return counts


def speaker_bootstrap(score: Score, speaker_counts: Counts, draws: int = 2000, seed: int = 0) -> Interval:
    """The score of the pooled counts with its percentile interval over `draws` resamples of S speakers with replacement.

    speaker_counts [S, K, K] from `by_speaker`. With a single speaker there is nothing to resample: the interval is [0, 1].
    """
    value = float(score(speaker_counts.sum(0)))
    if len(speaker_counts) < 2:
        return Interval(value, 0.0, 1.0)
    samples = score(np.einsum("ds,skl->dkl", resamples(len(speaker_counts), draws, seed), speaker_counts))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def paired_bootstrap(score: Score, ours: Counts, theirs: Counts, draws: int = 2000, seed: int = 0) -> Interval:
    """The difference ours - theirs of two systems on the same speakers [S, K, K], resampled together."""
    if ours.shape != theirs.shape:
        raise ValueError(f"paired scores need the same speakers and classes, got {ours.shape} and {theirs.shape}")
    times = resamples(len(ours), draws, seed)
    samples = score(np.einsum("ds,skl->dkl", times, ours)) - score(np.einsum("ds,skl->dkl", times, theirs))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return Interval(float(score(ours.sum(0)) - score(theirs.sum(0))), float(low), float(high))


def resamples(num_speakers: int, draws: int, seed: int) -> Counts:
    """How often each speaker is drawn, [draws, S]; each row sums to S."""
    return np.random.default_rng(seed).multinomial(num_speakers, np.full(num_speakers, 1 / num_speakers), size=draws).astype(float)


def _mean_where(values: Counts, where: NDArray[np.bool_]) -> Counts:
    number = where.sum(-1).astype(float)
    total = np.where(where, values, 0.0).sum(-1)
    mean: Counts = np.divide(total, number, out=np.full_like(number, np.nan), where=number > 0)
    return mean
