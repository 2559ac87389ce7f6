"""The verbs about a finished bundle, as a person types them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from moodcast import load
from moodcast.bundle import save
from moodcast.manifest import Utterance, write_manifest
from moodcast.methods.erm import Erm
from moodcast.run import Run, build
from tests.typed import Command, command

CLASSES = ("angry", "happy", "neutral", "sad")


@pytest.fixture
def moodcast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`moodcast("evaluate", ...)` in a folder of its own."""
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two untrained bundles that answer differently."""
    folder = tmp_path_factory.mktemp("bundles")
    made = []
    for name, width in (("small", 16), ("other", 24)):
        run = Run(method=Erm.Config(width=width, channels=4))
        made.append(save(folder / name, build(run), run))
    return made[0], made[1]


@pytest.fixture
def manifest(tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]) -> Path:
    """Eight speakers, two to train on, two on the dev side and four to test, six recordings each; anger is high, sadness is low."""
    (tmp_path / "clips").mkdir()
    rows = []
    for i in range(48):
        speaker, emotion = i % 8, CLASSES[(i // 8 + i) % 4]
        hz = {"angry": 300, "happy": 220, "neutral": 150, "sad": 90}[emotion]
        path = write_wav(f"clips/{i}.wav", speechlike(0.5, seed=i, hz=hz))
        split, language = ("train", "dev", "test", "test")[speaker // 2], ("de", "en")[speaker % 2]
        rows.append(Utterance(f"u{i}", str(path), corpus="toy", language=language, speaker=f"s{speaker}", emotion=emotion, split=split))
    write_manifest(rows, tmp_path / "m.parquet")
    return tmp_path / "m.parquet"


def test_evaluate_prints_guard_lines_and_writes_data_and_a_page(
    moodcast: Command, bundles: tuple[Path, Path], manifest: Path, tmp_path: Path
) -> None:
    said = moodcast(
        "evaluate", bundles[0], manifest, "--against", bundles[1], "--json", tmp_path / "new" / "r.json", "--html", tmp_path / "r.html"
    )
    assert said.code == 0, said.err
    lines = {line.partition(": ")[0]: line for line in said.out.splitlines() if ": UAR " in line}
    assert set(lines) == {"all", "de", "en"}
    assert "chance 25.0; majority 25.0; speaker's name" in lines["all"]
    assert "plain statistics" in lines["all"]
    assert "UAR minus other" in said.out
    report = json.loads((tmp_path / "new" / "r.json").read_text())
    assert report["against"] == "other"
    assert [part["slice"] for part in report["slices"]] == ["all", "de", "en"]
    assert report["slices"][0]["num_utterances"] == 24
    assert "<!doctype html>" in (tmp_path / "r.html").read_text()


def test_every_answer_is_written_and_gives_the_scores_again(
    moodcast: Command, bundles: tuple[Path, Path], manifest: Path, tmp_path: Path
) -> None:
    files = ("--answers", tmp_path / "new" / "a.csv", "--json", tmp_path / "r.json")
    said = moodcast("evaluate", bundles[0], manifest, "--no-plain", *files)
    assert said.code == 0, said.err
    assert f"written: {tmp_path / 'new' / 'a.csv'}" in said.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert "answers" not in report
    pool = report["slices"][0]
    with open(tmp_path / "new" / "a.csv", newline="") as file:
        told = list(csv.DictReader(file))
    labels, answers = ([row[name] for row in told] for name in ("label", "answer"))
    assert balanced_accuracy_score(labels, answers) == pytest.approx(pool["uar"]["value"])
    likely = [float(row[f"p_{row['label']}"]) for row in told]
    assert -np.log(likely).mean() == pytest.approx(pool["sureness"]["nll"]["value"])
    assert all(max(CLASSES, key=lambda name: float(row[f"p_{name}"])) == row["answer"] for row in told)
    assert {(row["corpus"], row["speaker"]) for row in told} == {("toy", f"s{n}") for n in (4, 5, 6, 7)}


def test_the_baseline_that_takes_a_while_can_be_left_out_and_that_is_said(
    moodcast: Command, bundles: tuple[Path, Path], manifest: Path
) -> None:
    said = moodcast("evaluate", bundles[0], manifest, "--no-plain")
    assert said.code == 0, said.err
    assert "plain statistics was left out" in said.out
    assert "fitted on" not in said.out


def test_a_field_changes_no_bundle(moodcast: Command, bundles: tuple[Path, Path], manifest: Path) -> None:
    said = moodcast("evaluate", bundles[0], manifest, "train.lr=1")
    assert said.code == 2
    assert "fields go with --folds" in said.err


@pytest.mark.parametrize("words", [("--name", "mine"), ("--out", "there"), ("--seed", "3"), ("--workers", "2")])
def test_options_of_folds_want_folds(moodcast: Command, bundles: tuple[Path, Path], manifest: Path, words: tuple[str, str]) -> None:
    said = moodcast("evaluate", bundles[0], manifest, *words)
    assert said.code == 2
    assert f"{words[0]} say how folds are trained" in said.err


def test_folds_want_a_job(moodcast: Command, manifest: Path) -> None:
    said = moodcast("evaluate", "emr", manifest, "--folds", "5")
    assert said.code == 2
    assert "Did you mean 'erm'?" in said.err


def test_a_side_that_is_not_there_calibrates_nothing(moodcast: Command, bundles: tuple[Path, Path], manifest: Path) -> None:
    said = moodcast("calibrate", bundles[0], manifest, "--split", "trial")
    assert (said.code, said.out) == (2, "")
    assert "no utterance of the manifest has split 'trial'; it has dev, test, train" in said.err


def test_calibrate_stores_a_temperature(moodcast: Command, manifest: Path, tmp_path: Path) -> None:
    run = Run(method=Erm.Config(width=16, channels=4))
    folder = save(tmp_path / "mine", build(run), run)
    few = moodcast("calibrate", folder, manifest)
    assert few.code == 2
    assert "fewer than 20" in few.err
    said = moodcast("calibrate", folder, manifest, "--split", "test")
    assert said.code == 0, said.err
    assert "24 utterances of 4 speakers" in said.out
    assert load(folder).calibration.num_speakers == 4


def test_a_bundle_is_pushed_pulled_and_answers(moodcast: Command, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    sha256 = load(bundles[0]).sha256
    said = moodcast("push", bundles[0], "./there", "--licence", "mit")
    assert said.code == 0, said.err
    assert "license: mit" in (tmp_path / "there" / "README.md").read_text()
    said = moodcast("pull", "./there", tmp_path / "back", "--sha256", sha256[:10])
    assert said.code == 0, said.err
    assert load(tmp_path / "back").sha256 == sha256
    said = moodcast("pull", "./there", tmp_path / "again", "--sha256", "0" * 10)
    assert said.code == 2
    assert "nothing was kept" in said.err


def test_export_writes_onnx(moodcast: Command, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    said = moodcast("export", bundles[0], "--onnx", tmp_path / "small.onnx")
    assert said.code == 0, said.err
    assert (tmp_path / "small.onnx").stat().st_size > 10_000
    assert "small.onnx" in said.out


def test_recordings_of_one_speaker_are_answered_together(
    moodcast: Command, bundles: tuple[Path, Path], write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]
) -> None:
    files = [write_wav(f"{i}.wav", speechlike(0.5, seed=i)) for i in range(3)]
    said = moodcast("predict", "--json", "--same-speaker", "--bundle", bundles[0], *files)
    assert said.code == 0, said.err
    assert [json.loads(line)["file"] for line in said.out.splitlines()] == [str(file) for file in files]
    assert "speaker: 3 recordings that differ by" in said.err
    known = moodcast("predict", "--json", "--same-speaker", "--known-mixed", "--bundle", bundles[0], *files)
    assert "known to be of mixed emotions: answers are centred" in known.err
    assert known.out != said.out
    refused = moodcast("predict", "--known-mixed", "--bundle", bundles[0], *files)
    assert refused.code == 2
    assert "give --same-speaker with it" in refused.err
    manifest = files[0].with_name("mine.csv")
    for second, code in (("s1", 2), ("s0", 0)):
        manifest.write_text(f"id,path,corpus,speaker\na,0.wav,mine,s0\nb,1.wav,mine,{second}\nc,2.wav,mine,\n")
        said = moodcast("predict", "--json", "--same-speaker", "--bundle", bundles[0], manifest)
        assert (said.code, "these rows name 2 (mine/s0, mine/s1)" in said.err) == (code, code == 2), said.err


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "push", "pull", "export"])
def test_every_verb_explains_itself(moodcast: Command, verb: str) -> None:
    said = moodcast(verb, "--help")
    assert said.code == 0
    assert "Usage" in said.out
