"""How sure answers are, and how right: turns judged one by one, coverage against accuracy, and the bound that buys a wanted accuracy.

A found turn has the emotion that the reference has in most of it, if that is at least half of the turn; others are not judged. Where
only a part of a recording is scored, nothing outside that part counts. Weights are seconds. Coverage is the share of judged seconds that
are answered, accuracy the share of answered seconds that are right (El-Yaniv, Wiener, "On the Foundations of
Noise-free Selective Classification", JMLR 2010). Shapes: N conversations, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodcast import metrics
from moodcast.timeline import Timeline

BOUNDS = tuple(round(0.05 * i, 2) for i in range(20))
MOST = 0.5  # share of a turn in which the reference has its emotion
Span = tuple[float, float]  # start_s, stop_s
WHOLE: tuple[Span, ...] = ((0.0, math.inf),)


@dataclass(frozen=True)
class Judged:
    """A found turn with its true emotion. emotions: probability by class, empty where it was not answered; given: whether it has one."""

    truth: str
    emotions: Mapping[str, float]
    seconds: float
    given: bool

    @property
    def best(self) -> str:
        """The most probable class."""
        return max(self.emotions, key=lambda name: self.emotions[name])

    @property
    def confidence(self) -> float:
        """The probability of the most probable class; 0 where there is no answer."""
        return max(self.emotions.values(), default=0.0)

    @property
    def right(self) -> bool:
        """Whether the most probable class is the true one."""
        return bool(self.emotions) and self.best == self.truth


@dataclass(frozen=True)
class Point:
    """What answers of at least this confidence cover, and how right they are."""

    min_confidence: float
    coverage: metrics.Interval
    accuracy: metrics.Interval


def judge(reference: Timeline, found: Timeline, scored: Sequence[Span] = WHOLE) -> tuple[Judged, ...]:
    """The found turns that have a true emotion, in their order, with their seconds within `scored`: spans that do not overlap.

    A turn of which nothing is scored is not judged.
    """
    rows = []
    for row in found.segments:
        shared: dict[str, list[Span]] = {}
        for said in reference.segments:
            span = max(row.start_s, said.start_s), min(row.stop_s, said.stop_s)
            if said.emotion is not None and span[1] > span[0]:
                shared.setdefault(said.emotion, []).append(span)
        seconds = {name: s for name, spans in shared.items() if (s := sum(_within(*span, scored) for span in _union(spans))) > 0}
        truth = max(seconds, key=lambda name: seconds[name], default=None)
        own_s = round(_within(row.start_s, row.stop_s, scored), 3)  # as a segment rounds its duration
        if truth is not None and seconds[truth] >= MOST * own_s > 0:
            rows.append(Judged(truth, dict(row.emotions), own_s, row.emotion is not None))
    return tuple(rows)


def curve(judged: Sequence[Sequence[Judged]], bounds: Sequence[float] = BOUNDS) -> list[Point]:
    """Coverage and accuracy for each bound on confidence, with intervals by bootstrap over conversations."""
    points = []
    for bound in bounds:
        sums = np.array([_seconds(rows, bound) for rows in judged], dtype=np.float64).reshape(-1, 3)
        covered, accurate = (metrics.speaker_bootstrap(metrics.mean, sums[:, pair]) for pair in ([1, 0], [2, 1]))
        points.append(Point(bound, covered, accurate))
    return points


def bound_of(judged: Sequence[Judged], accuracy: float) -> float:
    """The lowest bound on confidence, to two decimals, from which on answers are right in `accuracy` of the seconds.

    Raises ValueError where no bound gives it, or nothing was answered.
    """
    for bound in (i / 100 for i in range(100)):
        _, answered_s, right_s = _seconds(judged, bound)
        if answered_s > 0 and right_s >= accuracy * answered_s:
            return bound
    raise ValueError(f"no bound on confidence makes answers right in {100 * accuracy:.0f} % of the time; ask for less")


def measures(judged: Sequence[Sequence[Judged]], classes: Sequence[str]) -> dict[str, metrics.Interval]:
    """Of answered turns: UAR ("uar"), calibration error ("ece"); of given emotions: "coverage" and "accuracy", by seconds."""
    answered = [[row for row in rows if row.emotions and row.truth in classes] for rows in judged]
    if not any(answered):
        return {}
    counts = np.stack([_confusion(rows, classes) for rows in answered])
    sums = np.stack([_sureness(rows, classes) for rows in answered])
    seconds = np.array(
        [
            [sum(r.seconds for r in rows), sum(r.seconds for r in rows if r.given), sum(r.seconds for r in rows if r.given and r.right)]
            for rows in judged
        ]
    )
    return {
        "uar": metrics.speaker_bootstrap(metrics.uar, counts),
        "ece": metrics.speaker_bootstrap(metrics.calibration_error, sums),
        "coverage": metrics.speaker_bootstrap(metrics.mean, seconds[:, [1, 0]]),
        "accuracy": metrics.speaker_bootstrap(metrics.mean, seconds[:, [2, 1]]),
    }


def to_dict(points: Sequence[Point]) -> list[dict[str, Any]]:
    """The curve as plain data for JSON; an accuracy of nothing is None."""
    found = []
    for point in points:
        ratios = {"coverage": point.coverage, "accuracy": point.accuracy}
        rows = {name: {key: _known(getattr(one, key)) for key in ("value", "low", "high")} for name, one in ratios.items()}
        found.append({"min_confidence": point.min_confidence, **rows})
    return found


def _union(spans: Sequence[Span]) -> list[Span]:
    """The spans without what others of them cover, too: two who are angry at once are angry for as long as one."""
    found: list[Span] = []
    for start_s, stop_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop_s)
        else:
            found.append((start_s, stop_s))
    return found


def _within(start_s: float, stop_s: float, scored: Sequence[Span]) -> float:
    """Seconds of a stretch that lie in the spans; 0 where it ends before it begins."""
    return sum(max(0.0, min(stop_s, last_s) - max(start_s, first_s)) for first_s, last_s in scored)


def _seconds(rows: Sequence[Judged], bound: float) -> tuple[float, float, float]:
    """Seconds in all, of answers at least so sure, and of those that are right."""
    sure = [row for row in rows if row.emotions and row.confidence >= bound]
    return sum(row.seconds for row in rows), sum(row.seconds for row in sure), sum(row.seconds for row in sure if row.right)


def _confusion(rows: Sequence[Judged], classes: Sequence[str]) -> metrics.Counts:
    return metrics.confusion([classes.index(row.truth) for row in rows], [classes.index(row.best) for row in rows], len(classes))


def _sureness(rows: Sequence[Judged], classes: Sequence[str]) -> metrics.Counts:
    probabilities = np.array([[row.emotions.get(name, 0.0) for name in classes] for row in rows]).reshape(len(rows), len(classes))
    truth = np.array([classes.index(row.truth) for row in rows], dtype=np.int64)
    return np.asarray(metrics.confidence_sums(probabilities, truth).sum(axis=0))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
