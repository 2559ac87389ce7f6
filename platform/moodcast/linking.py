"""From who is who inside ten seconds to who is who in a recording: local speakers linked, and their windows put together again.

A segmentation (segmentation.py) tells a few speakers apart in each of many overlapping windows, and names nobody. Two of these local
speakers are taken for one by how alike they sound (the cosine of embeddings of what each says alone) and, where their windows share time,
by whether they speak at the same moments of it; two of one window are two. Average linkage of that (scikit-learn), some minutes at a time,
and then of the speakers of those minutes by sound alone, so that hours cost hours and not their square. It is the road of pyannote.audio
(Bredin, Interspeech 2023, "pyannote.audio 2.1 speaker diarization pipeline") but for the likeness and the two steps.

Pure functions of arrays. Shapes: W windows, T frames a window, S local speakers a window, P sets of them, N local speakers that are heard
alone, D width of an embedding, K speakers, F frames of the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

from moodcast.voices import by_appearance, unit

APART = -2.0  # the likeness of two local speakers of one window
NEXT = 1.0  # what speaking at the same moments adds to a cosine, and at other moments takes from it
SURE = 120  # frames of speech (2 s) in the shared time from which it counts in full; a quarter of it is the least
MORE = 8  # further groups in which speakers are looked for where strays took their places
BLOCK = 120  # windows linked at once
Array = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]
Active = NDArray[np.bool_]


@dataclass(frozen=True)
class Local:
    """A speaker of one window, and in which of its frames nobody else speaks, [T]."""

    window: int
    speaker: int
    alone: Active


def active(activity: Array, sets: Array, voiced: Active, together: float = 0.5) -> Active:
    """Who speaks in each frame, [W, T, S], by the probabilities [W, T, P] of `sets` [P, S] of speakers; nobody where not `voiced` [W, T].

    Two are heard at once where all pairs together have a probability of more than `together`.
    """
    several = sets.sum(axis=1) > 1
    some = activity * (sets.sum(axis=1) > 0)
    pairs = np.where(several, some, 0.0)
    likely = pairs.sum(-1) > together * np.maximum(some.sum(-1), 1e-9)
    best = np.where(likely, pairs.argmax(-1), np.where(several, 0.0, some).argmax(-1))
    return np.asarray((sets[best] > 0) & voiced[..., None])


def locals_of(heard: Active, least: int) -> list[Local]:
    """The local speakers that speak alone in at least so many frames, by window; heard [W, T, S]."""
    alone = heard & (heard.sum(axis=2, keepdims=True) == 1)
    rows, columns = np.nonzero(alone.sum(axis=1) >= max(1, least))
    return [Local(int(w), int(s), alone[w, :, s]) for w, s in zip(rows, columns, strict=True)]


def likeness(embeddings: Array, some: Sequence[Local], heard: Active, starts: Sequence[int]) -> Array:
    """How alike local speakers are, [N, N]: cosines of their embeddings [N, D], moved by shared time; windows begin at frames `starts`."""
    rows = unit(embeddings)
    found = rows @ rows.T
    frames = heard.shape[1]
    for i, one in enumerate(some):
        for j in range(i + 1, len(some)):
            other = some[j]
            offset = starts[other.window] - starts[one.window]
            if offset >= frames:
                break  # they come by window: all that follow begin later
            if one.window == other.window:
                found[i, j] = found[j, i] = APART
                continue
            mine, theirs = heard[one.window, offset:, one.speaker], heard[other.window, : frames - offset, other.speaker]
            less = min(int(mine.sum()), int(theirs.sum()))
            if 4 * less >= SURE:
                share = int((mine & theirs).sum()) / less
                found[i, j] = found[j, i] = found[i, j] + NEXT * (2 * share - 1) * min(1.0, less / SURE)
    return found


def linked(
    embeddings: Array, some: Sequence[Local], heard: Active, starts: Sequence[int], same: float, low: int = 1, high: int = 20
) -> Labels:
    """The speaker [N] of each local speaker, numbered as they appear: joined while their mean likeness is at least `same`.

    At least `low` and at most `high` speakers, as far as there are so many local ones.
    """
    if not some:
        return np.zeros(0, dtype=np.int64)
    blocks = np.array([one.window // BLOCK for one in some])
    if blocks[0] == blocks[-1]:
        return by_appearance(_joined(likeness(embeddings, some, heard, starts), same, low, high))
    groups, first = np.zeros(len(some), dtype=np.int64), 0
    for block in np.unique(blocks):
        here = np.flatnonzero(blocks == block)
        found = _joined(likeness(embeddings[here], [some[int(i)] for i in here], heard, starts), same, 1, len(here))
        groups[here] = first + found
        first += int(found.max()) + 1
    means = np.zeros((first, embeddings.shape[1]))
    np.add.at(means, groups, unit(embeddings))
    means /= np.bincount(groups)[:, None]
    across = means @ means.T  # the mean cosine across two groups
    home = np.zeros(first, dtype=np.int64)
    home[groups] = blocks
    across[home[:, None] == home[None]] = APART
    return by_appearance(_joined(across, same, low, high)[groups])


def _joined(alike: Array, same: float, low: int, high: int) -> Labels:
    """Groups [N] by average linkage of likenesses [N, N] down to `same`, of which there are at least `low` and at most `high`."""
    if len(alike) < 2:
        return np.zeros(len(alike), dtype=np.int64)
    distances = 2.0 - (alike + alike.T) / 2
    np.fill_diagonal(distances, 0.0)
    labels = _average(distances, distance_threshold=2.0 - same)
    found = int(labels.max()) + 1
    wanted = min(max(low, found), high, len(alike))
    return labels if wanted == found else _average(distances, n_clusters=wanted)


def _average(distances: Array, n_clusters: int | None = None, distance_threshold: float | None = None) -> Labels:
    tree = AgglomerativeClustering(n_clusters=n_clusters, distance_threshold=distance_threshold, metric="precomputed", linkage="average")
    return np.asarray(tree.fit_predict(np.maximum(distances, 0.0)), dtype=np.int64)


def settled(link: Callable[[int, int], Labels], embeddings: Array, seconds: Array, least_s: float, low: int, high: int) -> Labels:
    """Labels [N] of at least `low` and at most `high` speakers who each say `least_s` alone, as far as there are so many.

    link: labels [N] of at least and at most so many. Where strays stand for some of the `low`, more groups are made and strays joined,
    until enough are left; where that does not help in MORE tries, strays count as speakers after all.
    """
    first = link(low, high)
    for num in range(low, low + MORE + 1):
        labels = strays_joined(first if num == low else link(num, max(num, high)), embeddings, seconds, least_s)
        if low <= int(labels.max(initial=0)) + 1 <= high:
            return labels
    return first


def strays_joined(labels: Labels, embeddings: Array, seconds: Array, least_s: float) -> Labels:
    """Labels [N] where whoever says less than `least_s` alone (seconds [N], by local speaker) has joined whom they sound most like."""
    labels = labels.copy()
    rows = unit(embeddings)
    while (num := int(labels.max(initial=-1)) + 1) > 1:
        said = np.bincount(labels, weights=seconds, minlength=num)
        least = int(said.argmin())
        if said[least] >= least_s:
            break
        means = np.stack([rows[labels == k].mean(0) for k in range(num)])
        near = means @ means[least]
        near[least] = -np.inf
        labels[labels == least] = int(near.argmax())
        labels = by_appearance(labels)
    return labels


def together(heard: Active, some: Sequence[Local], labels: Labels, starts: Sequence[int], voiced: Active) -> Active:
    """Who speaks in each frame of the recording, [F, K]: as many as the windows over it find on average, those that most of them name.

    voiced [F]: where somebody speaks; there it is one at least.
    """
    frames = heard.shape[1]
    num = int(labels.max(initial=0)) + 1
    votes = np.zeros((len(voiced) + frames, num), dtype=np.uint8)  # of the few windows over a frame: hours are many frames
    count = np.zeros((2, len(voiced) + frames), dtype=np.uint8)  # speakers found, and windows
    for window, start in enumerate(starts):
        count[0, start : start + frames] += heard[window].sum(axis=1, dtype=np.uint8)
        count[1, start : start + frames] += 1
    for one, label in zip(some, labels, strict=True):
        at = starts[one.window]
        votes[at : at + frames, label] += heard[one.window, :, one.speaker]
    votes, count = votes[: len(voiced)], count[:, : len(voiced)]
    wanted = np.where(voiced, np.maximum(1, np.round(count[0] / np.maximum(count[1], 1))), 0)
    found = np.zeros(votes.shape, dtype=np.bool_)
    for number in range(int(wanted.max(initial=0))):
        left = np.where(found, np.uint8(0), votes)
        best = left.argmax(axis=1)
        named = np.flatnonzero((wanted > number) & (left.max(axis=1) > 0))
        found[named, best[named]] = True
    if len(spoke := np.flatnonzero(votes.any(axis=1))):  # elsewhere only speakers too short to be linked, or none: whoever spoke nearest
        gap = np.flatnonzero(voiced & ~votes.any(axis=1))
        after = np.searchsorted(spoke, gap).clip(max=len(spoke) - 1)
        before = (after - 1).clip(min=0)
        nearest = np.where(np.abs(spoke[after] - gap) < np.abs(spoke[before] - gap), spoke[after], spoke[before])
        found[gap, votes[nearest].argmax(axis=1)] = True
    return found
