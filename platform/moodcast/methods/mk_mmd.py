"""MK-MMD: embeddings of source and target are drawn together until several kernels cannot tell their distributions apart.

Long et al., "Learning Transferable Features with Deep Adaptation Networks", ICML 2015, arXiv 1502.02791. Beside the cross-entropy on the
source, the squared maximum mean discrepancy of a batch's embeddings under a mean of five Gaussian kernels (Gretton et al., JMLR 13, 2012,
eq. 3; objectives/domain.py). Where we leave it: the kernels weigh the same instead of being learned, the estimator is the unbiased one of
all pairs instead of the linear one, one layer is aligned, and every corpus is heard through its own statistics (`moodcast.adapting`).
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
    """discrepancy: the squared distance of the two distributions."""

    classes: float = 1.0
    discrepancy: float = 1.0


class MkMmd(Adapting):
    """B stretches, D width, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """See `moodcast.adapting`."""

        weights: Weights = Weights()

    config: Config

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; discrepancy: of the embeddings."""
        source, target = self.heard(batches)
        apart = domain.mk_mmd(everybody(source.embedding), everybody(target.embedding))
        return {"classes": self.classes(batches, source), "discrepancy": shared(apart)}
