"""Who is who: speakers from embeddings. Pure functions of arrays.

Shapes: N windows, D width of an embedding (rows of length 1), K speakers, T steps of time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering  # type: ignore[import-untyped]

MAX_SPEAKERS = 20  # found unless more are asked for
MAX_POINTS = 2000  # windows that are compared pairwise; the others join the nearest speaker
Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def assign(
    embeddings: Array,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    apart: float = 0.33,
    min_share: float = 0.04,
) -> Labels:
    """Speaker index [N] of each window, 0-based in the order of first appearance.

    Ward's clustering (J. H. Ward, JASA 1963) of unit-length rows. The number of speakers is `num_speakers`, or as many clusters as are
    left when joining two would raise Ward's distance above `apart` * sqrt(N), kept between min_speakers and max_speakers: two halves are
    different speakers when their centres lie more than 1.41 `apart` apart, a small group needs to be further away. Clusters with less
    than `min_share` of the windows join the nearest larger one.
    """
    low, high = speaker_limits(num_speakers, min_speakers, max_speakers)
    total = len(embeddings)
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    rows = unit(embeddings)
    some = rows[np.unique(np.linspace(0, total - 1, min(total, MAX_POINTS)).round().astype(int))]
    found = _ward(some, distance_threshold=apart * float(np.sqrt(len(some))))
    wanted = int(np.clip((np.bincount(found) >= max(2, min_share * len(some))).sum(), low, min(high, len(some))))
    if wanted > int(found.max()) + 1 or num_speakers is not None:
        found = _ward(some, n_clusters=wanted)
    kept = np.argsort(-np.bincount(found), kind="stable")[: max(1, wanted)]
    centres = unit(np.stack([some[found == k].mean(axis=0) for k in kept]))
    return by_appearance((rows @ centres.T).argmax(axis=1))


def _ward(rows: Array, n_clusters: int | None = None, distance_threshold: float | None = None) -> Labels:
    if len(rows) < 2:
        return np.zeros(len(rows), dtype=np.int64)
    tree = AgglomerativeClustering(n_clusters=n_clusters, distance_threshold=distance_threshold, linkage="ward")
    return np.asarray(tree.fit_predict(rows), dtype=np.int64)


def speaker_limits(num_speakers: int | None, min_speakers: int | None, max_speakers: int | None) -> tuple[int, int]:
    """The least and most speakers allowed. Raises ValueError where they contradict each other."""
    if num_speakers is not None and (min_speakers is not None or max_speakers is not None):
        raise ValueError("give num_speakers, or min_speakers and max_speakers, not both")
    low = 1 if min_speakers is None else min_speakers
    high = max(low, MAX_SPEAKERS) if max_speakers is None else max_speakers
    if num_speakers is not None:
        low = high = num_speakers
    if low < 1 or high < low:
        raise ValueError(f"wanted 1 <= min_speakers <= max_speakers, got {low} and {high}")
    return low, high


def centroids(embeddings: Array, labels: Labels) -> Array:
    """Mean direction of each speaker's windows [K, D], rows of length 1."""
    rows = unit(embeddings)
    return unit(np.stack([rows[labels == k].mean(axis=0) for k in range(int(labels.max()) + 1)]))


def best_path(scores: Array, penalty: Array | float) -> Labels:
    """The labels [T] that maximise the sum of scores [T, K] less `penalty` ([T] or one for all) at each change (Viterbi, 1967)."""
    steps, num = scores.shape
    cost = np.broadcast_to(np.asarray(penalty, dtype=float), (steps,))
    best = scores[0].astype(float).copy()
    came_from = np.zeros((steps, num), dtype=np.int64)
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


def unit(rows: Array) -> Array:
    """Rows scaled to length 1; a zero row stays zero."""
    rows = np.asarray(rows, dtype=np.float64)
    lengths: Array = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))
