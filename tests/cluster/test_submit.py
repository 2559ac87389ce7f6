from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import typer
from aiohttp import web
from ray.job_submission import JobDetails, JobStatus, JobType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moodcast import load
from moodcast.cli import submit as commands
from moodcast.cli.words import find_job
from moodcast.cluster import folder as files
from moodcast.cluster import submit
from moodcast.cluster.submit import connect, follow
from moodcast.manifest import Utterance, read_manifest, write_manifest
from tests.cluster.machines import ROOT, Machines, machines
from tests.cluster.test_faults import wait_for
from tests.cluster.tiny import tiny_corpus

pytestmark = pytest.mark.ray
SMALL = "labels.classes=high,low audio.rate=8000 chunks.length_s=0.5 chunks.hop_s=0.5 method.width=16 method.num_mels=32".split()
TRAIN = [*SMALL, "train.batch_size=8", "train.threads=1", "train.epochs=6"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with machines((2, 2), MOODCAST_CACHE=str(tmp_path_factory.mktemp("cache"))) as running:
        yield running


@pytest.fixture(scope="module")
def manifest(corpus: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manifest") / "tiny.parquet"
    write_manifest(corpus, path)
    return path


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


def begin(*words: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The command line in another process, as a user has it."""
    command = [sys.executable, "-m", "moodcast.cli", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    told, errors = process.communicate(timeout=800)
    return process.returncode, told, errors


def digests(folder: Path) -> list[str]:
    return [line["weights"] for line in files.read_lines(folder / files.METRICS)]


@pytest.mark.timeout(600)
def test_a_killed_node_costs_a_submitted_job_less_than_an_epoch_and_its_bundle_serves(
    nodes: Machines,
    manifest: Path,
    out: Path,
    tmp_path: Path,
    speechlike: Callable[..., np.ndarray],
    write_wav: Callable[..., Path],
) -> None:
    common = ["submit", "erm", manifest, "-a", nodes.address, "--out", out, "--workers", 2, *TRAIN]
    code, _, told = ended(begin(*common, "--name", "undisturbed"))
    assert code == 0, told
    assert re.search(r"submitted: moodcast-erm-[\d-]+-\w+, \d\.\d MB of code and manifests", told)
    assert re.search(r"^epoch 6/6  classes ", told, re.MULTILINE)
    assert f"its bundle {out / 'undisturbed' / 'bundle'}" in told

    process = begin(*common, "--name", "killed")
    folder = out / "killed"
    wait_for(lambda: process.poll() is not None or len(files.read_lines(folder / files.METRICS)) > 1)
    assert process.poll() is None, ended(process)
    workers = (files.read_json(folder / files.PROGRESS) or {})["workers"]
    nodes.kill(nodes.node_of(workers[1]["pid"]))
    code, _, told = ended(process)
    assert code == 0, told
    assert digests(folder) == digests(out / "undisturbed")
    attempts = files.read_lines(folder / files.ATTEMPTS)
    assert attempts[0]["epoch"] == 0
    assert attempts[-1]["epoch"] >= 2
    assert not {worker["pid"] for worker in attempts[-1]["workers"]} & {worker["pid"] for worker in workers}
    board = EventAccumulator(str(folder / files.TENSORBOARD)).Reload()
    assert [event.step for event in board.Scalars("loss")] == [0, 1, 2, 3, 4, 5]  # each epoch once, whatever the restarts

    talk = write_wav("talk.wav", np.concatenate([speechlike(2.0, seed=seed, hz=hz) for seed, hz in enumerate((110, 220))]))
    (tmp_path / "talk.rttm").write_text("SPEAKER talk 1 0 2 <NA> <NA> a <NA> <NA>\nSPEAKER talk 1 2 2 <NA> <NA> b <NA> <NA>\n")
    code, _, told = ended(begin("analyze", talk, "-b", folder / "bundle", "--rttm", tmp_path / "talk.rttm", "-o", tmp_path / "said"))
    assert code == 0, told
    segments = json.loads((tmp_path / "said" / "talk.json").read_text())["segments"]
    assert [segment["speaker"] for segment in segments] == ["a", "b"]
    assert {segment["emotion"] for segment in segments} <= {"high", "low"}


def test_a_job_is_listed_looked_at_and_stopped_and_says_how_to_go_on(nodes: Machines, manifest: Path, out: Path) -> None:
    at = ["-a", nodes.address]
    words = ["submit", "erm", manifest, *at, "--out", out, "--name", "stopped", *TRAIN, "train.epochs=500", "--no-follow"]
    code, told, errors = ended(begin(*words))
    assert code == 0, errors
    name = told.strip()
    following = begin("jobs", "logs", name, *at)
    wait_for(lambda: bool(files.read_lines(out / "stopped" / files.METRICS)))
    code, told, errors = ended(begin("jobs", "status", name, *at))
    assert f"{name}: running" in told
    assert f"erm in {out / 'stopped'}" in told
    code, told, errors = ended(begin("jobs", "stop", name, *at))
    assert code == 130
    assert f"the same command with --resume {out / 'stopped'} goes on with it" in errors
    code, told, errors = ended(following)
    assert code == 130
    assert re.search(rf"interrupted; \d+ epochs? (is|are) done, .*\s.*moodcast submit erm .* --resume {out / 'stopped'}", errors)
    code, told, errors = ended(begin("jobs", "list", *at))
    assert re.search(rf"{name}\s.*stopped.*erm", told)
    code, told, errors = ended(begin("jobs", "stop", "nobody", *at))
    assert code == 2
    assert f"the cluster has no job nobody; it has {name}" in errors


def test_a_submitted_job_adapts_to_targets_that_were_sent_along_and_that_lie_there_without_their_labels(
    nodes: Machines, manifest: Path, out: Path, tmp_path: Path
) -> None:
    far = [replace(row, corpus="far", id=f"far-{row.id}") for row in tiny_corpus(tmp_path / "far", 224, 8)[160:]]  # other sounds
    sides = {name: [row for row in far if (row.speaker in ("s2", "s3")) == (name == "sent")] for name in ("sent", "there")}
    for name, rows in sides.items():
        write_manifest([replace(row, split="test" if row.speaker == "s0" else "train") for row in rows], tmp_path / f"{name}.parquet")
    fields = "labels.classes=high,low audio.rate=8000 chunks.length_s=0.5 chunks.hop_s=0.5 method.front.kind=functionals".split()
    words = ["submit", "coral", manifest, "-a", nodes.address, "--out", out, "--name", "adapted", *fields]
    words += ["method.front.width=8", "train.batch_size=8", "train.epochs=2", "train.threads=1"]
    words += ["--target", tmp_path / "sent.parquet", "--target", f"cluster:{tmp_path / 'there.parquet'}", "--encode"]
    code, _, told = ended(begin(*words))
    assert code == 0, told
    assert re.search(r"^decoded 216 recordings, 0\.02 h \(\d+ now, .*; encoded 216 stretches \(216 now, 0 before\)$", told, re.MULTILINE)
    assert "computing features" not in told  # they were there
    kept = read_manifest(out / "adapted" / files.TARGET)
    assert {row.id for row in kept} == {row.id for row in far if row.speaker != "s0"}  # both, and nothing of the test side
    assert {row.emotion for row in kept} == {None}
    heard = load(out / "adapted" / files.BUNDLE).provenance.adapted_to
    assert heard.corpora == ("far",)
    assert set(heard.speakers) == {row.corpus_speaker for row in far if row.speaker != "s0"}
    assert not heard.unsealed


def test_recordings_that_the_cluster_does_not_have_are_counted_and_named(
    nodes: Machines, corpus: Sequence[Utterance], out: Path, tmp_path: Path
) -> None:
    rows = [replace(row, path=f"/nowhere/{row.id}.wav") if number < 5 else row for number, row in enumerate(corpus)]
    write_manifest(rows, tmp_path / "moved.csv")
    code, _, told = ended(begin("submit", "erm", tmp_path / "moved.csv", "-a", nodes.address, "--out", out, *TRAIN))
    assert code == 1
    assert f"error: this machine misses 5 of {len(rows)} recordings, the first is /nowhere/u000.wav; put them on storage" in told
    assert "Traceback" not in told


def test_a_cluster_that_asks_for_a_token_says_so_and_takes_the_right_one(tmp_path: Path) -> None:
    token = "5f" * 32
    (tmp_path / "token").write_text(token)
    with machines((), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token) as head:
        words = ["jobs", "list", "-a", head.address]
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
        plain["HOME"] = str(tmp_path)  # a token that lies in a real home is nobody's business here
        code, _, told = ended(begin(*words, env=plain))
        assert code == 2
        assert f"the cluster at {head.address} asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH" in told
        code, _, told = ended(begin(*words, env={**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "00" * 32}))
        assert code == 2
        assert "refuses the token that came" in told
        code, _, told = ended(begin(*words, env={**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}))
        assert code == 0, told
        assert "no job of moodcast was sent there yet" in told


def test_an_address_without_a_cluster_is_told_from_one_that_is_another_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(ValueError, match=r"which cluster\? --address http://HEAD:8265"):
        connect("")
    with pytest.raises(ValueError, match="ray://head:10001 is no address of a dashboard"):
        connect("ray://head:10001")
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        thread = threading.Thread(target=lambda: door.accept()[0].close() or door.accept()[0].close())
        thread.start()
        with pytest.raises(ValueError, match=f"something listens at http://127.0.0.1:{port}, but it is no Ray dashboard"):
            connect(f"127.0.0.1:{port}")
        thread.join()
    with pytest.raises(ValueError, match=f"no cluster at http://127.0.0.1:{port}: Connection refused. Is it up"):
        connect(f"http://127.0.0.1:{port}/")


@contextmanager
def head(hangs_up: set[str]) -> Iterator[str]:
    """A dashboard with one job, whose log has three lines. It hangs up at the requests that are named: "logs 1" is the first for a log."""
    asked: Counter[str] = Counter()

    def breaks(request: web.Request, what: str) -> bool:
        asked[what] += 1
        if broken := f"{what} {asked[what]}" in hangs_up and request.transport is not None:
            request.transport.close()  # type: ignore[union-attr]
        return broken

    async def version(request: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0"})

    async def info(request: web.Request) -> web.Response:
        if breaks(request, "info"):
            return web.Response()
        status = "SUCCEEDED" if asked["told"] else "RUNNING"
        return web.json_response({"type": "SUBMISSION", "submission_id": "one", "status": status, "entrypoint": "true"})

    async def logs(request: web.Request) -> web.StreamResponse:
        if breaks(request, "logs"):
            return web.Response()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("first\nsecond\n")
        if breaks(request, "rest"):
            return socket
        await socket.send_str("third\n")
        asked["told"] += 1
        await socket.close()
        return socket

    app = web.Application()
    app.add_routes([web.get("/api/version", version), web.get("/api/jobs/one", info), web.get("/api/jobs/one/logs/tail", logs)])
    loop, runner = asyncio.new_event_loop(), web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_head_that_hangs_up_is_asked_again_and_no_line_comes_twice() -> None:
    lines: list[str] = []
    with head({"logs 1", "info 2", "info 3", "rest 1"}) as url:
        details = follow(connect(url), "one", lambda line, progress: lines.append(line))
    assert (details.status, lines) == ("SUCCEEDED", ["first", "second", "third"])


def test_a_head_that_stays_away_is_told_with_how_to_follow_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "AWAY_S", 0.5)
    with (
        head({f"info {n}" for n in range(2, 9)}) as url,
        pytest.raises(ValueError, match="does not answer any more .*`moodcast jobs logs one` follows it again"),
    ):
        follow(connect(url), "one", lambda line, progress: None)


class Waiting:
    """A cluster that takes jobs and keeps what it was sent; what is told to stop goes on."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def submit_job(self, **job: Any) -> None:
        self.sent = job

    def stop_job(self, id_: str) -> None:
        pass

    def get_job_status(self, id_: str) -> JobStatus:
        return JobStatus.RUNNING

    def get_job_info(self, id_: str) -> JobDetails:
        return JobDetails(type=JobType.SUBMISSION, submission_id=id_, status=JobStatus.RUNNING, entrypoint="")


@pytest.mark.parametrize(("name", "word"), [("jobs.erm", "erm"), ("mine_alone", "mine_alone.py"), ("mylab.mine", "mylab.mine")])
def test_a_job_is_called_so_that_the_cluster_finds_it(name: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab").mkdir()
    for file in ("mine_alone.py", "mylab/mine.py"):
        (tmp_path / file).write_text("from jobs.erm import RUN\n")
    write_manifest([Utterance("1", "/1.wav")], tmp_path / "m.csv")
    monkeypatch.syspath_prepend(str(tmp_path))
    client, job = Waiting(), importlib.import_module(name)
    submit.submit(cast(Any, client), job, job.RUN, [tmp_path / "m.csv"], out="/shared")
    assert client.sent["entrypoint"].startswith(f"python -m moodcast.cli train {word} manifests/")
    assert find_job(word) is job


def test_a_job_that_goes_on_after_it_was_told_to_stop_has_not_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "STOP_S", -10)
    monkeypatch.setattr(submit, "connect", lambda address: Waiting())
    with pytest.raises(typer.Exit) as ended:
        commands.stop("one", None)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.strip() == "stopping: one has been told to stop and still runs; moodcast jobs status one"
