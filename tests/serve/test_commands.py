"""The two commands that serve, as a person types them: they answer, listen on loopback alone, and leave nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from moodcast import segmentation
from moodcast.bundle import load
from moodcast.cluster import serve as serving
from moodcast.embedded import Embedded
from moodcast.service.settings import from_environment
from tests.cluster.listeners import beyond_loopback
from tests.footprint import footprint

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

BIN = Path(sys.executable).parent
START_S = 120.0
STOP_S = 90.0
UP = {"moodcast serve": "moodcast listens on", "serve run": "is ready at"}


@pytest.mark.parametrize(("command", "stop"), [("moodcast serve", signal.SIGTERM), ("serve run", signal.SIGINT)])
def test_a_serving_command_answers_on_loopback_alone_and_stops_cleanly(
    command: str, stop: signal.Signals, bundles: dict[str, Path], conversation: bytes, pyannote_folder: Path, recognisers: dict[str, Path]
) -> None:
    """One of them with the models that come along, the other with a diarizer and a transcriber of the user's own."""
    port = serving.free_port() if command == "moodcast serve" else 8000  # `serve run` has no option for it
    if serving.free_port(preferred=port) != port:
        pytest.skip("port 8000, where `serve run` listens, is taken")
    words = {
        "moodcast serve": [str(BIN / "moodcast"), "serve", "--port", str(port), "max_mb=5"],
        "serve run": [str(BIN / "serve"), "run", "serve_apps.podcast:app"],
    }[command]
    models = {"MOODCAST_BUNDLE": str(bundles["emotion"]), "MOODCAST_VOICEPRINT": str(bundles["voices"])}
    own = {"MOODCAST_DIARIZER": str(pyannote_folder), "MOODCAST_TRUST_CHECKPOINT": "true", "MOODCAST_TRANSCRIBER": str(recognisers["ctc"])}
    models |= own if command == "moodcast serve" else {}
    with footprint() as ours:
        environment = ours.environment(MOODCAST_MAX_MB="5" if command == "serve run" else "7", **models)  # `max_mb=5` wins over 7
        log = ours.temp / "log.txt"
        with (
            log.open("w") as out,
            subprocess.Popen(
                words, cwd=ours.temp, env=environment, stdout=out, stderr=subprocess.STDOUT, preexec_fn=STARTED[stop]
            ) as process,
        ):
            try:
                wait_until_up(process, port, log, UP[command])
                assert beyond_loopback(process.pid) == set()
                check_answers(f"http://127.0.0.1:{port}/v1/timeline", conversation, own=command == "moodcast serve")
                process.send_signal(stop)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    pytest.fail(f"{command} did not end {STOP_S:.0f} s after {stop.name}:\n{log.read_text()[-4000:]}")
            finally:
                if process.poll() is None:
                    process.kill()
        assert process.returncode == 0, log.read_text()[-3000:]
        if command == "moodcast serve":
            said = log.read_text().splitlines()
            assert "stopping; what is under way has 20 s to end" in said
            assert said[-1] == "stopped"
        assert ours.left() == []
        assert not list(ours.temp.glob("moodcast-*"))


def at_a_terminal() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so does all that it starts; a person's command does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_the_background() -> None:
    """As a script starts a server, `moodcast serve &`: it must still end at SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


STARTED = {signal.SIGINT: at_a_terminal, signal.SIGTERM: in_the_background}


def check_answers(url: str, conversation: bytes, own: bool) -> None:
    """The service answers, by the settings of the environment or of the command."""
    response = httpx.post(url, content=conversation, timeout=60)
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["segments"]
    diarizer = found["provenance"]["diarizer"]
    assert diarizer.startswith("pyannote/tiny/") if own else "|" in diarizer and diarizer.split("|")[1] == segmentation.load().name
    assert found["provenance"].get("transcriber", "").startswith("ctc/" if own else "")
    assert any(row["overlap"] for row in found["segments"]) == any(row["text"] for row in found["segments"]) == own
    assert httpx.post(url, content=bytes(5_000_001), timeout=60).status_code == 413


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path, word: str) -> None:
    """Until it answers and has said so: a signal that comes before is another matter (Ray's own command can lose it)."""
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/health", timeout=5).status_code == 200 and word in log.read_text():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)


def test_the_time_to_end_that_is_told_is_what_ray_serve_gives_every_part() -> None:
    from serve_apps.podcast import Api, Diarizer, Emotion, Transcriber

    for part in (Api, Diarizer, Emotion, Transcriber):
        assert part._deployment_config.graceful_shutdown_timeout_s == serving.GRACE_S


def test_a_segmentation_of_one_s_own_is_served_with_the_voiceprint_that_was_asked_for(bundles: dict[str, Path], tmp_path: Path) -> None:
    from serve_apps.podcast import diarizer_of

    own = segmentation.Segmenter(segmentation.Shape(filters=8, width=8, hidden=4, depth=1, dense=4))
    segmentation.save(own, tmp_path, {}, "a card")
    served = diarizer_of(from_environment({"diarizer": str(tmp_path), "voiceprint": str(bundles["voices"])}, {}))
    assert isinstance(served, Embedded)
    assert served.name == f"embedded/{load(bundles['voices']).sha256[:12]}+{segmentation.load(tmp_path).name}"


def test_a_taken_port_and_a_missing_bundle_are_said_before_ray_starts() -> None:
    free = serving.free_port()
    with pytest.raises(ValueError, match=r"there is no field 'quiet'"), serving.running(settings={"quiet": "true"}, port=free):
        pytest.fail("it served")
    with pytest.raises(ValueError, match=r"nowhere is not a bundle"), serving.running(settings={"bundle": "nowhere"}, port=free):
        pytest.fail("it served")
    with pytest.raises(ValueError, match="voiceprint tells voices apart"), serving.running(settings={"bundle": "voiceprint"}, port=free):
        pytest.fail("it served")
    no_words = {"transcriber": str(Path(__file__).parent)}
    with pytest.raises(ValueError, match="is no speech recogniser: it has no config.json"), serving.running(settings=no_words, port=free):
        pytest.fail("it served")
    for host in ("300.1.1.1", "203.0.113.7"):  # none at all, and one of nobody's (RFC 5737)
        with pytest.raises(ValueError, match=f"--host {host} is no address of this machine"), serving.running(host=host):
            pytest.fail("it served")
    untrusted = {"diarizer": "owner/pipeline"}
    with pytest.raises(ValueError, match="MOODCAST_TRUST_CHECKPOINT=true"), serving.running(settings=untrusted, port=free):
        pytest.fail("it served")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=rf"cannot listen on 127.0.0.1:{port} .* --port \d+"), serving.running(port=port):
            pytest.fail("it served")
        assert serving.free_port(preferred=port) != port
