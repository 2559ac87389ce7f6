"""DANN: embeddings are learned from which a judge cannot tell the source from the target.

Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 17(59), 2016, arXiv 1505.07818; first used for emotion in speech by
Abdelwahab & Busso, "Domain Adversarial for Acoustic Emotion Recognition", IEEE/ACM TASLP 26(12), 2018. A judge of two hidden layers learns
to name the domain of an embedding; its gradient comes back reversed, times 2 / (1 + e^(-10 p)) - 1 of the progress p (eqs. 16-18). Where we
leave it: every corpus is heard through its own statistics (`moodcast.adapting`), and the learning rate follows the run's schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from moodcast import method
from moodcast.adapting import SOURCE, TARGET, Adapting, Heard
from moodcast.batch import Batch
from moodcast.method import Spec
from moodcast.objectives import domain


@dataclass(frozen=True)
class Weights(method.Weights):
    """judge: the judge's cross-entropy, which the trunk makes worse."""

    classes: float = 1.0
    judge: float = 1.0


class Dann(Adapting):
    """B stretches, D width, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """hidden: the judge's width; reversal: what the reversed gradient rises to."""

        weights: Weights = Weights()
        hidden: int = 128
        reversal: float = 1.0

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        size = self.trunk.hears.width
        self.judge = nn.Sequential(
            nn.Linear(size, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 1)
        )

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; judge: the mean over both domains of naming the right one."""
        source, target = self.heard(batches)
        judged = self._judged(source, SOURCE) + self._judged(target, TARGET)
        return {"classes": self.classes(batches, source), "judge": 0.5 * judged}

    def _judged(self, heard: Heard, which: int) -> Tensor:
        reversed_ = domain.reversed_gradient(heard.embedding, self.config.reversal * self.ramp())
        return domain.domain_loss(self.judge(reversed_)[:, 0], which)
