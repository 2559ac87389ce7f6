"""Pooling of frames to one vector, by learned weights, over real frames only.

Shapes: B stretches, C chunks a stretch, N chunks that exist, T frames, D width; a mask is True where a frame is real.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 1e-4  # smallest variance: keeps the gradient of its root finite


class AttentivePool(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018, eqs. 1-6) of a stretch and of each of its chunks at once.

    A score a frame, softmax over real frames, weighted mean and standard deviation. Softmax over all frames of a stretch is softmax
    within chunks times softmax over the chunks' log-sums, so that both poolings share one pass and are consistent: the stretch is
    the weighted mixture of its chunks.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """frames [N, T, D] and mask [N, T] of the chunks that exist [B, C] -> stretches [B, 2 D] and their chunks [B, C, 2 D].

        A chunk that does not exist has mean 0; it weighs nothing.
        """
        scores = self.score(frames)[..., 0].masked_fill(~mask, -1e9)
        within = (scores.softmax(-1) * mask)[:, None]  # [N, 1, T]
        mean = placed((within @ frames)[:, 0], exist)
        square = placed((within @ frames.square())[:, 0], exist)
        across = placed(scores.logsumexp(-1), exist).masked_fill(~exist, -1e9).softmax(-1)[..., None] * exist[..., None]
        return _mean_and_std((across * mean).sum(1), (across * square).sum(1)), _mean_and_std(mean, square)


def _mean_and_std(mean: Tensor, square: Tensor) -> Tensor:
    return torch.cat([mean, (square - mean.square()).clamp_min(FLOOR).sqrt()], dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of [B, T, D] over the real of T: [B, D]; zero where nothing is real."""
    weights = mask[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp_min(1.0)


def at_last(steps: Tensor, mask: Tensor) -> Tensor:
    """The last real step of [N, T, D] by mask [N, T] whose real steps come first: [N, D]."""
    last = (mask.sum(-1) - 1).clamp_min(0)
    return steps.gather(1, last[:, None, None].expand(-1, 1, steps.shape[-1]))[:, 0]


def placed(values: Tensor, exist: Tensor) -> Tensor:
    """Values of the chunks that exist, [N, ...], at their places in [B, C, ...]; zero elsewhere."""
    out = values.new_zeros(*exist.shape, *values.shape[1:])
    out[exist] = values
    return out
