"""What methods share that answer attributes such as arousal and valence beside classes: the head, the loss over all ranks, its weight.

Shapes: B stretches, D width of an embedding, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moodcast.batch import Batch
from moodcast.method import Method, Spec, Weights
from moodcast.nn.ranks import everybody, shared
from moodcast.objectives.concordance import one_minus_ccc

FEWEST = 8  # utterances: a concordance of fewer says next to nothing


@dataclass(frozen=True)
class AttributeWeights(Weights):
    """attributes: of 1 - CCC, beside the classes."""

    attributes: float = 1.0


class AttributeHead(nn.Module):
    """Embeddings [..., D] -> values in [0, 1], [..., A]; None, and no weights, where a run names no attributes."""

    def __init__(self, width: int, num_attributes: int, dropout: float) -> None:
        super().__init__()
        self.layers: nn.Sequential | None = None
        if num_attributes:
            self.layers = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, num_attributes), nn.Sigmoid())

    def forward(self, embedding: Tensor) -> Tensor | None:
        """See the class."""
        if self.layers is None:
            return None
        found: Tensor = self.layers(embedding)
        return found


def check(method: type[Method], spec: Spec, together: int) -> None:
    """Raises ValueError where a run names attributes that cannot be learned: the method has none, or sees few utterances together."""
    method.check_attributes(spec)
    if spec.attributes and together < FEWEST:
        raise ValueError(
            f"attributes are learned by comparing utterances, and {together} together are too few: wanted {FEWEST}, better 64, in each of "
            "train.accumulate parts of train.batch_size"
        )


def losses(answer: Tensor | None, batch: Batch) -> dict[str, Tensor]:
    """attributes: 1 - CCC of what a method answers to a batch, [B, A], over the batches of all ranks; nothing where it answers none.

    Raises ValueError where the batch says nothing of attributes.
    """
    if answer is None:
        return {}
    if batch.attributes is None:
        raise ValueError("this batch has no attributes: collate it with labels that name some, and rows")
    weight = torch.ones_like(answer[:, 0]) if batch.weight is None else batch.weight
    return {"attributes": shared(one_minus_ccc(everybody(answer), everybody(batch.attributes), everybody(weight)))}
