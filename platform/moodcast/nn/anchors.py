"""Which layers of an encoder carry over to another corpus, said without the other corpus' labels.

Two measures a layer, of vectors of whole stretches. `likeness`: covariances of the two corpora differ no more than those of two halves of
one (1), or more (towards 0). `probe`: how well a linear classifier tells the source's classes on held-out stretches. Similar alone picks
layers that know nothing, telling alone those that do not carry over; a group of neighbours with a high product is the anchor.

Shapes: N stretches of the source, R of the target, S layers, D width of one, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLITS = 20  # of `likeness`
FOLDS = 3  # of `probe`


def likeness(source: Floats, target: Floats, groups: Ints | None = None, splits: int = SPLITS, seed: int = 0) -> float:
    """min(1, distance within the source / distance to the target) for vectors [N, D] and [R, D], in (0, 1].

    Distances are ||C_a - C_b||_F^2 of covariances of equally many stretches (few stretches differ more), medians over random draws,
    after every dimension is scaled by both corpora. groups [N]: whose stretch it is, where that is known; halves then share nobody.
    Raises ValueError for fewer than four stretches of either.
    """
    if min(len(source), len(target)) < 4:
        raise ValueError(f"covariances need four stretches of each corpus, got {len(source)} and {len(target)}")
    scale = np.maximum(np.concatenate([source - source.mean(0), target - target.mean(0)]).std(0), 1e-9)
    source, target = source / scale, target / scale
    rng = np.random.default_rng(seed)
    within, across = [], []
    for _ in range(splits):
        first, second = _halves(len(source), groups, rng)
        size = min(len(first), len(second), len(target))
        a, b = source[rng.permutation(first)[:size]], source[rng.permutation(second)[:size]]
        c = target[rng.permutation(len(target))[:size]]
        within.append(_apart(a, b))
        across.append(_apart(a, c))
    return float(min(1.0, np.median(within) / max(float(np.median(across)), 1e-12)))


def probe(vectors: Floats, truth: Ints, groups: Ints | None = None, seed: int = 0) -> float:
    """Unweighted average recall of a linear discriminant on held-out stretches, vectors [N, D], truth [N]; groups as in `likeness`.

    Where a class has too few stretches for folds it is chance, 1 / K.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # type: ignore[import-untyped]
    from sklearn.metrics import balanced_accuracy_score  # type: ignore[import-untyped]
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict  # type: ignore[import-untyped]

    classes, count = np.unique(truth, return_counts=True)
    if len(classes) < 2 or count.min() < FOLDS:
        return 1.0 / max(1, len(classes))
    standard = (vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 1e-9)
    grouped = groups is not None and len(np.unique(groups)) >= FOLDS
    folds = (StratifiedGroupKFold if grouped else StratifiedKFold)(FOLDS, shuffle=True, random_state=seed)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=np.full(len(classes), 1 / len(classes)))
    try:
        guess = cross_val_predict(model, standard, truth, groups=groups if grouped else None, cv=folds)
    except ValueError:  # a fold whose training side lacks a class
        return 1.0 / len(classes)
    return float(balanced_accuracy_score(truth, guess))


def best_group(scores: Sequence[float], size: int) -> list[int]:
    """The run of `size` neighbours among S layers with the highest mean score; of equals the lowest."""
    size = min(size, len(scores))
    means = [float(np.mean(scores[start : start + size])) for start in range(len(scores) - size + 1)]
    first = int(np.argmax(means))
    return list(range(first, first + size))


def random_group(num_layers: int, size: int, draw: int) -> list[int]:
    """A run of neighbours drawn by chance: what a choice must be better than."""
    size = min(size, num_layers)
    first = int(np.random.default_rng(draw).integers(num_layers - size + 1))
    return list(range(first, first + size))


def _halves(count: int, groups: Ints | None, rng: np.random.Generator) -> tuple[Ints, Ints]:
    if groups is None or len(np.unique(groups)) < 2:
        order = rng.permutation(count)
        return order[: count // 2], order[count // 2 :]
    names = rng.permutation(np.unique(groups))
    first = np.isin(groups, names[: len(names) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


def _apart(first: Floats, second: Floats) -> float:
    """||C_a - C_b||_F^2 of rows [n, D] and [n, D], by their products alone where rows are fewer than dimensions."""
    a, b = ((rows - rows.mean(0)) / np.sqrt(max(1, len(rows) - 1)) for rows in (first, second))
    if a.shape[1] <= len(a):
        return float(((a.T @ a - b.T @ b) ** 2).sum())
    return float(((a @ a.T) ** 2).sum() + ((b @ b.T) ** 2).sum() - 2 * ((a @ b.T) ** 2).sum())
