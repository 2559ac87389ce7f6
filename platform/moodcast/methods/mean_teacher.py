"""Mean teacher: the target is learned from the sure answers of a teacher, who is the moving average of the pupil.

Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv 1703.01780; for a target without labels: French,
Mackiewicz, Fisher, "Self-ensembling for visual domain adaptation", ICLR 2018, arXiv 1706.05208, whose threshold on the teacher's
confidence we take. The teacher hears without dropout and masks, and is what is served. Where we leave it: a class too weak to reach the
threshold still gives its `share` of surest stretches of a batch, so that no class is starved; answers are learned by cross-entropy instead
of squared distances; and every corpus is heard through its own statistics (`moodcast.adapting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moodcast import method
from moodcast.adapting import SOURCE, TARGET, Adapting, ramp_up
from moodcast.batch import Batch, Prediction
from moodcast.method import Spec, View
from moodcast.nn import ranges
from moodcast.nn.ranks import everybody, own_rows
from moodcast.nn.teacher import Teacher
from moodcast.objectives import domain
from moodcast.objectives.classes import cross_entropy


@dataclass(frozen=True)
class Weights(method.Weights):
    """taught: the cross-entropy of the pupil on the teacher's sure answers."""

    classes: float = 1.0
    taught: float = 1.0


class MeanTeacher(Adapting):
    """B stretches, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """decay: of the moving average; threshold: of the teacher's confidence; share: of the stretches that he gives to a class, those
        of it that are surest are always learned; rise: the share of training over which his word comes to count fully.
        """

        weights: Weights = Weights()
        decay: float = 0.99
        threshold: float = 0.8
        share: float = 0.2
        rise: float = 0.3

        def __post_init__(self) -> None:
            super().__post_init__()
            ranges.check(self, "[0, 1]", "decay", "threshold", "share")
            ranges.check(self, "[0, inf)", "rise")

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.teacher = Teacher(self.trunk)

    def forward(self, batch: Batch) -> Prediction:
        """The teacher's answer to the target."""
        return self.teacher.own.answer(batch, TARGET)

    def on_source(self, batch: Batch) -> Prediction:
        """The teacher's answer to the source."""
        return self.teacher.own.answer(batch, SOURCE)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; taught: on what the teacher is sure of in the target."""
        source, target = self.heard(batches)
        with torch.no_grad():
            told = self.teacher.own(batches["target"], TARGET).log_probs
            weight = own_rows(domain.sure(everybody(told), self.config.threshold, self.config.share))
        taught = cross_entropy(target.log_probs, one_hot(told), weight)
        return {"classes": self.classes(batches, source), "taught": ramp_up(self.progress, self.config.rise) * taught}

    def fit_once(self, view: View) -> None:
        """The statistics of both domains, which teacher and pupil share."""
        super().fit_once(view)
        self.teacher.begin_as(self.trunk)

    def take_statistics(self, view: View) -> bool:
        """Those of the target, for teacher and pupil."""
        taken = super().take_statistics(view)
        self.teacher.hear_as(self.trunk)
        return taken

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        super().after_step(progress)
        self.teacher.follow(self.trunk, self.config.decay)


def one_hot(log_probs: Tensor) -> Tensor:
    """The most probable class of each row [B, K], as [B, K]."""
    return torch.nn.functional.one_hot(log_probs.argmax(-1), log_probs.shape[-1]).to(log_probs.dtype)
