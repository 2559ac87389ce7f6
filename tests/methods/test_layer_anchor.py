"""Layer anchor beyond the contract: layers are chosen without labels of the target, on a small encoder and on frozen ones of the hub."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moodcast import bundle, step
from moodcast.adapting import Front
from moodcast.batch import collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.method import View
from moodcast.methods.layer_anchor import LayerAnchor
from moodcast.nn import anchors
from moodcast.run import Run, Train, build
from tests.methods.test_contract import CLASSES, RATE, Toy, sound

PLAN = ChunkPlan(length_s=0.5, hop_s=0.5)
SMALL = Front(width=16, channels=4, layers=1)


def made(epochs: int = 2, **settings: Any) -> tuple[LayerAnchor, step.Trainer, Run]:
    """A method and its trainer on toys, with another seed of them as the target."""
    config = dataclasses.replace(LayerAnchor.Config(front=SMALL, width=8), **settings)
    run = Run(config, Labels(CLASSES), chunks=PLAN)
    torch.manual_seed(0)
    method = build(run)
    assert isinstance(method, LayerAnchor)
    trainer = step.Trainer(method, Train(epochs=epochs, batch_size=8), Toy(PLAN), target=Toy(PLAN, 12, 100, labelled=False))
    return method, trainer, run


def test_a_small_encoder_is_asked_once_it_has_learned_something() -> None:
    method, trainer, _ = made()
    trainer.fit_once()
    first = trainer.epoch(0)
    assert not method.chosen
    assert first["anchor"] == 0
    second = trainer.epoch(1)
    assert method.chosen
    assert second["anchor"] > 0
    assert len(method.anchored) == 3 + 1 + 1  # convolutions, projection, a block
    chosen = method.anchored.nonzero()[:, 0].tolist()
    assert chosen == anchors.best_group((method.likeness * method.probe).tolist(), 2)
    assert ((method.likeness > 0) & (method.likeness <= 1)).all()
    assert ((method.probe >= 0) & (method.probe <= 1)).all()
    assert method.trunk.mix.grad is not None


@pytest.mark.parametrize(
    ("which", "wanted"),
    [("last", [4]), ("all", [0, 1, 2, 3, 4]), ("none", []), ("random", anchors.random_group(5, 2, 3)), ("single", None)],
)
def test_controls_anchor_what_they_say(which: str, wanted: list[int] | None) -> None:
    method, trainer, _ = made(1, anchors=which, draw=3, warm=0.0)
    trainer.fit_once()
    terms = trainer.epoch(0)
    found = method.anchored.nonzero()[:, 0].tolist()
    assert found == wanted or (wanted is None and len(found) == 1)
    assert (terms["anchor"] > 0) == (which != "none")


def test_the_anchor_draws_the_chosen_layers_together() -> None:
    apart = {}
    for weight in (0.0, 1000.0):
        _, trainer, _ = made(6, anchors="all", warm=0.0, weights=dataclasses.replace(LayerAnchor.Config().weights, anchor=weight))
        trainer.fit_once()
        apart[weight] = [trainer.epoch(epoch)["anchor"] for epoch in range(6)][-1]
    assert apart[1000.0] < 0.8 * apart[0.0]


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_a_frozen_encoder_is_asked_before_training_and_travels_in_the_bundle(family: str, tmp_path: Path) -> None:
    method, trainer, run = made(1, encoder=f"random/{family}")
    before = {name: value.clone() for name, value in method.trunk.hears.encoder.state_dict().items()}
    trainer.fit_once()
    assert method.chosen
    assert method.anchored.sum() == 2
    assert len(method.anchored) == 3  # embedding and two layers
    trainer.epoch(0)
    assert all(torch.equal(value, before[name]) for name, value in method.trunk.hears.encoder.state_dict().items())
    assert method.frozen_name()
    batch = collate([sound(0, 0), sound(1, 2, 0.4)], PLAN, RATE)
    kept = dataclasses.replace(batch, frozen=method.frozen(batch))
    with torch.no_grad():
        torch.testing.assert_close(method.eval()(kept).emotion, method(batch).emotion)
        opened = bundle.load(bundle.save(tmp_path / family, method, run))
        torch.testing.assert_close(opened.method(batch).emotion, method(batch).emotion, atol=1e-5, rtol=0)
    assert "never pre-trained" in method.terms()


def test_labels_of_the_target_are_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Watched:
        def __init__(self, view: View) -> None:
            self.view = view

        def features(self, fn: Callable[[Any], torch.Tensor], stream: str) -> torch.Tensor:
            def given(batch: Any) -> torch.Tensor:
                if stream == "target":
                    asked.append(stream)
                    assert batch.target is None
                return fn(batch)

            return self.view.features(given, stream)

    method, trainer, _ = made()
    method.fit_once(Watched(trainer.view()))
    method._choose(Watched(trainer.view()))
    assert len(asked) >= 4
    assert np.isfinite(method.likeness.numpy()).all()


def test_statistics_of_utterances_have_no_layers() -> None:
    with pytest.raises(ValueError, match="layer_anchor needs layers"):
        build(Run(LayerAnchor.Config(front=Front(kind="functionals")), Labels(CLASSES), chunks=PLAN))


def test_layers_are_chosen_before_the_last_epoch_at_the_latest() -> None:
    _, trainer, _ = made(3, warm=0.9)
    trainer.fit_once()
    assert [trainer.epoch(epoch)["anchor"] > 0 for epoch in range(3)] == [False, False, True]


def test_what_begins_with_trained_weights_chooses_anew_and_what_is_resumed_does_not() -> None:
    begun, trainer, _ = made(2, anchors="all")
    trainer.fit_once()
    for epoch in range(2):
        trainer.epoch(epoch)
    method, again, _ = made(2, anchors="last")
    method.load_state_dict(begun.state_dict())
    again.fit_once()
    assert again.epoch(0)["anchor"] == 0
    state = copy.deepcopy(again.state())
    again.epoch(1)
    assert method.anchored.tolist() == [0, 0, 0, 0, 1]
    other, resumed, _ = made(2, anchors="last")
    resumed.load_state(state)
    resumed.epoch(1)
    assert step.weights_digest(other) == step.weights_digest(method)
