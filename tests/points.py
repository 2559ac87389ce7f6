"""The smallest data and method that training can be tested on: points with a class, and two layers with every hook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moodcast.batch import Batch, Prediction
from moodcast.chunks import ChunkPlan
from moodcast.method import Method, Spec, View

SPEC = Spec(("a", "b", "c"), (), 100, ChunkPlan(length_s=0.05, hop_s=0.05))


class Points:
    """N stretches of one chunk of five samples; the class follows from them. `asked` are the batches that were wanted, in order."""

    def __init__(self, num: int = 37) -> None:
        rng = np.random.default_rng(3)
        self.values = rng.standard_normal((num, 5)).astype(np.float32)
        self.target = np.eye(3, dtype=np.float32)[self.values[:, :3].argmax(1)]
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.values)

    def names(self, indices: Any) -> list[str]:
        return [f"u{i}" for i in indices]

    def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
        for indices in plan:
            self.asked.append([int(i) for i in indices])
            size = len(indices)
            chunks = torch.from_numpy(self.values[indices])[:, None]
            target = torch.from_numpy(self.target[indices])
            yield Batch(chunks, torch.full((size, 1), 5), torch.full((size,), 0.05), target, torch.ones(size))


class Net(Method):
    """Two linear layers with dropout, a running mean, and hooks that can be switched on."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        dropout: float = 0.0
        thaw_at: int = 0
        bad_at: int = -1
        only_first: int = 0

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.first = nn.Linear(5, 6)
        self.last = nn.Sequential(nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(6, 3))
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("count", torch.zeros(()))
        self.first.requires_grad_(config.thaw_at == 0)

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(emotion=self.last(self.first(batch.chunks[:, 0])).log_softmax(-1))

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        batch = batches["labelled"]
        self.drawn_in_step = torch.rand(())
        if self.training:
            self.mean += batch.chunks.mean((0, 1))
        bad = float("inf") if int(self.count) == self.config.bad_at else 1.0
        return {"classes": -(batch.target * self(batch).emotion).sum(-1).mean() * bad}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.first.parameters()), "lr_scale": 0.1}, {"params": list(self.last.parameters())}]

    def start_epoch(self, epoch: int, view: View) -> None:
        self.drawn_by_hook = torch.rand(())
        if epoch == self.config.thaw_at:
            self.first.requires_grad_(True)
        if self.config.only_first:
            weights = torch.zeros(len(view.features(lambda batch: batch.chunks[:, 0, 0])))
            weights[: self.config.only_first] = 1.0
            view.set_weights(weights)

    def after_step(self, progress: float) -> None:
        self.count += 1


def net(**config: Any) -> Net:
    """The same weights whenever it is asked."""
    torch.manual_seed(0)
    return Net(Net.Config(**config), SPEC)
