"""Erm: small enough, loudness means nothing, targets may be distributions, training hides what evaluation sees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.methods.erm import Erm
from moodcast.nn.corrupt import NO_DAMAGE, Damage
from moodcast.run import Run, build

RATE = 16_000
PLAN = ChunkPlan(length_s=3.0, hop_s=3.0)


def batch_of(gain: float = 1.0, seconds: tuple[float, ...] = (1.0, 4.0)) -> Batch:
    rng = np.random.default_rng(0)
    return collate([(gain * 0.1 * rng.standard_normal(int(RATE * length))).astype(np.float32) for length in seconds], PLAN, RATE)


def made(**settings: object) -> Erm:
    method = build(Run(method=Erm.Config(**settings), chunks=PLAN))
    assert isinstance(method, Erm)
    return method


def test_it_has_at_most_a_million_parameters():
    assert 200_000 < sum(p.numel() for p in made().parameters()) <= 1_000_000


@pytest.mark.parametrize("normalise", ["level", "band"])
def test_a_recording_forty_decibels_quieter_gets_the_same_answer(normalise: str):
    method = made(normalise=normalise).eval()
    with torch.no_grad():
        torch.testing.assert_close(method(batch_of(0.01)).emotion, method(batch_of()).emotion, atol=1e-3, rtol=0)


def test_the_loss_of_a_distribution_is_the_mixture_of_the_losses_of_its_classes():
    method = made(smoothing=0.0).eval()
    batch = dataclasses.replace(batch_of(), weight=torch.ones(2))

    def loss(row: list[float]) -> float:
        return method.losses({"labelled": dataclasses.replace(batch, target=torch.tensor([row, row]))})["classes"].item()

    assert loss([0.25, 0.75, 0, 0]) == pytest.approx(0.25 * loss([1, 0, 0, 0]) + 0.75 * loss([0, 1, 0, 0]), rel=1e-5)


def test_a_batch_without_targets_cannot_be_learned_from():
    with pytest.raises(ValueError, match="no target"):
        made().losses({"labelled": batch_of()})


def test_training_is_random_and_evaluation_is_not():
    method, batch = made(), batch_of()
    with torch.no_grad():
        assert not torch.equal(method.train()(batch).emotion, method(batch).emotion)
        assert torch.equal(method.eval()(batch).emotion, method(batch).emotion)


def test_without_dropout_and_hiding_training_answers_as_evaluation_does():
    method, batch = made(dropout=0.0, hide_bands=0, hide_s=0.0), batch_of()
    with torch.no_grad():
        torch.testing.assert_close(method.train()(batch).emotion, method.eval()(batch).emotion)


def test_damage_is_for_training_alone_and_off_unless_asked_for():
    assert Erm.Config().damage == NO_DAMAGE
    method, batch = made(dropout=0.0, hide_bands=0, hide_s=0.0, damage=Damage(noise_share=1.0)), batch_of()
    with torch.no_grad():
        clean = made(dropout=0.0).eval()(batch).emotion
        assert not torch.equal(method.train()(batch).emotion, clean)
        assert torch.equal(method.eval()(batch).emotion, clean)
