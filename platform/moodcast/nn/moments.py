"""Moments of log-mel frames: how the spectrum of the loud part lies, spreads and moves, of a stretch and of each of its chunks.

Shapes: B stretches, C chunks, N chunks that exist, T frames, M bands, F = 3 M + 3 moments. Sums over chunks add up to those of their
stretch, so both come from one pass, and nothing depends on the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moodcast.nn.pool import placed

LOUD = 4.6  # nats of power, 20 dB: frames that far below a stretch's mean power are pauses
TINY = 1e-4


def num_moments(num_mels: int) -> int:
    """F of `moments` with M bands."""
    return 3 * num_mels + 3


def moments(frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
    """Level-normalised frames [N, T, M], mask [N, T] and exist [B, C] of chunks -> of stretches [B, F], of chunks [B, C, F].

    Over loud frames: M means against the frame's own mean, M standard deviations, M mean absolute steps between neighbours. Then the
    deviation of the level, the share of frames that are loud, the log of the number of frames. What it says of a chunk that does not
    exist has no sense.
    """
    size = frames.shape[-1]
    level = frames.logsumexp(-1) - torch.log(torch.tensor(float(size), device=frames.device))
    loud = (mask & (level > -LOUD)).to(frames.dtype)[..., None]  # [N, T, 1]
    both = loud[:, 1:] * loud[:, :-1]
    mean = frames.mean(-1, keepdim=True)
    sums = torch.cat(
        [
            ((frames - mean) * loud).sum(1),
            (frames * loud).sum(1),
            (frames.square() * loud).sum(1),
            ((frames[:, 1:] - frames[:, :-1]).abs() * both).sum(1),
            (mean * loud).sum(1),
            (mean.square() * loud).sum(1),
            loud.sum(1),
            both.sum(1),
            mask.sum(-1, keepdim=True).to(frames.dtype),
        ],
        dim=-1,
    )  # [N, 4 M + 5]
    chunks = placed(sums, exist)
    return _moments(chunks.sum(1), size), _moments(chunks, size)


def _moments(sums: Tensor, size: int) -> Tensor:
    """Sums [..., 4 M + 5] -> moments [..., 3 M + 3]."""
    shape, first, second, steps, level, squared, loud, both, total = torch.split(sums, [size] * 4 + [1] * 5, dim=-1)
    count = loud.clamp_min(1.0)
    spread = (second / count - (first / count).square()).clamp_min(TINY).sqrt()
    swing = (squared / count - (level / count).square()).clamp_min(TINY).sqrt()
    return torch.cat(
        [shape / count, spread, steps / both.clamp_min(1.0), swing, loud / total.clamp_min(1.0), total.clamp_min(1.0).log()], dim=-1
    )
