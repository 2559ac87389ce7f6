"""Weights as files: what is frozen is written once and shared, and whatever shares it is whole by itself."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from moodcast import bundle, hub
from moodcast import weights as stored
from moodcast.method import Method
from moodcast.methods.pretrained import Pretrained
from moodcast.run import Run, build
from moodcast.study import calibrate


@pytest.fixture
def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder.matrix": torch.randn(4, 3, generator=generator),
        "encoder.rounded": torch.randn(4, 3, generator=generator).half().float(),
        "encoder.bias": torch.tensor([0.0, float("nan"), 1.0]),
        "head": torch.randn(2, 4, generator=generator),
        "count": torch.tensor(7),
    }


APART = ["encoder.matrix", "encoder.rounded", "encoder.bias"]


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which no file can have two names."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n].nan_to_num(9.0).to(other[n].dtype), other[n].nan_to_num(9.0)) for n in one)


def folders(root: Path, number: int) -> list[Path]:
    found = [root / str(i) for i in range(number)]
    for folder in found:
        folder.mkdir()
    return found


def inode(folder: Path) -> int:
    return (folder / stored.FROZEN).stat().st_ino


def test_what_is_frozen_is_written_once_and_stays_where_the_first_that_held_it_is_removed(state: dict[str, Tensor], tmp_path: Path) -> None:
    first, second = folders(tmp_path, 2)
    stored.write(first, state, APART)
    state["head"] += 1
    stored.write(second, state, APART, before=first)
    assert inode(first) == inode(second)
    assert sorted(stored.names_apart(second)) == sorted(APART)
    shutil.rmtree(first)
    assert equal(stored.read(second), state)


@pytest.mark.parametrize("change", ["a number", "the sign of a zero", "one name less", "one name more"])
def test_what_is_another_number_or_another_part_is_written_anew(change: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    first, second = folders(tmp_path, 2)
    stored.write(first, state, APART)
    before, names = (first / stored.FROZEN).read_bytes(), list(APART)
    if change == "a number":
        state["encoder.matrix"][0, 0] += 1e-6
    elif change == "the sign of a zero":
        state["encoder.bias"][0] = -0.0
    elif change == "one name less":
        names.remove("encoder.matrix")
    else:
        names.append("head")
    stored.write(second, state, names, before=first)
    assert inode(first) != inode(second)
    assert (first / stored.FROZEN).read_bytes() == before
    assert equal(stored.read(second), state)
    assert torch.signbit(stored.read(second)["encoder.bias"][0]) == torch.signbit(state["encoder.bias"][0])


@pytest.mark.usefixtures("without_links")
def test_where_no_file_can_have_two_names_each_has_its_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    first, second = folders(tmp_path, 2)
    stored.write(first, state, APART)
    stored.write(second, state, APART, before=first)
    assert inode(first) != inode(second)
    assert equal(stored.read(second), state)


def test_weights_that_are_written_over_leave_those_alone_that_shared_a_file(state: dict[str, Tensor], tmp_path: Path) -> None:
    first, second = folders(tmp_path, 2)
    stored.write(first, state, APART)
    stored.write(second, state, APART, before=first)
    stored.write(second, {**state, "encoder.matrix": state["encoder.matrix"] + 1}, APART)
    assert equal(stored.read(first), state)
    stored.write(second, state)
    assert not (second / stored.FROZEN).exists()
    assert equal(stored.read(first), stored.read(second))


def test_all_in_one_file_is_what_would_have_been_written_so(state: dict[str, Tensor], tmp_path: Path) -> None:
    parts, whole = folders(tmp_path, 2)
    stored.write(parts, state, APART)
    stored.write(whole, state)
    for folder in (parts, whole):
        stored.put_together(folder, tmp_path / "together")
        assert (tmp_path / "together").read_bytes() == (whole / stored.WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(method=Pretrained.Config())


@pytest.fixture(scope="module")
def method(run: Run) -> Method:
    torch.manual_seed(0)
    return build(run)


@pytest.fixture
def checkpoint(run: Run, method: Method, tmp_path: Path) -> Path:
    frozen = [name for name, value in method.named_parameters() if not value.requires_grad]
    return bundle.save(tmp_path / "epoch_0001", method, run, apart=frozen)


def test_a_checkpoint_is_a_bundle_and_its_copy_with_one_file_too(checkpoint: Path, run: Run, method: Method, tmp_path: Path) -> None:
    assert (checkpoint / stored.WEIGHTS).stat().st_size < (checkpoint / stored.FROZEN).stat().st_size
    opened = bundle.load(checkpoint)
    assert all(torch.equal(value, opened.method.state_dict()[name]) for name, value in method.state_dict().items())
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    bundle.join(copy)
    plain = bundle.save(tmp_path / "plain", method, run)
    for name in (stored.WEIGHTS, bundle.SETTINGS):
        assert (copy / name).read_bytes() == (plain / name).read_bytes()
    assert not (copy / stored.FROZEN).exists()


def test_what_is_frozen_cannot_be_edited_or_lost_unseen(checkpoint: Path) -> None:
    data = bytearray((checkpoint / stored.FROZEN).read_bytes())
    data[-1] ^= 1
    (checkpoint / stored.FROZEN).write_bytes(data)
    with pytest.raises(ValueError, match="SHA-256 differs"):
        bundle.load(checkpoint)
    (checkpoint / stored.FROZEN).unlink()
    with pytest.raises(ValueError, match="SHA-256 differs"):
        bundle.load(checkpoint)


def test_a_checkpoint_is_pushed_in_one_file_and_pulled_as_any_bundle(checkpoint: Path, tmp_path: Path) -> None:
    back = hub.pull(hub.push(checkpoint, str(tmp_path / "hub")), tmp_path / "back")
    assert not (back / stored.FROZEN).exists()
    assert equal(stored.read(checkpoint), stored.read(back))


def test_a_checkpoint_that_is_calibrated_stays_one(checkpoint: Path) -> None:
    before = {name: (checkpoint / name).read_bytes() for name in (stored.WEIGHTS, stored.FROZEN)}
    calibrate.store(checkpoint, bundle.Calibration(temperature=2.0))
    assert bundle.load(checkpoint).calibration.temperature == 2.0
    assert before == {name: (checkpoint / name).read_bytes() for name in before}


@pytest.mark.usefixtures("without_links")
def test_a_checkpoint_of_another_release_of_safetensors_is_calibrated_where_no_file_can_have_two_names(checkpoint: Path) -> None:
    (checkpoint / stored.FROZEN).write_bytes(to_bytes(load_file(checkpoint / stored.FROZEN), {"format": "pt"}))  # the same, in other bytes
    settings = json.loads((checkpoint / bundle.SETTINGS).read_text())
    settings["sha256"] = bundle.digest(settings, *stored.files_of(checkpoint))
    (checkpoint / bundle.SETTINGS).write_text(json.dumps(settings))
    bundle.load(checkpoint)
    calibrate.store(checkpoint, bundle.Calibration(temperature=2.0))
    assert bundle.load(checkpoint).calibration.temperature == 2.0
