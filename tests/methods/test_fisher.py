"""Fisher: fitted before the first epoch, as the parts it is made of say; ranks and bundles keep what was fitted."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moodcast import bundle
from moodcast.methods.fisher import Fisher
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer, weights_digest
from tests.methods.test_contract import PLANS, Toy, batch_of
from tests.ranks import on_ranks

SMALL = Fisher.Config(num_mels=16, gaussians=4, coefficients=6, whitened=8, components=10, landmarks=20)
RUN = Run(method=SMALL, chunks=PLANS["one"])


def fitted(num: int = 24, world: int = 1, rank: int = 0) -> Trainer:
    trainer = Trainer(build(RUN), Train(epochs=1, batch_size=8), Toy(PLANS["one"], num=num), None, world, rank)
    trainer.fit_once()
    return trainer


def test_it_is_fitted_before_the_first_epoch_and_stays_so():
    trainer = fitted()
    kept = copy.deepcopy(trainer.method.state_dict())
    assert trainer.optimizer is None
    assert trainer.epoch(0) == {}
    assert all(torch.equal(value, kept[name]) for name, value in trainer.method.state_dict().items())


def test_it_knows_sounds_that_it_was_not_fitted_on():
    unheard = Toy(PLANS["one"], num=40, seed=500)
    guess = predict(fitted().method, unheard, np.arange(40), np.ones(40), 8)[0].argmax(1)
    assert (guess == np.arange(40) % 4).mean() > 0.9


@torch.no_grad()
def test_its_answer_is_the_regression_of_its_vectors():
    method, batch = fitted().method.eval(), batch_of(PLANS["hopped"], [0, 3], [1.3, 2.2])
    assert isinstance(method, Fisher)
    found = method(batch)
    assert found.embedding is not None
    torch.testing.assert_close(found.embedding.norm(dim=1), torch.ones(2))
    scores = method.regression.ridge(found.embedding)
    torch.testing.assert_close(found.emotion, (SMALL.sharpness * scores).log_softmax(-1))
    assert found.emotion.argmax(1).tolist() == [0, 3]


def test_two_ranks_fit_what_one_does(tmp_path: Path):
    first, second = on_ranks(on_rank, tmp_path)
    assert first["digest"] == second["digest"]
    alone = fitted().method.state_dict()
    for name, value in first["state"].items():
        torch.testing.assert_close(value.float(), alone[name].float(), atol=1e-3, rtol=1e-3)


def on_rank(rank: int, world: int, _: Path) -> dict[str, Any]:
    method = fitted(world=world, rank=rank).method
    return {"digest": weights_digest(method), "state": method.state_dict()}


def test_a_bundle_of_it_answers_as_before(tmp_path: Path):
    method, batch = fitted().method.eval(), batch_of(PLANS["one"], [1, 2])
    loaded = bundle.load(bundle.save(tmp_path / "bundle", method, RUN)).method
    torch.testing.assert_close(loaded(batch).emotion, method(batch).emotion)


def test_it_wants_labels():
    data = dataclasses.replace(Toy(PLANS["one"]), labelled=False)
    with pytest.raises(ValueError, match="no target"):
        Trainer(build(RUN), Train(epochs=1, batch_size=8), data).fit_once()
