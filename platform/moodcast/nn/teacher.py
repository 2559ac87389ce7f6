"""A teacher who is the moving average of a pupil: hears without dropout, never trains, and is what is served."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Pupil = TypeVar("Pupil", bound=nn.Module)


class Teacher(nn.Module, Generic[Pupil]):
    """`own` is a copy of the pupil that follows it (Tarvainen & Valpola, NeurIPS 2017, section 2)."""

    own: Pupil
    steps: Tensor

    def __init__(self, pupil: Pupil) -> None:
        super().__init__()
        self.own = copy.deepcopy(pupil).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.train(False)

    def train(self, mode: bool = True) -> Teacher[Pupil]:
        """Whatever is asked: not in training mode."""
        super().train(False)
        return self

    def begin_as(self, pupil: Pupil) -> None:
        """Everything as the pupil has it now."""
        self.own.load_state_dict(pupil.state_dict())

    @torch.no_grad()
    def hear_as(self, pupil: Pupil) -> None:
        """Through the same statistics, and whatever else the pupil keeps in buffers."""
        for kept, now in zip(self.own.buffers(), pupil.buffers(), strict=True):
            kept.copy_(now)

    @torch.no_grad()
    def follow(self, pupil: Pupil, decay: float) -> None:
        """One step: faster than `decay` at the beginning, so that the pupil's first guesses are forgotten."""
        self.steps += 1
        done = int(self.steps)
        for slow, fast in zip(self.own.parameters(), pupil.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - min(decay, (1.0 + done) / (10.0 + done)))
        self.hear_as(pupil)
