"""Fisher: kernel ridge regression on Fisher vectors of log-mel frames, fitted once in half a minute, without a GPU.

What Kaya, Karpov and Salah, "Fisher Vectors with Cascaded Normalization for Paralinguistic Analysis", Interspeech 2015, did with
handcrafted frames: a mixture of Gaussians describes the frames of all training speech (expectation maximisation), a stretch is described by
the gradient of its likelihood under that mixture (nn/fisher.py), and training stretches whose gradients are alike answer for it (a linear
solve, nn/kernel.py; theirs was an extreme learning machine). Stronger than small networks where speakers are new but rooms and microphones
are those of training; elsewhere it can be sure and wrong.

One vector of every training stretch, 192 numbers, travels in the bundle, up to `landmarks` of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from moodcast import features
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn.fisher_regression import FisherRegression, FisherSettings
from moodcast.objectives import classes


class Fisher(Method):
    """B stretches, C chunks, R components, K classes."""

    @dataclass(frozen=True)
    class Config(FisherSettings, Method.Config):
        """num_mels: bands of the frames; the rest is as in nn/fisher_regression.py. Nothing is trained by steps, so no loss is weighed."""

        num_mels: int = 64

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.regression = FisherRegression(config.num_mels, config, len(spec.classes))

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K], chunk_emotion [B, C, K]; embedding [B, R]: the Fisher vectors of the stretches."""
        whole, parts = self.regression.vectors(*self._frames(batch))
        return Prediction(self.regression.answer(whole), self.regression.answer(parts), embedding=whole)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy against the target distribution, weighted by utterance; nothing follows it once `fit_once` was called."""
        batch = batches["labelled"]
        return {"classes": classes.labelled(self(batch).emotion, batch.target, batch.weight)}

    @property
    def by_steps(self) -> bool:
        """No."""
        return False

    def fit_once(self, view: View) -> None:
        """All of it."""
        targets = view.features(Batch.weighted_targets)
        self.regression.fit(lambda fn: view.features(lambda batch: fn(*self._frames(batch))), targets)

    def _frames(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Level-normalised log-mel [N, T, M], its mask [N, T] and which chunks exist [B, C]."""
        return features.level_frames(self.log_mel, batch.chunks, batch.lengths)
