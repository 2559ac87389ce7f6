"""Centre and supervised contrastive loss beside their formulas in numpy and another library's; batches in which a class is alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as reference

from moodcast.objectives import contrast


def example(seed: int, size: int = 9, width: int = 5, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, width)), rng.integers(num_classes, size=size), rng.random(size)


def formula(embedding: np.ndarray, kind: np.ndarray, temperature: float, weight: np.ndarray) -> float:
    """Khosla et al. 2020, eq. 2, in loops, divided by B."""
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    total = 0.0
    for i in range(len(kind)):
        friends = [p for p in range(len(kind)) if p != i and kind[p] == kind[i]]
        if friends:
            below = sum(np.exp(unit[i] @ unit[a] / temperature) for a in range(len(kind)) if a != i)
            total -= weight[i] * np.mean([np.log(np.exp(unit[i] @ unit[p] / temperature) / below) for p in friends])
    return total / len(kind)


every_case = settings(max_examples=30, deadline=None)
seeds, sizes, class_counts = st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 6)


@every_case
@given(seed=seeds, size=sizes, num_classes=class_counts, temperature=st.sampled_from([0.07, 0.1, 0.5, 2.0]))
def test_supervised_contrast_is_the_formula(seed: int, size: int, num_classes: int, temperature: float):
    embedding, kind, weight = example(seed, size, 4, num_classes)
    found = contrast.supervised(*map(torch.from_numpy, (embedding, kind)), temperature, torch.from_numpy(weight))
    assert found.item() == pytest.approx(formula(embedding, kind, temperature, weight), abs=1e-9)


@every_case
@given(seed=seeds)
def test_supervised_contrast_is_another_library_s_where_every_class_has_two(seed: int):
    embedding, _, _ = example(seed, 12)
    vectors, kind = torch.from_numpy(embedding), torch.arange(12) % 3
    wanted = reference.SupConLoss(temperature=0.1)(vectors, kind)
    assert contrast.supervised(vectors, kind, 0.1).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_neither_the_length_of_an_embedding_nor_the_order_of_the_batch_matters():
    embedding, kind, weight = map(torch.from_numpy, example(4))
    wanted = contrast.supervised(embedding, kind, 0.1, weight).item()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert contrast.supervised(7.0 * embedding, kind, 0.1, weight).item() == pytest.approx(wanted)
    assert contrast.supervised(embedding[order], kind[order], 0.1, weight[order]).item() == pytest.approx(wanted)


def test_who_is_left_out_might_as_well_not_be_there():
    embedding, kind, weight = map(torch.from_numpy, example(5))
    among = torch.tensor([True, False, True, True, False, True, True, True, True])
    found = contrast.supervised(embedding, kind, 0.1, weight, among)
    alone = contrast.supervised(embedding[among], kind[among], 0.1, weight[among])
    assert found.item() == pytest.approx(alone.item() * 7 / 9)
    embedding[1] = 1e3  # moves nothing
    assert contrast.supervised(embedding, kind, 0.1, weight, among).item() == pytest.approx(found.item())


def test_classes_that_lie_together_lose_less():
    together = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    kind, apart = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    assert contrast.supervised(together, kind, 0.1) < 0.01 < 5 < contrast.supervised(together, apart, 0.1)


@pytest.mark.parametrize("temperature", [0.03, 0.1])
@pytest.mark.parametrize(
    ("kind", "zero"),
    [
        pytest.param([0], False, id="a single utterance"),
        pytest.param([0, 1, 2, 3], False, id="one of each class"),
        pytest.param([0, 0, 0, 1], False, id="one class alone"),
        pytest.param([2, 2, 2, 2], False, id="a single class"),
        pytest.param([0, 0, 1, 1], True, id="embeddings of zero"),
    ],
)
def test_losses_and_gradients_are_finite_in_every_batch(kind: list[int], zero: bool, temperature: float):
    torch.manual_seed(0)
    embedding = (torch.zeros(len(kind), 8) if zero else 100 * torch.randn(len(kind), 8)).requires_grad_()
    loss = contrast.supervised(embedding, torch.tensor(kind), temperature)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert embedding.grad.isfinite().all()
    if len(set(kind)) == len(kind):
        assert loss == 0
        assert not embedding.grad.any()


def test_nobody_among_them_is_a_loss_of_zero():
    embedding = torch.randn(3, 4, requires_grad=True)
    loss = contrast.supervised(embedding, torch.zeros(3, dtype=torch.long), 0.1, None, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert not embedding.grad.any()


@every_case
@given(seed=seeds, weighted=st.booleans())
def test_centre_is_the_formula(seed: int, weighted: bool):
    embedding, kind, weight = example(seed)
    centres = np.random.default_rng(seed + 1).normal(size=(3, 5))
    each = [((embedding[b] - centres[kind[b]]) ** 2).sum() for b in range(9)]
    wanted = np.sum(np.array(each) * (weight if weighted else 1.0)) / 18
    found = contrast.centre(*map(torch.from_numpy, (embedding, kind, centres)), torch.from_numpy(weight) if weighted else None)
    assert found.item() == pytest.approx(wanted)


def test_centres_are_drawn_to_the_mean_of_their_class_and_others_stay():
    embedding, kind = torch.from_numpy(example(6)[0]), torch.tensor([0, 0, 0, 1, 1, 1, 1, 0, 1])
    centres = torch.ones(3, 5, dtype=torch.float64, requires_grad=True)
    for _ in range(60):
        (slope,) = torch.autograd.grad(contrast.centre(embedding, kind, centres), centres)
        centres.data -= slope
    for k in (0, 1):
        torch.testing.assert_close(centres[k].detach(), embedding[kind == k].mean(0), atol=1e-6, rtol=0)
    assert (centres[2] == 1).all()
