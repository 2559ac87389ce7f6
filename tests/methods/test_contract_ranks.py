"""Every method that hears a target, trained by two processes: they learn what one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from moodcast.method import Method
from moodcast.run import Train
from tests.methods.test_contract import METHODS, trainer_of
from tests.ranks import on_ranks

HEARING = [cls for cls in METHODS if "target" in cls.streams]
SHARED = Train(epochs=1, batch_size=8, lr=1e-2)
QUIET = {"dropout": 0.0, "hide_bands": 0, "hide_s": 0.0, "width": 8, "channels": 4}


def learned(cls: type[Method], world: int = 1, rank: int = 0) -> dict[str, torch.Tensor]:
    """The parameters after an epoch without what is random in training."""
    torch.manual_seed(0)
    trainer = trainer_of(cls, SHARED, world, rank, **QUIET)
    trainer.fit_once()
    trainer.epoch(0)
    return {name: p.detach().clone() for name, p in trainer.method.named_parameters()}


def on_rank(rank: int, world: int, _: Path) -> dict[str, Any]:
    """What each of the processes below does."""
    return {cls.__name__: learned(cls, world, rank) for cls in HEARING}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    return on_ranks(on_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("cls", HEARING, ids=lambda cls: cls.__name__)
def test_two_ranks_that_hear_a_target_learn_what_one_does(cls, two_ranks):
    first, second = (found[cls.__name__] for found in two_ranks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    begun = dict(trainer_of(cls, SHARED, **QUIET).method.named_parameters())
    for name, wanted in learned(cls).items():
        torch.testing.assert_close(first[name], wanted, atol=2e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    assert max(float((value - begun[name]).detach().abs().max()) for name, value in first.items()) > 1e-3  # something was learned
