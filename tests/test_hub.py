"""Bundles to a hub and back: the same weights, a card that hubs read, nothing kept that was edited, and the hub's own protocol."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from moodcast import bundle as bundles
from moodcast import hub
from moodcast.augment import Augment, Noise, Room
from moodcast.bundle import load, probe_signal, save
from moodcast.methods.erm import Erm
from moodcast.provenance import Provenance
from moodcast.run import Run, build

CLASSES = ("angry", "happy", "neutral", "sad")


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


SLICE = {"kind": "corpus", "num_speakers": 4, "uar": interval(0.61), "accuracy": interval(0.62), "macro_f1": interval(0.6)}
SCORES = {
    "test": {
        "split": "test",
        "slices": [
            {**SLICE, "slice": "all", "kind": "all"},
            {**SLICE, "slice": "toy"},
            {**SLICE, "slice": "de", "kind": "language"},
            {**SLICE, "slice": "unknown", "kind": "language"},
        ],
    }
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    run = Run(method=Erm.Config(width=16, channels=4))
    return save(tmp_path / "mine", build(run), run, Provenance(corpora=("toy",)), SCORES, "# mine\n\nTrained for tests.\n")


@pytest.fixture
def pushed(bundle: Path, tmp_path: Path) -> Path:
    return Path(hub.push(bundle, str(tmp_path / "pushed")))


def test_a_bundle_comes_back_from_a_folder_as_it_went(bundle: Path, pushed: Path, tmp_path: Path) -> None:
    back = hub.pull(str(pushed), tmp_path / "back")
    assert (back / "weights.safetensors").read_bytes() == (bundle / "weights.safetensors").read_bytes()
    assert json.loads((back / "bundle.json").read_text()) == json.loads((bundle / "bundle.json").read_text())
    wave = probe_signal(16_000)
    np.testing.assert_array_equal(load(back).predict((wave, 16_000)).emotion, load(bundle).predict((wave, 16_000)).emotion)


def test_who_opens_a_pushed_folder_is_told_to_pull_it(pushed: Path) -> None:
    with pytest.raises(ValueError, match=f"is not a bundle: .* `moodcast pull {pushed} NEW` makes a bundle of it"):
        load(pushed)


def test_folders_made_of_a_bundle_are_open_to_whom_new_folders_are(pushed: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    wanted = (tmp_path / "new").stat().st_mode
    assert pushed.stat().st_mode == wanted
    assert hub.pull(str(pushed), tmp_path / "pulled").stat().st_mode == wanted


def test_paths_of_this_machine_do_not_travel(tmp_path: Path) -> None:
    home = tmp_path / "ann" / "secret"
    augment = Augment(noise=Noise(folder=str(home / "noise")), room=Room(folder="recordings/rooms"))
    run = Run(method=Erm.Config(width=16, channels=4), augment=augment, start_from=str(home / "first" / "bundle"))
    card = f"# mine\n\nIt started from {home / 'first' / 'bundle'} with noise of {home / 'noise'}.\n"
    bundle = save(tmp_path / "mine", build(run), run, Provenance(), {}, card)
    pushed = Path(hub.push(bundle, str(tmp_path / "pushed")))
    for path in pushed.iterdir():
        assert b"secret" not in path.read_bytes(), path.name
    back = load(hub.pull(str(pushed), tmp_path / "back"))
    assert (back.run.start_from, back.run.augment.noise.folder, back.run.augment.room.folder) == ("bundle", "noise", "rooms")
    assert back.sha256 != load(bundle).sha256
    assert "It started from bundle with noise of noise." in (pushed / "README.md").read_text()


@pytest.mark.parametrize(
    ("typed", "published"),
    [
        ("openai/whisper-base", "openai/whisper-base"),
        ("random:wav2vec2", "random:wav2vec2"),
        ("/data/ann/whisper-base/", "whisper-base"),
        ("~/models/wavlm", "wavlm"),
        ("../wavlm", "wavlm"),
        ("folder/of/an/encoder", "encoder"),
        ("C:\\Users\\ann\\wavlm", "wavlm"),
    ],
)
def test_a_hub_s_name_is_no_path(typed: str, published: str) -> None:
    run = {"method": {"class": "moodcast.methods.pretrained:Pretrained", "encoder": typed}, "labels": {"classes": ["a/b/c"]}}
    found, paths = hub.without_paths(run)
    assert found == {"method": {"class": "moodcast.methods.pretrained:Pretrained", "encoder": published}, "labels": {"classes": ["a/b/c"]}}
    assert paths == ({} if typed == published else {typed: published})


def test_an_encoder_s_config_does_not_say_where_it_lay() -> None:
    told = hub._of_names('{"_name_or_path": "/data/ann/whisper", "width": 3}', "encoder/config.json")
    assert json.loads(told) == {"_name_or_path": "whisper", "width": 3}
    as_it_was = '{"_name_or_path": "openai/whisper-base"}'
    assert hub._of_names(as_it_was, "encoder/config.json") == as_it_was


def test_a_pushed_folder_has_the_form_that_hubs_know(pushed: Path) -> None:
    assert sorted(path.name for path in pushed.iterdir()) == ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]
    config = json.loads((pushed / "config.json").read_text())
    assert config["model_type"] == "moodcast"
    assert config["architectures"] == ["Erm"]
    assert config["id2label"] == {"0": "angry", "1": "happy", "2": "neutral", "3": "sad"}
    assert config["label2id"]["sad"] == 3
    assert config["sampling_rate"] == json.loads((pushed / "preprocessor_config.json").read_text())["sampling_rate"] == 16_000


def test_the_card_has_a_header_with_scores_and_keeps_its_text(pushed: Path) -> None:
    from huggingface_hub import ModelCard

    text = (pushed / "README.md").read_text()
    assert text.count("# mine") == 1
    assert "Trained for tests." in text
    header = yaml.safe_load(text.split("---")[1])
    assert header["pipeline_tag"] == "audio-classification"
    assert header["library_name"] == "moodcast"
    assert header["language"] == ["de"]
    assert header["license"] == "other"
    (index,) = header["model-index"]
    (result,) = index["results"]
    assert result["dataset"]["name"] == "toy, 4 held-out speakers"
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"recall": 61.0, "accuracy": 62.0, "f1": 60.0}
    assert "51.0 to 71.0" in result["metrics"][0]["name"]
    assert ModelCard(text).data.eval_results[0].metric_value == 61.0  # the hub's own reader


def test_a_card_that_was_pushed_twice_has_one_header(pushed: Path, tmp_path: Path) -> None:
    back = hub.pull(str(pushed), tmp_path / "back")
    again = Path(hub.push(back, str(tmp_path / "again")))
    assert (again / "README.md").read_text().count("pipeline_tag") == 1


def test_the_card_of_an_unscored_bundle_has_no_index(tmp_path: Path) -> None:
    run = Run(method=Erm.Config(width=16, channels=4))
    folder = save(tmp_path / "plain", build(run), run)
    text = (Path(hub.push(folder, str(tmp_path / "p"))) / "README.md").read_text()
    assert "model-index" not in text
    assert "audio-classification" in text


@pytest.mark.parametrize("what", ["weight", "setting"])
def test_what_was_edited_on_its_way_is_refused_and_not_kept(pushed: Path, tmp_path: Path, what: str) -> None:
    if what == "weight":
        data = bytearray((pushed / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (pushed / "model.safetensors").write_bytes(bytes(data))
    else:
        config = json.loads((pushed / "config.json").read_text())
        config["moodcast"]["scores"]["test"]["slices"][0]["uar"]["value"] = 0.99
        (pushed / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"^{pushed}: .*SHA-256 differs"):
        hub.pull(str(pushed), tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not list(tmp_path.glob(".back*"))


def test_a_bundle_other_than_the_one_wanted_is_refused(bundle: Path, pushed: Path, tmp_path: Path) -> None:
    sha256 = load(bundle).sha256
    assert hub.pull(str(pushed), tmp_path / "right", sha256=sha256[:12]).is_dir()
    assert hub.pull(str(pushed), tmp_path / "right", sha256=sha256.upper()).is_dir()
    with pytest.raises(ValueError, match="nothing was kept"):
        hub.pull(str(pushed), tmp_path / "wrong", sha256="0" * 64)
    assert not (tmp_path / "wrong").exists()
    with pytest.raises(ValueError, match="at least 8"):
        hub.pull(str(pushed), tmp_path / "wrong", sha256="ab")


def test_a_model_that_moodcast_did_not_push_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ValueError, match="wanted config.json and model.safetensors"):
        hub.pull(str(other), tmp_path / "back")
    (other / "model.safetensors").write_bytes(b"")
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="not pushed by moodcast"):
        hub.pull(str(other), tmp_path / "back")
    (other / "config.json").write_text("[")
    with pytest.raises(ValueError, match="not a JSON object"):
        hub.pull(str(other), tmp_path / "back")


def test_settings_that_were_made_to_break_the_reader_are_one_sentence(pushed: Path, tmp_path: Path) -> None:
    config = json.loads((pushed / "config.json").read_text())
    config["moodcast"]["files"] = ["tokenizer.json"]
    for text, why in ((json.dumps(config), "files of a bundle are named"), ("[" * 100_000, "is not a JSON object")):
        (pushed / "config.json").write_text(text)
        with pytest.raises(ValueError, match=why):
            hub.pull(str(pushed), tmp_path / "into")
        assert not (tmp_path / "into").exists()


def test_nothing_that_is_no_bundle_is_overwritten(pushed: Path, bundle: Path, tmp_path: Path) -> None:
    taken = tmp_path / "letters"
    taken.mkdir()
    (taken / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="choose another folder"):
        hub.pull(str(pushed), taken)
    with pytest.raises(ValueError, match="choose another folder"):
        hub.push(bundle, str(taken))
    assert (taken / "letter.txt").read_text() == "dear"
    for write in (hub.push, hub.export):
        with pytest.raises(ValueError, match=r"letter\.txt is a file; wanted a folder"):
            write(bundle, str(taken / "letter.txt"))
    assert hub.pull(str(pushed), hub.pull(str(pushed), tmp_path / "back")) == tmp_path / "back"  # a bundle gives way to a newer one


def test_what_lies_beside_a_bundle_or_another_model_is_not_lost(pushed: Path, bundle: Path, tmp_path: Path) -> None:
    (pushed / ".git").mkdir()
    (pushed / ".git" / "HEAD").write_text("ref")
    with pytest.raises(ValueError, match=r"also holds .git/HEAD"):
        hub.push(bundle, str(pushed))
    back = hub.pull(str(pushed), tmp_path / "back")
    (back / "optimizer.pt").write_bytes(b"state")
    with pytest.raises(ValueError, match=r"also holds optimizer.pt"):
        hub.pull(str(pushed), back)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(ValueError, match=r"also holds config.json"):
        hub.push(bundle, str(other))
    assert (other / "config.json").is_file()
    assert (back / "optimizer.pt").read_bytes() == b"state"


@pytest.mark.parametrize("name", ["one-word", "a/b/c", "owner/na me", "https://x/y"])
def test_a_name_that_is_none_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="neither a hub's owner/name nor a local folder"):
        hub.push(bundle, name)
    with pytest.raises(ValueError, match="neither a hub's owner/name nor a local folder"):
        hub.pull(name, tmp_path / "back")


def test_a_licence_that_hubs_do_not_know_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apache-2.0"):
        hub.push(bundle, str(tmp_path / "p"), license_name="free-ish")


# ---- the hub's protocol, spoken by a small server on loopback


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as moodcast needs: make a repository, commit small files, list a revision, give files."""

    files: dict[str, bytes]
    tokens: list[str | None]

    def log_message(self, *parts: Any) -> None:
        pass

    def answer(self, body: Any = b"", code: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        self.tokens.append(self.headers.get("Authorization"))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self.answer({"url": f"http://{self.headers['Host']}/me/mood", "name": "me/mood"})
        elif "/preupload/" in self.path:
            wanted = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.answer({"files": wanted})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.answer({"commitUrl": f"http://127.0.0.1/me/mood/commit/{'c' * 40}", "commitOid": "c" * 40, "success": True})
        else:
            self.answer({}, 200)

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.answer({"error": "Invalid username or password."}, 401)
            return
        if self.path.startswith("/api/models/me/mood"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.files.items()]
            if "/tree/" in self.path:
                self.answer([{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in self.files.items()])
            else:
                self.answer({"id": "me/mood", "modelId": "me/mood", "sha": "c" * 40, "siblings": siblings, "tags": []})
            return
        name = self.path.partition("/resolve/")[2].partition("/")[2].partition("?")[0]
        if self.path.startswith("/me/mood/") and name in self.files:
            data = self.files[name]
            self.answer(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit="c" * 40)
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, type[Hub]]]:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    kind = type("OneHub", (Hub,), {"files": {}, "tokens": []})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}", kind
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_a_bundle_goes_through_the_hub_s_own_protocol_and_back(bundle: Path, tmp_path: Path, server: tuple[str, type[Hub]]) -> None:
    address, kind = server
    assert hub.push(bundle, "me/mood", endpoint=address) == f"{address}/me/mood"
    assert set(kind.files) == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert set(kind.tokens) == {"Bearer hf_test"}  # from the environment
    back = hub.pull("me/mood", tmp_path / "back", endpoint=address)
    assert load(back).sha256 == load(bundle).sha256


def test_a_hub_that_refuses_is_one_sentence_that_names_the_token(
    bundle: Path, tmp_path: Path, server: tuple[str, type[Hub]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = server
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match="did not give or take me/mood.*HF_TOKEN"):
        hub.push(bundle, "me/mood", endpoint=address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    with pytest.raises(ValueError, match="did not give or take me/none"):
        hub.pull("me/none", tmp_path / "back", endpoint=address)
    with pytest.raises(ValueError, match="did not give or take me/mood"):
        hub.pull("me/mood", tmp_path / "back", endpoint="http://127.0.0.1:9")


def test_a_hub_that_gives_something_else_than_was_pushed_is_found_out(bundle: Path, tmp_path: Path, server: tuple[str, type[Hub]]) -> None:
    address, kind = server
    hub.push(bundle, "me/mood", endpoint=address)
    kind.files["model.safetensors"] = kind.files["model.safetensors"][:-1] + b"?"
    with pytest.raises(ValueError, match="^me/mood: .*SHA-256 differs"):
        hub.pull("me/mood", tmp_path / "back", endpoint=address)
    del kind.files["config.json"]
    with pytest.raises(ValueError, match="^me/mood is no moodcast bundle"):
        hub.pull("me/mood", tmp_path / "back", endpoint=address)
    assert not (tmp_path / "back").exists()


def test_the_texts_of_an_encoder_travel_along(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Erm, "files", lambda self: {"encoder/config.json": '{"hidden": 8}'}, raising=False)
    run = Run(method=Erm.Config(width=16, channels=4))
    folder = save(tmp_path / "with", build(run), run)
    pushed = Path(hub.push(folder, str(tmp_path / "p")))
    assert (pushed / "encoder" / "config.json").read_text() == '{"hidden": 8}'
    back = hub.pull(str(pushed), tmp_path / "back")
    assert bundles.carried(back) == {"encoder/config.json": '{"hidden": 8}'}


def test_the_hub_s_client_sends_no_telemetry() -> None:
    code = "import moodcast.hub; from huggingface_hub import constants; print(constants.HF_HUB_DISABLE_TELEMETRY)"
    told = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_OFFLINE")}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert said.stdout.strip() == "True"
