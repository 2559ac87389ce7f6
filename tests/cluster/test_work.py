"""What a run takes of the bundle that it starts from, without Ray."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moodcast import bundle
from moodcast.chunks import ChunkPlan
from moodcast.cluster.work import take_weights
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.methods.shot import Shot
from moodcast.methods.target_norm import TargetNorm
from moodcast.run import Run, build

PLAN = ChunkPlan(length_s=0.5, hop_s=0.5)
LABELS = Labels(("angry", "happy", "neutral", "sad"))
OTHERS = replace(LABELS, classes=("sad", "neutral", "happy", "angry"))


def test_a_head_is_not_taken_over_for_classes_in_another_order(tmp_path: Path) -> None:
    begun = Run(TargetNorm.Config(), OTHERS, chunks=PLAN)
    bundle.save(tmp_path / "begun", build(begun), begun)
    shot = build(Run(Shot.Config(), LABELS, chunks=PLAN))
    before = {name: value.clone() for name, value in shot.state_dict().items()}
    told = (
        "trunk.head.1.weight, trunk.head.1.bias answer the classes sad,neutral,happy,angry in this order, and this run has "
        "angry,happy,neutral,sad; set labels.classes=sad,neutral,happy,angry, or leave them out with start_prefixes"
    )
    with pytest.raises(ValueError, match=told):
        take_weights(shot, str(tmp_path / "begun"), ("trunk.",), ())
    assert all(torch.equal(value, before[name]) for name, value in shot.state_dict().items())
    assert all("head" not in name for name in take_weights(shot, str(tmp_path / "begun"), ("trunk.hears.",), ()))
    alike = build(Run(Shot.Config(), OTHERS, chunks=PLAN))
    assert "trunk.head.1.weight" in take_weights(alike, str(tmp_path / "begun"), ("trunk.",), ())


def test_nor_for_attributes_in_another_order(tmp_path: Path) -> None:
    config = Erm.Config(width=8, channels=2)
    begun = Run(config, replace(LABELS, attributes=("valence", "arousal")), chunks=PLAN)
    bundle.save(tmp_path / "begun", build(begun), begun)
    rating = build(Run(config, replace(LABELS, attributes=("arousal", "valence")), chunks=PLAN))
    with pytest.raises(
        ValueError, match=r"rating\.layers.* answer the attributes valence,arousal .*; set labels\.attributes=valence,arousal"
    ):
        take_weights(rating, str(tmp_path / "begun"), ("",), ())
    assert take_weights(rating, str(tmp_path / "begun"), ("head.", "encoder."), ())
    plain = Run(config, LABELS, chunks=PLAN)
    bundle.save(tmp_path / "plain", build(plain), plain)
    assert take_weights(rating, str(tmp_path / "plain"), ("",), ())


def test_what_makes_rooms_and_lines_is_not_loaded_by_who_trains() -> None:
    code = "import sys, moodcast.cluster.work; print('moodcast.simulate' in sys.modules, 'scipy.signal' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
