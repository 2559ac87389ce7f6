"""Functionals: statistics of a whole utterance, answered by logistic regression or a small network.

What a deep model has to beat. The default set is plain and our own (138 numbers: log-mel moments, level, tempo, pitch; nn/functionals.py).
"egemaps" is eGeMAPSv02 (88 features; Eyben et al., "The Geneva Minimalistic Acoustic Parameter Set", IEEE TAFFC 7(2), 2016) and "compare"
ComParE_2016 (6373; Schuller et al., Interspeech 2016), both by opensmile, an optional extra whose licence allows research and private use
only: a bundle that uses them is not for commercial use.

Features are standardised by the training data, kept in buffers. Logistic regression is convex and solved once, before the first epoch, by
scikit-learn (L2, every class as heavy as any other); the network (one hidden layer) is trained as any method is. Where a label is a
distribution of votes, an utterance counts for each class by its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moodcast import features
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn import functionals, ranges
from moodcast.nn.identity import identity
from moodcast.objectives import classes

NUM_MELS, FFT_S = 40, 0.032
LOW_HZ, HIGH_HZ = 60.0, 7600.0


class Functionals(Method):
    """B stretches, F features, K classes."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Which features and classifier.

        strength: of the logistic regression's fit against its penalty (scikit-learn's C). balanced: classes weigh the same in it. width,
        dropout and smoothing are the network's.
        """

        features: Literal["plain", "egemaps", "compare"] = "plain"
        classifier: Literal["logistic", "mlp"] = "logistic"
        strength: float = 0.05
        balanced: bool = True
        width: int = 128
        dropout: float = 0.3
        smoothing: float = 0.1

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing")
            ranges.check(self, "(0, inf)", "strength")
            ranges.check(self, "[1, inf)", "width")

    config: Config
    centre: Tensor
    scale: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        fft = 1 << (round(FFT_S * spec.rate) - 1).bit_length()
        self.filters = features.mel_filters(NUM_MELS, fft, spec.rate, LOW_HZ, min(HIGH_HZ, spec.rate / 2))
        self.smile: Any = None if config.features == "plain" else functionals.opensmile_set(config.features)
        size = functionals.num_plain(NUM_MELS) if self.smile is None else len(self.smile.feature_names)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        wide, width = len(spec.classes), config.width
        network = nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, wide))
        self.head: nn.Module = nn.Linear(size, wide) if config.classifier == "logistic" else network

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K] and the standardised features as embedding [B, F]."""
        given = (self.frozen(batch) if batch.frozen is None else batch.frozen)[:, 0]
        standard = ((given - self.centre) / self.scale).clamp(-10.0, 10.0)  # a feature far outside of training says no more than far
        return Prediction(emotion=self.head(standard).log_softmax(-1), embedding=standard)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy against the target distribution, weighted by utterance."""
        batch = batches["labelled"]
        return {"classes": classes.labelled(self(batch).emotion, batch.target, batch.weight, self.config.smoothing)}

    def frozen(self, batch: Batch) -> Tensor:
        """The features of every stretch, [B, 1, F]."""
        waves = self._stretches(batch)
        if self.smile is None:
            found = [functionals.plain(wave, self.spec.rate, self.filters) for wave in waves]
        else:
            found = [functionals.opensmile_features(self.smile, wave, self.spec.rate) for wave in waves]
        return torch.from_numpy(np.stack(found))[:, None].to(batch.chunks.device)

    def frozen_name(self) -> str:
        """The set of features and its code."""
        settings = (self.config.features, str(self.spec.rate), str(getattr(self.smile, "version", "")))
        return identity(nn.Identity(), *settings, code=(Functionals, functionals, features))

    def terms(self) -> str:
        """openSMILE's licence, where its features are used."""
        if self.smile is None:
            return ""
        return "Its features come from openSMILE, whose licence allows research and private use only: not for commercial use."

    @property
    def by_steps(self) -> bool:
        """The small network is; the logistic regression is not."""
        return self.config.classifier != "logistic"

    def fit_once(self, view: View) -> None:
        """Centre and scale of the features; the logistic regression itself, which nothing trains after that."""
        size, wide = len(self.centre), len(self.spec.classes)
        given = view.features(self._with_targets).double().cpu().numpy()
        found, target, weight = given[:, :size], given[:, size : size + wide], given[:, -1]
        self.centre.copy_(torch.from_numpy(found.mean(0)))
        spread = found.std(0)
        self.scale.copy_(torch.from_numpy(np.where(spread > 1e-9, spread, 1.0)))
        if isinstance(self.head, nn.Linear):
            standard = ((found - found.mean(0)) / np.where(spread > 1e-9, spread, 1.0)).clip(-10.0, 10.0)
            weights, bias = solved(standard, target, weight, self.config.strength, self.config.balanced)
            with torch.no_grad():
                self.head.weight.copy_(torch.from_numpy(weights))
                self.head.bias.copy_(torch.from_numpy(bias))
            self.head.requires_grad_(False)

    def take_statistics(self, view: View) -> bool:
        """Centre and scale of the features, for which no label is needed."""
        found = view.features(lambda batch: (self.frozen(batch) if batch.frozen is None else batch.frozen)[:, 0]).double()
        self.centre.copy_(found.mean(0))
        spread = found.std(0, correction=0)
        self.scale.copy_(torch.where(spread > 1e-9, spread, torch.ones_like(spread)))
        return True

    def _with_targets(self, batch: Batch) -> Tensor:
        given = self.frozen(batch) if batch.frozen is None else batch.frozen
        return torch.cat([given[:, 0], batch.weighted_targets()], dim=1)

    def _stretches(self, batch: Batch) -> list[NDArray[np.float32]]:
        """The samples of each stretch, put together from its chunks."""
        chunks = batch.chunks.cpu().numpy()
        found = []
        for b, seconds in enumerate(batch.seconds.tolist()):
            total = max(1, round(seconds * self.spec.rate))
            wave = np.zeros(total, dtype=np.float32)
            for c, (start, stop) in enumerate(self.spec.plan.spans(total, self.spec.rate)):
                wave[start:stop] = chunks[b, c, : stop - start]
            found.append(wave)
        return found


def solved(
    found: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64], strength: float, balanced: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logistic regression of features [N, F] on distributions [N, K], utterances weighted by [N]: weights [K, F] and bias [K].

    Raises ValueError where a class has no share of any utterance.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    share = target * weight[:, None]
    mass = share.sum(0)
    if not (mass > 0).all():
        raise ValueError(f"classes {np.flatnonzero(mass <= 0).tolist()} have no training utterance; take them out of labels.classes")
    if balanced:
        share = share * (mass.sum() / (len(mass) * mass))
    rows, labels = np.nonzero(share)
    scaled = share[rows, labels] * (len(found) / share.sum())
    model = LogisticRegression(C=strength, max_iter=2000).fit(found[rows], labels, sample_weight=scaled)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
        return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
    return np.asarray(model.coef_), np.asarray(model.intercept_)
