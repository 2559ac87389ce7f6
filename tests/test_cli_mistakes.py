"""What is said to a person who mistypes, or names what is not there: what came, what was wanted, what to do, in one line and at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moodcast.bundle import save
from moodcast.methods.erm import Erm
from moodcast.run import Run, build
from tests.typed import Command, command

ROWS = "".join(f"{speaker}_{i},clip.wav,toy,{speaker},{emotion}\n" for speaker in "ab" for i, emotion in enumerate(("happy", "sad")))


@pytest.fixture
def moodcast(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    write_wav: Callable[..., Path],
    speechlike: Callable[..., np.ndarray],
) -> Command:
    """`moodcast("evaluate", ...)` in a folder with a clip, a note, a table without splits, an empty folder and a run that is done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    write_wav("clip.wav", speechlike(1.0))
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "two.csv").write_text("id,path,corpus,speaker,emotion\n" + ROWS)
    (tmp_path / "anger.csv").write_text(
        "id,path,corpus,speaker,emotion,split\n"
        + "".join(
            f"{split}{emotion},clip.wav,toy,{split},{emotion},{split}\n" for split in ("train", "dev") for emotion in ("anger", "sad")
        )
    )
    (tmp_path / "unlabelled.csv").write_text("id,path,corpus,speaker,split\na,clip.wav,toy,a,train\nb,clip.wav,toy,b,dev\n")
    (tmp_path / "day.rttm").write_text("".join(f"SPEAKER {uri} 1 0 1 <NA> <NA> anna <NA> <NA>\n" for uri in ("morning", "evening")))
    (tmp_path / "empty").mkdir()
    run = Run(method=Erm.Config(width=16, channels=4))
    save(tmp_path / "runs" / "first" / "bundle", build(run), run)
    return command(monkeypatch, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict clip.wav --bundle defualt", "Did you mean 'default'?"),
        ("predict clip.wav --bundle runs/first", "Did you mean runs/first/bundle?"),
        ("predict clip.wav --bundle voiceprint", "voiceprint tells voices apart, for the diarizer; it knows no emotions"),
        ("analyze clip.wav --bundle voiceprint", "it knows no emotions"),
        ("adapt voiceprint --target two.csv", "it knows no emotions"),
        ("analyze clip.wav --rttm notes.txt", "notes.txt holds no turns; wanted lines SPEAKER"),
        ("analyze clip.wav --rttm nothere.rttm", "error: nothere.rttm: No such file or directory"),
        ("analyze clip.wav --speakers 2 --max-speakers 3", "--speakers 2 came with --max-speakers 3; give the number"),
        ("analyze clip.wav --speakers 2 --min-speakers 3", "--speakers 2 came with --min-speakers 3; give the number"),
        ("analyze clip.wav --rttm notes.txt --speakers 2", "so that there is nothing to find out for --speakers; leave one"),
        ("analyze clip.wav --rttm clip.wav", "clip.wav is not UTF-8 text"),
        ("analyze clip.wav --rttm day.rttm", "day.rttm holds no turns of 'clip', only of morning, evening"),
        ("analyze clip.wav --out notes.txt/new", "nothing can be written into notes.txt/new:"),
        ("evaluate-podcast clip.wav nothere.wav -r day.rttm", "there is no recording nothere.wav"),
        ("evaluate runs/first/bundle two.csv", "it has no splits; `moodcast prepare manifest"),
        ("evaluate runs/first/bundle two.csv --folds 3", "--folds trains a job, such as erm, and runs/first/bundle is a folder"),
        ("calibrate default anger.csv", "default is no folder with a bundle; one that ships with moodcast is copied first"),
        ("evaluate erm two.csv", "erm is a job and no bundle: --folds 5 trains and scores it"),
        ("prepare manifest two.csv --out new.parquet", "split into 3 parts; add speakers"),
        ("train erm anger.csv", "no training utterance of angry, happy, neutral; labels that came: anger, sad. Choose of them with labels"),
        ("train erm unlabelled.csv", "found splits: dev, train; labels: none"),
        ("train segmentation two.csv", "the job segmentation has a command of its own: python -m jobs.segmentation --help"),
        ("evaluate coral two.csv --folds 3", "Coral adapts to a target, and folds are of methods that learn from labels alone"),
        ("evaluate urdu_cross_corpus two.csv --folds 3", "python -m jobs.urdu_cross_corpus --help"),
        ("train notes.json two.csv", "there is no file notes.json; wanted winner.json"),
        ("encode erm", "no manifest came; `moodcast prepare CORPUS FOLDER` writes one"),
        ("submit erm two.csv --workers 2-1 --address http://127.0.0.1:9", "--workers takes a number"),
        ("submit erm two.csv --unseal --address http://127.0.0.1:9", "--unseal is about --target, which was not given"),
        ("serve quiet=true", "there is no field 'quiet'. Fields: bundle, voiceprint,"),
        ("serve max_mb=5 app=x:y --bundle default", "there is no field 'app'."),
        ("serve settings=x", "there is no field 'settings'."),
        ("serve max_bm=5", "there is no field 'max_bm'. Did you mean 'max_mb'?"),
        ("serve port=9000", "port is no field of the service but an option: --port 9000"),
        ("serve bundle=a --bundle b", "--bundle b and bundle=a name two bundles"),
        ("demo nothere.wav", "'nothere.wav' does not exist"),
        ("demo notes.txt", "notes.txt is not audio"),
    ],
)
def test_a_mistake_is_told_in_one_line(moodcast: Command, words: str, message: str) -> None:
    said = moodcast(*words.split())
    assert said.code == 2
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.out == ""  # nothing was begun


@pytest.mark.parametrize("option", ["--transductive", "--unseal"])
def test_what_is_asked_of_a_target_wants_a_target(option: str) -> None:
    from moodcast.cluster.train import heard_of

    asked = {"--transductive": {"transductive": True}, "--unseal": {"unsealed": True}}[option]
    with pytest.raises(ValueError, match=f"{option} is about --target, which was not given"):
        heard_of(Run(method=Erm.Config()), [], None, **asked)


@pytest.mark.parametrize("words", ["prepare csv two.csv --out m.csv", "tune erm two.csv", "evaluate erm two.csv --folds 3"])
def test_a_seed_below_zero_is_no_seed(moodcast: Command, words: str) -> None:
    said = moodcast(*words.split(), "--seed", "-1")
    assert said.code == 2
    assert "'--seed': Input should be greater than or equal to 0" in " ".join(said.err.replace("│", " ").split())
