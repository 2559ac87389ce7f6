"""`moodcast tune` as a person types it: mistakes are one clear line, help is quick, a run of a file is trained as it was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moodcast.manifest import Utterance, write_manifest
from moodcast.methods.erm import Erm
from moodcast.run import Run, run_to_dict
from tests.typed import Command, command


@pytest.fixture
def moodcast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`moodcast("tune", ...)` in a folder of its own."""
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


@pytest.fixture
def manifest(tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]) -> Path:
    rows = []
    for i in range(16):
        emotion = ("angry", "happy", "neutral", "sad")[(i // 4) % 4]
        path = write_wav(f"{i}.wav", speechlike(0.3, seed=i))
        rows.append(
            Utterance(f"u{i}", str(path), corpus="toy", speaker=f"s{i % 4}", emotion=emotion, split="test" if i % 4 == 0 else "train")
        )
    write_manifest(rows, tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["emr"], "there is no space 'emr'. Did you mean 'erm'?"),
        (["erm", "none.parquet"], "no manifest at none.parquet"),
        (["erm", "m.parquet", "train.lrr=1"], "Did you mean 'train.lr'?"),
        (["erm", "m.parquet", "--searcher", "optuma"], "Did you mean 'optuna'?"),
        (["erm", "m.parquet", "--folds", "9"], "was to be split into 9"),
        (["--resume", "nowhere"], "is no sweep: it has no sweep.json"),
        (["--resume", "nowhere", "erm"], "--resume goes on with what nowhere began; leave out erm"),
        (["--resume", "nowhere", "--target", "m.parquet"], "leave out --target m.parquet"),
        (["--resume", "nowhere", "--trials", "40", "--out", "other"], "leave out --trials --out"),
        (["erm", "m.parquet", "labels.classes=angry,calm"], "no training utterance of calm; labels that came: angry, happy, neutral, sad"),
        (["erm", "m.parquet", "train.keep=best"], "train.keep=best cannot be had in a sweep"),
        (["coral", "m.parquet"], "name them, --target MANIFEST"),
        (["erm", "m.parquet", "--target", "m.parquet"], "Erm learns from labels alone and hears no target"),
        (["erm", "m.parquet", "--track", "tensorbord"], "Did you mean 'tensorboard'?"),
        (["report", "nowhere"], "is no sweep"),
        ([], "Usage"),
    ],
)
def test_a_mistake_is_one_line(moodcast: Command, manifest: Path, tmp_path: Path, words: list[str], message: str) -> None:
    said = moodcast("tune", *words)
    assert said.code == 2
    assert message in said.out + said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "sweeps").exists()


def test_the_help_says_how_a_sweep_is_begun_gone_on_with_and_reported(moodcast: Command) -> None:
    said = moodcast("tune", "--help")
    assert said.code == 0
    assert "report" in said.out
    told = said.out
    assert all(word in told for word in ("--resume", "--trials", "--searcher", "--scheduler", "--folds"))


def test_a_run_of_a_file_is_trained_as_it_was_found(moodcast: Command, tmp_path: Path) -> None:
    run = Run(method=Erm.Config(width=24), start_from=None)
    (tmp_path / "winner.json").write_text(json.dumps({"run": run_to_dict(run)}))
    said = moodcast("train", "winner.json", "train.lr=0.5", "--show-fields")
    assert said.code == 0, said.err
    values = {parts[1].strip(): parts[2].strip() for line in said.out.splitlines() if len(parts := line.split("│")) > 3}
    assert (values["method.width"], values["train.lr"]) == ("24", "0.5")
    assert "note:" not in said.err
    (tmp_path / "winner.json").write_text(json.dumps({"run": run_to_dict(run), "schedule": [{}, {}]}))
    assert "won by a schedule of 2 settings, one after the other" in moodcast("train", "winner.json", "--show-fields").err
    (tmp_path / "strange.json").write_text(json.dumps({"run": {"method": {"class": "os:Erm"}}}))
    assert "refusing to import the method 'os:Erm'" in moodcast("train", "strange.json", "--show-fields").err
    (tmp_path / "other.json").write_text("[1]")
    assert "holds no run" in moodcast("train", "other.json", "--show-fields").err


def test_a_module_of_ones_own_holds_the_run_and_its_space(moodcast: Command, manifest: Path, tmp_path: Path) -> None:
    job = "from jobs.functionals import RUN\n"
    (tmp_path / "spacious_job.py").write_text(f"{job}SPACE = {{}}\ndef space(trial):\n    return {{}}\n")
    assert "wants either SPACE" in moodcast("tune", "spacious_job.py", manifest).err
    (tmp_path / "narrow_job.py").write_text(f"{job}def space(trial):\n    return {{'train.lr': 0.1}}\n")
    assert "audio.ratee" in moodcast("tune", "narrow_job.py", manifest, "audio.ratee=1").err
    (tmp_path / "settled_job.py").write_text(f"{job}def space(trial):\n    return {{'train.lr': 0.1}}\n")
    assert "nothing to search" in moodcast("tune", "settled_job.py", manifest, "train.lr=0.2").err


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_sweep_is_searched_gone_on_with_reported_and_its_winner_trained(moodcast: Command, manifest: Path, tmp_path: Path) -> None:
    from moodcast.cluster import local

    small = ["chunks.length_s=0.3", "chunks.hop_s=0.3", "train.threads=1"]
    with local.cluster(num_cpus=2):
        said = moodcast("tune", "functionals", manifest, *small, "--trials", "4", "--folds", "2", "--out", "sweep")
        assert said.code == 0, said.err
        assert "4 finished" in said.out
        assert "moodcast tune report" in said.out
        assert "WARNING" not in said.err, "Ray Tune's words about its own bookkeeping"
        again = moodcast("tune", "--resume", "sweep")
        assert again.code == 0, again.err
        assert again.out == said.out, "nothing was left to do"
        told = moodcast("tune", "report", "sweep", "method.balanced=false", "--seeds", "2")
        assert told.code == 0, told.err
    assert all(word in told.out for word in ("winner", "published", "rival", "plain statistics", "written: sweep/report.html"))
    data = json.loads((tmp_path / "sweep" / "report.json").read_text())
    assert data["rival"]["fixed"]["method.balanced"] is False
    assert data["rival"]["budget_differs"] == []
    assert data["test"]["speakers"] == 1
    assert any("Only 1 test speakers" in note for note in data["notes"])
    predicted = moodcast("predict", "0.wav", "--bundle", "sweep/winner", "--json")
    assert json.loads(predicted.out)["emotion"] in ("angry", "happy", "neutral", "sad")
    fields = moodcast("train", "sweep/winner.json", "--show-fields").out
    winner = data["trials"][data["winner"]]["changes"]["method.strength"]
    assert str(winner) in fields
