"""Log-mel frames as a torch module, and what is done to them before an encoder: level, channel, deltas.

Shapes: B stretches, C chunks a stretch, N chunks that exist, L samples, T frames, M mel bands; a mask is True where a frame is real.
Rules that keep an answer the same alone, in a batch and behind padding: a frame counts only where its whole window is real (a chunk
shorter than one window has one frame), masked frames are zero, and every statistic is taken over real frames only.

Sources: windows of 25 ms every 10 ms and mel bands 2595 log10(1 + f/700) as in Davis & Mermelstein (1980) and HTK; deltas are half
the difference of the neighbours (HTK book, eq. 5.16 with a window of one).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moodcast.chunks import samples_of

WINDOW_S = 0.025
HOP_S = 0.010
LOW_HZ = 50.0
TINY = 1e-12  # power below any recording's quantisation noise: only keeps the logarithm finite
DEPTH = 11.5  # nats: `level_normalised` keeps this much (50 dB) below a recording's mean power


def mel_filters(num_mels: int, fft: int, rate: int, low_hz: float = LOW_HZ, high_hz: float | None = None) -> NDArray[np.float32]:
    """Triangular filters [fft // 2 + 1, num_mels] of height 1, equally spaced on the mel scale between low_hz and high_hz.

    Raises ValueError where a band is so narrow that no FFT bin falls into it.
    """
    hz = band_edges(num_mels, low_hz, high_hz or rate / 2)
    bins = np.arange(fft // 2 + 1) * rate / fft
    rising = (bins[:, None] - hz[None, :-2]) / np.diff(hz)[None, :-1]
    falling = (hz[None, 2:] - bins[:, None]) / np.diff(hz)[None, 1:]
    filters = np.clip(np.minimum(rising, falling), 0.0, None)
    if not filters.any(axis=0).all():
        raise ValueError(f"{num_mels} mel bands are too many for an FFT of {fft} at {rate} Hz: some hold no bin; ask for fewer")
    return filters.astype(np.float32)


def band_edges(num_mels: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """Edges and peaks of the mel bands, Hz, [num_mels + 2]: band m rises from edge m to its peak m + 1 and falls to edge m + 2."""
    low, high = 2595.0 * np.log10(1.0 + np.array([low_hz, high_hz]) / 700.0)
    return np.asarray(700.0 * (10.0 ** (np.linspace(low, high, num_mels + 2) / 2595.0) - 1.0))


class LogMel(nn.Module):
    """Waveforms to natural-log mel power.

    `forward(waves [N, L], lengths [N])` gives frames [N, T, M] and mask [N, T]; T depends on L alone. Masked frames are zero.
    `peaks_hz` [M] is where the bands peak.
    """

    filters: Tensor
    window: Tensor
    peaks_hz: Tensor

    def __init__(self, rate: int = 16_000, num_mels: int = 64) -> None:
        super().__init__()
        self.width = samples_of(WINDOW_S, rate)
        self.hop = samples_of(HOP_S, rate)
        self.fft = 1 << (self.width - 1).bit_length()
        self.num_mels = num_mels
        self.register_buffer("filters", torch.from_numpy(mel_filters(num_mels, self.fft, rate)), persistent=False)
        peaks = band_edges(num_mels, LOW_HZ, rate / 2)[1:-1]
        self.register_buffer("peaks_hz", torch.from_numpy(peaks).float(), persistent=False)
        window = nn.functional.pad(torch.hann_window(self.width, periodic=False), (0, self.fft - self.width))
        self.register_buffer("window", window, persistent=False)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """How many real frames `lengths` real samples give: 0 for none, else at least 1."""
        return torch.where(lengths > 0, 1 + (lengths - self.width).clamp_min(0) // self.hop, 0)

    @torch.no_grad()
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. No gradient flows back into the waveform."""
        behind = max(0, self.width - waves.shape[-1]) + self.fft - self.width  # where the window is zero
        framed = nn.functional.pad(waves, (0, behind)).unfold(-1, self.fft, self.hop) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(framed))
        real, imaginary = spectrum[..., 0], spectrum[..., 1]
        power = torch.addcmul(real.square(), imaginary, imaginary)  # several times as fast as a sum over an axis of two
        frames = torch.log(power @ self.filters + TINY)
        mask = torch.arange(frames.shape[1], device=waves.device) < self.num_frames(lengths)[:, None]
        return frames * mask[..., None], mask


def chunk_frames(log_mel: LogMel, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-mel of the chunks of a batch that exist, packed, so that padding costs next to nothing.

    chunks [B, C, L], lengths [B, C] -> frames [N, T, M] and mask [N, T] of the N chunks that exist, in order, and exist [B, C].
    T is that of the longest real chunk.
    """
    exist = lengths > 0
    longest = int(lengths.max())
    frames, mask = log_mel(chunks[exist][:, : max(longest, 1)], lengths[exist])
    return frames, mask, exist


def level_frames(log_mel: LogMel, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`chunk_frames`, level-normalised: frames [N, T, M], mask [N, T], exist [B, C]."""
    frames, mask, exist = chunk_frames(log_mel, chunks, lengths)
    return level_normalised(frames, mask, exist), mask, exist


def level_normalised(frames: Tensor, mask: Tensor, exist: Tensor) -> Tensor:
    """Subtract the log of each stretch's mean power, so that its level does not matter, and cut what lies 50 dB below it.

    frames [N, T, M] log power, mask [N, T], exist [B, C] as of `chunk_frames`. The mean of the power, not of its logarithm: pauses
    hardly move it. A gain g adds 2 ln g to every frame and so to the level: the answer is the same at any gain.
    """
    power = frames.new_full(exist.shape, -torch.inf)  # log of the summed power of each chunk
    power[exist] = frames.masked_fill(~mask[..., None], -torch.inf).flatten(1).logsumexp(-1)
    count = torch.zeros_like(power)
    count[exist] = mask.sum(-1).to(frames.dtype) * frames.shape[-1]
    level = (power.logsumexp(-1) - count.sum(-1).log())[exist.nonzero()[:, 0]]
    return (frames - level[:, None, None]).clamp_min(-DEPTH) * mask[..., None]


def band_normalised(frames: Tensor, mask: Tensor, exist: Tensor) -> Tensor:
    """Subtract each band's mean over a stretch's real frames (cepstral mean normalisation): takes away level and linear channel.

    frames [N, T, M], mask [N, T], exist [B, C] as of `chunk_frames`.
    """
    owner = exist.nonzero()[:, 0]
    total = frames.new_zeros(len(exist), frames.shape[-1]).index_add(0, owner, (frames * mask[..., None]).sum(1))
    count = frames.new_zeros(len(exist)).index_add(0, owner, mask.sum(-1).to(frames.dtype))
    mean = (total / count.clamp_min(1.0)[:, None])[owner]
    return (frames - mean[:, None]) * mask[..., None]


def band_and_time_masked(frames: Tensor, mask: Tensor, bands: int, seconds: float, times: int = 2) -> Tensor:
    """SpecAugment without warping (Park et al. 2019): hide up to `bands` neighbouring bands and `times` spans of up to `seconds` seconds.

    frames [N, T, M], mask [N, T]; drawn for each chunk from torch's global generator; what is hidden becomes the chunk's mean. Spans are
    drawn over the T frames of the longest chunk of the batch, so that shorter ones are hidden less: the bundles that ship were trained so.
    """
    size, length, width = frames.shape
    hidden = _spans(size, width, bands, frames.device)[:, None, :]
    for _ in range(times):
        hidden = hidden | _spans(size, length, round(seconds / HOP_S), frames.device)[:, :, None]
    filler = (frames * mask[..., None]).sum((1, 2)) / (mask.sum(-1).clamp_min(1) * width)
    return torch.where(hidden, filler[:, None, None], frames) * mask[..., None]


def cropped(mask: Tensor, min_s: float) -> Tensor:
    """A random part of each chunk: the mask [N, T] with only one run of its real frames, `min_s` seconds or more where it has them.

    The run's length is uniform between `min_s` and all, both included, and so is its place; drawn from torch's global generator.
    """
    order = mask.cumsum(-1) - 1  # place among the chunk's real frames
    total = mask.sum(-1, keepdim=True)
    least = total.clamp_max(max(1, round(min_s / HOP_S)))
    keep = least + _up_to(total - least)
    start = _up_to(total - keep)
    return mask & (order >= start) & (order < start + keep)


def _up_to(most: Tensor) -> Tensor:
    """Uniform integers from 0 to `most`, both included."""
    return (torch.rand(most.shape, device=most.device) * (most + 1)).long().minimum(most)


def _spans(size: int, length: int, longest: int, device: torch.device) -> Tensor:
    """One random span a row as a mask [size, length], 0 to `longest` wide."""
    wide = torch.rand(size, 1, device=device) * longest
    start = torch.rand(size, 1, device=device) * (length - wide)
    here = torch.arange(length, device=device)[None]
    return (here >= start) & (here < start + wide)


def deltas(frames: Tensor, mask: Tensor) -> Tensor:
    """Half the difference of the next and the last real frame, [N, T, M]; the edges repeat, so that padding adds no step.

    Real frames must come first, as `LogMel` gives them.
    """
    last = (mask.sum(-1) - 1).clamp_min(0)[:, None]
    here = torch.arange(frames.shape[1], device=frames.device)[None]
    after = _frames_at(frames, torch.minimum(here + 1, last))
    before = _frames_at(frames, torch.minimum((here - 1).clamp_min(0), last))
    return 0.5 * (after - before) * mask[..., None]


def _frames_at(frames: Tensor, index: Tensor) -> Tensor:
    return frames.gather(1, index[..., None].expand(-1, -1, frames.shape[-1]))
