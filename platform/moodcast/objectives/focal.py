"""Focal loss: a pure function of tensors. Shapes: B stretches, K classes."""

from __future__ import annotations

import torch
from torch import Tensor

LEAST = 1e-6  # of 1 - p: keeps the gradient of its power finite where a probability reaches 1 and gamma is below 1


def focal(log_probs: Tensor, target: Tensor, gamma: float, weight: Tensor | None = None) -> Tensor:
    """-(1/B) sum_b w_b sum_k q_bk (1 - p_bk)^gamma log p_bk (Lin et al., ICCV 2017, eq. 4, for a target that is a distribution).

    log_probs [B, K], target q [B, K] distributions, gamma >= 0 (0: cross-entropy), weight [B] (default 1). Divides by B as all losses do.
    """
    missing = (-torch.expm1(log_probs)).clamp_min(LEAST)  # 1 - p without cancellation
    each = -(target * missing.pow(gamma) * log_probs).sum(-1)
    return (each if weight is None else each * weight).mean()
