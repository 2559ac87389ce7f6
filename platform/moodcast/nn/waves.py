"""Chunks of a batch put together again as waves, and cut anew: for what must be done to the sound of a whole stretch on the device.

Shapes: B stretches, C chunks, L samples of a chunk, W samples of the longest stretch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moodcast.chunks import ChunkPlan, samples_of


def samples_in(lengths: Tensor, seconds: Tensor, plan: ChunkPlan, rate: int) -> Tensor:
    """How many samples each stretch has, [B], of the lengths [B, C] of its chunks or, under a counted plan, of its `seconds` [B].

    Seconds in 32 bits are exact to the sample for some minutes only.
    """
    if plan.count is not None:
        return (seconds.double() * rate).round().long()
    before = (lengths > 0).sum(1) - 1
    return before * max(1, samples_of(plan.hop_s or plan.length_s, rate)) + lengths.gather(1, before[:, None])[:, 0]


def joined(chunks: Tensor, samples: Tensor, plan: ChunkPlan, rate: int) -> Tensor:
    """The waves [B, W] behind chunks [B, C, L], of `samples` [B] samples each; zero behind their ends. Chunks may overlap."""
    longest = int(samples.max())
    if chunks.shape[1] == 1:  # most utterances are one chunk: nothing to put together
        return _first(chunks[:, 0], samples, longest)
    at = _places(samples, chunks.shape[1], chunks.shape[2], plan, rate).clamp_max(longest)  # one column more takes what is not there
    waves = chunks.new_zeros(len(chunks), longest + 1)
    return waves.scatter(1, at.flatten(1), chunks.flatten(1))[:, :longest]


def cut(waves: Tensor, samples: Tensor, plan: ChunkPlan, rate: int) -> tuple[Tensor, Tensor]:
    """Waves [B, W] with `samples` [B] real ones each to chunks [B, C, L] and their lengths [B, C], as `batch.collate` cuts them."""
    width = max(1, samples_of(plan.length_s, rate))
    if all(len(plan.spans(int(size), rate)) == 1 for size in samples.tolist()):
        return _first(waves, samples, width)[:, None], samples[:, None]
    at = _places(samples, None, width, plan, rate)
    padded = torch.nn.functional.pad(waves, (0, 1))  # what is no sample is read from behind the end
    chunks = padded.gather(1, at.clamp_max(waves.shape[1]).flatten(1)).view(at.shape)
    return chunks, (at < GONE).sum(-1)


def _first(values: Tensor, samples: Tensor, width: int) -> Tensor:
    """The first `samples` [B] of each row of [B, any], zeros behind them up to `width`."""
    held = values[:, :width]
    real = torch.arange(held.shape[1], device=held.device) < samples[:, None]
    return torch.nn.functional.pad(torch.where(real, held, 0.0), (0, width - held.shape[1]))


GONE = 2**60  # the place of what is no sample


def _places(samples: Tensor, count: int | None, width: int, plan: ChunkPlan, rate: int) -> Tensor:
    """Which sample of its stretch each sample of a chunk is, [B, C, L]; GONE for padding."""
    spans = [plan.spans(int(size), rate) for size in samples.tolist()]
    count = max(map(len, spans)) if count is None else count
    table = [[*found, *[(GONE, GONE)] * (count - len(found))] for found in spans]
    starts, stops = torch.tensor(table, device=samples.device).unbind(-1)
    at = starts[..., None] + torch.arange(width, device=samples.device)
    return torch.where(at < stops[..., None], at, GONE)
