"""K-means over frames: one machine by scikit-learn, or shares of the frames whose sums make a step together (`moodcast.cluster.kmeans`).

Shapes: F frames, D width, K units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moodcast.study.units import Floats, Ints


@dataclass(frozen=True)
class Sums:
    """What a share of the frames adds to a step of k-means: sum of frames [K, D] and their number [K] by nearest centre, total squared
    distance, and the farthest frames [<= K, D] with their distances and centres, for clusters that nobody chose.
    """

    total: Floats
    count: Floats
    inertia: float
    far: Floats
    far_distance: Floats
    far_centre: Ints


def nearest_units(frames: Floats, centres: Floats, at_once: int = 20_000) -> tuple[Ints, Floats]:
    """The nearest centre [K, D] of each frame [F, D], and the squared distance."""
    unit, distance = np.empty(len(frames), dtype=np.int64), np.empty(len(frames))
    squared = (centres**2).sum(1)
    for start in range(0, len(frames), at_once):
        part = frames[start : start + at_once]
        score = squared - 2 * part @ centres.T
        unit[start : start + at_once] = found = score.argmin(1)
        distance[start : start + at_once] = ((part - centres[found]) ** 2).sum(1)
    return unit, distance


def partial_sums(frames: Floats, centres: Floats) -> Sums:
    """`Sums` of a share of the frames, [F, D] float64."""
    unit, distance = nearest_units(frames, centres)
    total, count = np.zeros_like(centres), np.bincount(unit, minlength=len(centres)).astype(float)
    np.add.at(total, unit, frames)
    far = np.argsort(-distance, kind="stable")[: len(centres)]  # the farthest of all are among the farthest of each share
    return Sums(total, count, float(distance.sum()), frames[far], distance[far], unit[far])


def lloyd_step(centres: Floats, parts: Sequence[Sums]) -> tuple[Floats, float]:
    """New centres from the sums of all shares, and the inertia of the old ones.

    A cluster that nobody chose is put where the frame is that is farthest from its centre, which leaves its own cluster (as scikit-learn
    does).
    """
    total, count = sum(part.total for part in parts), sum(part.count for part in parts)
    total, count = np.array(total), np.array(count)
    empty = np.flatnonzero(count == 0)
    if len(empty):
        far, distance, unit = (np.concatenate([getattr(part, name) for part in parts]) for name in ("far", "far_distance", "far_centre"))
        for k, i in zip(empty, np.argsort(-distance, kind="stable"), strict=False):
            total[unit[i]] -= far[i]
            count[unit[i]] -= 1
            total[k], count[k] = far[i], 1
    return total / np.maximum(count, 1)[:, None], float(sum(part.inertia for part in parts))


def first_centres(frames: Floats, num_units: int, seed: int = 0) -> Floats:
    """Where k-means starts: k-means++ (Arthur and Vassilvitskii, SODA 2007) of scikit-learn, [K, D].

    Raises ValueError for fewer frames than units.
    """
    from sklearn.cluster import kmeans_plusplus  # type: ignore[import-untyped]

    if len(frames) < num_units:
        raise ValueError(f"{num_units} units of {len(frames)} frames: wanted more frames, or fewer units")
    found, _ = kmeans_plusplus(frames, num_units, random_state=seed)
    return np.asarray(found, dtype=float)


def cluster(frames: Floats, centres: Floats, iterations: int = 100) -> tuple[Floats, float]:
    """K-means from given centres by scikit-learn (Lloyd's algorithm, until nothing moves): centres [K, D] and inertia."""
    from sklearn.cluster import KMeans

    model = KMeans(len(centres), init=centres, n_init=1, max_iter=iterations, tol=0.0, algorithm="lloyd").fit(frames)
    return np.asarray(model.cluster_centers_, dtype=float), float(model.inertia_)
