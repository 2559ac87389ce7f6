"""Attributes beside classes: from the rows of a manifest to what a bundle answers, for each method that can."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from moodcast import attributes, bundle
from moodcast.batch import Batch, collate
from moodcast.cluster import train
from moodcast.config import replace_at
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.functionals import Functionals
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from tests.methods.test_contract import CLASSES, METHODS, PLANS, RATE, sound
from tests.ranks import on_ranks

RATED = Labels(CLASSES, attributes=("arousal", "valence"))
AROUSAL = (0.9, 0.7, 0.3, 0.1)
RATING = [cls for cls in METHODS if cls.answers_attributes]
each = pytest.mark.parametrize("cls", RATING, ids=lambda cls: cls.__name__)


def row_of(i: int) -> Utterance:
    """Arousal goes with the kind of sound; valence is known of every other row and goes with it the other way."""
    arousal = AROUSAL[i % 4]
    given = {"arousal": arousal, "dominance": 0.5} | ({"valence": 1.0 - arousal} if i % 8 < 4 else {})
    return Utterance(id=str(i), path="-", corpus="toy", emotion=CLASSES[i % 4], attributes=given)


def batch_of(num: int = 16, labels: Labels = RATED) -> Batch:
    return collate([sound(i, i % 4) for i in range(num)], PLANS["counted"], RATE, labels, [row_of(i) for i in range(num)])


def run_of(cls: type[Method], labels: Labels = RATED) -> Run:
    return Run(method=cls.Config(), labels=labels, chunks=PLANS["counted"])


def test_the_methods_that_answer_attributes_are_those_that_say_so():
    assert {cls.__name__ for cls in RATING} >= {"ChunkAttention", "Erm", "Pretrained"}
    assert "Functionals" not in {cls.__name__ for cls in RATING}


def test_a_batch_has_them_in_the_order_of_the_labels_and_nan_where_one_is_not_known():
    found = batch_of(6).attributes
    assert found is not None
    torch.testing.assert_close(found[:, 0], torch.tensor([AROUSAL[i % 4] for i in range(6)]))
    torch.testing.assert_close(found[3], torch.tensor([0.1, 0.9]))
    assert found[4:, 1].isnan().all()
    assert batch_of(6, Labels(CLASSES)).attributes is None


def test_a_method_without_them_says_so_before_anything_is_trained():
    with pytest.raises(ValueError, match=r"Functionals answers no attributes; leave labels\.attributes empty, or take .*: erm"):
        build(run_of(Functionals))


def test_labels_that_no_row_has_are_refused_by_name():
    rows = [row_of(i) for i in range(8)]
    RATED.check(rows, rows)
    with pytest.raises(ValueError, match=r"no training utterance has joy, dread; attributes that came: arousal, dominance, valence"):
        dataclasses.replace(RATED, attributes=("joy", "arousal", "dread")).check(rows, rows)
    with pytest.raises(ValueError, match="different names"):
        Labels(CLASSES, attributes=("arousal", "arousal"))


@each
def test_nothing_of_them_is_there_where_a_run_names_none(cls: type[Method]):
    method = build(run_of(cls, Labels(CLASSES))).eval()
    assert not [name for name in method.state_dict() if "rating" in name]
    assert method(batch_of(2)).attributes is None
    assert set(method.losses({"labelled": batch_of(4)})) == {"classes"}


@each
def test_they_are_learned_beside_the_classes_and_answered_from_a_bundle(cls: type[Method], tmp_path: Path):
    torch.manual_seed(0)
    run, batch = run_of(cls), batch_of()
    method = build(run).train()
    optimiser = torch.optim.AdamW(method.parameter_groups(), lr=2e-3)
    first = method.losses({"labelled": batch})["attributes"].item()
    assert first > 0.6
    for count in range(1, 121):
        optimiser.zero_grad()
        terms = method.losses({"labelled": batch})
        method.total(terms).backward()
        optimiser.step()
        method.after_step(count / 120)
    loaded = bundle.load(bundle.save(tmp_path / "bundle", method, run))
    given = loaded.answer([sound(100 + i, i) for i in range(4)])
    values = np.stack([answer.attributes for answer in given if answer.attributes is not None])
    assert values.shape == (4, 2)
    assert ((values >= 0) & (values <= 1)).all()
    assert terms["attributes"].item() < 0.4 * first
    assert np.corrcoef(values[:, 0], AROUSAL)[0, 1] > 0.6  # of sounds that it did not hear
    assert np.corrcoef(values[:, 1], AROUSAL)[0, 1] < -0.6


@each
def test_their_weight_is_the_runs(cls: type[Method]):
    run, batch = run_of(cls), batch_of(8)
    method = build(dataclasses.replace(run, method=dataclasses.replace(run.method, weights=attributes.AttributeWeights(1.0, 0.25)))).eval()
    terms = method.losses({"labelled": batch})
    torch.testing.assert_close(method.total(terms), terms["classes"] + 0.25 * terms["attributes"])


def test_a_batch_that_says_nothing_of_them_cannot_be_learned_from():
    with pytest.raises(ValueError, match="no attributes: collate it with labels that name some"):
        build(run_of(RATING[0])).losses({"labelled": dataclasses.replace(batch_of(4), attributes=None)})


def answered() -> tuple[torch.Tensor, Batch]:
    batch = batch_of(8)
    torch.manual_seed(0)
    return torch.rand(8, 2), dataclasses.replace(batch, weight=torch.linspace(0.5, 2.0, 8))


def half(rank: int, world: int, _: Path) -> torch.Tensor:
    answer, batch = answered()
    mine = answer[4 * rank : 4 * rank + 4].clone().requires_grad_()
    attributes.losses(mine, batch.parts(2)[rank])["attributes"].backward()
    assert mine.grad is not None
    return mine.grad / world  # what the distributed module makes of it


def test_two_ranks_learn_what_one_does(tmp_path: Path):
    answer, batch = answered()
    attributes.losses(answer.requires_grad_(), batch)["attributes"].backward()
    assert math.isfinite(float(answer.grad.abs().max()))
    torch.testing.assert_close(torch.cat(on_ranks(half, tmp_path)), answer.grad)


def test_one_attribute_may_be_typed_as_it_is():
    assert replace_at(Run(method=RATING[0].Config()), {"labels.attributes": "arousal"}).labels.attributes == ("arousal",)


@pytest.mark.parametrize("value", [-0.1, 4.0])
def test_ratings_outside_of_0_to_1_are_refused_by_name(value: float):
    rows = [row_of(i) for i in range(8)]
    rows[5] = dataclasses.replace(rows[5], attributes={"arousal": value})
    with pytest.raises(ValueError, match=rf"5 has arousal {value:g}, and attributes lie in 0 to 1: .* scale=LEAST:MOST"):
        RATED.check(rows, rows)


def test_an_attribute_that_is_not_a_number_anywhere_is_as_good_as_none():
    rows = [dataclasses.replace(row_of(i), attributes={"arousal": 0.5, "valence": math.nan}) for i in range(8)]
    with pytest.raises(ValueError, match="no training utterance has valence"):
        RATED.check(rows, rows)


def test_what_cannot_be_learned_is_refused_before_anything_is_read(tmp_path: Path):
    rows = [dataclasses.replace(row_of(i), path=str(tmp_path / "nowhere.wav"), speaker=str(i), split="train") for i in range(16)]
    with pytest.raises(ValueError, match="Functionals answers no attributes"):
        train.check(run_of(Functionals), rows, 1)
    run = dataclasses.replace(run_of(RATING[0]), train=Train(batch_size=32, accumulate=8))
    with pytest.raises(ValueError, match=r"4 together are too few: wanted 8, better 64, in each of train\.accumulate parts"):
        train.check(run, rows, 1)
    train.check(dataclasses.replace(run, train=Train(batch_size=32, accumulate=4)), rows, 1)


def test_attributes_of_a_manifest_are_merged_by_the_duration_of_the_pieces():
    class Pieces:
        def __len__(self) -> int:
            return 3

        def batches(self, plan, epoch=None):
            for indices in plan:
                yield collate([sound(int(i), int(i)) for i in indices], PLANS["counted"], RATE)

    torch.manual_seed(0)
    method = build(run_of(RATING[0])).eval()
    _, each = predict(method, Pieces(), np.arange(3), np.ones(3), 8)
    probabilities, merged = predict(method, Pieces(), np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0]), 8)
    np.testing.assert_allclose(merged, [(3 * each[0] + each[1]) / 4, each[2]])
    np.testing.assert_allclose(probabilities.sum(1), 1.0)
    assert predict(build(run_of(RATING[0], Labels(CLASSES))), Pieces(), np.arange(3), np.ones(3), 8)[1] is None
