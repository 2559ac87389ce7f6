"""Empirical risk minimisation: a log-mel convolutional encoder trained from scratch, the baseline of every other method.

No single paper: convolutions over log-mel, attentive statistics pooling (Okabe et al., Interspeech 2018) over all frames of all chunks,
cross-entropy against a class or a distribution of votes, SpecAugment-like masking (Park et al., Interspeech 2019). Where a model will
meet conversations, log-mel power is also damaged in training: rooms, noise, microphones, telephones (nn/corrupt.py). About 0.27 M
parameters. Chunks may overlap, but then frames are computed twice: the plan it is meant for has hop_s = length_s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from moodcast import attributes, features
from moodcast.attributes import AttributeHead, AttributeWeights
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec
from moodcast.nn import ranges
from moodcast.nn.corrupt import NO_DAMAGE, Damage, damaged
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.pool import AttentivePool
from moodcast.objectives import classes

SCALE = 3.0  # nats; log-mel power within a stretch has about this standard deviation


class Erm(Method):
    """B stretches, C chunks, T frames, M bands, D width, K classes."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Widths of the network, and what is random in training.

        damage is off by default: on clean studio speech it costs a little.
        normalise: "level" takes away a recording's loudness; "band" also its mean spectrum (channel, but voice quality too).
        hide_bands (count) and hide_s (seconds, twice) are the widest masks; smoothing mixes the target with the uniform one.
        """

        weights: AttributeWeights = AttributeWeights()
        num_mels: int = 64
        width: int = 160
        channels: int = 16
        layers: int = 2
        normalise: Literal["level", "band"] = "level"
        dropout: float = 0.2
        hide_bands: int = 12
        hide_s: float = 0.3
        smoothing: float = 0.1
        damage: Damage = NO_DAMAGE

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing")
            ranges.check(self, "[1, inf)", "width", "channels")
            ranges.check(self, "[0, inf)", "layers")

    config: Config
    answers_attributes = True

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.encoder = ConvEncoder(config.num_mels, config.width, config.channels, config.layers, config.dropout)
        self.pool = AttentivePool(config.width)
        self.head = nn.Sequential(
            nn.LayerNorm(2 * config.width), nn.Dropout(config.dropout), nn.Linear(2 * config.width, len(spec.classes))
        )
        self.rating = AttributeHead(2 * config.width, len(spec.attributes), config.dropout)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K] and chunk_emotion [B, C, K]: the same head on the statistics of all frames and of each chunk's frames."""
        frames, mask, exist = features.chunk_frames(self.log_mel, batch.chunks, batch.lengths)
        whole, parts = self.pool(*self.encoder(self._prepared(frames, mask, exist), mask), exist)
        emotion, chunk_emotion = (self.head(found).log_softmax(-1) for found in (whole, parts))
        return Prediction(emotion, chunk_emotion, attributes=self.rating(whole), embedding=whole)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy against the target distribution, weighted by utterance; attributes, where the run names some: 1 - CCC."""
        batch = batches["labelled"]
        found = self(batch)
        loss = classes.labelled(found.emotion, batch.target, batch.weight, self.config.smoothing)
        return {"classes": loss, **attributes.losses(found.attributes, batch)}

    def _prepared(self, frames: Tensor, mask: Tensor, exist: Tensor) -> Tensor:
        """Normalise over each stretch's own frames and, in training, damage and hide some: [N, T, M] -> the same."""
        config = self.config
        if self.training and config.damage != NO_DAMAGE:
            frames = damaged(features.level_normalised(frames, mask, exist), mask, self.log_mel.peaks_hz, config.damage)
        normalise = features.level_normalised if config.normalise == "level" else features.band_normalised
        frames = normalise(frames, mask, exist) / SCALE
        return features.band_and_time_masked(frames, mask, config.hide_bands, config.hide_s) if self.training else frames
