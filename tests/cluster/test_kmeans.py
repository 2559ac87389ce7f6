"""K-means on a real local Ray: the centres of shares are those of scikit-learn on all frames together."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from moodcast.study import kmeans as plain

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_k_means_over_shares_equals_the_local_one() -> None:
    from moodcast.cluster import kmeans

    rng = np.random.default_rng(0)
    frames = rng.normal(size=(3000, 12)) + 2 * rng.normal(size=(8, 12))[rng.integers(0, 8, 3000)]
    first = plain.first_centres(frames, 20)
    told: list[tuple[int, int]] = []
    found, inertia = kmeans.cluster(np.array_split(frames, 3), first, progress=lambda done, of: told.append((done, of)))
    model = KMeans(20, init=first, n_init=1, max_iter=100, tol=0.0, algorithm="lloyd").fit(frames)
    np.testing.assert_allclose(found, model.cluster_centers_, atol=1e-6)
    assert inertia == pytest.approx(model.inertia_, rel=1e-9)
    assert told[-1][0] < 100  # it ended where nothing moved
    local, _ = plain.cluster(frames, first)
    np.testing.assert_allclose(found, local, atol=1e-6)


def test_a_fit_that_is_cut_short_equals_the_local_one_too() -> None:
    from moodcast.cluster import kmeans

    frames = np.random.default_rng(1).normal(size=(900, 5))
    first = np.concatenate([frames[:6], np.full((1, 5), 40.0)])  # the last is nobody's
    found, inertia = kmeans.cluster([frames[:100], frames[100:100], frames[100:]], first, iterations=3)
    model = KMeans(7, init=first, n_init=1, max_iter=3, tol=0.0, algorithm="lloyd").fit(frames)
    np.testing.assert_allclose(found, model.cluster_centers_, atol=1e-6)
    assert inertia == pytest.approx(model.inertia_, rel=1e-9)


def test_shares_of_another_width_are_refused() -> None:
    from moodcast.cluster import kmeans

    with pytest.raises(ValueError, match="frames of width 5, got"):
        kmeans.cluster([np.zeros((4, 3))], np.zeros((2, 5)))
