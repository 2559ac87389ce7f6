"""Kernel ridge regression of classes, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge as Reference

from moodcast.nn.kernel import BLOCK, KernelRidge


def example(rows: int = 60, components: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors that half precision holds, and targets and weights of three classes, the first of which is common."""
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(rows, components), dim=-1).half().float()
    classes = (vectors[:, 0] > -0.3).long() + (vectors[:, 0] > 0.6).long()
    weight = 0.5 + torch.rand(rows, 1)
    return vectors, torch.cat([torch.eye(3)[classes], weight], dim=1)


def test_with_all_rows_as_landmarks_it_is_scikit_learns_with_classes_that_count_alike():
    vectors, given = example()
    ours = KernelRidge(5, 3, 60, 0.4)
    ours.fit(vectors, given)
    target, weight = given[:, :3].double().numpy(), given[:, 3].double().numpy()
    weight = weight * (target / (target * weight[:, None]).sum(0)).sum(1)
    theirs = Reference(alpha=0.4, kernel="rbf", gamma=1.0)
    theirs.fit(vectors.double().numpy(), target - 1.0 / 3.0, sample_weight=weight / weight.mean())
    asked = torch.randn(10, 5)
    np.testing.assert_allclose(ours(asked).numpy(), theirs.predict(asked.double().numpy()), atol=2e-3)


def test_a_vector_of_zeros_is_not_answered():
    vectors, given = example()
    ridge = KernelRidge(5, 3, 60, 0.1)
    ridge.fit(vectors, given)
    assert ridge(vectors).abs().max() > 0.4
    assert not ridge(torch.zeros(2, 5)).any()


def test_many_rows_of_few_components_are_solved():
    vectors, given = example(1500, 4)
    ridge = KernelRidge(4, 3, 1500, 1.0)
    ridge.fit(vectors, given)
    assert (ridge(vectors).argmax(1) == given[:, :3].argmax(1)).float().mean() > 0.9


def test_a_few_landmarks_drawn_from_more_rows_than_a_block_answer_almost_as_well():
    vectors, given = example(BLOCK + 500)
    few, guess = KernelRidge(5, 3, 100, 0.1), given[:, :3].argmax(1)
    few.fit(vectors, given)
    kept = few.landmarks.float()
    assert len(kept.unique(dim=0)) == 100
    assert all((vectors == one).all(1).any() for one in kept)
    assert (few(vectors).argmax(1) == guess).float().mean() > 0.9


@pytest.mark.parametrize("rows", [20, 60])
def test_places_without_a_row_stay_empty(rows: int):
    vectors, given = example(rows)
    ridge = KernelRidge(5, 3, 60, 0.1)
    assert ridge.landmarks.any(1).all()  # drawn at random until then
    ridge.fit(vectors, given)
    assert not ridge.landmarks[rows:].any()
    assert not ridge.dual[rows:].any()
    assert ridge.dual[:rows].any(1).all()
