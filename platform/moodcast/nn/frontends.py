"""What each family of pre-trained speech encoders is fed: normalised samples, Whisper's log-mel, Kaldi's filterbank, in torch and by batch.

Shapes: N waves, L samples, T frames, M mel bands. Waves are zero behind their lengths when they come here; nothing computed for a real
frame depends on how far a batch is padded.

Sources: the processors of the transformers library, which the tests compare with: Wav2Vec2FeatureExtractor (Baevski et al. 2020),
WhisperFeatureExtractor (Radford et al. 2022), SeamlessM4TFeatureExtractor (Kaldi's compute-fbank-feats).
"""

from __future__ import annotations

from contextvars import ContextVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moodcast.nn.precision import exact

# Real frames [N] of the waves that are being heard: of this thread alone, because a server answers several requests at once.
HEARD: ContextVar[Tensor | None] = ContextVar("real frames behind the first convolution", default=None)
KALDI_FLOOR = 1.192092955078125e-07  # of mel power, as Kaldi has it


def real(lengths: Tensor, size: int) -> Tensor:
    """Mask [N, size], True where an index lies before its length [N]."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def standardised(waves: Tensor, lengths: Tensor) -> Tensor:
    """Zero mean and unit variance over the real samples of each wave, zero behind them: [N, L], [N] -> [N, L]."""
    mask = real(lengths, waves.shape[-1])
    count = lengths.clamp_min(1)[:, None]
    centred = (waves - (waves * mask).sum(-1, keepdim=True) / count) * mask
    return centred / (centred.square().sum(-1, keepdim=True) / count + 1e-7).sqrt()


class MaskedGroupNorm(nn.Module):
    """The group normalisation of an encoder's first convolution, one group a channel, over real frames only.

    The plain one takes its statistics over padding too, so that an answer would change with the company in a batch. `HEARD` says how many
    frames are real; weights have the names of the plain one.
    """

    def __init__(self, plain: nn.GroupNorm) -> None:
        super().__init__()
        if plain.num_groups != plain.num_channels:
            raise ValueError(f"wanted one group a channel, got {plain.num_groups} groups of {plain.num_channels} channels")
        self.weight, self.bias, self.eps = plain.weight, plain.bias, plain.eps

    @exact
    def forward(self, frames: Tensor) -> Tensor:
        """[N, D, T] -> the same shape."""
        heard = HEARD.get()
        count = torch.full((len(frames),), frames.shape[-1], device=frames.device) if heard is None else heard
        mask = real(count, frames.shape[-1])[:, None]
        total = count.clamp_min(1)[:, None, None]
        mean = (frames * mask).sum(-1, keepdim=True) / total
        variance = ((frames - mean).square() * mask).sum(-1, keepdim=True) / total
        normed = (frames - mean) * (variance + self.eps).rsqrt()
        return normed * self.weight[:, None] + self.bias[:, None]


class WhisperLogMel(nn.Module):
    """Whisper's log-mel: waves [N, L], lengths [N] -> frames [N, T, M] and how many are real [N]; two silent frames lie behind the longest.

    Silence is what Whisper hears behind a recording: 8 decades below its loudest band. The loudest is taken over real frames.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, filters: NDArray[np.float64], fft: int = 400, hop: int = 160) -> None:
        super().__init__()
        self.fft, self.hop = fft, hop
        self.register_buffer("window", torch.hann_window(fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)  # [fft // 2 + 1, M]

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Hops that hold at least one real sample."""
        return (lengths + self.hop - 1) // self.hop

    @exact
    @torch.no_grad()
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        count = self.num_frames(lengths)
        frames = int(count.max()) + 2
        behind = max(0, frames * self.hop - waves.shape[-1])
        inside = nn.functional.pad(waves, (0, behind + self.fft))[:, : frames * self.hop]
        padded = nn.functional.pad(nn.functional.pad(inside, (self.fft // 2, 0), mode="reflect"), (0, self.fft // 2))
        spectrum = torch.view_as_real(torch.fft.rfft(padded.unfold(-1, self.fft, self.hop)[:, :frames] * self.window))
        logs = (spectrum.square().sum(-1) @ self.filters).clamp_min(1e-10).log10()
        mask = real(count, frames)[..., None]
        floor = logs.masked_fill(~mask, -torch.inf).amax((1, 2), keepdim=True) - 8.0
        return (torch.where(mask, torch.maximum(logs, floor), floor) + 4.0) / 4.0, count


class KaldiFilterbank(nn.Module):
    """Kaldi's log filterbank, standardised by band over each wave's real frames, two neighbours a row.

    waves [N, L], lengths [N] -> rows [N, T // 2, 2 M] and how many are real [N]. An odd last frame is left out of the rows, as in training
    of the encoder. A wave needs `least` real samples; zeros count as real up to there.
    """

    window: Tensor
    filters: Tensor
    width, hop, fft, least = 400, 160, 512, 400 + 160

    def __init__(self, filters: NDArray[np.float64], window: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("window", torch.from_numpy(window).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)  # [fft // 2 + 1, M]

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Rows of two frames whose windows are real."""
        return torch.where(lengths > 0, (1 + (lengths.clamp_min(self.least) - self.width) // self.hop) // 2, 0)

    @exact
    @torch.no_grad()
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        waves = nn.functional.pad(waves, (0, max(0, self.least - waves.shape[-1])))
        framed = waves.unfold(-1, self.width, self.hop) * 2.0**15
        framed = framed - framed.mean(-1, keepdim=True)
        emphasised = torch.cat([framed[..., :1] * (1 - 0.97), framed[..., 1:] - 0.97 * framed[..., :-1]], dim=-1)
        spectrum = torch.view_as_real(torch.fft.rfft(emphasised * self.window, n=self.fft))
        logs = (spectrum.square().sum(-1) @ self.filters).clamp_min(KALDI_FLOOR).log()
        count = 1 + (lengths.clamp_min(self.least) - self.width) // self.hop
        mask = real(count, logs.shape[1])[..., None]
        total = count[:, None, None]
        centred = (logs - (logs * mask).sum(1, keepdim=True) / total) * mask
        variance = centred.square().sum(1, keepdim=True) / (total - 1)
        rows = centred / (variance + 1e-7).sqrt()
        rows = rows[:, : rows.shape[1] // 2 * 2].reshape(len(rows), -1, 2 * rows.shape[-1])
        return rows, count // 2
