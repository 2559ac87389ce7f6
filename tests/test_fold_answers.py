"""Answers of speaker folds, several seeds as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fold_answers


def keep(folder: Path, fold: int, seed: int, *rows: tuple[float, float], recipe: str = "a") -> None:
    ids = np.array([f"{fold}/{i}" for i in range(len(rows))])
    np.savez(folder / f"{fold}-{seed}.npz", ids=ids, committee=np.array(rows), recipe=np.array(recipe))


def test_seeds_that_answered_every_fold_are_one_answer_by_their_normalised_product(tmp_path: Path) -> None:
    keep(tmp_path, 0, 0, (0.8, 0.2))
    keep(tmp_path, 0, 1, (0.5, 0.5))
    keep(tmp_path, 1, 0, (0.1, 0.9))
    keep(tmp_path, 1, 1, (0.1, 0.9))
    keep(tmp_path, 0, 2, (0.0, 1.0))  # has not answered fold 1 yet
    keep(tmp_path, 0, 7, (0.0, 1.0), recipe="b")
    (tmp_path / "refit-0.npz").write_bytes(b"of another kind")
    assert fold_answers.seeds_in(tmp_path) == [0, 1]
    found = fold_answers.answers_in(tmp_path)
    np.testing.assert_allclose(found["0/0"], [2 / 3, 1 / 3])  # sqrt(0.8 * 0.5) to sqrt(0.2 * 0.5)
    np.testing.assert_allclose(found["1/0"], [0.1, 0.9])
    assert fold_answers.answers_in(tmp_path / "none") == {}


def test_answers_of_another_recipe_or_to_other_recordings_are_refused(tmp_path: Path) -> None:
    keep(tmp_path, 0, 0, (0.8, 0.2))
    keep(tmp_path, 0, 1, (0.8, 0.2), recipe="b")
    keep(tmp_path, 0, 2, (0.8, 0.2), (0.8, 0.2))
    with pytest.raises(ValueError, match="fold 0 was answered by another recipe, b"):
        fold_answers.together(tmp_path, 0, [0, 1], "a")
    with pytest.raises(ValueError, match="other recordings in fold 0"):
        fold_answers.together(tmp_path, 0, [0, 2])
