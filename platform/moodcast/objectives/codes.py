"""Losses and measures of a codebook: what is lost when vectors become codes, and whether two domains use the same ones.

Pure functions of tensors, each compared with a reference in the tests. Shapes: n vectors, d width, C codes, K classes, B stretches.
"""

from __future__ import annotations

import math

from torch import Tensor

TINY = 1e-8


def soft_codes(vectors: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """softmax_c(-||z - e_c||^2 / temperature) of vectors [n, d] and codes [C, d]: [n, C]."""
    distances = vectors.square().sum(-1, keepdim=True) + codes.square().sum(-1) - 2.0 * vectors @ codes.T
    return (-distances / temperature).softmax(-1)


def kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(p || q) in nats of distributions [..., K]."""
    return plogp(first) - (first * second.clamp_min(TINY).log()).sum(-1)


def information_loss(weights: Tensor, posteriors: Tensor, told: Tensor) -> Tensor:
    """sum_c w_ic KL(P_i || pi_c) of each vector, [n]: what its codes no longer tell of its class (Lazebnik & Raginsky 2009, eq. 8).

    weights [n, C], posteriors P [n, K], told pi [C, K]. With hard codes, and pi the mean of P over a code's vectors, its mean is
    I(X; Y) - I(C; Y) (ibid., eq. 4). The gradient by a code e_j under `soft_codes` is, with D_ic = KL(P_i || pi_c),
    (2 / temperature) w_ij (D_ij - sum_c w_ic D_ic)(z_i - e_j).
    """
    cross = -posteriors @ told.clamp_min(TINY).log().T  # [n, C]
    return (weights * cross).sum(-1) + plogp(posteriors)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence in bits, in [0, 1], of histograms [..., C], which are normalised here."""
    p = first / first.sum(-1, keepdim=True).clamp_min(TINY)
    q = second / second.sum(-1, keepdim=True).clamp_min(TINY)
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / (2.0 * math.log(2.0))


def mutual_information(joint: Tensor) -> Tensor:
    """I(A; B) in nats of a joint distribution [A, B], which is normalised here."""
    p = joint / joint.sum()
    return kl(p.flatten(), (p.sum(1, keepdim=True) * p.sum(0, keepdim=True)).flatten())


def perplexity(histogram: Tensor) -> Tensor:
    """e^H of a histogram [..., C]: how many codes it uses as if evenly, 1 to C."""
    p = histogram / histogram.sum(-1, keepdim=True).clamp_min(TINY)
    return (-plogp(p)).exp()


def plogp(p: Tensor) -> Tensor:
    """sum p log p of [..., K], with a finite gradient at 0."""
    return (p * p.clamp_min(TINY).log()).sum(-1)
