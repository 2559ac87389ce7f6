"""Losses over embeddings that draw a class together: pure functions of tensors.

Shapes: B stretches, D width, K classes. Means divide by B, as everywhere in objectives/.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 1e-6  # of an embedding: a zero one has a direction of length 0 and a finite gradient
NEVER = -1e9  # a similarity that no softmax notices


def centre(embedding: Tensor, kind: Tensor, centres: Tensor, weight: Tensor | None = None) -> Tensor:
    """Centre loss (Wen et al., ECCV 2016, eq. 2): (1/2B) sum_b w_b |f_b - c_k(b)|^2.

    embedding f [B, D], kind k [B] class indices, centres c [K, D], weight [B] (default 1).
    """
    each = 0.5 * (embedding - centres[kind]).square().sum(-1)
    return (each if weight is None else each * weight).mean()


def supervised(embedding: Tensor, kind: Tensor, temperature: float, weight: Tensor | None = None, among: Tensor | None = None) -> Tensor:
    """Supervised contrastive loss (Khosla et al., NeurIPS 2020, eq. 2, L_out) of embeddings on the unit sphere, divided by B:

    -(1/B) sum_i w_i (1/|P(i)|) sum_{p in P(i)} log(exp(f_i.f_p / t) / sum_{a != i} exp(f_i.f_a / t)), P(i): the others of i's class.

    embedding [B, D] of any length but zero, kind [B] class indices, temperature t > 0, weight [B] (default 1). among [B]: only these
    stretches are compared, as if the others were not there, but B stays. Who is alone in its class adds nothing.
    """
    unit = torch.nn.functional.normalize(embedding, dim=-1, eps=SHORTEST)
    size = len(kind)
    present = torch.ones(size, dtype=torch.bool, device=kind.device) if among is None else among
    others = present[:, None] & present[None] & ~torch.eye(size, dtype=torch.bool, device=kind.device)
    similar = (unit @ unit.T / temperature).masked_fill(~others, NEVER)
    friends = others & (kind[:, None] == kind[None])
    gains = (similar - similar.logsumexp(-1, keepdim=True)).masked_fill(~friends, 0.0).sum(-1)
    each = -gains / friends.sum(-1).clamp_min(1)
    return (each if weight is None else each * weight).mean()
