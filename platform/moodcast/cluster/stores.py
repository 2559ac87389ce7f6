"""Where trackers write: event files of TensorBoard, runs of MLflow. Each is told whole courses, and takes what it does not hold yet.

Without Ray. Who tells them, and when, is in `tracker`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from moodcast import __version__
from moodcast.cluster import folder as files
from moodcast.extras import library

WHOLE = ""  # the name of the run itself; its trials have their numbers
URI, EXPERIMENT, STORE = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "mlflow.db"
KEY, PART, STATE, PARENT = "moodcast.key", "moodcast.part", "moodcast.state", "mlflow.parentRunId"
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}  # without them minutes, for a store that is away
LONGEST = 500  # characters of a setting that MLflow is told
MOST = 100  # settings or measures in one call


@dataclass(frozen=True)
class Course:
    """All that is to be known of one run: its settings by dotted path, what was measured at which step, and whether it goes on.

    name: WHOLE, or that of a trial. state: "running", or how it ended: "finished", "stopped" (by somebody or by ASHA), "failed".
    """

    name: str
    settings: Mapping[str, Any]
    steps: Sequence[tuple[int, Mapping[str, float]]] = ()
    state: str = "running"


class Tracker(Protocol):
    """A store that is told courses, again and again, and takes what it does not know yet."""

    name: str

    def tell(self, courses: Sequence[Course]) -> None:
        """Write what is missing. Raises whatever goes wrong."""

    def close(self) -> None:
        """Nothing more comes."""


@dataclass
class Told:
    """What a store knows of a run: at which steps each measure stands, whether its settings do, and its state."""

    steps: dict[str, set[int]] = field(default_factory=dict)
    settings: bool = False
    state: str = "running"

    def missing(self, course: Course) -> list[tuple[int, dict[str, float]]]:
        """The measures of a course that do not stand yet, by step."""
        found = []
        for step, values in course.steps:
            new = {name: value for name, value in values.items() if step not in self.steps.get(name, ())}
            if new:
                found.append((step, new))
        return found

    def note(self, told: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """They stand now."""
        for step, values in told:
            for name in values:
                self.steps.setdefault(name, set()).add(step)


class TensorBoard:
    """Event files below a folder: those of the run itself in it, those of each trial in a folder of its own."""

    name = "tensorboard"

    def __init__(self, place: Path) -> None:
        library_of(self.name)
        self.place = place
        self.known: dict[str, Told] = {}
        self.writers: dict[str, Any] = {}

    def tell(self, courses: Sequence[Course]) -> None:
        """Write what the event files do not hold."""
        for course in courses:
            known = self.known.get(course.name) or self._read(course.name)
            missing = known.missing(course)
            if missing or (course.name and not known.settings):
                writer = self._writer(course, known)
                for step, values in missing:
                    for name, value in values.items():
                        writer.add_scalar(name, value, step)
                writer.flush()
                known.note(missing)
            if course.state != "running" and course.name in self.writers:
                self.writers.pop(course.name).close()

    def close(self) -> None:
        """Close the files."""
        while self.writers:
            self.writers.popitem()[1].close()

    def _read(self, name: str) -> Told:
        """What lies in the folder of a run."""
        found = self.known[name] = Told()
        if any((self.place / name).glob("events.out.*")):
            reading = library("tensorboard.backend.event_processing.event_accumulator", "ray", "--track tensorboard needs")
            there = reading.EventAccumulator(str(self.place / name), size_guidance={"scalars": 0}).Reload()
            for tag in there.Tags()["scalars"]:
                found.steps[tag] = {event.step for event in there.Scalars(tag)}
            found.settings = bool(there.summary_metadata.get("_hparams_/session_start_info"))
        return found

    def _writer(self, course: Course, known: Told) -> Any:
        from torch.utils.tensorboard import SummaryWriter, summary  # a second to import, and only here

        if course.name not in self.writers:
            self.writers[course.name] = SummaryWriter(str(self.place / course.name))
        writer = self.writers[course.name]
        if course.name and not known.settings:  # trials are compared by their settings, in the tab HPARAMS
            plain = {name: value if type(value) in (int, float, str) else str(value) for name, value in course.settings.items()}
            for part in summary.hparams(plain, {"value": 0.0})[:2]:  # type: ignore[no-untyped-call]  # the third: that it is over
                writer.file_writer.add_summary(part)
            known.settings = True
        return writer


class MLflow:
    """Runs of MLflow: one for a training run; for a sweep one with a run below it for each trial.

    The store is that of MLFLOW_TRACKING_URI or, where that is not set, a file mlflow.db beside the run's folder; the experiment that of
    MLFLOW_EXPERIMENT_NAME, or "moodcast". Nothing is uploaded but settings and metrics.
    """

    name = "mlflow"

    def __init__(self, folder: Path, key: str) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        mlflow = library_of(self.name)
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self.folder, self.key = folder, key
        self.uri = uri_of(folder)
        self.known: dict[str, Told] = {}
        try:
            self.client = mlflow.MlflowClient(self.uri)
            wanted = os.environ.get(EXPERIMENT) or "moodcast"
            there = self.client.get_experiment_by_name(wanted)
            self.experiment = str(there.experiment_id if there else self.client.create_experiment(wanted))
            self.runs = {run.data.tags.get(PART, WHOLE): run for run in self._found()}
        except Exception as error:
            raise ValueError(
                f"MLflow at {_shown(self.uri)} cannot be told of {folder.name}: {first_line(error)} ({URI} names it)"
            ) from error

    def tell(self, courses: Sequence[Course]) -> None:
        """Log what the store does not know."""
        from mlflow.entities import Metric, Param

        for course in courses:
            known = self.known.get(course.name)
            if known is not None and course.state == known.state and not known.missing(course):
                continue
            run = self.runs.get(course.name) or self._created(course)
            if known is None:
                known = self.known[course.name] = self._read(run)
                settings = {name: _shown_value(value) for name, value in course.settings.items() if name not in run.data.params}
                told = [Param(name, value) for name, value in settings.items()]
                for first in range(0, len(told), MOST):
                    self.client.log_batch(run.info.run_id, params=told[first : first + MOST])
            missing = known.missing(course)
            if missing:
                now = int(time.time() * 1000)
                measured = [Metric(name, value, now, step) for step, values in missing for name, value in values.items()]
                for first in range(0, len(measured), MOST):
                    self.client.log_batch(run.info.run_id, metrics=measured[first : first + MOST])
                known.note(missing)
            if course.state != known.state:
                self._say_state(run.info.run_id, course.state)
                known.state = course.state

    def close(self) -> None:
        """Nothing is open."""

    def _found(self) -> list[Any]:
        """The runs that this folder has in the store already."""
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{self.key}'", max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _created(self, course: Course) -> Any:
        tags = {KEY: self.key, PART: course.name, "moodcast.version": __version__, "moodcast.folder": str(self.folder)}
        if course.name:
            tags[PARENT] = self.runs[WHOLE].info.run_id
        name = self.folder.name + (f"/{course.name}" if course.name else "")
        self.runs[course.name] = self.client.create_run(self.experiment, tags=tags, run_name=name)
        return self.runs[course.name]

    def _read(self, run: Any) -> Told:
        """What the store knows of a run."""
        state = "running" if run.info.status == "RUNNING" else str(run.data.tags.get(STATE, ""))
        found = Told(state=state)
        for name in run.data.metrics:
            found.steps[name] = {metric.step for metric in self.client.get_metric_history(run.info.run_id, name)}
        return found

    def _say_state(self, run_id: str, state: str) -> None:
        self.client.set_tag(run_id, STATE, state)
        if state == "running":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED"))


def library_of(name: str) -> Any:
    """The library of a tracker. Raises ValueError that says how to get it, where it is not installed."""
    if name == "mlflow":
        return library("mlflow", "mlflow", "--track mlflow needs")
    library("tensorboard", "ray", "--track tensorboard needs")
    return library("torch.utils.tensorboard", "ray", "--track tensorboard needs tensorboard and")


def uri_of(folder: Path) -> str:
    """The MLflow store of the run or sweep in a folder."""
    return os.environ.get(URI) or f"sqlite:///{folder.absolute().parent / STORE}"


def view_of(name: str, folder: Path) -> str:
    """What shows the curves that a tracker has of the run or sweep in a folder: a command, or an address."""
    if name == TensorBoard.name:
        return f"tensorboard --logdir {shlex.quote(str(folder / files.TENSORBOARD))}"
    uri = _shown(uri_of(folder))
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def _shown(text: str) -> str:
    """A text whose addresses have lost their passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _shown_value(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:LONGEST]


def first_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {_shown(lines[0])[:200] if lines else 'no reason given'}"
