"""docs/service.md: its examples run against the interface, its limits and refusals are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import uvicorn

from moodcast.service.api import build_app
from moodcast.service.settings import Settings
from tests.service.asking import Told

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- runs -->\n```python\n(.*?)```", PAGE, re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def served() -> Iterator[str]:
    """The address of the interface on a port of its own, with turns that are told."""
    server = uvicorn.Server(uvicorn.Config(build_app(Told(), Settings(max_mb=1)), port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=30)


def run(example: str, address: str, recording: bytes, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "podcast.mp3").write_bytes(recording)
    (folder / "example.py").write_text(example.replace(ADDRESS, address))
    return subprocess.run([sys.executable, "example.py"], cwd=folder, capture_output=True, text=True)


def test_the_examples_print_who_felt_what(served: str, sound: bytes, tmp_path: Path) -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 2
    for example in EXAMPLES:
        done = run(example, served, sound, tmp_path)
        assert done.returncode == 0, done.stderr
        assert [line.split()[1] for line in done.stdout.splitlines()] == ["anna", "ben", "anna"]


@pytest.mark.parametrize(("recording", "kind"), [(b"no sound " * 100, "not_audio"), (bytes(20_000_000), "too_large")])
def test_the_first_example_tells_a_refusal_in_the_words_of_the_service(served: str, recording: bytes, kind: str, tmp_path: Path) -> None:
    done = run(EXAMPLES[0], served, recording, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{kind}: "), done.stderr


def table(heading: str) -> list[list[str]]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def test_limits_stand_there_as_they_are_set() -> None:
    told = {name.strip("`"): float(value) for name, value, _ in table("Limits")}
    assert told == {field.name: float(field.default) for field in fields(Settings) if field.name.startswith("max_")}


def test_every_refusal_stands_there_under_its_status() -> None:
    told = {
        (status, kind)
        for statuses, kinds, _ in table("Refusals")
        for status in statuses.split(", ")
        for kind in re.findall(r"`(\w+)`", kinds)
    }
    sources = [*(ROOT / "platform" / "moodcast" / "service").glob("*.py"), ROOT / "serve_apps" / "podcast.py"]
    code = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    made = set(re.findall(r"ServiceError\(\s*(\d+),\s*\"(\w+)\"", code))
    assert len(made) > 10
    assert told == made | {("404", "no_such_route"), ("405", "no_such_route")}
