"""CORAL: embeddings of source and target are given the same covariance.

Sun & Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016, arXiv 1607.01719. Beside the
cross-entropy on the source, ||C_S - C_T||_F^2 / (4 D^2) between the covariances of a batch's embeddings (eqs. 1-3; objectives/domain.py).
Where we leave it: embeddings are normalised layers of a small network, every corpus is heard through its own statistics
(`moodcast.adapting`), and the weight is larger, because the value is tiny for such embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from moodcast import method
from moodcast.adapting import Adapting
from moodcast.batch import Batch
from moodcast.nn.ranks import everybody, shared
from moodcast.objectives import domain


@dataclass(frozen=True)
class Weights(method.Weights):
    """coral: the distance of the covariances."""

    classes: float = 1.0
    coral: float = 10.0


class Coral(Adapting):
    """B stretches, D width, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """See `moodcast.adapting`."""

        weights: Weights = Weights()

    config: Config

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; coral: distance of the covariances."""
        source, target = self.heard(batches)
        aligned = domain.coral(everybody(source.embedding), everybody(target.embedding))
        return {"classes": self.classes(batches, source), "coral": shared(aligned)}
