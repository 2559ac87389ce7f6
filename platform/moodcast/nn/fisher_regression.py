"""Classes from Fisher vectors (nn/fisher.py) by kernel ridge regression (nn/kernel.py), all fitted once on a training set.

Shapes: S training stretches, B stretches, C chunks, N chunks that exist, T frames, M bands, R components, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moodcast.nn.fisher import FisherVectors
from moodcast.nn.kernel import KernelRidge
from moodcast.nn.ranks import of_first_rank

OfFrames = Callable[[Tensor, Tensor, Tensor], Tensor]  # frames [N, T, M], mask [N, T], exist [B, C] -> [B, ...]
ROWS = 1024  # gradients that are cut to components at a time


@dataclass(frozen=True)
class FisherSettings:
    """Sizes of the vectors, and of the regression on them.

    gaussians, coefficients, whitened, components: the sizes of nn/fisher.py. landmarks: how many training stretches it compares with at
    most, a vector of each of which travels in the bundle. strength: of the ridge. sharpness: what turns its scores into logits. It is
    fitted before the first epoch: whoever goes on from there changes sharpness alone.
    """

    gaussians: int = 32
    coefficients: int = 16
    whitened: int = 40
    components: int = 192
    landmarks: int = 6000
    strength: float = 1.0
    sharpness: float = 5.0


class FisherRegression(nn.Module):
    """`vectors` of frames, `answer` of vectors: [..., R] -> log-probabilities [..., K]; `forward` does both. Unfitted, it knows nothing."""

    def __init__(self, num_mels: int, settings: FisherSettings, num_classes: int) -> None:
        super().__init__()
        self.sharpness = settings.sharpness
        self.vectors = FisherVectors(num_mels, settings.coefficients, settings.whitened, settings.gaussians, settings.components)
        self.ridge = KernelRidge(settings.components, num_classes, settings.landmarks, settings.strength)

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """Level-normalised frames [N, T, M], mask [N, T], exist [B, C] -> log-probabilities [B, K] and [B, C, K]."""
        whole, parts = self.vectors(frames, mask, exist)
        return self.answer(whole), self.answer(parts)

    def answer(self, vectors: Tensor) -> Tensor:
        """Log-probabilities [..., K] of vectors [..., R]; all classes alike for one of zeros, where nothing was heard."""
        scores: Tensor = self.ridge(vectors)
        return (self.sharpness * scores).log_softmax(-1)

    def fit(self, over: Callable[[OfFrames], Tensor], weighted_targets: Tensor) -> None:
        """Mixture, components and regression, each on all training stretches. Every rank calls it.

        over: what a function makes of the frames of every one of them, in batches, put together [S, ...]. weighted_targets [S, K + 1]:
        the distribution and the weight of each.
        """
        vectors = self.vectors
        vectors.fit_mixture(over(vectors.drawn))
        of_first_rank(vectors.buffers())  # what ranks gather next is of one mixture
        gradients = over(lambda *frames: nn.functional.normalize(vectors.gradients(*frames)[0], dim=-1).half())
        vectors.fit_components(gradients)
        of_first_rank(vectors.buffers())
        found = torch.cat([vectors.cut(part.to(vectors.middle)) for part in torch.split(gradients, ROWS)])
        self.ridge.fit(found, weighted_targets)
