"""Voiceprint: a small speaker embedding for the embedded diarizer, trained on the speakers of emotion corpora.

Additive angular margin softmax over training speakers (Deng et al., CVPR 2019, eq. 3) on attentive statistics pooling (Okabe et al.,
Interspeech 2018), the common recipe of speaker recognition at a hundredth of its size. Ours: all robustness is done to log-mel power
inside the method, in training only (nn/corrupt.py), and a random crop of `min_s` to the whole stretch, because a conversation's turns
are short. With few speakers, the same voices played slower and faster stand for more of them (Yamamoto et al., Interspeech 2019): a
class each, in training only. `Labels.source` is "speaker": the K classes are speakers, and what is served is `Prediction.embedding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from moodcast import features
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec
from moodcast.nn import ranges
from moodcast.nn.corrupt import Damage, damaged
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.pool import AttentivePool
from moodcast.objectives import classes

SCALE = 3.0  # nats, as in the other log-mel methods


class Voiceprint(Method):
    """B stretches, C chunks, L samples, T frames, M bands, D width of the embedding, K speakers, S speeds."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Widths, margin (radians, reached after margin_share of training) and scale of the cosines, and training's robustness.

        speeds: at which training plays its stretches, one drawn for each; the first is 1, every other one makes K more classes.
        """

        num_mels: int = 64
        width: int = 160
        channels: int = 16
        layers: int = 2
        embedding: int = 128
        normalise: Literal["level", "band"] = "band"
        dropout: float = 0.1
        margin: float = 0.2
        margin_share: float = 0.3
        scale: float = 30.0
        min_s: float = 1.0
        hide_bands: int = 8
        hide_s: float = 0.2
        damage: Damage = Damage()
        speeds: tuple[float, ...] = (1.0,)

        def __post_init__(self) -> None:
            if not self.speeds or self.speeds[0] != 1.0 or not all(0.5 <= speed <= 2.0 for speed in self.speeds):
                raise ValueError(f"speeds begin with 1.0 and lie between 0.5 and 2, got {self.speeds}")
            ranges.check(self, "[1, inf)", "width", "channels", "embedding")
            ranges.check(self, "[0, inf)", "layers")

    config: Config
    progress: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.encoder = ConvEncoder(config.num_mels, config.width, config.channels, config.layers, config.dropout)
        self.pool = AttentivePool(config.width)
        self.embed = nn.Sequential(nn.LayerNorm(2 * config.width), nn.Linear(2 * config.width, config.embedding))
        self.speakers = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(config.speeds) * len(spec.classes), config.embedding)))
        self.register_buffer("progress", torch.zeros(()))  # persistent: a resumed run keeps its margin

    def forward(self, batch: Batch) -> Prediction:
        """embedding [B, D] of length 1, and emotion [B, K]: log-probabilities of the training speakers."""
        embedding = self._embedded(batch)
        cosines = self._cosines(embedding)[:, : len(self.spec.classes)]
        return Prediction(emotion=(self.config.scale * cosines).log_softmax(-1), embedding=embedding)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy over speakers (at each speed one) with the margin on the true one."""
        batch = batches["labelled"]
        if batch.target is None:
            raise ValueError('this batch has no target: collate it with labels (source="speaker") and rows')
        share = self.config.margin_share
        margin = self.config.margin * (min(1.0, float(self.progress) / share) if share > 0.0 else 1.0)
        batch, target = played(batch, batch.target, self.config.speeds)
        logits = classes.margin_logits(self._cosines(self._embedded(batch)), target, margin, self.config.scale)
        return {"classes": classes.cross_entropy(logits.log_softmax(-1), target, batch.weight)}

    def after_step(self, progress: float) -> None:
        """The margin grows with the progress of training: with few speakers the full one stalls fresh weights."""
        self.progress.fill_(progress)

    def _embedded(self, batch: Batch) -> Tensor:
        config = self.config
        frames, mask, exist = features.chunk_frames(self.log_mel, batch.chunks, batch.lengths)
        if self.training:
            mask = features.cropped(mask, config.min_s)
            frames = damaged(features.level_normalised(frames, mask, exist), mask, self.log_mel.peaks_hz, config.damage)
        normalise = features.level_normalised if config.normalise == "level" else features.band_normalised
        frames = normalise(frames, mask, exist) / SCALE
        if self.training:
            frames = features.band_and_time_masked(frames, mask, config.hide_bands, config.hide_s)
        whole, _ = self.pool(*self.encoder(frames, mask), exist)
        return nn.functional.normalize(self.embed(whole), dim=-1)

    def _cosines(self, embedding: Tensor) -> Tensor:
        return embedding @ nn.functional.normalize(self.speakers, dim=-1).T


def played(batch: Batch, target: Tensor, speeds: tuple[float, ...]) -> tuple[Batch, Tensor]:
    """Each stretch at one of `speeds`, drawn from torch's global generator; target [B, K] becomes [B, S K], speed by speed.

    A faster stretch is shorter and higher, voice and words alike.
    """
    if len(speeds) == 1:
        return batch, target
    drawn = torch.randint(len(speeds), (batch.size,), device=batch.chunks.device)
    parts = {k: at_speed(batch.chunks[drawn == k], batch.lengths[drawn == k], speed) for k, speed in enumerate(speeds)}
    chunks = batch.chunks.new_zeros(*batch.lengths.shape, max(part.shape[-1] for part, _ in parts.values()))
    lengths = torch.zeros_like(batch.lengths)
    for k, (part, some) in parts.items():
        chunks[drawn == k, :, : part.shape[-1]] = part
        lengths[drawn == k] = some
    spread = nn.functional.one_hot(drawn, len(speeds)).to(target.dtype)[:, :, None] * target[:, None, :]
    return replace(batch, chunks=chunks, lengths=lengths), spread.flatten(1)


def at_speed(chunks: Tensor, lengths: Tensor, speed: float) -> tuple[Tensor, Tensor]:
    """Chunks [B, C, L] and their lengths [B, C] `speed` times as fast, [B, C, about L / speed], by cutting or filling the spectrum."""
    total = chunks.shape[-1]
    size = max(64, 64 * round(total / speed / 64))  # a length that the transform likes
    if speed == 1.0 or not len(chunks):
        return chunks, lengths
    found = torch.fft.irfft(torch.fft.rfft(chunks), n=size) * (size / total)
    return found, torch.where(lengths > 0, (lengths * size).div(total, rounding_mode="floor").clamp_min(1), 0)
