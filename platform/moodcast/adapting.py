"""Adapting: what methods share that learn from a labelled source and hear a target without labels.

A trunk hears a stretch with the statistics of its own domain (normalisation by corpus, without labels, is the strongest cheap adaptation
in this field, and every method here has it) and gives an embedding; a linear head answers it. Methods add objectives to the cross-entropy
on the source. What is served answers the target; epochs are chosen on the source (`on_source`).

Two fronts: log-mel frames under a small convolutional encoder, or the 138 plain statistics of nn/functionals.py under a small network,
which are found once and kept. Shapes: B stretches, C chunks, N chunks that exist, T frames, M bands, F features, D width, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from moodcast import features
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn import functionals, ranges, waves
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.identity import identity
from moodcast.nn.pool import AttentivePool
from moodcast.objectives import classes

SOURCE, TARGET = 0, 1  # places of the domains in what is kept for each
NUM_MELS, FFT_S = 40, 0.032  # of the statistics, as in methods/functionals.py
LOW_HZ, HIGH_HZ = 60.0, 7600.0
FARTHEST = 10.0  # deviations: what is farther says no more than far


@dataclass(frozen=True)
class Front:
    """How a stretch becomes an embedding.

    kind: "log_mel", or "functionals". standardise: by the statistics of each domain, or of the source for both. width: of the embedding
    under "functionals" (twice as wide is what comes before it) and of the frames under "log_mel". layers: hidden layers under
    "functionals", 0 for a linear model; blocks of convolutions under "log_mel". hide_bands (count) and hide_s (seconds, twice): the
    widest masks in training, "log_mel" alone.
    """

    kind: Literal["log_mel", "functionals"] = "log_mel"
    standardise: Literal["domain", "source"] = "domain"
    num_mels: int = 64
    width: int = 64
    channels: int = 16
    layers: int = 2
    dropout: float = 0.3
    hide_bands: int = 12
    hide_s: float = 0.3

    def __post_init__(self) -> None:
        ranges.check(self, "[1, inf)", "width", "channels", group="method.front.")
        ranges.check(self, "[0, inf)", "layers", group="method.front.")


class Heard(NamedTuple):
    """What a trunk makes of a batch: embeddings [B, D], log-probabilities [B, K] and, of chunks, [B, C, K] where it hears chunks."""

    embedding: Tensor
    log_probs: Tensor
    chunk_log_probs: Tensor | None


class Trunk(nn.Module):
    """Front, network and head, with the statistics of two domains as buffers `centre` and `scale`, [2, F]."""

    centre: Tensor
    scale: Tensor

    def __init__(self, front: Front, spec: Spec) -> None:
        super().__init__()
        self.front, self.spec = front, spec
        self.hears: LogMelFront | StatisticsFront = LogMelFront(front, spec) if front.kind == "log_mel" else StatisticsFront(front, spec)
        self.register_buffer("centre", torch.zeros(2, self.hears.size))
        self.register_buffer("scale", torch.full((2, self.hears.size), self.hears.usual_scale))
        self.norm = nn.LayerNorm(self.hears.width) if front.layers else nn.Identity()
        self.head = nn.Sequential(nn.Dropout(front.dropout), nn.Linear(self.hears.width, len(spec.classes)))

    def forward(self, batch: Batch, domain: int) -> Heard:
        """A batch of one domain, SOURCE or TARGET."""
        at = domain if self.front.standardise == "domain" else SOURCE
        whole, parts = self.hears(batch, self.centre[at], self.scale[at])
        embedding = self.norm(whole)
        chunk_log_probs = None if parts is None else self.head(self.norm(parts)).log_softmax(-1)
        return Heard(embedding, self.head(embedding).log_softmax(-1), chunk_log_probs)

    def answer(self, batch: Batch, domain: int) -> Prediction:
        """The same as a prediction."""
        heard = self(batch, domain)
        return Prediction(heard.log_probs, heard.chunk_log_probs, embedding=heard.embedding)

    def fit(self, view: View, stream: str) -> None:
        """Take the statistics of a domain from all its training stretches."""
        sums = view.features(self.hears.sums, stream).double().sum(0)
        first, second = (part / sums[-1] for part in sums[:-1].chunk(2))
        at = SOURCE if stream == "source" else TARGET
        self.centre[at] = first.to(self.centre.dtype)
        self.scale[at] = (second - first.square()).clamp_min(1e-12).sqrt().clamp_min(self.hears.least_scale).to(self.scale.dtype)


class LogMelFront(nn.Module):
    """Log-mel frames without their loudness, standardised band by band, under convolutions and attentive statistics pooling."""

    usual_scale, least_scale = 3.0, 0.1  # nats

    def __init__(self, front: Front, spec: Spec) -> None:
        super().__init__()
        self.front, self.size, self.width = front, front.num_mels, 2 * front.width
        self.log_mel = features.LogMel(spec.rate, front.num_mels)
        self.encoder = ConvEncoder(front.num_mels, front.width, front.channels, front.layers, front.dropout)
        self.pool = AttentivePool(front.width)

    def forward(self, batch: Batch, centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled statistics of stretches [B, D] and of chunks [B, C, D]."""
        frames, mask, exist = self.prepared(batch, centre, scale)
        pooled: tuple[Tensor, Tensor] = self.pool(*self.encoder(frames, mask), exist)
        return pooled

    def prepared(self, batch: Batch, centre: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised frames [N, T, M] of the chunks that exist, in training some of them hidden; masks [N, T] and [B, C]."""
        frames, mask, exist = self._frames(batch)
        frames = (frames - centre) / scale * mask[..., None]
        if self.training:
            frames = features.band_and_time_masked(frames, mask, self.front.hide_bands, self.front.hide_s)
        return frames, mask, exist

    def sums(self, batch: Batch) -> Tensor:
        """Of each stretch the sums over frames of every band and of its square, and the count of frames: [B, 2 M + 1]."""
        frames, mask, exist = self._frames(batch)
        frames, real = frames.double(), mask[..., None].double()
        of_chunks = torch.cat([(frames * real).sum(1), (frames.square() * real).sum(1), real.sum(1)], dim=-1)
        owner = exist.nonzero()[:, 0]
        return of_chunks.new_zeros(batch.size, of_chunks.shape[1]).index_add(0, owner, of_chunks)

    def _frames(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return features.level_frames(self.log_mel, batch.chunks, batch.lengths)


class StatisticsFront(nn.Module):
    """The plain statistics of a whole stretch, standardised, under a small network, or as they are."""

    usual_scale, least_scale = 1.0, 1e-6

    def __init__(self, front: Front, spec: Spec) -> None:
        super().__init__()
        self.spec, self.size = spec, functionals.num_plain(NUM_MELS)
        fft = 1 << (round(FFT_S * spec.rate) - 1).bit_length()
        self.filters = features.mel_filters(NUM_MELS, fft, spec.rate, LOW_HZ, min(HIGH_HZ, spec.rate / 2))
        sizes = [self.size, *([2 * front.width] * (front.layers - 1)), front.width][: front.layers + 1]
        layers = [
            part
            for i, (before, after) in enumerate(itertools.pairwise(sizes))
            for part in ([nn.Dropout(front.dropout)] * (i > 0) + [nn.Linear(before, after), nn.GELU()])
        ]
        self.network = nn.Sequential(*layers)
        self.width = sizes[-1]

    def forward(self, batch: Batch, centre: Tensor, scale: Tensor) -> tuple[Tensor, None]:
        """The last hidden layer [B, D]; of chunks it knows nothing."""
        given = (self.found(batch) if batch.frozen is None else batch.frozen)[:, 0]
        return self.network(((given - centre) / scale).clamp(-FARTHEST, FARTHEST)), None

    def sums(self, batch: Batch) -> Tensor:
        """Of each stretch its features, their squares, and one: [B, 2 F + 1]."""
        given = (self.found(batch) if batch.frozen is None else batch.frozen)[:, 0].double()
        return torch.cat([given, given.square(), given.new_ones(len(given), 1)], dim=-1)

    def found(self, batch: Batch) -> Tensor:
        """The features of every stretch, [B, 1, F]."""
        plan, rate = self.spec.plan, self.spec.rate
        counts = waves.samples_in(batch.lengths, batch.seconds, plan, rate)
        joined = waves.joined(batch.chunks, counts, plan, rate).cpu().numpy()
        found = [functionals.plain(wave[:count], rate, self.filters) for wave, count in zip(joined, counts.tolist(), strict=True)]
        return torch.from_numpy(np.stack(found))[:, None].to(batch.chunks.device)


class Adapting(Method):
    """Base of the methods that adapt: a trunk, and the cross-entropy on the source. A method adds its own terms in `losses`."""

    streams: ClassVar[tuple[str, ...]] = ("source", "target")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """front: how a stretch is heard; smoothing: of the source's targets."""

        front: Front = Front()
        smoothing: float = 0.1

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing")

    config: Config
    progress: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.trunk = Trunk(config.front, spec)
        self.register_buffer("progress", torch.zeros(()))  # of the whole training; kept, so that a resumed run goes on

    def forward(self, batch: Batch) -> Prediction:
        """Answer the target: emotion [B, K], embedding [B, D] and, where chunks are heard, chunk_emotion [B, C, K]."""
        return self.trunk.answer(batch, TARGET)

    def on_source(self, batch: Batch) -> Prediction:
        """Answer the source."""
        return self.trunk.answer(batch, SOURCE)

    def heard(self, batches: Mapping[str, Batch]) -> tuple[Heard, Heard]:
        """What the trunk makes of the source and of the target."""
        return self.trunk(batches["source"], SOURCE), self.trunk(batches["target"], TARGET)

    def classes(self, batches: Mapping[str, Batch], heard: Heard) -> Tensor:
        """The cross-entropy on the source."""
        batch = batches["source"]
        return classes.labelled(heard.log_probs, batch.target, batch.weight, self.config.smoothing)

    def fit_once(self, view: View) -> None:
        """The statistics of the domains that are heard; weights of an earlier training bring no progress of this one."""
        self.progress.zero_()
        for stream in self.streams:
            self.trunk.fit(view, stream)

    def take_statistics(self, view: View) -> bool:
        """Those of the target, where each domain is heard through its own."""
        if self.config.front.standardise == "domain":
            self.trunk.fit(view, "target")
        return self.config.front.standardise == "domain"

    def after_step(self, progress: float) -> None:
        """Remember how far training is."""
        self.progress.fill_(progress)

    def ramp(self) -> Tensor:
        """2 / (1 + e^(-10 p)) - 1 of the progress p (Ganin et al. 2016, section 5.2.2): from 0 at the beginning to 1."""
        return 2.0 / (1.0 + (-10.0 * self.progress).exp()) - 1.0

    def frozen(self, batch: Batch) -> Tensor:
        """The statistics of every stretch, [B, 1, F]."""
        if not isinstance(self.trunk.hears, StatisticsFront):
            return super().frozen(batch)
        return self.trunk.hears.found(batch)

    def frozen_name(self) -> str:
        """The set of statistics and its code; nothing stays frozen under log-mel frames."""
        if self.config.front.kind != "functionals":
            return ""
        return identity(nn.Identity(), "plain", str(self.spec.rate), code=(Adapting, functionals, features, waves))


def ramp_up(progress: Tensor, share: float) -> Tensor:
    """From 0 to 1 over the first `share` of training: e^(-5 (1 - t)^2) (Laine & Aila 2017); 1 throughout where the share is 0."""
    if not share:
        return torch.ones_like(progress)
    return (-5.0 * (1.0 - (progress / share).clamp(0.0, 1.0)).square()).exp()
