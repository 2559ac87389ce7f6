"""Scores from sums that add up over utterances, and intervals by bootstrap over speakers.

Utterances of one speaker are not independent, so whole speakers are resampled, never utterances (a speaker-independent score answers
"how well for a new speaker?"). That is cheap because every score here is a function of sums: a confusion matrix, hits by confidence,
moments, total distances. Shapes: N utterances, S speakers, K classes, A attributes, D draws; a confusion matrix [..., K, K] counts
rows = reference, columns = answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.float64]
Score = Callable[[Counts], Counts]

FLAT = 1e-12  # below it a sum of variances is rounding
TINY = 2.2e-16  # where a distance of distributions divides or takes a logarithm, as PyLDL has it
BINS = 15  # of confidence, equally wide


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % speaker-bootstrap interval; as text in percent."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


# ------------------------------------------------------------------------------------------- classes


def confusion(truth: Sequence[int], guess: Sequence[int], num_classes: int) -> Counts:
    """Counts [K, K], rows = reference.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    counts = np.zeros((num_classes, num_classes))
    np.add.at(counts, (np.asarray(truth, dtype=int), np.asarray(guess, dtype=int)), 1)
    return counts


def recall(counts: Counts) -> Counts:
    """Recall of each class, [..., K]; NaN where it does not occur in the reference."""
    support = counts.sum(-1)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    share: Counts = np.divide(hits, support, out=np.full_like(support, np.nan), where=support > 0)
    return share


def uar(counts: Counts) -> Counts:
    """Unweighted average recall: mean recall of the classes that occur in the reference. NaN where none does."""
    share = recall(counts)
    return _mean_where(share, ~np.isnan(share))


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


# --------------------------------------------------------------------------------- how sure, and how right


def confidence_sums(probabilities: NDArray[np.float64], truth: NDArray[np.int64], bins: int = BINS) -> Counts:
    """What each utterance adds to a reliability curve, [N, bins, 3]: one, its confidence and whether it was right, in its bin.

    probabilities [N, K], truth [N]. Bins are equally wide in (0, 1], open at the left.
    """
    sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    where = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    sums = np.zeros((len(truth), bins, 3))
    sums[np.arange(len(truth)), where] = np.stack([np.ones(len(truth)), sure, right], axis=1)
    return sums


def calibration_error(sums: Counts) -> Counts:
    """Expected calibration error of sums [..., bins, 3]: mean distance of confidence and accuracy over bins, weighted by their size.

    Guo et al., ICML 2017, eq. 3. In [0, 1], 0 is best.
    """
    total = sums[..., 0].sum(-1)
    gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(-1)
    error: Counts = np.divide(gaps, total, out=np.full_like(total, np.nan), where=total > 0)
    return error


# ------------------------------------------------------------------------------------------- attributes


def moments(truth: NDArray[np.float64], guess: NDArray[np.float64]) -> Counts:
    """What each utterance adds to the concordance: [N, A] twice -> [N, A, 6]; nothing where the reference is NaN."""
    known = ~np.isnan(truth)
    x, y = np.where(known, truth, 0.0), np.where(known, guess, 0.0)
    return np.stack([known.astype(float), x, y, x * x, y * y, x * y], axis=-1)


def ccc(sums: Counts) -> Counts:
    """Concordance correlation coefficient (Lin 1989, with population moments) of summed `moments` [..., 6]: [...].

    2 cov / (var x + var y + (mean x - mean y)^2). In [-1, 1]; a constant answer has 0; NaN without utterances or where nothing varies.
    """
    count = np.where(sums[..., 0] > 0, sums[..., 0], np.nan)
    x, y, xx, yy, xy = (sums[..., i] / count for i in range(1, 6))
    below = np.maximum(xx - x * x, 0) + np.maximum(yy - y * y, 0) + (x - y) ** 2
    agreement: Counts = np.divide(2 * (xy - x * y), below, out=np.full_like(below, np.nan), where=below > FLAT)
    return np.clip(agreement, -1.0, 1.0)


# ---------------------------------------------------------------------------------------- label distributions


def distances(truth: NDArray[np.float64], guess: NDArray[np.float64]) -> dict[str, Counts]:
    """Six measures of how a distribution [N, K] answers another, each [N]: Chebyshev, Clark, Canberra, KL (lower is better), cosine and
    intersection (higher is better).

    As PyLDL has them: values are clipped to [2.2e-16, 1] in Clark, Canberra and KL only. Clark and Canberra say little about sparse
    labels (a true zero against any positive answer counts 1): report them, never choose by them.
    """
    d, p = np.clip(truth, TINY, 1), np.clip(guess, TINY, 1)
    lengths = np.linalg.norm(truth, axis=1) * np.linalg.norm(guess, axis=1)
    return {
        "chebyshev": np.abs(truth - guess).max(1),
        "clark": np.sqrt((((d - p) / (d + p)) ** 2).sum(1)),
        "canberra": (np.abs(d - p) / (d + p)).sum(1),
        "kl": (d * np.log(d / p)).sum(1),
        "cosine": (truth * guess).sum(1) / np.maximum(lengths, TINY),
        "intersection": np.minimum(truth, guess).sum(1),
    }


UNBOUNDED = ("clark", "canberra", "kl")  # the others are within [0, 1]
HIGHER_IS_BETTER = ("cosine", "intersection")


def skill(sums: Counts) -> Counts:
    """1 - distance / distance of the baseline, from their sums [..., 2]: 0 is the baseline, 1 perfect, below 0 is worse."""
    ours, theirs = sums[..., 0], sums[..., 1]
    share: Counts = np.divide(ours, theirs, out=np.full_like(ours, np.nan), where=theirs > 0)
    return 1.0 - share


def mean(sums: Counts) -> Counts:
    """The mean of values from sums [..., 2] of (value, one)."""
    share: Counts = np.divide(sums[..., 0], sums[..., 1], out=np.full_like(sums[..., 0], np.nan), where=sums[..., 1] > 0)
    return share


def with_count(values: ArrayLike) -> Counts:
    """What each utterance adds to `mean`, [N] -> [N, 2]."""
    values = np.asarray(values, dtype=float)
    return np.stack([values, np.ones_like(values)], axis=-1)


# ---------------------------------------------------------------------------------------- speakers and draws


def by_speaker(truth: Sequence[int], guess: Sequence[int], speakers: Sequence[str], num_classes: int) -> Counts:
    """One confusion matrix a speaker, [S, K, K], speakers in sorted order."""
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    counts = np.zeros((len(names), num_classes, num_classes))
    np.add.at(counts, (which, np.asarray(truth, dtype=int), np.asarray(guess, dtype=int)), 1)
    return counts


def summed_by_speaker(values: Counts, speakers: Sequence[str]) -> Counts:
    """What the utterances [N, ...] of each speaker add up to, [S, ...], speakers in sorted order."""
    names, which = np.unique(np.asarray(speakers), return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, which, values)
    return sums


def speaker_bootstrap(
    score: Score, speaker_sums: Counts, draws: int = 2000, seed: int = 0, bounds: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """The score of the pooled sums with its percentile interval over `draws` resamples of S speakers with replacement.

    speaker_sums [S, ...], such as confusion matrices [S, K, K] from `by_speaker`; score: [..., sums] -> [...]. With a single speaker
    there is nothing to resample, and the interval is all that the score can be, `bounds`.
    """
    value = float(score(speaker_sums.sum(0)))
    if len(speaker_sums) < 2:
        return Interval(value, *bounds)
    return Interval(value, *_percentiles(score(_drawn(speaker_sums, draws, seed))))


def paired_bootstrap(score: Score, ours: Counts, theirs: Counts, draws: int = 2000, seed: int = 0) -> Interval:
    """The difference ours - theirs of two systems on the same speakers [S, ...], resampled together.

    With a single speaker the interval is [-1, 1].
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"paired scores need the same speakers and classes, got {ours.shape} and {theirs.shape}")
    value = float(score(ours.sum(0)) - score(theirs.sum(0)))
    if len(ours) < 2:
        return Interval(value, min(-1.0, value), max(1.0, value))
    return Interval(value, *_percentiles(score(_drawn(ours, draws, seed)) - score(_drawn(theirs, draws, seed))))


def resamples(num_speakers: int, draws: int, seed: int) -> Counts:
    """How often each speaker is drawn, [D, S]; each row sums to S."""
    return np.random.default_rng(seed).multinomial(num_speakers, np.full(num_speakers, 1 / num_speakers), size=draws).astype(float)


def _drawn(speaker_sums: Counts, draws: int, seed: int) -> Counts:
    """The sums of each resample, [D, ...]."""
    return np.tensordot(resamples(len(speaker_sums), draws, seed), speaker_sums, axes=1)


def _percentiles(samples: Counts) -> tuple[float, float]:
    """The 95 % interval of samples; NaN where no draw has a score."""
    known = samples[~np.isnan(samples)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _mean_where(values: Counts, where: NDArray[np.bool_]) -> Counts:
    number = where.sum(-1).astype(float)
    total = np.where(where, values, 0.0).sum(-1)
    average: Counts = np.divide(total, number, out=np.full_like(number, np.nan), where=number > 0)
    return average
