"""SHOT: a trained trunk moves to the target without the source, under the head that it had; it needs a bundle to start from.

Liang, Hu, Feng, "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain Adaptation", ICML 2020,
arXiv 2002.08546. The head stays as it is; the trunk learns to answer the target surely and with every class in use (eqs. 3-4,
objectives/domain.py) and to agree with pseudo-labels: the nearest of class centroids, which each epoch takes from all the target's
embeddings, weighed by the answers and once again by the labels these give (eqs. 5-7). Where we leave it: pseudo-labels follow the
embedding of the moment under the epoch's centroids; the target is heard through its own statistics (`moodcast.adapting`).

    moodcast train target_norm source.parquet --target target.parquet
    moodcast train shot --target target.parquet start_from=runs/NAME/bundle
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from moodcast import method
from moodcast.adapting import TARGET, Adapting
from moodcast.batch import Batch
from moodcast.method import Spec, View
from moodcast.nn.ranks import everybody, shared
from moodcast.objectives import domain
from moodcast.objectives.classes import cross_entropy


@dataclass(frozen=True)
class Weights(method.Weights):
    """information: entropy of the answers less that of their mean; pseudo: cross-entropy on pseudo-labels."""

    classes: float = 0.0
    information: float = 1.0
    pseudo: float = 0.3


class Shot(Adapting):
    """B stretches, N stretches of the target, D width, K classes."""

    streams: ClassVar[tuple[str, ...]] = ("target",)

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """See `moodcast.adapting`; the front must be that of the bundle it starts from."""

        weights: Weights = Weights()

    config: Config
    centroids: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.trunk.head.requires_grad_(False)
        self.register_buffer("centroids", torch.zeros(len(spec.classes), self.trunk.hears.width))

    def start_epoch(self, epoch: int, view: View) -> None:
        """Centroids of the classes, from what the trunk makes of the whole target now."""
        found = view.features(self._embedded, "target")
        self.centroids.copy_(centroids(found[:, : self.centroids.shape[1]], found[:, self.centroids.shape[1] :].exp()))

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """information and pseudo, both on the target."""
        heard = self.trunk(batches["target"], TARGET)
        labels = nearest(heard.embedding.detach(), self.centroids)
        information = shared(domain.information(everybody(heard.log_probs)))
        return {"information": information, "pseudo": cross_entropy(heard.log_probs, labels, smoothing=self.config.smoothing)}

    def _embedded(self, batch: Batch) -> Tensor:
        heard = self.trunk(batch, TARGET)
        return torch.cat([heard.embedding, heard.log_probs], dim=1)


def centroids(embeddings: Tensor, probabilities: Tensor) -> Tensor:
    """Class centroids [K, D] of unit embeddings [N, D]: weighed by the answers [N, K], then by the labels that these centroids give.

    A class that gets no label keeps the centroid of the answers.
    """
    unit = normalize(embeddings, dim=1)
    soft = probabilities.T @ unit / probabilities.sum(0)[:, None].clamp_min(1e-8)
    labels = nearest(embeddings, soft)
    count = labels.sum(0)[:, None]
    return torch.where(count > 0, labels.T @ unit / count.clamp_min(1.0), soft)


def nearest(embeddings: Tensor, centres: Tensor) -> Tensor:
    """The class of the nearest of centres [K, D] by the cosine, as one-hot rows [N, K]."""
    cosines = normalize(embeddings, dim=1) @ normalize(centres, dim=1).T
    return torch.nn.functional.one_hot(cosines.argmax(1), len(centres)).to(embeddings.dtype)
