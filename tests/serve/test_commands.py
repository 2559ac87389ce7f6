"""The two commands that serve, as a person types them: they answer, listen on loopback alone, and leave nothing behind."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moodcast.cluster import serve as serving

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0
STOP_S = 60.0


def listeners() -> object:
    """tests/cluster/listeners.py, which reads /proc."""
    spec = importlib.util.spec_from_file_location("listeners", ROOT / "tests" / "cluster" / "listeners.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(mark: str) -> list[str]:
    """Command lines of the processes that inherited the environment variable MOODCAST_TEST_MARK=mark."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100])
        except OSError:
            continue
    return found


def gone(mark: str, within_s: float = 10.0) -> list[str]:
    """What is left of the marked processes after at most `within_s`."""
    deadline = time.monotonic() + within_s
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.fixture
def temp() -> Iterator[Path]:
    """A folder with a short path: Ray's unix sockets lie below it."""
    folder = Path(tempfile.mkdtemp(prefix="mc-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("command", "stop"), [("moodcast serve", signal.SIGTERM), ("serve run", signal.SIGINT)])
def test_a_serving_command_answers_on_loopback_alone_and_stops_cleanly(
    command: str, stop: signal.Signals, bundles: dict[str, Path], conversation: bytes, temp: Path
) -> None:
    mark = uuid.uuid4().hex
    port = serving.free_port() if command == "moodcast serve" else 8000  # `serve run` has no option for it
    if serving.free_port(preferred=port) != port:
        pytest.skip("port 8000, where `serve run` listens, is taken")
    words = {
        "moodcast serve": [str(BIN / "moodcast"), "serve", "--port", str(port), "max_mb=5"],
        "serve run": [str(BIN / "serve"), "run", "serve_apps.podcast:app"],
    }[command]
    own = {"MOODCAST_TEST_MARK": mark, "TMPDIR": str(temp), "RAY_TMPDIR": str(temp), "MOODCAST_MAX_MB": "5"}
    models = {"MOODCAST_BUNDLE": str(bundles["emotion"]), "MOODCAST_VOICEPRINT": str(bundles["voices"])}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | own | models
    log = temp / "log.txt"
    with log.open("w") as out, subprocess.Popen(words, cwd=temp, env=environment, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            wait_until_healthy(process, port, log)
            assert listeners().beyond_loopback(process.pid) == set()  # type: ignore[attr-defined]
            response = httpx.post(f"http://127.0.0.1:{port}/v1/timeline", content=conversation, timeout=60)
            assert response.status_code == 200, response.text
            assert response.json()["segments"]
            assert httpx.post(f"http://127.0.0.1:{port}/v1/timeline", content=bytes(5_000_001), timeout=60).status_code == 413
            process.send_signal(stop)
            process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0, log.read_text()[-3000:]
    assert gone(mark) == []
    assert not list(temp.glob("moodcast-*"))


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)


def test_a_taken_port_and_a_missing_bundle_are_said_in_one_line(temp: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere is not a bundle"), serving.running(port=serving.free_port(), bundle="nowhere"):
        pytest.fail("it served")
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"cannot listen on 127.0.0.1:{port} .* --port \d+"), serving.running(port=port):
            pytest.fail("it served")
        assert serving.free_port(preferred=port) != port
