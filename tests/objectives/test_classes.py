"""Losses over classes, each beside its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodcast.objectives import classes


@pytest.fixture
def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits, votes = rng.normal(size=(5, 4)), rng.random((5, 4))
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), votes / votes.sum(-1, keepdims=True), rng.random(5)


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [True, False])
def test_cross_entropy_is_the_formula(example, smoothing: float, weighted: bool):
    log_probs, target, weight = example
    total = 0.0
    for b in range(5):
        for k in range(4):
            total -= (weight[b] if weighted else 1.0) * ((1 - smoothing) * target[b, k] + smoothing / 4) * log_probs[b, k]
    p, q, w = tensors(log_probs, target, weight)
    assert classes.cross_entropy(p, q, w if weighted else None, smoothing).item() == pytest.approx(total / 5)


def test_one_hot_cross_entropy_is_the_log_probability_of_the_class(example):
    p = torch.from_numpy(example[0])
    target = torch.eye(4, dtype=p.dtype)[[0, 3, 1, 1, 2]]
    assert classes.cross_entropy(p, target).item() == pytest.approx(torch.nn.functional.nll_loss(p, target.argmax(-1)).item())


def test_weighted_cross_entropy_of_halves_averages_to_the_whole(example):
    p, q, w = (value[:4] for value in tensors(*example))
    halves = [classes.cross_entropy(p[at], q[at], w[at]) for at in (slice(0, 2), slice(2, 4))]
    assert (sum(halves) / 2).item() == pytest.approx(classes.cross_entropy(p, q, w).item())


def test_divergence_is_the_formula_and_zero_for_the_target_itself(example):
    log_probs, target, weight = example
    target = target.copy()
    target[0] = [0, 1, 0, 0]
    safe = np.where(target > 0, target, 1)
    each = (np.where(target > 0, target * np.log(safe), 0) - target * log_probs).sum(-1)
    p, q, w = tensors(log_probs, target, weight)
    assert classes.divergence(p, q, w).item() == pytest.approx((weight * each).mean())
    own = torch.from_numpy(target[1:])
    assert classes.divergence(own.log(), own).item() == pytest.approx(0.0, abs=1e-12)


def test_margin_logits_turn_the_true_class_away_by_the_margin():
    angles = np.array([[0.3, 1.2, 2.0], [1.0, 2.5, 0.1], [3.1, 0.5, 1.0]])
    target = np.eye(3)[[0, 1, 0]]
    found = classes.margin_logits(*tensors(np.cos(angles), target), margin=0.2, scale=30.0).numpy()
    wanted = 30.0 * np.cos(angles)
    wanted[0, 0] = 30.0 * np.cos(0.3 + 0.2)
    wanted[1, 1] = 30.0 * np.cos(2.5 + 0.2)
    wanted[2, 0] = 30.0 * (np.cos(3.1) - 0.2 * np.sin(0.2))  # beyond pi - m
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_margin_logits_fall_with_the_angle_everywhere_and_their_gradient_is_finite():
    cosines = torch.linspace(1, -1, 401, dtype=torch.float64)[:, None].requires_grad_()
    logits = classes.margin_logits(torch.cat([cosines, 0 * cosines], -1), torch.tensor([[1.0, 0.0]]).expand(401, 2), 0.3, 1.0)[:, 0]
    assert (logits.diff() < 1e-9).all()
    logits.sum().backward()
    assert cosines.grad.isfinite().all()


def test_no_margin_is_the_scaled_cosine():
    cosines = torch.tensor([[0.5, -0.2]])
    torch.testing.assert_close(classes.margin_logits(cosines, torch.tensor([[0.0, 1.0]]), 0.0, 10.0), 10 * cosines)
