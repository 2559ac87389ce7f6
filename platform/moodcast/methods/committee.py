"""Committee: convolutional networks over log-mel frames and a classifier of their statistics, trained side by side, answering together.

No single paper. What errs differently is worth more together than what errs alike: networks that start differently and see different
damage, and a small network over moments of the spectrum, as the classical systems had them (Schuller, Steidl, Batliner, "The INTERSPEECH
2009 Emotion Challenge"). Their log-probabilities are averaged and normalised (a product of experts: Hinton, Neural Computation 14(8),
2002, eq. 1, with fixed powers). Every member learns by a cross-entropy of its own, so that none leans on another.

A network is Erm's: convolutions over log-mel, attentive statistics pooling (Okabe et al., Interspeech 2018), masks (SpecAugment, Park et
al., Interspeech 2019) and damage to log-mel power in training (nn/corrupt.py). About 0.6 M parameters with two networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moodcast import features, method
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn.corrupt import Damage, damaged
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.moments import moments, num_moments
from moodcast.nn.pool import AttentivePool
from moodcast.objectives import classes

SCALE = 3.0  # nats; log-mel power within a stretch has about this standard deviation
FARTHEST = 10.0  # a moment far outside of training says no more than far


@dataclass(frozen=True)
class Weights(method.Weights):
    """classes: the mean over the networks; statistics: the classifier of moments."""

    classes: float = 1.0
    statistics: float = 1.0


class Committee(Method):
    """B stretches, C chunks, N chunks that exist, T frames, M bands, D width, K classes, F moments."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Sizes, and what is random in training.

        networks: how many; share: what the statistics say counts so much of one network's vote times their number, 0.5 for half as much
        as all networks together. hidden, forget: width and dropout of the classifier of moments. The rest is as in Erm.
        """

        weights: Weights = Weights()
        networks: int = 2
        share: float = 0.5
        num_mels: int = 64
        width: int = 160
        channels: int = 16
        layers: int = 2
        dropout: float = 0.2
        hidden: int = 128
        forget: float = 0.5
        hide_bands: int = 12
        hide_s: float = 0.3
        smoothing: float = 0.1
        damage: Damage = Damage(noise_share=0.3, echo_share=0.2, band_share=0.1)

    config: Config
    centre: Tensor
    scale: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.networks = nn.ModuleList(Network(config, len(spec.classes)) for _ in range(config.networks))
        size = num_moments(config.num_mels)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.statistics = nn.Sequential(
            nn.Linear(size, config.hidden), nn.GELU(), nn.Dropout(config.forget), nn.Linear(config.hidden, len(spec.classes))
        )

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K], chunk_emotion [B, C, K]; embedding [B, D']: the networks' pooled statistics and the moments."""
        frames, mask, exist = self._frames(batch)
        found = [network(self._hidden(frames, mask), mask, exist) for network in self.networks]
        whole, parts = self._moments(frames, mask, exist)
        emotion = self._together([answer for answer, _, _ in found], self.statistics(whole).log_softmax(-1))
        chunk_emotion = self._together([answer for _, answer, _ in found], self.statistics(parts).log_softmax(-1))
        return Prediction(emotion, chunk_emotion, embedding=torch.cat([*(pooled for _, _, pooled in found), whole], dim=-1))

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes and statistics: cross-entropy of each member against the target distribution, weighted by utterance."""
        batch = batches["labelled"]
        if batch.target is None:
            raise ValueError("this batch has no target: collate it with labels and rows")
        target, weight, smoothing = batch.target, batch.weight, self.config.smoothing
        frames, mask, exist = self._frames(batch)
        terms = []
        for network in self.networks:
            answer, _, _ = network(self._hidden(self._damaged(frames, mask), mask, exist), mask, exist)
            terms.append(classes.cross_entropy(answer, target, weight, smoothing))
        whole, _ = self._moments(features.level_normalised(self._damaged(frames, mask), mask, exist), mask, exist)
        statistics = classes.cross_entropy(self.statistics(whole).log_softmax(-1), target, weight, smoothing)
        return {"classes": torch.stack(terms).mean(), "statistics": statistics}

    def fit_once(self, view: View) -> None:
        """Centre and scale of the moments."""
        found = view.features(lambda batch: moments(*self._frames(batch))[0]).double()
        self.centre.copy_(found.mean(0))
        self.scale.copy_(found.std(0, correction=0).clamp_min(1e-3))

    def _frames(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Level-normalised log-mel [N, T, M], its mask [N, T] and which chunks exist [B, C]."""
        frames, mask, exist = features.chunk_frames(self.log_mel, batch.chunks, batch.lengths)
        return features.level_normalised(frames, mask, exist), mask, exist

    def _damaged(self, frames: Tensor, mask: Tensor) -> Tensor:
        return damaged(frames, mask, self.log_mel.peaks_hz, self.config.damage) if self.training else frames

    def _hidden(self, frames: Tensor, mask: Tensor, exist: Tensor | None = None) -> Tensor:
        """What a network sees; exist is given where damage may have moved the level."""
        if exist is not None:
            frames = features.level_normalised(frames, mask, exist)
        frames = frames / SCALE
        config = self.config
        return features.band_and_time_masked(frames, mask, config.hide_bands, config.hide_s) if self.training else frames

    def _moments(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised moments of stretches [B, F] and of chunks [B, C, F]."""
        whole, parts = moments(frames, mask, exist)
        return tuple(((found - self.centre) / self.scale).clamp(-FARTHEST, FARTHEST) for found in (whole, parts))  # type: ignore[return-value]

    def _together(self, networks: list[Tensor], statistics: Tensor) -> Tensor:
        """The members' log-probabilities [..., K] as one: the mean of the networks and `share` times the statistics."""
        share = self.config.share
        return ((torch.stack(networks).mean(0) + share * statistics) / (1.0 + share)).log_softmax(-1)


class Network(nn.Module):
    """One network: encoder, pooling, head. [N, T, M], [N, T], [B, C] -> log-probabilities [B, K] and [B, C, K], pooled [B, 2 D]."""

    def __init__(self, config: Committee.Config, num_classes: int) -> None:
        super().__init__()
        self.encoder = ConvEncoder(config.num_mels, config.width, config.channels, config.layers, config.dropout)
        self.pool = AttentivePool(config.width)
        self.head = nn.Sequential(nn.LayerNorm(2 * config.width), nn.Dropout(config.dropout), nn.Linear(2 * config.width, num_classes))

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        whole, parts = self.pool(*self.encoder(frames, mask), exist)
        return self.head(whole).log_softmax(-1), self.head(parts).log_softmax(-1), whole
