"""Measures of a codebook: the two identities of the information loss, and finite gradients where distributions have zeros."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from moodcast.objectives import codes


def made(seed: int, vectors: int = 40, num_codes: int = 6, classes: int = 4) -> tuple[torch.Tensor, ...]:
    """Unit vectors [n, d], codes [C, d], posteriors [n, K] and what codes tell [C, K], in float64."""
    rng = np.random.default_rng(seed)
    z, e = (rng.normal(size=(count, 5)) for count in (vectors, num_codes))
    z, e = z / np.linalg.norm(z, axis=1, keepdims=True), e / np.linalg.norm(e, axis=1, keepdims=True)
    return tuple(map(torch.from_numpy, (z, e, rng.dirichlet(np.full(classes, 0.5), vectors), rng.dirichlet(np.ones(classes), num_codes))))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.1, 1.0]))
def test_the_gradient_by_codes_is_that_of_the_formula(seed: int, temperature: float) -> None:
    z, e, posteriors, told = made(seed)
    e.requires_grad_(True)
    weights = codes.soft_codes(z, e, temperature)
    codes.information_loss(weights, posteriors, told).mean().backward()
    w, apart = weights.detach(), codes.kl(posteriors[:, None], told[None])  # [n, C]
    pull = w * (apart - (w * apart).sum(1, keepdim=True))
    wanted = 2 / temperature * (pull[:, :, None] * (z[:, None] - e.detach()[None])).mean(0)
    torch.testing.assert_close(e.grad, wanted, atol=1e-9, rtol=1e-7)


@given(st.integers(0, 10_000), st.integers(2, 9))
def test_hard_codes_lose_the_information_of_vectors_less_that_of_codes(seed: int, num_codes: int) -> None:
    _, _, posteriors, _ = made(seed, num_codes=num_codes)
    code = torch.from_numpy(np.random.default_rng(seed).integers(0, num_codes, len(posteriors)))
    hard = torch.nn.functional.one_hot(code, num_codes).double()
    told = hard.T @ posteriors / hard.sum(0).clamp_min(1)[:, None]
    lost = codes.information_loss(hard, posteriors, told).mean()
    before, after = codes.mutual_information(posteriors), codes.mutual_information(hard.T @ posteriors)
    assert lost.item() == pytest.approx((before - after).item(), abs=1e-6)
    assert lost.item() >= -1e-9


@given(st.integers(0, 10_000))
def test_divergence_is_that_of_scipy_in_bits_whatever_the_histograms_sum_to(seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(8, 0.3), 2)
    found = codes.divergence(torch.from_numpy(7 * p), torch.from_numpy(0.2 * q)).item()
    assert found == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-6)


def test_what_a_code_tells_of_the_domain_is_their_divergence() -> None:
    p, q = torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64), torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    told = codes.mutual_information(torch.stack([p, q])) / math.log(2)
    assert codes.divergence(p, q).item() == pytest.approx(told.item(), abs=1e-6)
    assert codes.divergence(torch.eye(2)[0], torch.eye(2)[1]).item() == pytest.approx(1.0, abs=1e-5)


def test_perplexity_counts_codes() -> None:
    assert codes.perplexity(torch.tensor([[3.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).tolist() == pytest.approx([2.0, 4.0], rel=1e-5)


def test_soft_codes_prefer_the_nearest_and_harden_with_the_temperature() -> None:
    z, e, _, _ = made(0)
    nearest = torch.cdist(z, e).argmin(1)
    for temperature in (1.0, 0.01):
        assert torch.equal(codes.soft_codes(z, e, temperature).argmax(1), nearest)
    assert codes.soft_codes(z, e, 1e-4).max(1).values.mean() > 0.95


def test_zeros_have_finite_gradients() -> None:
    e = torch.eye(3, dtype=torch.float64, requires_grad=True)
    weights = codes.soft_codes(torch.eye(3, dtype=torch.float64), e, 1e-3)  # some underflow to 0; vectors lie on their codes
    empty = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    sure = torch.eye(3, dtype=torch.float64)
    total = (
        codes.information_loss(weights, sure, sure).mean() + codes.divergence(weights.sum(0), empty) - codes.perplexity(weights[0]).log()
    )
    total.backward()
    assert total.isfinite()
    assert e.grad is not None
    assert e.grad.isfinite().all()
    assert empty.grad is not None
    assert empty.grad.isfinite().all()
