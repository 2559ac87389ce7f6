"""The folder of a sweep, and the ledger in it: one line for everything that happened to a trial. Without Ray.

sweep.json         what is searched: the run, what is fixed, how many trials, searcher, folds, seeds
manifest.parquet   the training side; no test row is in it
target.parquet     what is adapted to, without labels; where a method hears such
test.parquet       the test side, which only the report reads
trials.jsonl       the ledger: "begun" (with what the trial changes), "epoch" (with its score), "ended" (how)
trials/0007/       of a trial that runs: state.pt, from which it goes on; of the best few that finished: a bundle a fold

The ledger alone decides what is done: a trial that ended is never run again, one that began and did not end goes on under its number,
and the searcher is told the same history whoever was killed in between. Only the driver writes it, one at a time, line by line to disk.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from moodcast import lines
from moodcast.cluster import folder as files

SETTINGS, ROWS, TARGET_ROWS, TEST_ROWS, LINES, TRIALS, STATE, LOCK = (
    "sweep.json",
    "manifest.parquet",
    "target.parquet",
    "test.parquet",
    "trials.jsonl",
    "trials",
    "state.pt",
    "lock",
)
RAY_FOLDER = "ray"  # what Ray Tune writes for itself while it runs: nothing rests on it, and it is removed at the end
State = Literal["running", "finished", "stopped", "diverged", "failed"]


@dataclass
class Trial:
    """One trial: what it changes (`changes`, by dotted path), what its space was asked (`params` with `distributions`), what came of it.

    origin: "published", "searched" or, of a population, the trial it goes on from is `parent`. epochs: one record each, with "epoch"
    (from 1), "value" (the mean score over folds and seeds) and "spread" (their standard deviation).
    """

    number: int
    params: dict[str, Any]
    distributions: dict[str, str]
    changes: dict[str, Any]
    origin: str = "searched"
    parent: int | None = None
    epochs: list[dict[str, Any]] = field(default_factory=list)
    state: State = "running"
    error: str = ""
    counts: dict[str, list[list[int]]] | None = None

    @property
    def value(self) -> float:
        """The score of the last epoch; NaN where there is none."""
        return float(self.epochs[-1]["value"]) if self.epochs else math.nan

    @property
    def last_epoch(self) -> int:
        """Epochs that are done."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    @property
    def seconds(self) -> float:
        """Time spent in epochs."""
        return sum(float(line["seconds"]) for line in self.epochs)

    def at(self, epoch: int) -> float | None:
        """The score of an epoch, or None where it was not reached."""
        return next((float(line["value"]) for line in self.epochs if line["epoch"] == epoch), None)


def refuse_taken(folder: Path) -> None:
    """Raises ValueError where a folder holds a sweep, or anything but what is left where a driver died while it began one."""
    if (folder / SETTINGS).is_file():
        raise ValueError(f"{folder} is there already; go on with it by --resume {folder}, or choose another --out")
    there = files.names_in(folder) if folder.exists() else set()
    if there and not (LOCK in there and there <= {LOCK, ROWS, TARGET_ROWS, TEST_ROWS, SETTINGS}):
        raise ValueError(f"{folder} holds something else; remove it, or choose another --out")


@contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """Inside, an empty folder is this process's alone, for what a sweep begins with; its lock comes first. Raises as `refuse_taken`."""
    folder.mkdir(parents=True, exist_ok=True)
    refuse_taken(folder)
    handle = _locked(folder)
    try:
        refuse_taken(folder)  # another driver may have been quicker
        for path in folder.iterdir():
            if path.name != LOCK:
                path.unlink()
        yield
    finally:
        os.close(handle)


class Ledger:
    """What is known of a sweep's trials. Opened for writing it holds the folder's lock, so that two drivers cannot count one trial twice.

    Raises ValueError where the folder is no sweep, another driver has it, or a line says what cannot be.
    """

    def __init__(self, folder: Path, write: bool = False) -> None:
        self.folder = folder
        found = files.read_json(folder / SETTINGS)
        if found is None:
            raise ValueError(f"{folder} is no sweep: it has no {SETTINGS}. `moodcast tune SPACE MANIFEST --out {folder}` begins one")
        self.settings: dict[str, Any] = found
        self._lock = _locked(folder) if write else None
        if write:
            _cut_torn_line(folder / LINES)
        self.trials: dict[int, Trial] = {}
        self.told: list[tuple[int, dict[str, Any]]] = []  # every epoch, in the order in which they were told
        for line in files.read_lines(folder / LINES):
            self._take(line)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def wanted(self) -> int:
        """How many trials the sweep has when it is done."""
        return int(self.settings["trials"])

    @property
    def ended(self) -> list[Trial]:
        """The trials that ended, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state != "running"]

    @property
    def unfinished(self) -> list[Trial]:
        """The trials that began and did not end."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state == "running"]

    @property
    def best(self) -> Trial | None:
        """The best of those that finished all epochs: the earliest of equals."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Trial]:
        """Those that finished all epochs of the run, best first."""
        whole = (t for t in self.ended if t.state == "finished" and t.last_epoch >= self.settings["epochs"])
        return sorted(whole, key=lambda t: (-t.value, t.number))

    def begin(self, trial: Trial) -> None:
        """A trial begins. Raises ValueError where its number is taken or beyond what was asked for."""
        line = {"params": trial.params, "distributions": trial.distributions, "changes": trial.changes}
        self._write({"event": "begun", "trial": trial.number, **line, "origin": trial.origin, "parent": trial.parent})

    def epoch(self, number: int, line: Mapping[str, Any]) -> bool:
        """An epoch of a trial is done; False, and nothing is written, where that was known."""
        if int(line["epoch"]) <= self.trials[number].last_epoch:
            return False
        self._write({"event": "epoch", "trial": number, **line})
        return True

    def end(self, number: int, state: State, error: str = "", counts: Mapping[str, Any] | None = None) -> None:
        """A trial ended; it can do so once."""
        self._write({"event": "ended", "trial": number, "state": state, "error": error, "counts": counts})

    def check_count(self) -> None:
        """Raises ValueError unless exactly the trials that were asked for have ended, each once."""
        numbers = [trial.number for trial in self.ended]
        if numbers != list(range(self.wanted)):
            missing = sorted(set(range(self.wanted)) - set(numbers))
            raise ValueError(
                f"{self.folder}: {len(numbers)} of {self.wanted} trials ended; missing are {missing[:12]}. "
                f"`moodcast tune --resume {self.folder}` goes on"
            )

    def sweep_up(self, keep: int, needed: Collection[int] = ()) -> None:
        """Remove the folders of all trials that ended, but for the `keep` best, of which only bundles stay, and those that are `needed`."""
        best = {trial.number for trial in self.ranked()[:keep]}
        for path in (self.folder / TRIALS).glob("[0-9]*"):
            trial = self.trials.get(int(path.name))
            if trial is not None and trial.number in needed:
                continue
            if trial is None or (trial.state != "running" and trial.number not in best):
                shutil.rmtree(path, ignore_errors=True)
            elif trial.state != "running":
                (path / STATE).unlink(missing_ok=True)

    def _write(self, line: dict[str, Any]) -> None:
        """Take a line and put it on disk, whole, before anything rests on it."""
        if self._lock is None:
            raise ValueError(f"the ledger of {self.folder} is open for reading only")
        plain = json.loads(json.dumps(line))
        self._take(plain)
        lines.add(self.folder / LINES, plain)

    def _take(self, line: dict[str, Any]) -> None:
        event, number = line["event"], int(line["trial"])
        if event == "begun":
            if number in self.trials or not 0 <= number < self.wanted:
                raise ValueError(f"{self.folder / LINES}: trial {number} begins again, or beyond the {self.wanted} that were asked for")
            told = {name: line[name] for name in ("params", "distributions", "changes", "origin", "parent")}
            self.trials[number] = Trial(number, **told)
            return
        trial = self.trials.get(number)
        if trial is None or trial.state != "running":
            raise ValueError(f"{self.folder / LINES}: trial {number} {event} though it does not run")
        if event == "epoch":
            trial.epochs.append({name: value for name, value in line.items() if name not in ("event", "trial")})
            self.told.append((number, trial.epochs[-1]))
        else:
            trial.state, trial.error, trial.counts = line["state"], line["error"], line["counts"]


def trial_folder(sweep: Path, number: int) -> Path:
    """Where a trial keeps what it goes on from, and then its bundles, one a fold."""
    return sweep / TRIALS / f"{number:04d}"


def _locked(folder: Path) -> int:
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ValueError(f"another process is at work on the sweep {folder}; wait for it, or end it first") from None
    return handle


def _cut_torn_line(path: Path) -> None:
    """A driver that was killed while it wrote leaves half a line: it never happened."""
    if path.is_file() and not (text := path.read_bytes()).endswith(b"\n"):
        with path.open("rb+") as file:
            file.truncate(text.rfind(b"\n") + 1)
