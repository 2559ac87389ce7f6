"""Focal loss beside its formula in numpy, its limits, and a gradient that stays finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.objectives.classes import cross_entropy
from moodcast.objectives.focal import focal


def example(seed: int, size: int = 5, num_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits, votes = rng.normal(scale=3, size=(size, num_classes)), rng.random((size, num_classes))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), votes / votes.sum(-1, keepdims=True), rng.random(size)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), gamma=st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0]), weighted=st.booleans())
def test_focal_is_the_formula_for_any_distribution(seed: int, gamma: float, weighted: bool):
    log_probs, target, weight = example(seed)
    total = 0.0
    for b in range(5):
        for k in range(4):
            p = np.exp(log_probs[b, k])
            total -= (weight[b] if weighted else 1.0) * target[b, k] * (1 - p) ** gamma * np.log(p)
    found = focal(torch.from_numpy(log_probs), torch.from_numpy(target), gamma, torch.from_numpy(weight) if weighted else None)
    assert found.item() == pytest.approx(total / 5, rel=1e-6)


def test_without_gamma_it_is_cross_entropy_and_with_more_it_is_smaller():
    log_probs, target, weight = map(torch.from_numpy, example(1))
    losses = [focal(log_probs, target, gamma, weight).item() for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)]
    assert losses[0] == pytest.approx(cross_entropy(log_probs, target, weight).item())
    assert losses == sorted(losses, reverse=True)


def test_what_is_known_already_counts_less_than_its_share_of_cross_entropy():
    """A class answered with p = 0.9 counts (1 - p)^2 = 0.01 of its cross-entropy, one with p = 0.5 a quarter."""
    for p, share in ((0.9, 0.01), (0.5, 0.25)):
        log_probs, target = torch.tensor([[p, 1 - p]], dtype=torch.float64).log(), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        assert (focal(log_probs, target, 2.0) / cross_entropy(log_probs, target)).item() == pytest.approx(share)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("logits", [[0.0, 0.0], [200.0, -200.0], [-200.0, 200.0], [18.0, 0.0], [1e-7, 0.0]])
def test_the_gradient_is_finite_however_sure_an_answer_is(gamma: float, logits: list[float]):
    given_ = torch.tensor([logits], requires_grad=True)
    loss = focal(given_.log_softmax(-1), torch.tensor([[1.0, 0.0]]), gamma)
    loss.backward()
    assert loss.isfinite()
    assert given_.grad.isfinite().all()


def test_the_gradient_is_that_of_the_formula():
    log_probs, target, weight = (torch.from_numpy(value).requires_grad_() for value in example(3))
    assert torch.autograd.gradcheck(lambda logits: focal(logits.log_softmax(-1), target.detach(), 1.5, weight.detach()), log_probs)


def test_the_mean_of_halves_is_the_whole():
    log_probs, target, weight = (torch.from_numpy(value[:4]) for value in example(2))
    halves = [focal(log_probs[at], target[at], 2.0, weight[at]) for at in (slice(0, 2), slice(2, 4))]
    assert (sum(halves) / 2).item() == pytest.approx(focal(log_probs, target, 2.0, weight).item())
