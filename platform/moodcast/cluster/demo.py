"""The demo: a local Ray, the podcast service on it, a real conversation over HTTP, who felt what in it."""

from __future__ import annotations

import importlib.util
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from moodcast import containers, formats
from moodcast.cluster import serve
from moodcast.timeline import Timeline

PORT = 8000
SPEAKERS = 2  # of a telephone call: known, so said; of your own recording it is estimated
TIMEOUT_S = 300.0

Show = Callable[[Timeline], None]


def main(out: str | Path = Path("out/demo"), recording: str | Path | None = None, show: Show | None = None) -> Timeline:
    """Serve the default bundle, send a conversation, show its timeline and write JSON, CSV, RTTM and HTML into `out`.

    recording: an own file instead of the half minute of telephone conversation that ships with pyannote.audio.
    """
    screen = Console(highlight=False, soft_wrap=True)
    source = conversation() if recording is None else Path(recording)
    with containers.opened(source):  # what is no recording is refused now, and not when all has been loaded
        pass
    started = time.monotonic()
    with Stages(screen) as stage:
        stage("loading Ray, the models and the service")
        with serve.running(port=serve.free_port(preferred=PORT)) as url:
            options = {"stream": "true", "name": source.stem}
            if recording is None:
                options["num_speakers"] = str(SPEAKERS)
            stage(f"listening to {source.name}: POST {url}/v1/timeline?{urllib.parse.urlencode(options)}")
            found = ask(url, source, options, on_segment=stage.segment)
            stage("stopping the service")
    if show is not None:
        show(found)
    paths = formats.write(found, out, source.stem, audio=source)
    for path in paths:
        screen.print(f"written: {path}")
    screen.print(f"open {paths[-1]} in a browser to see and hear it; the whole demo took {time.monotonic() - started:.0f} s")
    return found


class Stages:
    """What is being done and for how long, one line a stage; a moving line where somebody looks at a terminal."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.text = ""
        self.segments = 0
        self.started = time.monotonic()
        self.status = screen.status("")

    def __enter__(self) -> Stages:
        self.status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.status.stop()
        self._finish("[red]failed[/red]" if kind else "[green]done[/green]")

    def __call__(self, text: str) -> None:
        """The next stage; the one before is done."""
        self._finish("[green]done[/green]")
        self.text, self.started, self.segments = text, time.monotonic(), 0
        self.status.update(text)

    def segment(self) -> None:
        """One more segment came in this stage."""
        self.segments += 1
        self.status.update(f"{self.text} ({self.segments} segments)")

    def _finish(self, how: str) -> None:
        if self.text:
            count = f", {self.segments} segments" if self.segments else ""
            self.screen.print(f"{how} {self.text} ({time.monotonic() - self.started:.1f} s{count})")


def conversation() -> Path:
    """The recording that ships with pyannote.audio, found without importing it.

    Raises ValueError where pyannote.audio is not installed.
    """
    try:
        found = importlib.util.find_spec("pyannote.audio")
    except ModuleNotFoundError:
        found = None
    for folder in (found.submodule_search_locations or []) if found else []:
        if (path := Path(folder) / "sample" / "sample.wav").is_file():
            return path
    raise ValueError("the demo's conversation ships with pyannote.audio, which is not installed: pip install 'moodcast[pyannote]'")


def ask(url: str, source: Path, options: dict[str, str], on_segment: Callable[[], None]) -> Timeline:
    """Send a recording to the service and read its stream to the end. Raises ValueError with the service's words where it refuses."""
    request = urllib.request.Request(f"{url}/v1/timeline?{urllib.parse.urlencode(options)}", data=source.read_bytes(), method="POST")
    request.add_header("content-type", "application/octet-stream")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy the environment names
    head: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    try:
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as refusal:
        raise _refused(json.load(refusal)) from None
    with response:
        for line in response:
            row = json.loads(line)
            kind = row.pop("type")
            if kind == "timeline":
                head = row
            elif kind == "segment":
                rows.append(row)
                on_segment()
            elif kind == "revision":
                rows[row["index"]] = row["segment"]
            elif kind == "adaptation":
                verdicts.append(row)
            elif kind == "error":
                raise _refused(row)
            elif kind == "end":
                return Timeline.from_json(json.dumps({**head, "segments": rows, "adaptation": verdicts}))
    raise ValueError("the service's answer was cut before its end; was it stopped?")


def _refused(answer: dict[str, Any]) -> ValueError:
    error = answer["error"]
    return ValueError(f"the service refuses: {error['message']} ({error['what_to_do']})")
