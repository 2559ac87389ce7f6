"""Which recordings hold the same sound: a coarse fingerprint of each, an index over all, and a check of what the index found.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002: of 33 bands of a long frame, 32 bits say whether the
difference between neighbouring bands grew since the frame before. The bits survive codecs, gain, resampling and light noise, and frames
overlap so much that a copy that starts at another sample still matches. Two recordings of the same sentence by the same person do not
match: over a second and more their bits differ at 0.4 to 0.5, those of the same sound at less than 0.25.

Shapes: N samples, T frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

RATE = 4_000  # Hz: bands end at 1.9 kHz
FRAME, HOP = 1_024, 64  # samples: 256 ms every 16 ms
LOWEST_HZ, HIGHEST_HZ, BITS = 300.0, 1_900.0, 32
ACTIVE_DB = 35.0  # frames this far below the loudest one say nothing
SILENT_DB = -75.0  # nor do recordings that never come above this level (dBFS)
MOST_ALIKE = 30  # an index entry that more frames share is a hum or a beep, not a recording
MOST_CANDIDATES = 300_000
DIFFER = 0.28  # share of bits that may differ; chance is 0.5
EVEN = 0.33  # a frame with fewer wrong bits speaks for a match, one with more against it
LEAST_FRAMES = 32  # active frames that must match: half a second and the frame itself
ENOUGH = 8.0  # frames times how much better than EVEN they fit: chance reached 5.5 among 13 000 recordings, real matches began at 9

BLOCK = 4_096  # frames at once
MOST_LAGS = 16  # of a pair of recordings: programmes that share a jingle match at many
WINDOW = np.hanning(FRAME).astype(np.float32)

Bits = NDArray[np.uint32]


@dataclass(frozen=True)
class Print:
    """A recording's fingerprint: bits [T], and which frames are loud enough to count, active [T]."""

    bits: Bits
    active: NDArray[np.bool_]


@dataclass(frozen=True)
class Alike:
    """The same sound in recordings `first` and `second` (row numbers): `seconds` of it, from first_s in one and second_s in the other.

    differ: the share of bits that differ, 0 for a copy.
    """

    first: int
    second: int
    first_s: float
    second_s: float
    seconds: float
    differ: float


def lowered(wave: NDArray[np.float32], rate: int = 16_000) -> NDArray[np.float32]:
    """Mono samples [N] at `rate` Hz at RATE, padded to two frames at least."""
    low = np.asarray(soxr.resample(wave, rate, RATE, quality="HQ"), dtype=np.float32)
    return np.pad(low, (0, max(0, FRAME + HOP - len(low))))


def frames_of(low: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every frame of samples at RATE, [T + 1, FRAME], a view."""
    return np.lib.stride_tricks.sliding_window_view(low, FRAME)[::HOP]


def power(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """The power spectrum of frames, [T, FRAME // 2 + 1]."""
    return np.asarray(np.abs(np.fft.rfft(frames * WINDOW, axis=1)) ** 2, dtype=np.float32)


def print_of(low: NDArray[np.float32]) -> Print:
    """The fingerprint of samples at RATE (`lowered`), block by block, so that an hour takes no more memory than a minute."""
    edges = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BITS + 2)
    bins = np.round(edges * FRAME / RATE).astype(int)
    frames = frames_of(low)
    bits, levels = [], []
    for start in range(0, len(frames) - 1, BLOCK):
        spectrum = power(frames[start : start + BLOCK + 1])  # one frame more: bits are differences between frames
        slope = np.diff(np.log(np.add.reduceat(spectrum[:, : bins[-1]], bins[:-1], axis=1) + 1e-10), axis=1)  # [T, BITS]
        grew = np.diff(slope, axis=0) > 0
        bits.append((grew.astype(np.uint64) << np.arange(BITS, dtype=np.uint64)).sum(axis=1).astype(np.uint32))
        levels.append(10 * np.log10(spectrum[1:].sum(axis=1) / (FRAME * FRAME / 8) + 1e-12))  # a full-scale sine is 0 dB
    level = np.concatenate(levels)
    loudest = float(level.max())
    return Print(np.concatenate(bits), (level > loudest - ACTIVE_DB) & (loudest > SILENT_DB))


def find(prints: Sequence[Print]) -> list[Alike]:
    """Every pair of recordings that share half a second of sound or more, the longest match of each pair, most alike first.

    An index of frames proposes pairs and lags, so the cost grows with the number of frames and not of pairs. A copy shares whole
    values of 32 bits with its source every few frames; what was damaged so much that none is left is not found.
    """
    found: dict[tuple[int, int], Alike] = {}
    for first, second, lag in _candidates(prints):
        match = _compare(prints, first, second, lag)
        if match is not None and ((best := found.get((first, second))) is None or match.seconds > best.seconds):
            found[first, second] = match
    return sorted(found.values(), key=lambda match: (match.differ, match.first, match.second))


def _candidates(prints: Sequence[Print]) -> list[tuple[int, int, int]]:
    """(first, second, lag in frames) of frames that are equal, the pairs with most such frames first."""
    kept = [np.flatnonzero(item.active) for item in prints]
    values = np.concatenate([item.bits[where] for item, where in zip(prints, kept, strict=True)] or [np.zeros(0, dtype=np.uint32)])
    owner = np.repeat(np.arange(len(prints)), [len(where) for where in kept])
    place = np.concatenate(kept or [np.zeros(0, dtype=np.int64)])
    order = np.argsort(values, kind="stable")
    values, owner, place = values[order], owner[order], place[order]
    run = np.flatnonzero(np.diff(values, prepend=np.nan))  # where each value begins
    size = np.diff(np.append(run, len(values)))
    rank = np.arange(len(values)) - np.repeat(run, size)
    size = np.repeat(size, size)
    pairs = []
    for step in range(1, MOST_ALIKE):  # the entry `step` places further on in the same run
        here = np.flatnonzero((size <= MOST_ALIKE) & (rank + step < size))
        there = here + step
        other = owner[here] != owner[there]
        here, there = here[other], there[other]
        swap = owner[here] > owner[there]
        here, there = np.where(swap, there, here), np.where(swap, here, there)
        pairs.append(np.stack([owner[here], owner[there], place[there] - place[here]], axis=1))
    if not pairs or not sum(map(len, pairs)):
        return []
    unique, votes = np.unique(np.concatenate(pairs), axis=0, return_counts=True)
    best = np.argsort(-votes, kind="stable")[:MOST_CANDIDATES]
    lags: Counter[tuple[int, int]] = Counter()
    kept_pairs = []
    for a, b, lag in unique[best].tolist():
        lags[a, b] += 1
        if lags[a, b] <= MOST_LAGS:
            kept_pairs.append((a, b, lag))
    return kept_pairs


def _compare(prints: Sequence[Print], first: int, second: int, lag: int) -> Alike | None:
    """The longest match of two recordings at a lag (frame t of the first is frame t + lag of the second), or None."""
    a, b = prints[first], prints[second]
    start, stop = max(0, -lag), min(len(a.bits), len(b.bits) - lag)
    if stop - start < LEAST_FRAMES:
        return None
    both = a.active[start:stop] & b.active[start + lag : stop + lag]
    wrong = np.bitwise_count(a.bits[start:stop] ^ b.bits[start + lag : stop + lag]) / BITS
    gain = np.concatenate([[0.0], np.cumsum(np.where(both, EVEN - wrong, 0.0))])  # the stretch over which it grows most is the match
    lowest = np.minimum.accumulate(gain)
    last = int((gain - lowest).argmax())
    begin = int(gain[: last + 1].argmin())
    heard = both[begin:last]
    if heard.sum() < LEAST_FRAMES or gain[last] - gain[begin] < ENOUGH or (differ := float(wrong[begin:last][heard].mean())) >= DIFFER:
        return None
    begin, last = begin + start, last + start
    return Alike(first, second, begin * HOP / RATE, (begin + lag) * HOP / RATE, ((last - begin) * HOP + FRAME) / RATE, differ)
