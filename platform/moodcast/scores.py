"""From answers to scores: every slice with speaker-bootstrap intervals, beside what trivial baselines get on the same utterances.

Pure functions of arrays. Shapes: N utterances, S speakers, K classes, A attributes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast import metrics
from moodcast.manifest import Utterance
from moodcast.metrics import Interval

FEW = 6  # speakers: of fewer, five in six 95 % intervals or less hold what further speakers would show (docs/evaluation.md)

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What somebody answered to N utterances, and what is known about them.

    truth [N] as class numbers; probabilities [N, K]; votes [N, K], the raters' distribution, NaN where nobody voted; attributes [N, A]
    and attribute_truth [N, A] in [0, 1], NaN where unlabelled.
    """

    classes: tuple[str, ...]
    rows: tuple[Utterance, ...]
    truth: Indices
    probabilities: Floats
    votes: Floats
    attribute_names: tuple[str, ...] = ()
    attributes: Floats | None = None
    attribute_truth: Floats | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def guess(self) -> Indices:
        """The most probable class, [N]."""
        return np.asarray(self.probabilities.argmax(1), dtype=np.int64)

    @property
    def speakers(self) -> list[str]:
        """Corpus and speaker of each utterance."""
        return [row.corpus_speaker for row in self.rows]

    def where(self, mask: NDArray[np.bool_]) -> Answers:
        """The answers to some of the utterances."""
        return replace(
            self,
            rows=tuple(row for row, wanted in zip(self.rows, mask, strict=True) if wanted),
            truth=self.truth[mask],
            probabilities=self.probabilities[mask],
            votes=self.votes[mask],
            attributes=None if self.attributes is None else self.attributes[mask],
            attribute_truth=None if self.attribute_truth is None else self.attribute_truth[mask],
        )


@dataclass(frozen=True)
class Baseline:
    """Somebody who does not listen as a model does: guess [N] as class numbers, and in words how it guesses."""

    name: str
    what: str
    guess: Indices


@dataclass(frozen=True)
class Beside:
    """A baseline's scores on a slice, and how far above it the bundle's UAR is."""

    name: str
    what: str
    uar: Interval
    accuracy: Interval
    macro_f1: Interval
    above: Interval


@dataclass(frozen=True)
class Sureness:
    """Whether probabilities hold: expected calibration error, negative log-likelihood in nats beside that of the train mean, and the
    reliability curve as (mean confidence, share right, utterances) of each bin that holds some.
    """

    ece: Interval
    nll: Interval
    prior_nll: Interval
    curve: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True)
class Distribution:
    """How well the raters' distributions are answered: measures beside those of the train mean; skill = 1 - KL / KL of the train mean."""

    num_utterances: int
    measures: dict[str, Interval]
    train_mean: dict[str, Interval]
    skill: Interval


@dataclass(frozen=True)
class Difference:
    """This bundle minus another on the same utterances, resampled together."""

    uar: Interval
    accuracy: Interval
    macro_f1: Interval
    ece: Interval


@dataclass(frozen=True)
class Scores:
    """One slice of what was scored; kind is "all", "corpus", "language", "gender" or "fold". `guard` must be read with the score."""

    slice: str
    kind: str
    num_utterances: int
    num_speakers: int
    uar: Interval
    accuracy: Interval
    macro_f1: Interval
    recall: dict[str, Interval]
    confusion: list[list[int]]
    sureness: Sureness
    baselines: tuple[Beside, ...]
    guard: str
    concordance: dict[str, Interval] = field(default_factory=dict)
    distribution: Distribution | None = None
    difference: Difference | None = None

    def beside(self, name: str) -> Beside | None:
        """The baseline of that name, or None where it could not be had."""
        return next((found for found in self.baselines if found.name == name), None)


@dataclass(frozen=True)
class Report:
    """What `evaluate` found: the pool first, then each corpus, language and gender. `to_dict` is ready for JSON.

    flags are what makes the scores doubtful (a leak that was overridden); they stand in every guard line. temperature: of the bundle;
    None where several answered, such as those of folds, each at its own. answers: what was scored, utterance by utterance, where it is
    at hand; `to_dict` leaves it out.
    """

    bundle: str
    sha256: str
    split: str
    classes: tuple[str, ...]
    slices: tuple[Scores, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...]
    flags: tuple[str, ...] = ()
    against: str | None = None
    temperature: float | None = None
    answers: Answers | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; a number that cannot be had is None."""
        found: dict[str, Any] = _plain(asdict(replace(self, answers=None)))
        del found["answers"]
        return found


def slices(answers: Answers) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """(name, kind, mask [N]) of the pool, then of each corpus, language and gender where there are several."""
    found = [("all", "all", np.full(len(answers), True))]
    for kind in ("corpus", "language", "gender"):
        values = [getattr(row, kind) or "unknown" for row in answers.rows]
        if len(set(values)) > 1:
            found += [(value, kind, np.array([v == value for v in values])) for value in sorted(set(values))]
    return found


def score_all(
    answers: Answers,
    baselines: Sequence[Baseline],
    prior: Floats,
    train_votes: Floats | None = None,
    against: Answers | None = None,
    flags: Sequence[str] = (),
    more: Sequence[tuple[str, str, NDArray[np.bool_]]] = (),
) -> tuple[Scores, ...]:
    """The scores of every slice, and of `more` of them (name, kind, mask [N]).

    prior: the train mean of the classes, [K], or [N, K] where utterances differ in what was trained on; train_votes: the same of the
    raters' distributions.
    """
    shape = (len(answers), len(answers.classes))
    prior = np.broadcast_to(prior, shape)
    votes = None if train_votes is None else np.broadcast_to(train_votes, shape)
    found = []
    for name, kind, mask in (*slices(answers), *more):
        cut = [replace(baseline, guess=baseline.guess[mask]) for baseline in baselines]
        other = None if against is None else against.where(mask)
        part = None if votes is None else votes[mask]
        found.append(score_slice(name, kind, answers.where(mask), cut, prior[mask], part, other, flags))
    return tuple(found)


def score_slice(
    name: str,
    kind: str,
    answers: Answers,
    baselines: Sequence[Baseline],
    prior: Floats,
    train_votes: Floats | None = None,
    against: Answers | None = None,
    flags: Sequence[str] = (),
) -> Scores:
    """Scores of one set of answers; see `score_all`."""
    counts = _counts(answers, answers.guess)
    pool = counts.sum(0)
    intervals = {measure: metrics.speaker_bootstrap(score, counts) for measure, score in metrics.SCORES.items()}
    beside = tuple(_beside(answers, counts, baseline) for baseline in baselines)
    return Scores(
        slice=name,
        kind=kind,
        num_utterances=len(answers),
        num_speakers=len(counts),
        **intervals,
        recall={label: _recall(counts, k) for k, label in enumerate(answers.classes) if pool[k].sum() > 0},
        confusion=pool.astype(int).tolist(),
        sureness=sureness(answers, prior),
        baselines=beside,
        guard=guard_line(intervals["uar"], beside, pool, flags, len(counts)),
        concordance=concordance(answers),
        distribution=distribution(answers, train_votes),
        difference=None if against is None else difference(answers, against),
    )


def guard_line(uar: Interval, baselines: Sequence[Beside], pool: Floats, flags: Sequence[str] = (), speakers: int = FEW) -> str:
    """What must be read with a UAR: flags first, then chance, what each baseline gets, and how far above the strongest it is.

    The speaker's name is no rival, it knows labels of the same speakers; where it gets more, the line says so. What fewer than FEW
    speakers show is said to be theirs.
    """
    present = int((pool.sum(1) > 0).sum())
    parts = [*(_aloud(flag) for flag in flags), f"chance {100 / max(present, 1):.1f}"]
    parts += [f"{each.name} {each.uar if each.name == 'plain statistics' else _percent(each.uar)}" for each in baselines]
    rivals = [each for each in baselines if each.name != "speaker's name"]
    if rivals:
        best = max(rivals, key=lambda each: each.uar.value)
        above = best.above.value >= 0
        parts.append(f"above {best.name} by {signed(best.above)}" if above else f"BELOW {best.name} by {_turned(best.above)}")
        if not best.above.low > 0:
            parts.append("NOT CLEARLY BETTER THAN THAT")
        elif speakers < FEW:
            parts.append(f"BY {speakers} SPEAKERS ALONE")
    if any(each.name == "speaker's name" and each.uar.value > uar.value for each in baselines):
        parts.append("WHO SPEAKS TELLS MORE ABOUT THESE LABELS")
    return "UAR " + str(uar) + "; " + "; ".join(parts)


def _aloud(flag: str) -> str:
    """What a flag is about in capitals; names of speakers and recordings, behind the colon, as they are."""
    what, colon, names = flag.partition(":")
    return what.upper() + colon + names


def sureness(answers: Answers, prior: Floats) -> Sureness:
    """Calibration of the answers; prior [K] or [N, K] is what somebody says who knows the class counts of training only."""
    hits = metrics.confidence_sums(answers.probabilities, answers.truth)
    chosen = answers.probabilities[np.arange(len(answers)), answers.truth]
    told = np.broadcast_to(prior, answers.probabilities.shape)[np.arange(len(answers)), answers.truth]

    def nll(p: Floats) -> Interval:
        return _interval(metrics.mean, metrics.with_count(-np.log(np.maximum(p, metrics.TINY))), answers, (0.0, np.inf))

    bins = hits.sum(0)
    curve = tuple((float(sure / n), float(right / n), int(n)) for n, sure, right in bins if n)
    return Sureness(_interval(metrics.calibration_error, hits, answers), nll(chosen), nll(told), curve)


def concordance(answers: Answers) -> dict[str, Interval]:
    """CCC of each attribute that is both answered and labelled; a constant answer, such as the train mean, has 0."""
    if answers.attributes is None or answers.attribute_truth is None:
        return {}
    sums = metrics.summed_by_speaker(metrics.moments(answers.attribute_truth, answers.attributes), answers.speakers)  # [S, A, 6]
    known = [a for a in range(sums.shape[1]) if sums[:, a, 0].sum() > 0]
    return {answers.attribute_names[a]: metrics.speaker_bootstrap(metrics.ccc, sums[:, a], bounds=(-1.0, 1.0)) for a in known}


def distribution(answers: Answers, train_votes: Floats | None) -> Distribution | None:
    """Distances to the raters' distributions beside those of the train mean, [K] or [N, K]; None where nobody voted."""
    voted = np.asarray(~np.isnan(answers.votes).any(axis=1))
    if not voted.any() or train_votes is None:
        return None
    part = answers.where(voted)
    ours = metrics.distances(part.votes, part.probabilities)
    theirs = metrics.distances(part.votes, np.broadcast_to(train_votes, answers.votes.shape)[voted])
    return Distribution(
        num_utterances=len(part),
        measures={name: _distance(name, values, part) for name, values in ours.items()},
        train_mean={name: _distance(name, values, part) for name, values in theirs.items()},
        skill=_interval(metrics.skill, np.stack([ours["kl"], theirs["kl"]], axis=1), part, (-np.inf, 1.0)),
    )


def difference(ours: Answers, theirs: Answers) -> Difference:
    """Ours - theirs on the same utterances. Raises ValueError where classes or utterances differ."""
    if ours.classes != theirs.classes or [row.id for row in ours.rows] != [row.id for row in theirs.rows]:
        raise ValueError(f"a paired difference needs the same classes and utterances; got {ours.classes} and {theirs.classes}")
    a, b = _counts(ours, ours.guess), _counts(theirs, theirs.guess)
    paired = {name: metrics.paired_bootstrap(score, a, b) for name, score in metrics.SCORES.items()}
    sure, unsure = (
        metrics.summed_by_speaker(metrics.confidence_sums(each.probabilities, each.truth), each.speakers) for each in (ours, theirs)
    )
    return Difference(**paired, ece=metrics.paired_bootstrap(metrics.calibration_error, sure, unsure))


def signed(interval: Interval) -> str:
    """A difference in percent points with its signs.

    >>> signed(Interval(0.05, -0.01, 0.11))
    '+5.0 [-1.0, +11.0]'
    """
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]" if math.isfinite(interval.value) else "–"


def number(interval: Interval) -> str:
    """As it is, with its interval."""
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]" if math.isfinite(interval.value) else "–"


def _beside(answers: Answers, counts: Floats, baseline: Baseline) -> Beside:
    theirs = _counts(answers, baseline.guess)
    own = {name: metrics.speaker_bootstrap(score, theirs) for name, score in metrics.SCORES.items()}
    return Beside(baseline.name, baseline.what, **own, above=metrics.paired_bootstrap(metrics.uar, counts, theirs))


def _counts(answers: Answers, guess: Indices) -> Floats:
    return metrics.by_speaker(answers.truth.tolist(), guess.tolist(), answers.speakers, len(answers.classes))


def _interval(score: metrics.Score, values: Floats, answers: Answers, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    return metrics.speaker_bootstrap(score, metrics.summed_by_speaker(values, answers.speakers), bounds=bounds)


def _distance(name: str, values: Floats, answers: Answers) -> Interval:
    return _interval(metrics.mean, metrics.with_count(values), answers, (0.0, np.inf if name in metrics.UNBOUNDED else 1.0))


def _recall(counts: Floats, k: int) -> Interval:
    """Recall of class k; where a single speaker holds the class, there is nothing to draw."""
    holders = counts[counts[:, k].sum(-1) > 0]
    return metrics.speaker_bootstrap(lambda sums: metrics.recall(sums)[..., k], holders if len(holders) < 2 else counts)


def _percent(interval: Interval) -> str:
    return f"{100 * interval.value:.1f}"


def _turned(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
