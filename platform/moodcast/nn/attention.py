"""Aggregation of chunk vectors to one vector a stretch: mean, gates, recurrent attention, self-attention.

Source: Lin & Busso (IEEE TAFFC 14(2), 2023), "NonAtten", "GatedVec", "RnnAttenVec" and "SelfAttenVec". The published PyTorch code of
the last attends within one chunk only, because it feeds its layer a sequence of length one; here attention runs across the C chunks
of one stretch, and never across the stretches of a batch.

Shapes: B stretches, C chunks, D width; a mask [B, C] is True where a chunk exists, and existing chunks come first. Every aggregator
maps chunks [B, C, D] and mask to [B, D]; a chunk that does not exist changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moodcast.nn.pool import at_last, masked_mean


class MeanAggregator(nn.Module):
    """z = (1/C) sum_c h_c."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, chunks: Tensor, mask: Tensor) -> Tensor:
        """See the module docstring."""
        return masked_mean(chunks, mask)


class GatedAggregator(nn.Module):
    """z = (1/C) sum_c g_c h_c with g_c = sigmoid(w h_c + b): a mean, not divided by the sum of the gates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 1)

    def forward(self, chunks: Tensor, mask: Tensor) -> Tensor:
        """See the module docstring."""
        return masked_mean(torch.sigmoid(self.gate(chunks)) * chunks, mask)


class RecurrentAttention(nn.Module):
    """s = tanh-RNN(h); a = softmax_c((W s_c) . s_last); z = tanh(U [sum_c a_c s_c ; s_last]), W and U without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrence = nn.RNN(width, width, nonlinearity="tanh", batch_first=True)
        self.score = nn.Linear(width, width, bias=False)
        self.combine = nn.Linear(2 * width, width, bias=False)

    def forward(self, chunks: Tensor, mask: Tensor) -> Tensor:
        """See the module docstring."""
        states = self.recurrence(chunks)[0]
        last = at_last(states, mask)
        scores = (self.score(states) * last[:, None]).sum(-1).masked_fill(~mask, -1e9)
        context = (scores.softmax(-1)[..., None] * states).sum(1)
        combined: Tensor = self.combine(torch.cat([context, last], dim=-1))
        return combined.tanh()


class SelfAttention(nn.Module):
    """Scaled dot-product attention over the chunks, `heads` of size `head_size`; projected (ReLU), added, normalised; then the mean."""

    def __init__(self, width: int, heads: int = 3, head_size: int = 50) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * heads * head_size)
        self.combine = nn.Linear(heads * head_size, width)
        self.norm = nn.LayerNorm(width)

    def attended(self, chunks: Tensor, mask: Tensor) -> Tensor:
        """What each chunk becomes after looking at the others, [B, C, D]."""
        size, count, _ = chunks.shape
        parts = self.project(chunks).view(size, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [3, B, H, C, S]
        queries, keys, values = parts.unbind(0)
        visible = mask | ~mask.any(-1, keepdim=True)  # a stretch without chunks looks at zeros instead of dividing by none
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=visible[:, None, None, :])
        combined: Tensor = self.norm(chunks + self.combine(seen.transpose(1, 2).flatten(2)).relu())
        return combined

    def forward(self, chunks: Tensor, mask: Tensor) -> Tensor:
        """See the module docstring."""
        return masked_mean(self.attended(chunks, mask), mask)
