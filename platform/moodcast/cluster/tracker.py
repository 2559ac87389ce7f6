"""Trackers: what a run or a sweep writes into its folder is told to TensorBoard and MLflow as well. Without Ray.

A tracker mirrors lines that are on disk already (metrics.jsonl of a run, the ledger of a sweep), and asks its store what that knows before
it tells more. So what was killed and gone on with is one run there, and no step stands in it twice. Training does not wait for a store: one
that went away is told later what it missed.

track.json in the folder says which trackers were chosen, and the key under which a store finds the run again.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console

from moodcast import config
from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster.stores import WHOLE, Course, MLflow, TensorBoard, Tracker, first_line, library_of

TRACKERS = ("tensorboard", "mlflow")
NONE = "none"
CHOICE = "track.json"
EVERY_S = 1.0


def chosen(words: str | None) -> tuple[str, ...] | None:
    """As `named`; raises ValueError also where the library of a tracker is not installed."""
    names = named(words)
    for name in names or ():
        library_of(name)
    return names


def named(words: str | None) -> tuple[str, ...] | None:
    """The trackers behind "tensorboard,mlflow", or none of them behind "none"; None where nothing was said.

    Raises ValueError for a word that is no tracker.
    """
    if words is None:
        return None
    names = tuple(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))
    if names == (NONE,):
        return ()
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"there is no tracker '{name}'.{config.suggest(name, TRACKERS)} Known: {', '.join(TRACKERS)}, or {NONE}")
    if not names:
        raise ValueError(f"which trackers? wanted {', '.join(TRACKERS)}, several with a comma between, or {NONE}")
    return names


def remembered(folder: Path) -> tuple[str, ...]:
    """The trackers that a run or a sweep was told to have."""
    return tuple((files.read_json(folder / CHOICE) or {}).get("trackers", ()))


def opened(folder: Path, wanted: Sequence[str] | None, default: Sequence[str] = ()) -> list[Tracker]:
    """The trackers of the run or sweep in `folder`: those that are wanted, else those that it had before, else the default.

    Raises ValueError for a library that is missing or a store that cannot be opened.
    """
    known = files.read_json(folder / CHOICE) or {"key": secrets.token_hex(8), "trackers": list(default)}
    if wanted is not None:
        known["trackers"] = list(wanted)
    if known["trackers"] or wanted is not None:
        files.write_json(folder / CHOICE, known)
    made: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(folder / files.TENSORBOARD),
        "mlflow": lambda: MLflow(folder, str(known["key"])),
    }
    return [made[name]() for name in known["trackers"]]


@contextmanager
def tracking(trackers: Sequence[Tracker], source: Callable[[], list[Course]], console: Console) -> Iterator[None]:
    """Inside, what `source` reads is told to the trackers whenever there is something new; at the end also how it ended."""
    mirror = _Mirror(trackers, source, console)
    thread = threading.Thread(target=mirror.follow, name="moodcast-track", daemon=True)
    if trackers:
        thread.start()
    state = "failed"
    try:
        yield
        state = "finished"
    except KeyboardInterrupt:
        state = "stopped"
        raise
    finally:
        mirror.stop.set()
        if trackers:
            thread.join()
            mirror.end(state)


def of_run(folder: Path) -> list[Course]:
    """The course of a training run."""
    told = files.read_json(folder / files.RUN) or {"run": {}}
    steps = [(int(line["epoch"]), _numbers(line)) for line in files.read_lines(folder / files.METRICS)]
    return [Course(WHOLE, files.flat(told["run"]), steps, "failed" if (folder / files.FAILURE).is_file() else "running")]


def of_sweep(folder: Path) -> list[Course]:
    """The courses of a sweep: of the whole the best score after so many trials that ended; of each trial its epochs, which count from 1."""
    ledger = books.Ledger(folder)
    ended = [int(line["trial"]) for line in files.read_lines(folder / books.LINES) if line["event"] == "ended"]
    whole = {trial.number: trial.value for trial in ledger.ranked()}
    best = list(accumulate((whole.get(number, 0.0) for number in ended), max))
    steps = [(count, {"best": value}) for count, value in enumerate(best, start=1) if value]
    plan = {name: value for name, value in ledger.settings.items() if not isinstance(value, (dict, list))}
    trials = [
        Course(
            f"{number:04d}",
            trial.changes,
            [(int(line["epoch"]), _numbers(line)) for line in trial.epochs],
            "failed" if trial.state == "diverged" else trial.state,
        )
        for number, trial in sorted(ledger.trials.items())
    ]
    return [Course(WHOLE, {**plan, **files.flat(ledger.settings["fixed"])}, steps), *trials]


class _Mirror:
    """Tells trackers what a source reads. A tracker that fails is named once, and tried again."""

    def __init__(self, trackers: Sequence[Tracker], source: Callable[[], list[Course]], console: Console) -> None:
        self.trackers, self.source, self.console = trackers, source, console
        self.stop = threading.Event()
        self.failing: dict[str, str] = {}

    def follow(self) -> None:
        before: list[Course] = []
        while not self.stop.is_set():
            with suppress(OSError, ValueError):  # of a folder; whoever trains in it says more about that
                now = self.source()
                if now != before or self.failing:
                    self._tell(now)
                    before = now
            self.stop.wait(EVERY_S)

    def end(self, state: str) -> None:
        self._tell([replace(course, state=state) if course.state == "running" else course for course in self.source()])
        for name, why in self.failing.items():
            self.console.print(f"{name} was not told everything ({why}); metrics are in the folder", style="bold red", highlight=False)
        for tracker in self.trackers:
            tracker.close()

    def _tell(self, courses: list[Course]) -> None:
        for tracker in self.trackers:
            try:
                tracker.tell(courses)
                self.failing.pop(tracker.name, None)
            except Exception as error:  # a store that is away is no reason to stop training
                if tracker.name not in self.failing:
                    words = f"{tracker.name} cannot be told now ({first_line(error)}); training goes on, it is tried again"
                    self.console.print(words, style="bold red", highlight=False)
                self.failing[tracker.name] = first_line(error)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite measures of a line."""
    return {name: value for name, value in line.items() if isinstance(value, float) and math.isfinite(value)}
