"""Pipelines of pyannote.audio: a real one from a folder, and everything that is refused, in a sentence that says what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyannote.core import Annotation
from pyannote.core import Segment as Stretch

from moodcast import speech
from moodcast.bundle import load, save
from moodcast.chunks import ChunkPlan
from moodcast.diarize import Given, Turn
from moodcast.embedded import Embedded
from moodcast.labels import Labels
from moodcast.methods.voiceprint import Voiceprint
from moodcast.pipelines import Checked, Pyannote, check, checked, open_diarizer, open_pipeline, turns_of, with_speech
from moodcast.run import Run, build

Wave = NDArray[np.float32]
RATE = 16_000


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One thread: these networks are tiny, and two threads wait for each other."""
    with speech.one_thread():
        yield


@pytest.fixture(scope="module")
def opened(pyannote_folder: Path) -> Pyannote:
    return open_pipeline(pyannote_folder, trust_checkpoint=True)


def test_a_local_pipeline_gives_turns_that_overlap_and_end_with_the_recording(opened: Pyannote, talk: Wave) -> None:
    turns = opened.diarize(talk, RATE)
    assert len({turn.speaker for turn in turns}) >= 2
    assert turns == sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))
    assert all(0 <= turn.start_s < turn.stop_s <= len(talk) / RATE for turn in turns)
    together = [(a, b) for a, b in pairwise(turns) if b.start_s < a.stop_s and a.speaker != b.speaker]
    assert together
    assert all(a.overlap and b.overlap for a, b in together)


def test_the_same_sound_at_another_rate_or_read_only_gives_the_same_speakers(opened: Pyannote, talk: Wave) -> None:
    frozen = talk.copy()
    frozen.flags.writeable = False
    assert opened.diarize(frozen, RATE) == opened.diarize(talk, RATE)


def test_the_number_of_speakers_is_passed_on(opened: Pyannote, talk: Wave) -> None:
    assert len({turn.speaker for turn in opened.diarize(talk, RATE, num_speakers=1)}) == 1
    assert len({turn.speaker for turn in opened.diarize(talk, RATE, max_speakers=2)}) <= 2
    assert len({turn.speaker for turn in opened.diarize(talk, RATE, min_speakers=3)}) >= 3
    with pytest.raises(ValueError, match="not both"):
        opened.diarize(talk, RATE, num_speakers=2, max_speakers=3)


def test_progress_is_told_step_by_step(opened: Pyannote, talk: Wave) -> None:
    seen: list[tuple[str, float, float]] = []
    opened.on_progress = lambda *told: seen.append(told)
    try:
        opened.diarize(talk, RATE)
    finally:
        opened.on_progress = None
    assert list(dict.fromkeys(step for step, _, _ in seen)) == ["segmentation", "embeddings"]
    for name in ("segmentation", "embeddings"):
        done = [(a, b) for step, a, b in seen if step == name]
        assert [a for a, _ in done] == sorted(a for a, _ in done)
        assert done[-1][0] == done[-1][1]


def test_its_name_says_which_folder_and_which_weights(opened: Pyannote, pyannote_folder: Path, tmp_path: Path) -> None:
    assert opened.name.startswith(f"pyannote/{pyannote_folder.name}/")
    other = shutil.copytree(pyannote_folder, tmp_path / pyannote_folder.name)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace("0.02", "0.9"))
    changed = open_pipeline(other, trust_checkpoint=True).name
    assert changed.rpartition("/")[0] == opened.name.rpartition("/")[0]
    assert changed != opened.name


class Planted:
    """What unpickling this does: it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_checkpoint_is_not_opened_unless_its_maker_is_trusted(pyannote_folder: Path, tmp_path: Path) -> None:
    import torch

    folder = shutil.copytree(pyannote_folder, tmp_path / "planted")
    torch.save(Planted(tmp_path / "ran"), folder / "segmentation" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="--trust-checkpoint"):
        open_pipeline(folder)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="cannot be opened"):
        open_pipeline(folder, trust_checkpoint=True)
    assert (tmp_path / "ran").exists()  # so the flag is what stands between


def damaged(folder: Path, change: Callable[[Path], object]) -> Path:
    change(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), "has no config.yaml"),
        (lambda folder: (folder / "config.yaml").write_text("just words"), "describes no pyannote.audio pipeline"),
        (lambda folder: (folder / "config.yaml").write_text("a: [1"), "describes no pyannote.audio pipeline"),
        (lambda folder: (folder / "embedding" / "pytorch_model.bin").unlink(), "lacks a part .* take a whole copy"),
        (lambda folder: (folder / "segmentation" / "pytorch_model.bin").write_bytes(b"no"), "cannot be opened .* take a fresh copy"),
        (
            lambda folder: (folder / "config.yaml").write_text("pipeline: {name: pyannote.audio.pipelines.pyannoteai.sdk.SDK}"),
            "sends the recording to a server",
        ),
        (
            lambda folder: (folder / "config.yaml").write_text(
                "pipeline: {name: pyannote.audio.pipelines.VoiceActivityDetection, params: {segmentation: $model/segmentation}}"
            ),
            "none that says who speaks when",
        ),
    ],
)
def test_a_folder_that_is_no_whole_pipeline_is_explained(
    pyannote_folder: Path, tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    folder = damaged(shutil.copytree(pyannote_folder, tmp_path / "folder"), change)
    with pytest.raises(ValueError, match=words):
        open_pipeline(folder, trust_checkpoint=True)


def test_what_is_neither_a_folder_nor_a_hub_id_is_refused() -> None:
    with pytest.raises(ValueError, match="wanted a folder with config.yaml or segmentation.json, or the hub id"):
        open_pipeline("no such folder", trust_checkpoint=True)


def test_weights_that_are_not_here_are_explained_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ValueError, match="not on this machine .* fetch it once"):
        open_pipeline("owner/nothing-of-that-name", trust_checkpoint=True)


class Gated(BaseHTTPRequestHandler):
    """A hub whose conditions nobody has accepted yet."""

    asked: list[str | None]

    def do_HEAD(self) -> None:
        type(self).asked.append(self.headers.get("authorization"))
        self.send_response(401 if "secret" in self.path else 403)
        self.send_header("x-error-code", "RepoNotFound" if "secret" in self.path else "GatedRepo")
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def gated_hub() -> Iterator[tuple[str, type[Gated]]]:
    kind = type("Asked", (Gated,), {"asked": []})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", kind
    listening.shutdown()
    listening.server_close()


def test_gated_and_private_weights_say_where_a_token_belongs(gated_hub: tuple[str, type[Gated]], tmp_path: Path) -> None:
    """In another process, because the hub's client reads its address when it is imported."""
    address, kind = gated_hub
    code = (
        "from moodcast.pipelines import open_pipeline\n"
        "for name in ('owner/gated', 'owner/secret'):\n"
        "    try: open_pipeline(name, trust_checkpoint=True)\n"
        "    except ValueError as error: print(error)"
    )
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_mine"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**environment, "NO_PROXY": "127.0.0.1"})
    said = done.stdout.splitlines()
    assert len(said) == 2, done.stderr
    assert said[0].startswith("owner/gated is gated: accept its conditions on its page of the hub, then put a token into HF_TOKEN")
    assert said[1].startswith("owner/secret is not to be had from the hub: check the name, and put a token into HF_TOKEN")
    assert kind.asked[0] == "Bearer hf_mine"


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, pyannote_folder: Path) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pyannote.audio" else real(name, *rest))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'moodcast\[pyannote\]'"):
        open_pipeline(pyannote_folder, trust_checkpoint=True)


def test_telemetry_is_off_before_the_library_is_imported() -> None:
    code = (
        "import os, sys; import moodcast.pipelines; assert 'pyannote.audio' not in sys.modules\n"
        "import pyannote.audio.telemetry.metrics as m; print(m.is_metrics_enabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYANNOTE_METRICS_ENABLED"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr


def test_every_form_of_answer_becomes_turns() -> None:
    annotation = Annotation()
    annotation[Stretch(0.0, 2.0), 0] = "A"
    annotation[Stretch(1.5, 3.5), 1] = "B"
    annotation[Stretch(3.4, 3.6), 2] = "C"
    wanted = [Turn("A", 0.0, 2.0, overlap=True), Turn("B", 1.5, 3.0, overlap=True)]
    assert turns_of(annotation, 3.0) == wanted
    assert turns_of((annotation, "sources"), 3.0) == wanted
    with pytest.raises(ValueError, match="answered dict, which says nobody's turns"):
        turns_of({}, 3.0)


def test_the_share_of_speech_is_counted_inside_each_turn() -> None:
    probabilities = np.array([0.9, 0.9, 0.1, 0.1, 0.6, 0.6], dtype=np.float32)
    step = speech.FRAME_S
    turns = with_speech(
        [Turn("A", 0.0, 2 * step), Turn("A", step, 3 * step), Turn("B", 2 * step, 4 * step), Turn("B", 9.0, 9.1)], probabilities
    )
    assert [turn.speech for turn in turns] == [1.0, 0.5, 0.0, 0.0]


def test_given_turns_are_checked_and_those_of_a_detector_are_not(speechlike: Callable[..., Wave]) -> None:
    wave = np.concatenate([speechlike(3.0), np.random.default_rng(0).normal(0, 0.05, 3 * RATE).astype(np.float32)])
    turns = checked(Given((Turn("A", 0.2, 2.8), Turn("B", 3.2, 5.8)))).diarize(wave, RATE)
    assert turns[0].speech is not None
    assert turns[0].speech > 0.5
    assert turns[1].speech == 0.0
    own = Embedded(lambda waves: np.ones((len(waves), 2), dtype=np.float32))
    assert checked(own) is own
    assert isinstance(checked(checked(Given(()))), Checked)
    assert checked(Given(())).diarize(wave, RATE) == []


def test_a_folder_with_a_segmentation_is_opened_without_trust(tmp_path: Path) -> None:
    from moodcast.segmentation import Segmenter, Shape, save

    save(Segmenter(Shape(filters=8, width=8, hidden=4, depth=1, dense=4)), tmp_path, {}, "a card")
    check(str(tmp_path), trust_checkpoint=False)
    found = open_diarizer(tmp_path)
    assert isinstance(found, Embedded)
    assert found.segmentation is not None
    assert "segmentation/" in found.name
    assert found.name.startswith(f"embedded/{load('voiceprint').sha256[:12]}+")


def test_a_segmentation_is_opened_with_the_voiceprint_that_is_asked_for(tmp_path: Path) -> None:
    from moodcast.segmentation import Segmenter, Shape
    from moodcast.segmentation import save as save_segmentation

    save_segmentation(Segmenter(Shape(filters=8, width=8, hidden=4, depth=1, dense=4)), tmp_path / "who", {}, "a card")
    run = Run(
        Voiceprint.Config(num_mels=16, width=16, channels=4, layers=1, embedding=8),
        labels=Labels(classes=("c/a", "c/b"), source="speaker"),
        chunks=ChunkPlan(length_s=1.5, hop_s=1.5),
    )
    voices = save(tmp_path / "voices", build(run), run)
    found = open_diarizer(tmp_path / "who", voiceprint=voices)
    assert isinstance(found, Embedded)
    assert found.name.startswith(f"embedded/{load(voices).sha256[:12]}+segmentation/")
    assert found.embed([np.zeros(RATE, dtype=np.float32)]).shape == (1, 8)
    with pytest.raises(ValueError, match="nowhere is not a bundle"):
        open_diarizer(tmp_path / "who", voiceprint="nowhere")
