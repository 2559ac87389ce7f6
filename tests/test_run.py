"""Labels, runs and the door to methods: what a run promises, what it refuses, and how it survives being stored."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch

from moodcast import config
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method, find_method, method_name
from moodcast.methods.erm import Erm
from moodcast.run import Run, Train, build, run_from_dict, run_to_dict

SMALL = Run(method=Erm.Config(width=16, channels=4))


def row(**known: object) -> Utterance:
    return Utterance(id="u", path="u.wav", corpus="toy", **known)  # type: ignore[arg-type]


def test_a_label_becomes_a_one_hot_target_in_the_order_of_the_classes() -> None:
    assert Labels().target(row(emotion="neutral")) == [0, 0, 1, 0]


def test_votes_become_a_distribution_over_the_known_classes() -> None:
    labels = Labels(source="votes")
    assert labels.target(row(emotion="sad", votes={"angry": 1, "sad": 3, "disgust": 6})) == [0.25, 0, 0, 0.75]
    assert labels.target(row(emotion="sad", votes={"disgust": 6})) is None
    assert labels.target(row(emotion="sad")) == [0, 0, 0, 1]


def test_scoring_uses_the_label_and_never_the_votes() -> None:
    assert Labels(source="votes").name(row(emotion="sad", votes={"angry": 9})) == "sad"
    assert Labels().name(row(emotion="disgust")) is None


def test_speakers_are_classes_across_corpora() -> None:
    labels = Labels(classes=("toy/a", "toy/b"), source="speaker")
    assert labels.target(row(speaker="b")) == [0, 1]
    assert labels.name(row(speaker="b")) == "toy/b"


def test_only_utterances_with_a_target_are_kept() -> None:
    rows = [row(emotion="sad"), row(emotion="disgust"), row()]
    assert Labels().keep(rows) == rows[:1]


@pytest.mark.parametrize("classes", [("a",), ("a", "a"), ()])
def test_classes_are_at_least_two_different_names(classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least two different names"):
        Labels(classes=classes)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"lr": -1e-3},
        {"batch_size": 0},
        {"warmup_share": 1.0},
        {"clip_norm": 0},
        {"weight_decay": -1e-9},
        {"seed": -1},
        {"threads": -1},
    ],
)
def test_training_settings_that_cannot_work_are_refused_by_name(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"train.{next(iter(change))}"):
        dataclasses.replace(Train(), **change)


def test_every_setting_of_a_run_has_a_dotted_name() -> None:
    names = config.leaves(SMALL)
    assert {"method.width", "labels.classes", "audio.rate", "chunks.length_s", "train.lr", "start_from"} <= set(names)


def test_a_run_survives_the_way_through_json_with_its_method() -> None:
    run = config.replace_at(SMALL, {"train.lr": "1e-4", "chunks": ChunkPlan(length_s=0.5, count=7), "method.dropout": "0"})
    stored = json.loads(json.dumps(run_to_dict(run)))
    assert stored["method"]["class"] == "moodcast.methods.erm:Erm"
    assert run_from_dict(stored) == run


def test_a_stored_run_with_an_unknown_setting_is_refused() -> None:
    stored = run_to_dict(SMALL)
    stored["method"]["widht"] = 3
    with pytest.raises(ValueError, match=r"method\.widht.*Did you mean 'method\.width'"):
        run_from_dict(stored)


def test_the_seed_of_a_run_decides_its_first_weights_and_nothing_outside() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two = build(SMALL).state_dict(), build(SMALL).state_dict()
    assert torch.rand(1) == expected
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build(config.replace_at(SMALL, {"train.seed": 1})).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_method_is_named_by_where_it_lives() -> None:
    assert method_name(Erm.Config()) == "moodcast.methods.erm:Erm"
    assert find_method("moodcast.methods.erm:Erm") is Erm


@pytest.mark.parametrize(
    "name", ["os:system", "mylab.methods:Mine", "moodcast.methodsevil:Erm", "moodcast.methods.erm", "moodcast.bundle:Bundle"]
)
def test_a_method_from_elsewhere_is_refused_and_not_imported(name: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ValueError, match="refusing to import"):
        find_method(name)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("name", "reason"), [("moodcast.methods.gone:Gone", "cannot be imported"), ("moodcast.methods.erm:nn", "not a Method")]
)
def test_a_method_that_is_not_there_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        find_method(name)


def test_a_config_outside_a_method_is_refused() -> None:
    with pytest.raises(ValueError, match="nested in a Method"):
        method_name(Train())


def test_the_sum_of_losses_is_weighted_and_an_unknown_term_is_refused() -> None:
    method = build(config.replace_at(SMALL, {"method.weights.classes": 2.0}))
    assert method.total({"classes": torch.tensor(1.5)}) == 3.0
    with pytest.raises(ValueError, match=r"\['other'\] have no weight"):
        method.total({"other": torch.tensor(1.0)})


def test_the_hooks_of_a_method_do_nothing_by_default() -> None:
    method = build(SMALL)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.start_epoch(0, view=None)  # type: ignore[arg-type]
    method.after_step(0.5)
    method.fit_once(view=None)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert isinstance(method, Method)
    assert sum(p.numel() for group in method.parameter_groups() for p in group["params"]) == sum(p.numel() for p in method.parameters())


@pytest.mark.parametrize("name", ["augment.noise", "train", "method"])
def test_a_value_for_a_whole_group_is_refused_with_the_names_of_its_fields(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is a group of settings .*, got '0\.5'; its fields: {name}\."):
        config.replace_at(SMALL, {name: "0.5"})


def test_no_attributes_are_written_as_nothing() -> None:
    rated = config.replace_at(SMALL, {"labels.attributes": "arousal"})
    assert config.replace_at(rated, {"labels.attributes": ""}).labels.attributes == ()
