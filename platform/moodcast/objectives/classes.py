"""Losses over classes: pure functions of tensors.

Shapes: B stretches, K classes, D width. Every mean over a batch divides by B, never by a sum of weights: so the mean over equal shards
is the mean over the whole batch, and one worker learns what two do.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cross_entropy(log_probs: Tensor, target: Tensor, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """-(1/B) sum_b w_b sum_k q_bk log p_bk, with q = (1 - smoothing) target + smoothing / K (Szegedy et al. 2016, section 7).

    log_probs [B, K], target [B, K] distributions, weight [B] (default 1), smoothing in [0, 1).
    """
    if smoothing:
        target = (1.0 - smoothing) * target + smoothing / target.shape[-1]
    return _weighted_mean(-(target * log_probs).sum(-1), weight)


def labelled(log_probs: Tensor | None, target: Tensor | None, weight: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """`cross_entropy` of what a method answers to a batch. Raises ValueError where there is no answer, or the batch has no target."""
    if log_probs is None or target is None:
        raise ValueError("this batch has no target: collate it with labels and rows")
    return cross_entropy(log_probs, target, weight, smoothing)


def divergence(log_probs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence KL(target || p): cross-entropy less the target's own entropy, so that 0 is perfect."""
    return _weighted_mean(torch.special.xlogy(target, target).sum(-1) - (target * log_probs).sum(-1), weight)


def margin_logits(cosines: Tensor, target: Tensor, margin: float, scale: float) -> Tensor:
    """Additive angular margin (Deng et al. 2019, ArcFace, eq. 3): s cos(theta + m) for the true class, s cos(theta) for the others.

    cosines [B, K] in [-1, 1], target [B, K] whose largest class is the true one, margin in radians. Beyond theta = pi - m, where
    cos(theta + m) would rise again, the true class gets cos(theta) - m sin(m) instead, which keeps falling.
    """
    true = torch.nn.functional.one_hot(target.argmax(-1), cosines.shape[-1]).bool()
    sines = (1.0 - cosines.square()).clamp_min(1e-7).sqrt()
    shifted = cosines * math.cos(margin) - sines * math.sin(margin)
    shifted = torch.where(cosines > math.cos(math.pi - margin), shifted, cosines - margin * math.sin(margin))
    return scale * torch.where(true, shifted, cosines)


def _weighted_mean(each: Tensor, weight: Tensor | None) -> Tensor:
    return (each if weight is None else each * weight).mean()
