"""What runs of several seeds answered in a speaker fold, as one: files that default_bundle.py keeps, `FOLD-SEED.npz` in a folder.

Shapes: N recordings of a fold, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILES = "[0-9]-*.npz"
TINY = 1e-12


def seeds_in(folder: Path) -> list[int]:
    """The seeds that answered every fold that anybody answered."""
    known: dict[int, set[int]] = {}
    for path in folder.glob(FILES):
        fold, _, seed = path.stem.partition("-")
        known.setdefault(int(seed), set()).add(int(fold))
    folds = set().union(*known.values()) if known else set()
    return sorted(seed for seed, answered in known.items() if answered == folds)


def answers_in(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Probabilities [K] by utterance id over all folds, of all seeds that answered all of them."""
    found: dict[str, NDArray[np.float64]] = {}
    seeds = seeds_in(folder)
    for fold in sorted({int(path.name[0]) for path in folder.glob(FILES)}) if seeds else []:
        found |= dict(zip(*together(folder, fold, seeds), strict=True))
    return found


def together(folder: Path, fold: int, seeds: Sequence[int], recipe: str | None = None) -> tuple[list[str], NDArray[np.float64]]:
    """Ids [N] and probabilities [N, K]: the normalised product of what the seeds answered, each to the power 1/seeds.

    Raises ValueError where the seeds answered other recordings, or another recipe than the one that is named did.
    """
    ids: list[str] = []
    logs = []
    for seed in seeds:
        with np.load(folder / f"{fold}-{seed}.npz", allow_pickle=False) as part:
            if recipe and "recipe" in part and str(part["recipe"]) != recipe:
                raise ValueError(f"{folder}: fold {fold} was answered by another recipe, {part['recipe']}; `run` with another --answers")
            if ids and part["ids"].tolist() != ids:
                raise ValueError(f"{folder}: the seeds answered other recordings in fold {fold}")
            ids = part["ids"].tolist()
            logs.append(np.log(np.maximum(part["committee"].astype(np.float64), TINY)))
    mean = np.mean(logs, axis=0)
    return ids, np.exp(mean - np.logaddexp.reduce(mean, axis=1, keepdims=True))
