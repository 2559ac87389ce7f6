"""`make demo` without make: the command as a newcomer runs it, with everything that it leaves and does not leave."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moodcast.timeline import Timeline
from tests.footprint import footprint

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

LIMIT_S = 240.0  # of the test; the promise of 60 s is for a machine that does nothing else


def test_the_demo_tells_who_felt_what_and_leaves_nothing_running(tmp_path: Path) -> None:
    with footprint() as ours, socket.socket() as taken:  # the usual port is busy: the demo takes another one
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8000))
            taken.listen()
        except OSError:
            pass  # taken by somebody else, which will do
        done = subprocess.run(
            [str(Path(sys.executable).parent / "moodcast"), "demo"],
            cwd=tmp_path,
            env=ours.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert ours.left() == []
        assert list(ours.temp.iterdir()) == []

    folder = tmp_path / "out" / "demo"
    assert sorted(path.name for path in folder.iterdir()) == ["sample.csv", "sample.html", "sample.json", "sample.rttm"]
    found = Timeline.from_json((folder / "sample.json").read_bytes())
    assert found.duration_s == 30.0
    assert len(found.segments) >= 4
    heard = [segment for segment in found.segments if segment.status == "ok"]
    assert heard
    assert all(segment.emotion in found.classes for segment in heard)
    assert all(abs(sum(segment.emotions.values()) - 1) < 1e-3 for segment in heard)
    assert (folder / "sample.rttm").read_text() == found.to_rttm()
    page = (folder / "sample.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert found.segments[0].speaker in page
    assert 'id="sound"' in page  # the sound is inside

    assert re.search(r"POST http://127\.0\.0\.1:\d+/v1/timeline", done.stdout)
    assert "127.0.0.1:8000" not in done.stdout
    for name in ("sample.json", "sample.rttm", "sample.html"):
        assert f"out/demo/{name}" in done.stdout
    for segment in heard:
        assert str(segment.emotion) in done.stdout
    assert not re.search(r"Traceback|Warning", done.stdout)
    assert json.loads((folder / "sample.json").read_text())["provenance"]["bundle"]


def test_what_the_service_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    from moodcast.cluster import demo

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            asked.append(self.path)
            self.send_response(415)
            self.end_headers()
            self.wfile.write(b'{"error": {"kind": "not_audio", "message": "these are words", "what_to_do": "send sound"}}')

        def log_message(self, *words: object) -> None:
            """Nothing on the terminal."""

    asked: list[str] = []
    options = {"stream": "true", "name": "a talk"}
    (tmp_path / "a talk.txt").write_text("hello")
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(ValueError, match=r"the service refuses: these are words \(send sound\)"):
            demo.ask(f"http://127.0.0.1:{server.server_port}", tmp_path / "a talk.txt", options, lambda: None)
    assert asked == ["/v1/timeline?stream=true&name=a+talk"]


def test_the_demo_without_its_recording_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from moodcast.cluster import demo

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'moodcast\[pyannote\]'"):
        demo.conversation()
