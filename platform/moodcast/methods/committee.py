"""Committee: convolutional networks over log-mel frames and classifiers of their statistics, trained side by side, answering together.

No single paper. What errs differently is worth more together than what errs alike: networks that start differently and see different
damage, and a small network over moments of the spectrum, as the classical systems had them (Schuller, Steidl, Batliner, "The INTERSPEECH
2009 Emotion Challenge"), and, where asked for, kernel ridge regression on Fisher vectors (nn/fisher.py), which hears undamaged sound and is
best where rooms and microphones are those of training. Their log-probabilities are averaged and normalised (a product of experts: Hinton,
Neural Computation 14(8), 2002, eq. 1, with fixed powers). Every member learns alone, so that none leans on another.

A network is Erm's: convolutions over log-mel, attentive statistics pooling (Okabe et al., Interspeech 2018), masks (SpecAugment, Park et
al., Interspeech 2019) and damage to log-mel power in training (nn/corrupt.py). About 0.6 M parameters with two networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from moodcast import features, method
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn import ranges
from moodcast.nn.corrupt import Damage, damaged
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.fisher_regression import FisherRegression, FisherSettings
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


@dataclass(frozen=True)
class FisherMember(FisherSettings):
    """As in nn/fisher_regression.py; without Gaussians there is no such member. share: its vote beside that of all networks together."""

    gaussians: int = 0
    share: float = 0.5


class Committee(Method):
    """B stretches, C chunks, N chunks that exist, T frames, M bands, D width, K classes, F moments."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Sizes, and what is random in training.

        networks: how many; share: what the statistics say counts so much of one network's vote times their number, 0.5 for half as much
        as all networks together. hidden, forget: width and dropout of the classifier of moments. blind: the share of each band's mean
        that is taken away before a network sees it, one for each network in turn, so that they err differently. fisher: the
        regression on Fisher vectors; none with 0 Gaussians. The rest is as in Erm.
        """

        weights: Weights = Weights()
        networks: int = 2
        share: float = 0.5
        blind: tuple[float, ...] = (0.0,)
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
        fisher: FisherMember = FisherMember()

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing")
            ranges.check(self, "[1, inf)", "networks", "width", "channels", "hidden")
            ranges.check(self, "[0, inf)", "share", "layers")
            ranges.check(self.fisher, "[0, inf)", "share", group="method.fisher.")

    config: Config
    centre: Tensor
    scale: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        if not config.blind:
            raise ValueError("method.blind wants a share in [0, 1] for each network in turn, got none")
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        blind = [config.blind[i % len(config.blind)] for i in range(config.networks)]
        self.networks = nn.ModuleList(Network(config, len(spec.classes), share) for share in blind)
        size = num_moments(config.num_mels)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.statistics = nn.Sequential(
            nn.Linear(size, config.hidden), nn.GELU(), nn.Dropout(config.forget), nn.Linear(config.hidden, len(spec.classes))
        )
        self.fisher: FisherRegression | None = None
        if config.fisher.gaussians:
            self.fisher = FisherRegression(config.num_mels, config.fisher, len(spec.classes)).requires_grad_(False)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K], chunk_emotion [B, C, K]; embedding [B, D']: the networks' pooled statistics and the moments."""
        members, pooled = self.members(batch)
        emotion = together([whole for whole, _ in members], self.votes)
        chunk_emotion = together([parts for _, parts in members], self.votes)
        return Prediction(emotion, chunk_emotion, embedding=pooled)

    def members(self, batch: Batch) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """What each says alone, networks first, then the statistics: log-probabilities [B, K] and [B, C, K]; their embedding [B, D']."""
        frames, mask, exist = self._frames(batch)
        found = [network(frames, mask, exist) for network in self.networks]
        whole, parts = self._moments(frames, mask, exist)
        said = [(a, b) for a, b, _ in found]
        said.append((self.statistics(whole).log_softmax(-1), self.statistics(parts).log_softmax(-1)))
        if self.fisher is not None:
            said.append(self.fisher(frames, mask, exist))
        return said, torch.cat([*(pooled for _, _, pooled in found), whole], dim=-1)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes and statistics: cross-entropy of each member against the target distribution, weighted by utterance."""
        batch, config = batches["labelled"], self.config
        frames, mask, exist = self._frames(batch)
        heard = [self._damaged(frames, mask, exist) for _ in self.networks]  # the statistics hear what the first network does
        terms = []
        for network, given in zip(self.networks, heard, strict=True):
            answer, _, _ = network(self._hidden(given, mask), mask, exist)
            terms.append(classes.labelled(answer, batch.target, batch.weight, config.smoothing))
        whole, _ = self._moments(heard[0], mask, exist)
        statistics = classes.labelled(self.statistics(whole).log_softmax(-1), batch.target, batch.weight, config.smoothing)
        return {"classes": torch.stack(terms).mean(), "statistics": statistics}

    def fit_once(self, view: View) -> None:
        """Centre and scale of the moments; Fisher vectors and the regression on them."""
        self.take_statistics(view)
        if self.fisher is not None:
            targets = view.features(Batch.weighted_targets)
            self.fisher.fit(lambda fn: view.features(lambda batch: fn(*self._frames(batch))), targets)

    def take_statistics(self, view: View) -> bool:
        """Centre and scale of the moments, for which no label is needed."""
        found = view.features(lambda batch: moments(*self._frames(batch))[0]).double()
        self.centre.copy_(found.mean(0))
        self.scale.copy_(found.std(0, correction=0).clamp_min(1e-3))
        return True

    def _frames(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Level-normalised log-mel [N, T, M], its mask [N, T] and which chunks exist [B, C]."""
        return features.level_frames(self.log_mel, batch.chunks, batch.lengths)

    def _damaged(self, frames: Tensor, mask: Tensor, exist: Tensor) -> Tensor:
        """In training, rooms and noise and microphones in between; they may move the level."""
        if not self.training:
            return frames
        return features.level_normalised(damaged(frames, mask, self.log_mel.peaks_hz, self.config.damage), mask, exist)

    def _hidden(self, frames: Tensor, mask: Tensor) -> Tensor:
        """In training, bands and spans of time are hidden from a network."""
        if not self.training:
            return frames
        return features.band_and_time_masked(frames, mask, self.config.hide_bands, self.config.hide_s)

    def _moments(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised moments of stretches [B, F] and of chunks [B, C, F]."""
        whole, parts = moments(frames, mask, exist)
        return tuple(((found - self.centre) / self.scale).clamp(-FARTHEST, FARTHEST) for found in (whole, parts))  # type: ignore[return-value]

    @property
    def votes(self) -> list[float]:
        """How much each of `members` counts: 1 for all networks together."""
        votes = [1.0 / len(self.networks)] * len(self.networks) + [self.config.share]
        return votes if self.fisher is None else [*votes, self.config.fisher.share]


def together(members: Sequence[Tensor], votes: Sequence[float]) -> Tensor:
    """Log-probabilities [..., K] of members as one: their mean, each counted as often as it has votes, normalised."""
    said = sum(vote * member for vote, member in zip(votes, members, strict=True))
    return (torch.as_tensor(said) / sum(votes)).log_softmax(-1)


class Network(nn.Module):
    """One network: encoder, pooling, head. [N, T, M], [N, T], [B, C] -> log-probabilities [B, K] and [B, C, K], pooled [B, 2 D]."""

    def __init__(self, config: Committee.Config, num_classes: int, blind: float = 0.0) -> None:
        super().__init__()
        self.blind = blind
        self.encoder = ConvEncoder(config.num_mels, config.width, config.channels, config.layers, config.dropout)
        self.pool = AttentivePool(config.width)
        self.head = nn.Sequential(nn.LayerNorm(2 * config.width), nn.Dropout(config.dropout), nn.Linear(2 * config.width, num_classes))

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        if self.blind:
            frames = frames + self.blind * (features.band_normalised(frames, mask, exist) - frames)
        encoded, mask = self.encoder(frames / SCALE, mask)
        whole, parts = self.pool(encoded, mask, exist)
        return self.head(whole).log_softmax(-1), self.head(parts).log_softmax(-1), whole


@torch.no_grad()
def merged(committees: Sequence[Committee]) -> Committee:
    """One committee that answers as several of the same settings do together: the normalised product of theirs, each to the power 1/N.

    Their networks sit side by side, and so do the hidden layers of their statistics, so that it is a committee as any other. Raises
    ValueError where settings, or centre and scale of the moments, differ: then they were not trained by one recipe on the same data.
    """
    first = committees[0]
    config = first.config
    fisher = None if first.fisher is None else first.fisher.state_dict()
    for other in committees[1:]:
        if other.config != config:
            raise ValueError(f"wanted committees of the same settings, got {config} and {other.config}")
        if not (torch.allclose(other.centre, first.centre, atol=1e-4) and torch.allclose(other.scale, first.scale, rtol=1e-4)):
            raise ValueError("centre and scale of the moments differ: these committees were not trained on the same data")
        if fisher is not None and other.fisher is not None:
            for name, value in other.fisher.state_dict().items():
                if not torch.allclose(value.float(), fisher[name].float(), rtol=1e-2, atol=1e-3):
                    raise ValueError(f"{name} of the Fisher vectors differs: these committees were not trained on the same data")
    num = len(committees)
    own = [cast(Network, network) for committee in committees for network in committee.networks]
    wide = replace(config, networks=len(own), hidden=num * config.hidden, blind=tuple(network.blind for network in own))
    whole = Committee(wide, first.spec)
    whole.log_mel.load_state_dict(first.log_mel.state_dict())
    whole.centre.copy_(first.centre)
    whole.scale.copy_(first.scale)
    if whole.fisher is not None and fisher is not None:
        whole.fisher.load_state_dict(fisher)
    for mine, theirs in zip(whole.networks, own, strict=True):
        mine.load_state_dict(theirs.state_dict())
    into, out = linears(whole)
    before, after = zip(*(linears(committee) for committee in committees), strict=True)
    into.weight.copy_(torch.cat([layer.weight for layer in before]))
    into.bias.copy_(torch.cat([layer.bias for layer in before]))
    out.weight.copy_(torch.cat([layer.weight for layer in after], dim=1) / num)
    out.bias.copy_(torch.stack([layer.bias for layer in after]).mean(0))
    return whole


def linears(committee: Committee) -> tuple[nn.Linear, nn.Linear]:
    """The two layers of the classifier of moments that hold weights."""
    return cast(nn.Linear, committee.statistics[0]), cast(nn.Linear, committee.statistics[-1])
