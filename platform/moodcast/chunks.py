"""ChunkPlan: how a stretch of audio becomes equal chunks.

An utterance in training and a speaker turn in serving are both a stretch; one plan, stored in the bundle, cuts both. Settings are in
seconds, everything else here is in integer samples (or frames: the arithmetic does not care).

Source: Lin & Busso, "Chunk-Level Speech Emotion Recognition: A General Framework of Sequence-to-One Dynamic Temporal Modeling",
IEEE Trans. Affective Computing 14(2), 2023. With T samples, chunks of m and K of them, the published step is floor((T - m) / (K - 1)),
which loses up to K - 2 samples, always from the end (`rule="floor"`). The default spreads the rounding instead, so that the first
chunk starts at 0 and the last one ends at T exactly (`rule="even"`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

MAX_HOPPED_CHUNKS = 64  # a plan with a fixed hop covers any length; this bounds the memory of one stretch


class Span(NamedTuple):
    """A piece of a stretch: samples start <= i < stop."""

    start: int
    stop: int


@dataclass(frozen=True)
class ChunkPlan:
    """Chunks of `length_s` seconds: either `count` of them whatever the duration (dynamic chunking), or one every `hop_s` seconds.

    Raises ValueError unless exactly one of `count` and `hop_s` is given, lengths are positive and the hop leaves no gaps.

    >>> [span.start for span in ChunkPlan(length_s=62, count=11).spans(200, rate=1)]
    [0, 14, 28, 41, 55, 69, 83, 97, 110, 124, 138]
    """

    length_s: float = 1.0
    count: int | None = None
    hop_s: float | None = None
    rule: Literal["even", "floor"] = "even"

    def __post_init__(self) -> None:
        if not self.length_s > 0:
            raise ValueError(f"length_s must be positive, got {self.length_s}")
        if (self.count is None) == (self.hop_s is None):
            raise ValueError(f"give exactly one of count and hop_s, got count={self.count}, hop_s={self.hop_s}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if self.hop_s is not None and not 0 < self.hop_s <= self.length_s:
            raise ValueError(f"hop_s must be in (0, length_s], so that no sample is lost; got {self.hop_s} with length_s={self.length_s}")
        if self.rule == "floor" and self.count is None:
            raise ValueError("rule='floor' is the published rule of a counted plan; give count instead of hop_s")

    @property
    def max_s(self) -> float:
        """The longest stretch this plan covers without gaps, seconds. Split longer ones first."""
        if self.count is not None:
            return self.count * self.length_s
        return self.length_s + (MAX_HOPPED_CHUNKS - 1) * (self.hop_s or self.length_s)

    def spans(self, num_samples: int, rate: int) -> list[Span]:
        """Where the chunks of a stretch lie, in samples; a chunk longer than the stretch is cut to it (and padded by `collate`).

        Raises ValueError for an empty stretch or one longer than `max_s`.
        """
        longest = samples_of(self.max_s, rate)
        if num_samples < 1:
            raise ValueError("an empty stretch has no chunks; drop it before chunking")
        if num_samples > longest:
            raise ValueError(
                f"a stretch of {num_samples / rate:.2f} s is longer than the {self.max_s:.2f} s that this plan covers; "
                "split it first (chunks.split_evenly)"
            )
        length = max(1, samples_of(self.length_s, rate))
        if self.count is not None:
            starts = counted_starts(num_samples, length, self.count, self.rule)
        else:
            starts = hopped_starts(num_samples, length, max(1, samples_of(self.hop_s or self.length_s, rate)))
        return [Span(start, min(start + length, num_samples)) for start in starts]


def counted_starts(total: int, length: int, count: int, rule: Literal["even", "floor"] = "even") -> list[int]:
    """Starts of `count` chunks of `length` over `total` (all in samples or frames).

    even: start_i = (i (T - m) + floor((K - 1) / 2)) div (K - 1); floor: start_i = i floor((T - m) / (K - 1)). One chunk sits in the
    middle. A stretch shorter than one chunk gives `count` chunks that all start at 0.
    """
    slack = max(0, total - length)
    if count == 1:
        return [slack // 2]
    if rule == "floor":
        return [i * (slack // (count - 1)) for i in range(count)]
    return [(i * slack + (count - 1) // 2) // (count - 1) for i in range(count)]


def hopped_starts(total: int, length: int, hop: int) -> list[int]:
    """Starts of chunks of `length` every `hop`, as many as it takes to cover `total`; the last one may be part empty."""
    return [i * hop for i in range(1 + max(0, math.ceil((total - length) / hop)))]


def split_evenly(num_samples: int, longest: int) -> list[Span]:
    """The fewest equal pieces (to a sample) of at most `longest`: how a turn too long for a plan becomes stretches.

    What the pieces give is merged by their duration.
    """
    if num_samples < 1 or longest < 1:
        raise ValueError(f"lengths must be positive, got {num_samples} and {longest}")
    pieces = math.ceil(num_samples / longest)
    edges = [num_samples * i // pieces for i in range(pieces + 1)]
    return [Span(start, stop) for start, stop in pairwise(edges)]


def samples_of(seconds: float, rate: int) -> int:
    """Seconds to samples, the nearest integer: the one place where time becomes an index."""
    return round(seconds * rate)
