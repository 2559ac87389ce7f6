"""Losses between two domains, and on a domain without labels: pure functions of tensors, each compared with a reference in the tests.

Shapes: S stretches of the source, R of the target, B of either, D width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the mean squared distance: the bandwidths of `mk_mmd`


def coral(source: Tensor, target: Tensor) -> Tensor:
    """||C_S - C_T||_F^2 / (4 D^2) of the covariances of [S, D] and [R, D], with n - 1 (Sun & Saenko 2016, eqs. 1-3)."""
    difference = covariance(source) - covariance(target)
    return difference.square().sum() / (4.0 * source.shape[1] ** 2)


def covariance(values: Tensor) -> Tensor:
    """The covariance [D, D] of rows [B, D], with n - 1."""
    centred = values - values.mean(0, keepdim=True)
    return centred.T @ centred / max(1, len(values) - 1)


def mk_mmd(source: Tensor, target: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy of [S, D] and [R, D] under a mean of Gaussian kernels (Gretton et al. 2012, eq. 3).

    Bandwidths are FACTORS times the mean squared distance of the batch (Long et al. 2015), which carries no gradient.
    """
    values = torch.cat([source, target])
    distances = (values[:, None] - values[None]).square().sum(-1)
    count = len(values)
    usual = (distances.detach().sum() / max(1, count * (count - 1))).clamp_min(1e-12)
    kernel = torch.stack([(-distances / (factor * usual)).exp() for factor in FACTORS]).mean(0)
    size, other = len(source), len(target)
    within = off_diagonal_mean(kernel[:size, :size]) + off_diagonal_mean(kernel[size:, size:])
    return within - 2.0 * kernel[:size, size:].sum() / (size * other)


def off_diagonal_mean(square: Tensor) -> Tensor:
    """The mean of [B, B] without its diagonal."""
    count = len(square)
    return (square.sum() - square.diagonal().sum()) / max(1, count * (count - 1))


def entropy(log_probs: Tensor) -> Tensor:
    """Entropies in nats, [..., K] -> [...]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def information(log_probs: Tensor) -> Tensor:
    """mean_b H(p_b) - H(mean_b p_b), [B, K]: minus the information that answers hold about inputs (Liang et al. 2020, eqs. 3-4)."""
    mean = log_probs.exp().mean(0)
    return entropy(log_probs).mean() - entropy(mean.clamp_min(1e-12).log())


def class_confusion(log_probs: Tensor, temperature: float = 2.5) -> Tensor:
    """Minimum class confusion of answers [B, K] (Jin et al. 2020, eqs. 2-6): the mean mass off the diagonal of the class correlations.

    Answers are softened by `temperature`; a stretch weighs 1 + e^(-H), to mean 1 over the batch; rows of the confusion sum to 1.
    """
    soft = (log_probs / temperature).log_softmax(-1)
    weight = 1.0 + (-entropy(soft).detach()).exp()
    weight = len(weight) * weight / weight.sum()
    probabilities = soft.exp()
    confusion = probabilities.T @ (weight[:, None] * probabilities)
    confusion = confusion / confusion.sum(1, keepdim=True)
    return (confusion.sum() - confusion.trace()) / confusion.shape[0]


def sure(log_probs: Tensor, threshold: float, share: float) -> Tensor:
    """1 for the answers [B, K] that are learned from, 0 for the others, [B]: those at least as sure as `threshold`, and of each class the
    surest `share` of those that are given to it, one at least.
    """
    confidence, label = log_probs.exp().max(-1)
    kept = confidence >= threshold
    for k in range(log_probs.shape[-1]):
        given = (label == k).nonzero()[:, 0]
        if len(given):
            most = confidence[given].topk(max(1, int(share * len(given)))).indices
            kept[given[most]] = True
    return kept.to(log_probs.dtype)


def domain_loss(logits: Tensor, domain: int) -> Tensor:
    """Mean binary cross-entropy of a judge's logits [B] for stretches that are all of domain 0 or all of 1."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(domain)))


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, strength):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(strength)
        return values.view_as(values)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (strength,) = ctx.saved_tensors
        return -strength * gradient, None


def reversed_gradient(values: Tensor, strength: Tensor) -> Tensor:
    """The values as they are; backwards, the gradient times minus `strength` (Ganin et al. 2016, eqs. 16-17)."""
    found: Tensor = _Reversal.apply(values, strength)  # type: ignore[no-untyped-call]
    return found
