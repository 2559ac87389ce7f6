"""Transcribers of both kinds, small and with random weights: what they write means nothing, but they write."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import transcribe
from moodcast.speech import one_thread
from moodcast.transcribe import Transcriber, open_transcriber

Wave = NDArray[np.float32]
RATE = 16_000


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, for these networks are tiny; and whatever would leave this machine fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with one_thread():
        yield


@pytest.fixture(scope="module", params=["ctc", "whisper"])
def opened(request: pytest.FixtureRequest, recognisers: dict[str, Path]) -> Transcriber:
    return open_transcriber(recognisers[request.param])


def test_each_wave_gets_a_text_the_same_alone_and_among_others(opened: Transcriber, speechlike: Callable[..., Wave]) -> None:
    waves = [speechlike(seconds, seed=seed) for seed, seconds in enumerate((2.0, 0.4, 1.1))]
    texts = opened.transcribe(waves, RATE)
    assert len(texts) == 3
    assert all(text.strip() == text and text for text in texts)
    assert texts == [opened.transcribe([wave], RATE)[0] for wave in waves]
    assert opened.transcribe([], RATE) == []


def test_a_long_wave_is_split_and_its_texts_are_joined(
    opened: Transcriber, speechlike: Callable[..., Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribe, "LONGEST_S", 1.0)
    wave = speechlike(2.0)
    halves = [opened.transcribe([half], RATE)[0] for half in (wave[:RATE], wave[RATE:])]
    assert opened.transcribe([wave], RATE) == [" ".join(halves)]


def test_what_has_no_room_for_a_word_is_left_empty_and_the_others_are_written_down(
    opened: Transcriber, speechlike: Callable[..., Wave]
) -> None:
    """A turn of a reference may last 10 ms; a network with a letter a frame has no frame there."""
    wave = speechlike(1.0)
    shorts = [wave[:0], wave[:1], wave[:160], wave[:1_599]]
    assert opened.transcribe([*shorts, wave], RATE) == ["", "", "", "", opened.transcribe([wave], RATE)[0]]
    assert opened.transcribe([np.repeat(wave, 3)[:4_000]], 3 * RATE) == [""]
    assert opened.transcribe(shorts, RATE) == [""] * 4
    assert opened.transcribe([wave[:1_600]], RATE)[0]


def test_of_a_recogniser_on_the_hub_only_what_is_read_is_fetched(recognisers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    read = [
        "config.json",
        "vocab.json",
        "merges.txt",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    others = ["model.fp32-00001-of-00002.safetensors", "adapter.deu.safetensors", "pytorch_model.bin", "flax_model.msgpack"]
    fetched: list[str] = []

    def snapshot(source: str, allow_patterns: list[str]) -> str:
        fetched[:] = huggingface_hub.utils.filter_repo_objects([*read, *others], allow_patterns=allow_patterns)
        return str(recognisers["ctc"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert open_transcriber("owner/recogniser").kind == "ctc"
    assert fetched == read


def test_a_copy_that_was_fetched_by_half_says_what_it_lacks(
    recognisers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    shutil.copyfile(recognisers["ctc"] / "config.json", tmp_path / "config.json")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda source, allow_patterns: str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"fetched once lacks model\.safetensors: .* holds config\.json, and the hub cannot be asked"):
        open_transcriber("owner/recogniser")


def test_the_recogniser_hears_at_its_own_rate(recognisers: dict[str, Path], speechlike: Callable[..., Wave]) -> None:
    ctc = open_transcriber(recognisers["ctc"])
    wave = speechlike(1.0, rate=RATE)
    twice = np.repeat(wave, 2)
    frames = len(ctc.transcribe([twice], 2 * RATE)[0])
    assert 0.5 < frames / len(ctc.transcribe([wave], RATE)[0]) < 2.0


def test_the_language_can_be_said(recognisers: dict[str, Path], speechlike: Callable[..., Wave], tmp_path: Path) -> None:
    german = open_transcriber(recognisers["whisper"], language="de")
    assert german.name == f"{open_transcriber(recognisers['whisper']).name} (de)"  # another language, other words
    assert german.transcribe([speechlike(1.0)], RATE)[0]
    assert open_transcriber(recognisers["whisper"], language="German").transcribe([speechlike(1.0)], RATE)[0]
    with pytest.raises(ValueError, match="does not know the language 'klingon'; wanted one of de, en, or none"):
        open_transcriber(recognisers["whisper"], language="klingon")
    with pytest.raises(ValueError, match="cannot be told which language is spoken"):
        transcribe.check(recognisers["ctc"], "de")
    broken = shutil.copytree(recognisers["whisper"], tmp_path / "broken")
    (broken / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json of .*, which names its languages, is not JSON"):
        transcribe.check(broken, "de")


def test_a_recogniser_below_the_home_of_a_user_is_found(recognisers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recognisers["ctc"]
    monkeypatch.setenv("HOME", str(folder.parent))
    transcribe.check(f"~/{folder.name}")
    assert open_transcriber(f"~/{folder.name}").name == open_transcriber(folder).name
    with pytest.raises(ValueError, match="~nobody-here/x"):
        transcribe.check("~nobody-here/x")


def test_its_name_says_which_weights(recognisers: dict[str, Path]) -> None:
    names = {open_transcriber(folder).name for folder in recognisers.values()}
    assert len(names) == 2
    assert {name.partition("/")[0] for name in names} == {"ctc", "whisper"}


def edit(folder: Path, **changes: Any) -> None:
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "does not say what it is"),
        (lambda folder: edit(folder, architectures=["Wav2Vec2Model"]), "writes no words"),
        (lambda folder: edit(folder, model_type="nonesuch"), "cannot be opened as a speech recogniser"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "opens no pickle"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "cannot be opened as a speech recogniser"),
        (lambda folder: edit(folder, num_hidden_layers=2), "lacks 16 weights"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "cannot be opened as a speech recogniser"),
    ],
)
def test_what_is_no_whole_recogniser_is_explained(
    recognisers: dict[str, Path], tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    folder = shutil.copytree(recognisers["ctc"], tmp_path / "folder")
    change(folder)
    with pytest.raises(ValueError, match=words):
        open_transcriber(folder)


def test_code_that_a_config_names_is_not_run(recognisers: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(recognisers["ctc"], tmp_path / "folder")
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    edit(folder, auto_map={"AutoConfig": "mine.Mine", "AutoModelForCTC": "mine.Mine"}, attn_implementation="owner/kernel")
    assert open_transcriber(folder).kind == "ctc"
    assert not (tmp_path / "ran").exists()


def test_what_is_not_on_this_machine_is_explained() -> None:
    with pytest.raises(ValueError, match="neither a folder nor to be had from the hub"):
        open_transcriber("owner/nothing-of-that-name")
    with pytest.raises(ValueError, match="wanted a folder"):
        open_transcriber("no such folder")
