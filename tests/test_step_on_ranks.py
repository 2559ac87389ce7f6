"""moodcast.step and moodcast.passes on two ranks: they see everything, stay equal, and learn what one learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from moodcast.method import View
from moodcast.passes import TrainingView
from moodcast.run import Train
from moodcast.step import Trainer, weights_digest
from tests.points import SPEC, Net, Points, net
from tests.ranks import on_ranks


class Centred(Net):
    """A closed form that comes out otherwise on every rank, as solvers do on different machines."""

    def fit_once(self, view: View) -> None:
        self.mean += 1.0 + dist.get_rank()
        self.last[2].bias.data += dist.get_rank()


def on_rank(rank: int, world: int, _: Path) -> dict[str, Any]:
    """What each of the processes below does."""
    data, method = Points(), net(dropout=0.5 if world == 2 else 0.0)
    view = TrainingView(method, data, 8, world, rank)
    view.set_weights(torch.arange(1.0, 38.0) + rank)  # differs by rank: the first one's count
    plain = Trainer(net(), Train(epochs=2, batch_size=8), data, None, world, rank)
    losses = plain.epoch(0)
    parts = Trainer(net(), Train(epochs=2, batch_size=8, accumulate=2), data, None, world, rank)
    parts.epoch(0)
    dropping = Trainer(method, Train(epochs=2, batch_size=8), data, None, world, rank)
    dropping.epoch(0)
    dropping.epoch(1)
    centred = Trainer(Centred(Net.Config(), SPEC).requires_grad_(False), Train(epochs=1, batch_size=8), data, None, world, rank)
    centred.fit_once()
    return {
        "fitted": centred.method.state_dict(),
        "features": view.features(lambda batch: batch.chunks[:, 0]),
        "weights": torch.from_numpy(view.weights),
        "drawn": torch.stack([method.drawn_by_hook, method.drawn_in_step]),
        "digest": weights_digest(dropping.method),
        "plain": plain.method.state_dict(),
        "parts": parts.method.state_dict(),
        "loss": losses["loss"],
    }


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(on_rank, tmp_path_factory.mktemp("ranks"))


def test_a_view_gathers_every_stretch_in_order_on_every_rank(two_ranks: list[dict[str, Any]]) -> None:
    for found in two_ranks:
        assert np.array_equal(found["features"].numpy(), Points().values)


def test_sampling_weights_are_the_same_on_every_rank(two_ranks: list[dict[str, Any]]) -> None:
    wanted = torch.arange(1.0, 38.0, dtype=torch.float64)
    for found in two_ranks:
        assert torch.allclose(found["weights"], wanted / wanted.sum())


def test_two_ranks_stay_bit_equal_with_dropout_and_running_statistics(two_ranks: list[dict[str, Any]]) -> None:
    assert two_ranks[0]["digest"] == two_ranks[1]["digest"]


def test_two_ranks_learn_what_one_does(two_ranks: list[dict[str, Any]]) -> None:
    alone = Trainer(net(), Train(epochs=2, batch_size=8), Points())
    loss = alone.epoch(0)["loss"]
    assert two_ranks[0]["loss"] == pytest.approx(loss, abs=1e-6)
    for name, value in alone.method.named_parameters():
        assert torch.allclose(two_ranks[1]["plain"][name], value, atol=1e-6)
        assert torch.allclose(two_ranks[0]["parts"][name], value, atol=1e-6)
        assert torch.equal(two_ranks[0]["parts"][name], two_ranks[1]["parts"][name])


def test_what_is_fitted_once_is_that_of_the_first_rank_everywhere(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["fitted"] for found in two_ranks)
    assert (first["mean"] == 1.0).all()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ranks_draw_the_same_random_numbers_in_hooks_and_their_own_in_steps(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["drawn"].tolist() for found in two_ranks)
    assert first[0] == second[0]
    assert first[1] != second[1]
