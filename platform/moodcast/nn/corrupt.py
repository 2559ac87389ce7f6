"""Damage done to log-mel power in training, so that a model of studio speech meets rooms, lines and noise before it is served.

Everything works on natural-log mel power [N, T, M] of the chunks of level-normalised stretches (mean power 1) with a mask [N, T] of
real frames, and draws one setting a chunk from torch's global generator. Power adds: two sounds add their mel power up to their
interference, which these models ignore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

DECIBEL = math.log(10.0) / 10.0  # nats of power a decibel
ECHO_FRAMES = 40
STOPBAND_DB = 45.0


@dataclass(frozen=True)
class Damage:
    """How often a training chunk is damaged, and how badly. Shares in [0, 1]; all shares 0 turns it off.

    colour: a smooth random equaliser of up to about `colour_db` dB. noise: coloured noise at min_snr_db to max_snr_db. echo: an
    exponential tail, T60 of 0.2 to 0.9 s. band: nothing below a random 50-400 Hz and above a random 3-7 kHz, as telephones do.
    """

    colour_share: float = 0.5
    colour_db: float = 6.0
    noise_share: float = 0.5
    min_snr_db: float = 5.0
    max_snr_db: float = 30.0
    echo_share: float = 0.3
    band_share: float = 0.3

    def __post_init__(self) -> None:
        for name in ("colour_share", "noise_share", "echo_share", "band_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share of the chunks and must be in [0, 1], got {getattr(self, name)}")
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db {self.min_snr_db} is above max_snr_db {self.max_snr_db}")


NO_DAMAGE = Damage(colour_share=0.0, noise_share=0.0, echo_share=0.0, band_share=0.0)


def damaged(frames: Tensor, mask: Tensor, peaks_hz: Tensor, damage: Damage) -> Tensor:
    """Echo (the room), noise (in the room), then colour and band (microphone and line): [N, T, M] -> the same shape.

    peaks_hz [M]: where the bands lie. Frames that the mask leaves out are silence, wherever they lie.
    """
    for share, harm in (
        (damage.echo_share, _echo),
        (damage.noise_share, lambda x, _: _noise(x, damage.min_snr_db, damage.max_snr_db)),
        (damage.colour_share, lambda x, _: x + _colour(x, damage.colour_db)),
        (damage.band_share, lambda x, _: _band_limited(x, peaks_hz)),
    ):
        if share > 0.0:
            chosen = (torch.rand(len(frames), device=frames.device) < share).nonzero()[:, 0]
            if len(chosen):
                frames = frames.index_copy(0, chosen, harm(frames[chosen], mask[chosen]))
    return frames * mask[..., None]


def _colour(frames: Tensor, decibel: float) -> Tensor:
    """A random smooth curve over bands, [N, 1, M]: four cosines with standard deviation `decibel` / 2 together."""
    size, _, width = frames.shape
    place = (torch.arange(width, device=frames.device) + 0.5) / width
    waves = torch.cos(math.pi * torch.arange(1, 5, device=frames.device)[:, None] * place)  # [4, M]
    gains = torch.randn(size, 4, device=frames.device) * (decibel * DECIBEL / 2.0 / math.sqrt(2.0))
    return (gains @ waves)[:, None]


def _noise(frames: Tensor, low_db: float, high_db: float) -> Tensor:
    snr = low_db + (high_db - low_db) * torch.rand(len(frames), 1, 1, device=frames.device)
    profile = 2.0 * _colour(frames, 6.0)
    profile = profile - profile.logsumexp(-1, keepdim=True) + math.log(frames.shape[-1])
    return torch.logaddexp(frames, profile - snr * DECIBEL + 0.4 * torch.randn_like(frames))


def _echo(frames: Tensor, mask: Tensor) -> Tensor:
    """Add an exponential tail: power falls by 60 dB in T60; direct sound 0 to 12 dB above the whole tail."""
    size = len(frames)
    t60_s = 0.2 + 0.7 * torch.rand(size, 1, device=frames.device)
    decay = -6.0 * math.log(10.0) * 0.01 / t60_s  # nats a frame of 10 ms
    tail = (decay * torch.arange(ECHO_FRAMES, device=frames.device)).exp()
    tail[:, 0] = 0.0
    strength = (-12.0 * DECIBEL * torch.rand(size, 1, device=frames.device)).exp()
    kernel = strength * tail / tail.sum(-1, keepdim=True).clamp_min(1e-6)
    power = frames.exp() * mask[..., None]  # a frame that is not there holds 0, which as a logarithm would be a sound
    power = torch.nn.functional.pad(power.transpose(1, 2), (ECHO_FRAMES - 1, 0))  # [N, M, T + E - 1]
    smeared = torch.nn.functional.conv1d(power.transpose(0, 1), kernel.flip(-1)[:, None], groups=size)  # [M, N, T]
    return torch.logaddexp(frames, smeared.permute(1, 2, 0).clamp_min(1e-12).log())


def _band_limited(frames: Tensor, peaks_hz: Tensor) -> Tensor:
    low = 50.0 + 350.0 * torch.rand(len(frames), 1, 1, device=frames.device)
    high = 3000.0 + 4000.0 * torch.rand(len(frames), 1, 1, device=frames.device)
    outside = (peaks_hz < low) | (peaks_hz > high)
    return torch.where(outside, frames - STOPBAND_DB * DECIBEL, frames)
