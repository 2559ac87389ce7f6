"""ChunkAttention: dynamic chunking with attention across chunks.

Lin & Busso, "Chunk-Level Speech Emotion Recognition: A General Framework of Sequence-to-One Dynamic Temporal Modeling", IEEE Trans.
Affective Computing 14(2), 1215-1227, 2023. A stretch of any duration becomes the same number of equal chunks, whose overlap follows from
the duration (`ChunkPlan(length_s, count)`); an encoder shared over chunks makes a vector of each; one of four aggregators makes a
sentence of them; two dense layers answer.

Where we leave the paper: classes and cross-entropy, beside which the paper's attributes and CCC can be asked for (labels.attributes;
public corpora have classes); log-mel with deltas normalised within the stretch instead of 130 low-level descriptors with training-set
statistics; layer instead of batch normalisation, so that an answer is the same alone and in a batch; self-attention really runs across
chunks (nn/attention.py says why that is a change).
Reported there: CCC on MSP-Podcast, which is licensed and not used here. Reached here: docs/log.md, 2026-11-20.

B stretches, C chunks, T frames, F features, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from moodcast import attributes, features
from moodcast.attributes import AttributeHead, AttributeWeights
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec
from moodcast.nn import ranges
from moodcast.nn.attention import GatedAggregator, MeanAggregator, RecurrentAttention, SelfAttention
from moodcast.nn.encoder import CnnEncoder, LstmEncoder
from moodcast.nn.pool import placed
from moodcast.objectives import classes

SCALE = 3.0  # nats, as in the other log-mel methods
ENCODERS = {"lstm": LstmEncoder, "cnn": CnnEncoder}
AGGREGATORS = {"mean": MeanAggregator, "gated": GatedAggregator, "rnn_attention": RecurrentAttention, "self_attention": SelfAttention}


class ChunkAttention(Method):
    """The published system; see the module docstring."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Which encoder and aggregator, their width, and dropout: between encoder layers and before the last dense layer."""

        weights: AttributeWeights = AttributeWeights()
        encoder: Literal["lstm", "cnn"] = "lstm"
        aggregation: Literal["mean", "gated", "rnn_attention", "self_attention"] = "self_attention"
        num_mels: int = 40
        width: int = 128
        normalise: Literal["level", "band"] = "level"
        dropout: float = 0.5

        def __post_init__(self) -> None:
            ranges.check(self, "[1, inf)", "width")

    config: Config
    answers_attributes = True

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.encoder: nn.Module = ENCODERS[config.encoder](2 * config.num_mels, config.width, config.dropout)
        self.aggregator: nn.Module = AGGREGATORS[config.aggregation](config.width)
        self.head = nn.Sequential(
            nn.Linear(config.width, config.width), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.width, len(spec.classes))
        )
        self.rating = AttributeHead(config.width, len(spec.attributes), config.dropout)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K] of the aggregated chunks, chunk_emotion [B, C, K] of each chunk as the aggregation of itself alone."""
        vectors, exist = self._vectors(batch)
        sentence = self.aggregator(vectors, exist)
        alone = self.aggregator(vectors.flatten(0, 1)[:, None], exist.flatten()[:, None]).view_as(vectors)
        emotion, chunk_emotion = (self.head(found).log_softmax(-1) for found in (sentence, alone))
        return Prediction(emotion, chunk_emotion, attributes=self.rating(sentence), embedding=sentence)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Of the sentence. classes: cross-entropy, weighted by utterance; attributes, where a run names some: 1 - CCC, as in the paper."""
        batch = batches["labelled"]
        sentence = self.aggregator(*self._vectors(batch))
        loss = classes.labelled(self.head(sentence).log_softmax(-1), batch.target, batch.weight)
        return {"classes": loss, **attributes.losses(self.rating(sentence), batch)}

    def _vectors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Chunk vectors [B, C, D] and which chunks exist [B, C]."""
        frames, mask, exist = features.chunk_frames(self.log_mel, batch.chunks, batch.lengths)
        normalise = features.level_normalised if self.config.normalise == "level" else features.band_normalised
        frames = normalise(frames, mask, exist) / SCALE
        vectors = self.encoder(torch.cat([frames, features.deltas(frames, mask)], dim=-1), mask)
        return placed(vectors, exist), exist
