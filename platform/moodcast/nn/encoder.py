"""Encoders of log-mel frames, shared over chunks.

Shapes: N chunks, T frames, M bands, D width; a mask is True where a frame is real, and real frames come first. No encoder lets a padded
frame or another chunk reach a real frame: normalisation is over the channels of one frame, masked frames are zero before each
convolution, recurrences run forwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from moodcast.nn.pool import at_last, masked_mean
from moodcast.nn.precision import encoding


class FrameNorm(nn.Module):
    """Layer normalisation over all channels and bands of one frame, [N, D, T, F], with one gain and offset a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.offset = nn.Parameter(torch.zeros(width))

    def forward(self, frames: Tensor) -> Tensor:
        """[N, D, T, F] -> the same shape."""
        last = frames.permute(0, 2, 3, 1)  # a view where memory is channels-last
        bands = last.shape[-2]  # gain and offset are the same for all of them; within the one operation they cost nothing
        gain, offset = self.gain.expand(bands, -1), self.offset.expand(bands, -1)
        return nn.functional.layer_norm(last, last.shape[-2:], gain, offset).permute(0, 3, 1, 2)


class ConvEncoder(nn.Module):
    """Three strided 3 x 3 convolutions over time and frequency, then residual convolutions over time.

    `forward(frames [N, T, M], mask [N, T])` gives [N, ceil(T / 4), D] and its mask. About 0.25 M parameters at width 160; the
    layout is ours, sized for training on a few CPU cores.
    """

    def __init__(self, num_mels: int, width: int, channels: int = 16, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if num_mels % 8:
            raise ValueError(f"num_mels must be a multiple of 8, because three layers halve the bands; got {num_mels}")
        sizes = (1, channels, 2 * channels, 4 * channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=(time, 2), padding=1) for a, b, time in zip(sizes, sizes[1:], (2, 2, 1), strict=False)
        )
        self.norms = nn.ModuleList(FrameNorm(size) for size in sizes[1:])
        self.project = nn.Linear(sizes[-1] * num_mels // 8, width)
        self.blocks = nn.ModuleList(TimeBlock(width, dropout) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.strides = (2, 2, 1)
        self.widths = (*sizes[1:], *[width] * (1 + layers))  # D' of every layer of `states`

    @encoding
    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        [(top, real)] = deque(self._each(frames, mask), maxlen=1)  # nothing below it is kept
        return top * real[..., None], real

    @encoding
    def states(self, frames: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every layer from the bottom to the top, [N, T', D'] and its mask; convolutions as the mean over their bands."""
        found = [(x if x.ndim == 3 else x.mean(-1).transpose(1, 2), mask) for x, mask in self._each(frames, mask)]
        return [(x * mask[..., None], mask) for x, mask in found]

    def _each(self, frames: Tensor, mask: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What every layer gives, with its mask: maps [N, D', T', F] of the convolutions, then [N, T', D]."""
        x = frames[:, None].contiguous(memory_format=torch.channels_last)
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            mask = mask[:, ::stride]
            x = nn.functional.gelu(norm(conv(x))) * mask[:, None, :, None]
            yield x, mask
        frames = self.dropout(self.project(x.permute(0, 2, 3, 1).flatten(2)))
        yield frames, mask
        for block in self.blocks:
            frames = block(frames, mask)
            yield frames, mask


class TimeBlock(nn.Module):
    """x + dropout(gelu(conv over time(norm(x)))), [N, T, D]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """frames [N, T, D], mask [N, T]."""
        inner = self.norm(frames) * mask[..., None]
        added: Tensor = self.dropout(nn.functional.gelu(self.conv(inner.transpose(1, 2))))
        return frames + added.transpose(1, 2)


class LstmEncoder(nn.Module):
    """Two forward LSTM layers over the frames of a chunk; the vector is the last real step, normalised: [N, T, F], [N, T] -> [N, D].

    Source: the chunk encoder of Lin & Busso (2023), with layer normalisation where they normalise over the batch, so that an answer
    does not depend on its batch.
    """

    def __init__(self, num_features: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.recurrence = nn.LSTM(num_features, width, num_layers=2, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    @encoding
    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """See the class. Padding lies behind the last real step and a forward recurrence never meets it."""
        vectors: Tensor = self.norm(at_last(self.recurrence(frames)[0], mask))
        return vectors


class CnnEncoder(nn.Module):
    """Five convolutions over the frames of a chunk (128, 128, 64, 64 wide and 32 with stride 2), their mean over time, dense, ReLU.

    Source: the CNN-1D chunk encoder of Lin & Busso (2023). Ours: normalisation over the channels of a frame instead of the batch,
    "same" instead of "valid" edges, and a masked mean instead of flattening, so that chunks of any length fit.
    """

    def __init__(self, num_features: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        sizes = (num_features, 128, 128, 64, 64, 32)
        self.strides = (1, 1, 1, 1, 2)
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, 3, stride=stride, padding=1) for a, b, stride in zip(sizes, sizes[1:], self.strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes[1:])
        self.dense = nn.Sequential(nn.Dropout(dropout), nn.Linear(sizes[-1], width), nn.ReLU())

    @encoding
    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[N, T, F], [N, T] -> [N, D]."""
        for conv, norm, stride in zip(self.convs, self.norms, self.strides, strict=True):
            mask = mask[:, ::stride]
            frames = norm(conv(frames.transpose(1, 2)).transpose(1, 2)).relu() * mask[..., None]
        vectors: Tensor = self.dense(masked_mean(frames, mask))
        return vectors
