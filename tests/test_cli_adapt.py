"""`moodcast adapt`: from a bundle and recordings without labels to a bundle that serves; what looks worse is refused."""

from __future__ import annotations

import json
import wave as wavefile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import moodcast
from moodcast import bundle as bundles
from moodcast.augment import Augment, Noise
from moodcast.batch import Batch
from moodcast.chunks import ChunkPlan
from moodcast.cli.verbs import app
from moodcast.cluster.adapt import OLD, adapt
from moodcast.cluster.data import CachedStretches
from moodcast.evaluate import evaluate
from moodcast.labels import Labels
from moodcast.manifest import Utterance, write_manifest
from moodcast.methods.committee import Committee
from moodcast.methods.erm import Erm
from moodcast.methods.fisher import Fisher
from moodcast.methods.functionals import Functionals
from moodcast.nn.moments import moments
from moodcast.objectives import domain
from moodcast.provenance import Provenance
from moodcast.run import Run, build

SMALL = {"width": 8, "channels": 4, "num_mels": 16}
Speechlike = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, speechlike: Speechlike) -> list[Utterance]:
    """Forty short recordings of four voices that a far microphone took."""
    folder = tmp_path_factory.mktemp("far")
    found = []
    for i in range(40):
        wave = speechlike(0.7, seed=i, hz=(100.0, 130.0, 190.0, 240.0)[i % 4])
        path = folder / f"{i:02d}.wav"
        with wavefile.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes((np.convolve(wave, [0.4, 0.3, 0.2, 0.1])[: len(wave)] * 32767).astype("<i2").tobytes())
        found.append(Utterance(id=f"{i}", path=str(path), corpus="far", speaker=f"v{i % 4}", emotion=("sad", "happy")[i % 2]))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A committee that has learned nothing yet, with a history."""
    run = Run(method=Committee.Config(**SMALL, hidden=8), labels=Labels(), chunks=ChunkPlan(1.0, hop_s=1.0))
    method = build(run)
    torch.nn.init.normal_(method.statistics[-1].weight, std=3.0)
    return bundles.save(tmp_path / "begun", method, run, Provenance(corpora=("near",), speakers=("near/a",), class_counts={"sad": 3}))


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=True)
    if isinstance(result.exception, ValueError):
        raise result.exception
    return result.exit_code, result.output


def test_the_statistics_of_a_committee_become_those_of_the_recordings(rows: list[Utterance], folder: Path, tmp_path: Path) -> None:
    write_manifest([replace(row, split="test" if row.speaker == "v3" else "train") for row in rows], tmp_path / "far.csv")
    code, told = run("adapt", folder, "--target", tmp_path / "far.csv", "-o", tmp_path / "moved", "--force")
    assert code == 0
    assert "statistics, 30 recordings" in told
    before, after = moodcast.load(folder), moodcast.load(tmp_path / "moved")
    heard = CachedStretches([row for row in rows if row.speaker != "v3"], before.run, tmp_path / "cache", labelled=False)
    whole = next(iter(heard.batches([np.arange(30)])))
    mean = moments(*before.method._frames(whole))[0].mean(0)
    torch.testing.assert_close(after.method.centre, 30 / (30 + OLD) * mean, atol=1e-4, rtol=1e-4)  # the centre of before was zero
    for name, value in before.method.named_parameters():
        assert torch.equal(dict(after.method.named_parameters())[name], value)  # nothing was trained
    known = after.provenance
    assert known.speakers == ("near/a",)
    assert known.adapted_to.speakers == ("far/v0", "far/v1", "far/v2")
    assert known.class_counts == {"sad": 3}
    card = (tmp_path / "moved" / bundles.CARD).read_text()
    assert "Adapted, without labels" in card
    assert before.sha256[:12] in card
    code, told = run("predict", rows[0].path, "-b", tmp_path / "moved", "--json")
    assert code == 0
    assert set(json.loads(told)["emotions"]) == set(before.classes)
    heard = [replace(row, split="test") for row in rows]
    with pytest.raises(ValueError, match="far/v0"):
        evaluate(after, heard, plain=False)


def test_a_folder_that_holds_other_things_is_refused_before_anything_is_heard(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("my project")
    with pytest.raises(ValueError, match="holds no bundle.json: a bundle would write over what is"):
        run("adapt", folder, "--target", tmp_path / "is-not-there.csv", "-o", mine)
    assert (mine / "README.md").read_text() == "my project"
    bundles.refuse_others(folder)  # an older bundle may be replaced
    bundles.refuse_others(tmp_path / "new")


def test_a_target_that_leaks_is_refused_by_the_option_that_lets_it_through(rows: list[Utterance], folder: Path, tmp_path: Path) -> None:
    sides = [replace(row, split="test" if i == 0 else "train") for i, row in enumerate(rows)]
    write_manifest(sides, tmp_path / "far.csv")
    with pytest.raises(ValueError, match=r"speaker on two sides: far/v0.*; --allow-leaks lets them through"):
        run("adapt", folder, "--target", tmp_path / "far.csv", "-o", tmp_path / "moved")
    run("adapt", folder, "--target", tmp_path / "far.csv", "-o", tmp_path / "moved", "--allow-leaks")
    with pytest.raises(ValueError, match="far/v0"):  # and who scores it is told
        evaluate(moodcast.load(tmp_path / "moved"), sides[:1], plain=False)


def test_labels_of_the_recordings_change_nothing(rows: list[Utterance], folder: Path) -> None:
    opened = moodcast.load(folder)
    found = [adapt(opened, some, "sharpen", epochs=1).bundle for some in (rows, [replace(row, emotion="angry") for row in rows])]
    assert all(torch.equal(value, found[1].method.state_dict()[name]) for name, value in found[0].method.state_dict().items())


def test_sharpening_moves_gains_and_offsets_alone_towards_sure_answers_of_every_class(rows: list[Utterance], folder: Path) -> None:
    opened = moodcast.load(folder)
    still, moved = adapt(opened, rows, "statistics"), adapt(opened, rows, "sharpen", epochs=4, lr=1e-2)
    old, new = dict(still.bundle.method.named_parameters()), dict(moved.bundle.method.named_parameters())
    changed = {name for name, value in old.items() if not torch.equal(value, new[name])}
    assert changed
    assert all(old[name].ndim <= 1 for name in changed)
    told = [torch.stack([torch.from_numpy(done.bundle.predict(row.path).emotion) for row in rows]).log() for done in (still, moved)]
    before, after = (float(domain.information(logs)) for logs in told)
    assert after < before - 0.001
    assert moved.bundle.method.training is False
    assert opened.method.state_dict().keys() == moved.bundle.method.state_dict().keys()


def test_what_never_trains_hears_every_recording_once_and_moves_a_bundle_to_the_same_place(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlp = Run(method=Functionals.Config(classifier="mlp", width=8), labels=Labels(), chunks=ChunkPlan(1.0, hop_s=1.0))
    begun = bundles.load(bundles.save(tmp_path / "mlp", build(mlp), mlp, Provenance()))
    heard, frozen = [0], Functionals.frozen

    def counted(self: Functionals, batch: Batch) -> torch.Tensor:
        heard[0] += len(batch.lengths)
        return frozen(self, batch)

    monkeypatch.setattr(Functionals, "frozen", counted)
    done = adapt(begun, rows, "sharpen", epochs=2, root=tmp_path / "cache")
    assert heard[0] == len(rows)
    monkeypatch.setattr("moodcast.cluster.adapt.kept", lambda run, method: "")
    again = adapt(begun, rows, "sharpen", epochs=2, root=tmp_path / "cache")
    assert heard[0] > 5 * len(rows)
    for name, value in again.bundle.method.state_dict().items():
        assert torch.allclose(done.bundle.method.state_dict()[name], value, atol=1e-5), name


def test_recordings_are_heard_as_they_are_whatever_the_bundle_was_trained_on(rows: list[Utterance], tmp_path: Path) -> None:
    noisy = Augment(noise=Noise(share=1.0, folder=str(tmp_path / "left at home")))
    run = Run(method=Erm.Config(**SMALL), labels=Labels(), chunks=ChunkPlan(1.0, hop_s=1.0), augment=noisy)
    begun = bundles.load(bundles.save(tmp_path / "noisy", build(run), run, Provenance()))
    moved = adapt(begun, rows, "sharpen", epochs=1).bundle
    assert moved.run.augment == noisy, "how it was trained stays as it was"


def test_a_folder_of_recordings_will_do_and_every_recording_is_a_speaker(rows: list[Utterance], folder: Path, tmp_path: Path) -> None:
    code, told = run("adapt", folder, "--target", Path(rows[0].path).parent, "-o", tmp_path / "moved", "--force")
    assert code == 0
    assert "40 recordings" in told
    assert len(moodcast.load(tmp_path / "moved").provenance.adapted_to.speakers) == 40


def test_what_looks_worse_is_refused_and_nothing_is_written(rows: list[Utterance], tmp_path: Path) -> None:
    """A bundle whose statistics make much of a feature; under those of the recordings one class is answered alone."""
    made = Run(method=Functionals.Config(), labels=Labels(), chunks=ChunkPlan(1.0, hop_s=1.0))
    method = build(made)
    assert isinstance(method, Functionals)
    data = CachedStretches(rows, made, tmp_path / "cache", labelled=False)
    first = method.frozen(next(iter(data.batches([np.arange(40)]))))[:, 0, 0]
    with torch.no_grad():
        method.head.weight.zero_()
        method.head.bias.copy_(torch.tensor([3.0, 0.0, 0.0, 0.0]))
        method.head.weight[1, 0], method.head.weight[3, 0] = 0.5, -0.5
        method.centre[0], method.scale[0] = first.median(), first.std() / 100
    folder = bundles.save(tmp_path / "begun", method, made)
    write_manifest(rows, tmp_path / "far.csv")
    words = ("adapt", folder, "--target", tmp_path / "far.csv", "-o", tmp_path / "moved")
    code, told = run(*words)
    assert code == 1
    assert "answers crowd into fewer classes" in told
    assert not (tmp_path / "moved").exists()
    near = [
        replace(row, corpus="near", id=f"n{row.id}", emotion="sad" if value < first.median() else "happy")
        for row, value in zip(rows, first, strict=True)
    ]
    checked = adapt(moodcast.load(folder), rows, source=near).check
    assert any("on the source's dev side UAR falls" in why for why in checked.why)
    with pytest.raises(ValueError, match=r"--source names no recording with a class of the bundle .*labels that came: fear"):
        adapt(moodcast.load(folder), rows, source=[replace(row, emotion="fear") for row in near])
    assert run(*words, "--force")[0] == 0
    assert "written although" in (tmp_path / "moved" / bundles.CARD).read_text()


def test_what_cannot_be_adapted_is_told_why(rows: list[Utterance], tmp_path: Path) -> None:
    made = Run(method=Erm.Config(**SMALL, layers=1), labels=Labels(), chunks=ChunkPlan(1.0, hop_s=1.0))
    folder = bundles.save(tmp_path / "begun", build(made), made)
    opened = moodcast.load(folder)
    with pytest.raises(ValueError, match="too few to adapt to"):
        adapt(opened, rows[:5])
    with pytest.raises(ValueError, match="keeps no statistics"):
        adapt(opened, rows)
    write_manifest(rows, tmp_path / "far.csv")
    with pytest.raises(ValueError, match="no way 'magic'"):
        run("adapt", folder, "--target", tmp_path / "far.csv", "--how", "magic")
    made = replace(made, method=Fisher.Config(gaussians=2, coefficients=4, whitened=6, components=4, landmarks=8))
    with pytest.raises(ValueError, match="Fisher has no gains and offsets: there is nothing in it to sharpen"):
        adapt(moodcast.load(bundles.save(tmp_path / "fisher", build(made), made)), rows, "sharpen")


def test_attributes_move_along_and_that_is_said(rows: list[Utterance], tmp_path: Path) -> None:
    made = Run(method=Erm.Config(**SMALL, layers=1), labels=Labels(attributes=("arousal",)), chunks=ChunkPlan(1.0, hop_s=1.0))
    opened = moodcast.load(bundles.save(tmp_path / "begun", build(made), made))
    moved = adapt(opened, rows, "sharpen", epochs=2, lr=1e-2)
    assert any(remark.startswith("arousal moved along") for remark in moved.check.remarks)
    assert opened.predict(rows[0].path).attributes != moved.bundle.predict(rows[0].path).attributes


def test_one_voice_alone_is_said(rows: list[Utterance], folder: Path) -> None:
    alone = [replace(row, speaker="v0") for row in rows]
    assert any("one speaker" in remark for remark in adapt(moodcast.load(folder), alone).check.remarks)
