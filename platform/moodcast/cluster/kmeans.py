"""K-means over frames that lie in shares on many machines: each step a task for each share, equal to the local one (1e-6).

Shapes: F frames, D width, K units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import ray

from moodcast.study.kmeans import lloyd_step, partial_sums
from moodcast.study.units import Floats


def cluster(
    shares: Sequence[Floats], centres: Floats, iterations: int = 100, progress: Callable[[int, int], None] | None = None
) -> tuple[Floats, float]:
    """K-means from given centres over shares [F, D] of the frames, each put into Ray's store once: centres [K, D] and inertia.

    Ray must be up. Only centres and sums travel. It ends where nothing moves, or after `iterations`; progress(done, iterations) is told
    after each. Raises ValueError where shares differ in width from the centres.
    """
    if odd := [share.shape for share in shares if share.ndim != 2 or share.shape[1] != centres.shape[1]]:
        raise ValueError(f"shares must be frames of width {centres.shape[1]}, got {odd[0]}")
    kept = [ray.put(np.ascontiguousarray(share, dtype=np.float64)) for share in shares if len(share)]
    task = ray.remote(partial_sums)
    now, inertia = np.array(centres, dtype=float), float("inf")
    for done in range(1, iterations + 1):
        sent = ray.put(now)
        after, inertia = lloyd_step(now, ray.get([task.remote(share, sent) for share in kept]))
        still = bool(np.allclose(after, now, rtol=0.0, atol=1e-12))
        now = after
        if progress is not None:
            progress(done, iterations)
        if still:
            return now, inertia
    sent = ray.put(now)
    return now, lloyd_step(now, ray.get([task.remote(share, sent) for share in kept]))[1]
