"""Who is who: speakers from embeddings. Pure functions of arrays.

Shapes: N windows, D width of an embedding (rows of length 1), K speakers, T steps of time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

MAX_SPEAKERS = 20  # found unless more are asked for
MAX_POINTS = 2000  # windows that are compared pairwise; the others join the nearest speaker
SPLIT = 0.33  # Ward's distance at which groups are first made, over the root of the number of windows: where speakers close by are found
Array = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


def assign(
    embeddings: Rows,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    alike: float = 0.68,
    min_share: float = 0.04,
    enough: int = 120,
    middles_s: Sequence[float] | None = None,
    window_s: float = 0.0,
) -> Labels:
    """Speaker index [N] of each window, 0-based in the order of first appearance.

    Ward's clustering (JASA 1963) makes groups, and those that sound most alike are joined again (`joined`) while the cosine across
    two of them is at least `alike` times that inside them, or one has less than `min_share` of the windows and less than `enough` of them.
    That number of speakers is kept between min_speakers and max_speakers; where it has to change, or `num_speakers` is given, Ward's
    clustering makes as many groups.

    middles_s: when each window is in the middle; windows less than window_s apart share sound, and are not compared to tell what is alike.
    Memory: at most MAX_POINTS windows are compared with each other; beside the embeddings no copy of all of them is made.
    """
    low, high = speaker_limits(num_speakers, min_speakers, max_speakers)
    total = len(embeddings)
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    chosen = np.unique(np.linspace(0, total - 1, min(total, MAX_POINTS)).round().astype(int))
    some = unit(embeddings[chosen])
    if num_speakers is None:
        groups = _ward(some, distance_threshold=SPLIT * float(np.sqrt(len(some))))
        least = max(2.0, min(min_share * len(some), enough * len(some) / total))
        middles = np.arange(len(some), dtype=float) if middles_s is None else np.asarray(middles_s, dtype=float)[chosen]
        groups = joined(some, groups, middles, window_s, alike, least)
        found = int(groups.max()) + 1
    wanted = min(max(low, found), high, len(some)) if num_speakers is None else min(num_speakers, len(some))
    if num_speakers is not None or wanted != found:
        groups = _ward(some, n_clusters=wanted)
    return by_appearance(nearest(embeddings, centroids(some, groups)))


def joined(rows: Array, groups: Labels, middles_s: Array, window_s: float, alike: float, least: float) -> Labels:
    """Groups [N] of windows [N, D] after joining, pair by pair, those most alike, until none are alike and none is smaller than `least`.

    Alike: the mean cosine across two groups over the geometric mean of those inside them, over pairs of windows that share no sound. A
    recording whose embeddings scatter more, because it is far or noisy, so asks for less. A short group has few such pairs inside: 30 of
    all groups' are added to them.
    """
    member = np.eye(int(groups.max()) + 1)[groups]
    apart = np.abs(middles_s[:, None] - middles_s[None]) >= max(window_s, 1e-9)
    sums, pairs, sizes = member.T @ np.where(apart, rows @ rows.T, 0.0) @ member, member.T @ apart @ member, member.sum(axis=0)
    names = list(range(len(sizes)))
    while len(names) > 1:
        typical = np.trace(sums) / max(np.trace(pairs), 1.0)
        inside = np.maximum((np.diag(sums) + 30 * typical) / (np.diag(pairs) + 30), 0.15)
        ratio = np.where(pairs > 0, sums / np.maximum(pairs, 1) / np.sqrt(inside[:, None] * inside), -np.inf)
        np.fill_diagonal(ratio, -np.inf)
        i, j = (int(place) for place in np.unravel_index(ratio.argmax(), ratio.shape))
        if ratio[i, j] < alike:
            if sizes.min() >= least:
                break
            i = int(sizes.argmin())
            ratio[i, i] = -np.inf
            j = int(ratio[i].argmax()) if np.isfinite(ratio[i]).any() else int(np.argmax(np.where(np.arange(len(sizes)) == i, -1, sizes)))
        kept, gone = min(i, j), max(i, j)
        groups = np.where(groups == names[gone], names[kept], groups)
        for table in (sums, pairs):
            table[kept] += table[gone]
            table[:, kept] += table[:, gone]
        sizes[kept] += sizes[gone]
        sums, pairs = (np.delete(np.delete(table, gone, 0), gone, 1) for table in (sums, pairs))
        sizes = np.delete(sizes, gone)
        names.pop(gone)
    return by_appearance(groups)


def _ward(rows: Array, n_clusters: int | None = None, distance_threshold: float | None = None) -> Labels:
    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    tree = AgglomerativeClustering(n_clusters=n_clusters, distance_threshold=distance_threshold, linkage="ward")
    return np.asarray(tree.fit_predict(rows), dtype=np.int64)


def speaker_limits(num_speakers: int | None, min_speakers: int | None, max_speakers: int | None) -> tuple[int, int]:
    """The least and most speakers allowed. Raises ValueError where they contradict each other."""
    if num_speakers is not None and (min_speakers is not None or max_speakers is not None):
        given = {"min_speakers": min_speakers, "max_speakers": max_speakers}
        bounds = " and ".join(f"{name}={value}" for name, value in given.items() if value is not None)
        raise ValueError(f"num_speakers={num_speakers} came with {bounds}; give the number of speakers or bounds on it, not both")
    low = 1 if min_speakers is None else min_speakers
    high = max(low, MAX_SPEAKERS) if max_speakers is None else max_speakers
    if num_speakers is not None:
        low = high = num_speakers
    if low < 1 or high < low:
        raise ValueError(f"wanted 1 <= min_speakers <= max_speakers, got {low} and {high}")
    return low, high


def centroids(embeddings: Rows, labels: Labels) -> Array:
    """Mean direction of each speaker's windows [K, D], rows of length 1."""
    sums = np.zeros((int(labels.max()) + 1, embeddings.shape[1]))
    for some in _parts(len(embeddings)):
        np.add.at(sums, labels[some], unit(embeddings[some]))
    return unit(sums)


def similarities(embeddings: Rows, centres: Array) -> Rows:
    """Cosines [N, K] of windows and directions [K, D] of length 1, in the embeddings' precision."""
    found = np.empty((len(embeddings), len(centres)), dtype=embeddings.dtype)
    for some in _parts(len(embeddings)):
        found[some] = unit(embeddings[some]) @ centres.T
    return found


def nearest(embeddings: Rows, centres: Array) -> Labels:
    """Which direction [K, D] each window lies next to, [N]."""
    found = np.empty(len(embeddings), dtype=np.int64)
    for some in _parts(len(embeddings)):
        found[some] = (unit(embeddings[some]) @ centres.T).argmax(axis=1)
    return found


def _parts(total: int, size: int = 4096) -> list[slice]:
    """Slices of at most `size`, so that no copy of all windows is made."""
    return [slice(first, first + size) for first in range(0, total, size)]


def best_path(scores: Rows, penalty: Array | float) -> Labels:
    """The labels [T] that maximise the sum of scores [T, K] less `penalty` ([T] or one for all) at each change (Viterbi, 1967)."""
    steps, num = scores.shape
    cost = np.broadcast_to(np.asarray(penalty, dtype=float), (steps,))
    best = scores[0].astype(float).copy()
    came_from = np.zeros((steps, num), dtype=np.int16)  # hours have very many steps
    for t in range(1, steps):
        leader = int(best.argmax())
        switch = best[leader] - cost[t]
        stay = best >= switch
        came_from[t] = np.where(stay, np.arange(num), leader)
        best = np.where(stay, best, switch) + scores[t]
    path = np.empty(steps, dtype=np.int64)
    path[-1] = int(best.argmax())
    for t in range(steps - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    return path


def by_appearance(labels: Labels) -> Labels:
    """The same partition, numbered 0, 1, ... in the order of first appearance."""
    order = {int(old): new for new, old in enumerate(dict.fromkeys(labels.tolist()))}
    return np.array([order[int(label)] for label in labels], dtype=np.int64)


def unit(rows: Rows) -> Array:
    """Rows scaled to length 1; a zero row stays zero."""
    rows = np.asarray(rows, dtype=np.float64)
    lengths: Array = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
