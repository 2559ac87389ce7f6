"""moodcast.step on one rank: a step, an epoch, what stops it, and a resumed run that equals an undisturbed one."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moodcast.batch import Batch
from moodcast.method import View
from moodcast.order import epoch_batches
from moodcast.passes import predict
from moodcast.run import Train
from moodcast.step import Diverged, LossModule, Trainer, lr_factor, seed_everything, train_step, weights_digest
from tests.points import SPEC, Net, Points, net


def test_the_learning_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    factors = [lr_factor(step, 100, 0.1) for step in range(100)]
    assert np.allclose(factors[:10], np.arange(1, 11) / 10)
    assert np.allclose(factors[10:], [(1 + np.cos(np.pi * k / 90)) / 2 for k in range(90)])
    assert lr_factor(0, 100, 0.0) == 1.0


def test_a_group_has_its_own_share_of_the_learning_rate() -> None:
    trainer = Trainer(net(), Train(epochs=1, batch_size=37, lr=1e-2, warmup_share=0.0), Points())
    trainer.epoch(0)
    assert trainer.optimizer is not None
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])


class Heavy(Net):
    """A second loss term, and weights that are not one."""

    @dataclass(frozen=True)
    class Config(Net.Config):
        @dataclass(frozen=True)
        class Weights:
            classes: float = 2.0
            size: float = 0.5

        weights: Weights = Weights()  # type: ignore[assignment]

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        return {**super().losses(batches), "size": self.last[2].weight.square().sum()}


def test_a_step_is_adamw_on_the_clipped_gradient_of_the_weighted_sum() -> None:
    torch.manual_seed(0)
    ours = Heavy(Heavy.Config(), SPEC)
    theirs, batches = copy.deepcopy(ours), {"labelled": next(iter(Points().batches([np.arange(8)])))}
    first, second = (torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1) for method in (ours, theirs))
    for _ in range(3):  # the first step of AdamW hardly knows how steep the slope is
        train_step(LossModule(ours), ours, first, batches, clip_norm=0.01)
        second.zero_grad()
        terms = theirs.losses(batches)
        (2.0 * terms["classes"] + 0.5 * terms["size"]).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.01)
        second.step()
    assert weights_digest(ours) == weights_digest(theirs)


@pytest.mark.parametrize("accumulate", [2, 4, 5, 100])
def test_a_step_in_parts_is_the_step_of_the_whole(accumulate: int) -> None:
    parts, whole, losses = net(), net(), []
    (batch,) = Points().batches([np.arange(8)])
    for method, count in ((parts, accumulate), (whole, 1)):
        optimizer = torch.optim.SGD(method.parameters(), lr=0.5)
        terms = train_step(LossModule(method), method, optimizer, {"labelled": batch}, 5.0, count)
        assert terms["loss"] == terms["classes"]
        losses.append(float(terms["loss"]))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    for name, value in parts.named_parameters():
        assert torch.allclose(value, dict(whole.named_parameters())[name], atol=1e-6), name
    assert not torch.equal(parts.first.weight, net().first.weight)


def test_a_part_that_is_no_number_stops_the_step() -> None:
    class Once(Net):
        def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
            terms = super().losses(batches)
            return {"classes": terms["classes"] * (math.nan if batches["labelled"].chunks[0, 0, 0] == Points().values[0, 0] else 1.0)}

    method = Once(Net.Config(), SPEC)
    before = weights_digest(method.first)
    (batch,) = Points().batches([np.arange(8)])
    with pytest.raises(Diverged, match="the loss is nan"):
        train_step(LossModule(method), method, torch.optim.SGD(method.parameters(), lr=0.5), {"labelled": batch}, 5.0, 4)
    assert weights_digest(method.first) == before


def test_a_loss_that_is_no_number_stops_before_anything_moves_and_names_the_place() -> None:
    data, method = Points(), net(bad_at=3)
    trainer = Trainer(method, Train(epochs=5, batch_size=16), data)
    trainer.epoch(0)
    with pytest.raises(Diverged, match=r"epoch 1, step 1: the loss is (inf|nan).*utterances u\d+, u\d+") as stopped:
        trainer.epoch(1)
    named = str(stopped.value).partition("utterances ")[2].partition(";")[0].split(", ")
    assert named == data.names(epoch_batches(37, 16, 0, 1)[1])
    assert int(method.count) == 3
    assert all(torch.isfinite(p).all() for p in method.parameters())


def test_a_gradient_that_is_no_number_stops_before_anything_moves() -> None:
    class Steep(Net):
        def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
            return {"classes": (self.first.weight.sum() * 0.0).sqrt()}  # zero, with an infinite slope

    method = Steep(Net.Config(), SPEC)
    trainer, before = Trainer(method, Train(epochs=1, batch_size=8), Points()), weights_digest(method)
    with pytest.raises(Diverged, match=r"epoch 0, step 0: the norm of the gradient is (inf|nan); utterances u"):
        trainer.epoch(0)
    assert weights_digest(method) == before


def test_training_learns() -> None:
    method, data = net(), Points(200)
    trainer = Trainer(method, Train(epochs=30, batch_size=20, lr=3e-2), data)
    losses = [trainer.epoch(epoch)["loss"] for epoch in range(30)]
    assert losses[-1] < 0.3 * losses[0]
    emotion = predict(method, data, np.arange(200), np.ones(200), 50)[0]
    assert (emotion.argmax(1) == data.target.argmax(1)).mean() > 0.9


def test_an_epoch_tells_of_every_step_and_ends_with_the_means_of_its_terms() -> None:
    steps: list[tuple[int, dict[str, float]]] = []
    trainer = Trainer(net(), Train(epochs=1, batch_size=8), Points())
    means = trainer.epoch(0, lambda step, terms: steps.append((step, {name: float(term) for name, term in terms.items()})))
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    assert means == pytest.approx({name: np.mean([terms[name] for _, terms in steps]) for name in ("loss", "classes")})


@pytest.mark.parametrize("thaw_at", [0, 1, 3])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(thaw_at: int, tmp_path: Path) -> None:
    settings, data = Train(epochs=5, batch_size=8), Points()
    undisturbed = Trainer(net(dropout=0.4, thaw_at=thaw_at), settings, data)
    for epoch in range(5):
        undisturbed.epoch(epoch)
    broken = Trainer(net(dropout=0.4, thaw_at=thaw_at), settings, data)
    for epoch in range(2):
        broken.epoch(epoch)
    torch.save(broken.state(), tmp_path / "state.pt")
    torch.rand(17)  # whatever else happens in between
    torch.manual_seed(99)
    resumed = Trainer(Net(Net.Config(dropout=0.4, thaw_at=thaw_at), SPEC), settings, data)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for epoch in range(2, 5):
        resumed.epoch(epoch)
    assert weights_digest(resumed.method) == weights_digest(undisturbed.method)
    assert int(resumed.method.count) == 20


def test_what_thaws_in_a_later_epoch_trains_from_then_on() -> None:
    method = net(thaw_at=2)
    trainer, before = Trainer(method, Train(epochs=3, batch_size=8), Points()), method.first.weight.clone()
    trainer.epoch(0)
    trainer.epoch(1)
    assert torch.equal(method.first.weight, before)
    assert trainer.optimizer is not None
    held = trainer.optimizer.state[method.last[2].weight]["step"].clone()
    trainer.epoch(2)
    assert not torch.equal(method.first.weight, before)
    assert trainer.optimizer.state[method.last[2].weight]["step"] == held + 4  # the optimiser's memory was kept


def test_a_hook_decides_what_an_epoch_draws() -> None:
    data = Points()
    Trainer(net(only_first=5), Train(epochs=1, batch_size=8), data).epoch(0)
    drawn = [i for asked in data.asked for i in asked]
    assert drawn[:37] == list(range(37))  # the hook's own look, in manifest order
    assert len(drawn[37:]) == 4 * 8
    assert set(drawn[37:]) <= set(range(5))


def test_an_epoch_trains_in_training_mode_whatever_came_before() -> None:
    method = net()
    trainer = Trainer(method, Train(epochs=1, batch_size=8), Points())
    method.eval()
    trainer.epoch(0)
    assert method.mean.abs().sum() > 0  # which only training mode changes


def test_closed_form_parts_are_fitted_once_and_a_method_without_weights_takes_no_steps() -> None:
    class Centre(Net):
        def fit_once(self, view: View) -> None:
            self.mean.copy_(view.features(lambda batch: batch.chunks[:, 0]).mean(0))

    method = Centre(Net.Config(thaw_at=99), SPEC).requires_grad_(False)
    trainer = Trainer(method, Train(epochs=1, batch_size=8), Points())
    trainer.fit_once()
    assert torch.allclose(method.mean, torch.from_numpy(Points().values).mean(0), atol=1e-6)
    assert trainer.epoch(0) == {}


def test_random_numbers_follow_from_seed_epoch_and_rank() -> None:
    drawn = []
    for place in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 1, 0)):
        seed_everything(*place)
        drawn.append((float(torch.rand(())), float(np.random.random()), random.random()))
    assert all(len(set(numbers)) == 3 for numbers in zip(*drawn, strict=True))
    assert drawn[0] == drawn[3]
