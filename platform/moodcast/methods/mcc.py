"""MCC: answers to the target are made so that no two classes are mixed up with each other.

Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020, arXiv 1912.03699. Beside the cross-entropy on the source,
the confusion between classes within a batch of softened answers to the target, sure answers counting more (eqs. 2-6; objectives/domain.py).
Where we leave it: every corpus is heard through its own statistics (`moodcast.adapting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from moodcast import method
from moodcast.adapting import Adapting
from moodcast.batch import Batch
from moodcast.nn import ranges
from moodcast.nn.ranks import everybody, shared
from moodcast.objectives import domain


@dataclass(frozen=True)
class Weights(method.Weights):
    """confusion: between classes in the answers to the target."""

    classes: float = 1.0
    confusion: float = 1.0


class Mcc(Adapting):
    """B stretches, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """temperature: by which answers are softened before they are compared."""

        weights: Weights = Weights()
        temperature: float = 2.5

        def __post_init__(self) -> None:
            super().__post_init__()
            ranges.check(self, "(0, inf)", "temperature")

    config: Config

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; confusion: of the answers to the target."""
        source, target = self.heard(batches)
        confused = domain.class_confusion(everybody(target.log_probs), self.config.temperature)
        return {"classes": self.classes(batches, source), "confusion": shared(confused)}
