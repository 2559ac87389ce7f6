"""Target normalisation: learned from the source alone, heard through the statistics of each corpus. The baseline that adaptation must beat.

No single paper. Features are centred and scaled by the corpus they come from, the target's from recordings without labels; nothing else of
the target is used (Schuller et al., "Cross-corpus acoustic emotion recognition: variances and strategies", IEEE TAFFC 1(2), 2010, found
normalisation by corpus to matter more than the classifier; Li et al., "Revisiting batch normalization for practical domain adaptation",
2016, do it inside a network). With `front.standardise=source` the target is heard as the source was: no adaptation at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from moodcast.adapting import SOURCE, Adapting
from moodcast.batch import Batch


class TargetNorm(Adapting):
    """B stretches, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """See `moodcast.adapting`."""

    config: Config

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source."""
        return {"classes": self.classes(batches, self.trunk(batches["source"], SOURCE))}
