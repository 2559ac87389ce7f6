"""What the verbs share: words of the command line to things, errors to one line, progress bars. Light: imported by `--help`."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from moodcast.bundle import Bundle
    from moodcast.run import Run

EXTRAS = {
    "ray": "ray",
    "psutil": "ray",
    "optuna": "ray",
    "tenacity": "ray",
    "fastapi": "ray",
    "starlette": "ray",
    "uvicorn": "ray",
    "multipart": "ray",
    "pyannote.audio": "pyannote",
    "transformers": "encoders",
    "peft": "encoders",
    "audiomentations": "augment",
    "opensmile": "functionals",
    "huggingface_hub": "hub",
    "onnx": "onnx",
    "onnxruntime": "onnx",
}
WIDE = 140  # columns where nobody looks at a terminal: logs and pipes


@dataclass
class Options:
    """What holds for every verb."""

    debug: bool = False


options = Options()


def console(errors: bool = False) -> Console:
    """A rich console: on standard output for results, on standard error for the rest."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else WIDE
    return Console(stderr=errors, width=width, highlight=False, soft_wrap=errors)


def fail(message: str, what: str = "error") -> None:
    """One red line on standard error."""
    from rich.text import Text

    console(errors=True).print(Text.assemble((f"{what}: ", "bold red"), (message, "red")))


def say(message: str, what: str) -> None:
    """One quiet line on standard error."""
    from rich.text import Text

    console(errors=True).print(Text(f"{what}: {message}", style="dim"))


def fail_on(file: Path | str, error: Exception) -> None:
    """The same for one file of several; the file is named, once."""
    reason = explain(error) or str(error)
    fail(reason if str(file) in reason else f"{file}: {reason}")


def run(app: Callable[[], Any]) -> None:
    """Run the app. ValueError (AudioError is one), OSError and a missing extra become one line and exit code 2."""
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # no telemetry from whatever a verb imports
    try:
        app()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        message = explain(error)
        if message is None or options.debug:
            raise
        fail(message)
        sys.exit(2)


def explain(error: Exception) -> str | None:
    """The line a user reads, or None where the error is ours to mend (a module of our own is missing)."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if not isinstance(error, ModuleNotFoundError):
        return " ".join(str(error).split()) or type(error).__name__
    parts = (error.name or "").split(".")
    extra = next((EXTRAS[known] for known in (".".join(parts[:2]), parts[0]) if known in EXTRAS), None)
    return f"this needs '{error.name}', which is not installed: pip install 'moodcast[{extra}]'" if extra else None


def find_job(name: str) -> ModuleType:
    """The module behind "erm" (a file of jobs/), or behind one of your own: "mylab.jobs.mine", "mine.py"; it must hold RUN.

    Raises ValueError with the nearest name where there is no such job.
    """
    from moodcast.config import suggest

    known = job_names()
    plain = name.removesuffix(".py").removeprefix("./").replace("/", ".").removeprefix("jobs.")
    own = name.endswith(".py") or "." in plain
    if plain not in known and not own:
        raise ValueError(f"there is no job '{name}'.{suggest(plain, known)} Jobs: {', '.join(known) or 'none'}")
    wanted = f"jobs.{plain}" if plain in known else plain
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append("")  # a module beside the user, as `python -m` would find it
    try:
        module = importlib.import_module(wanted)
    except ModuleNotFoundError as error:
        if error.name and wanted.startswith(error.name):
            raise ValueError(f"there is no job '{name}': no module {error.name}. Jobs: {', '.join(known)}") from error
        raise
    if not hasattr(module, "RUN"):
        raise ValueError(f"{wanted} holds no RUN; a job is a module with RUN = moodcast.run.Run(...)")
    return module


def find_run(name: str) -> Run:
    """The run of a job, or of a file that holds one: FOLDER/winner.json of a sweep, run.json of a training run.

    A file is not trusted to name what is imported: its method must be one of moodcast's own, while a job of yours is imported by name.
    Raises ValueError for a file without a run, and for a job that goes a way of its own.
    """
    from moodcast.run import Run, run_from_dict

    if not name.endswith(".json"):
        job = find_job(name)
        if not isinstance(job.RUN, Run):
            raise ValueError(f"the job {name} has a command of its own: python -m {job.__name__} --help")
        return job.RUN
    import json

    if not Path(name).is_file():
        raise ValueError(f"there is no file {name}; wanted winner.json of a sweep, or run.json of a training run")
    try:
        data = json.loads(Path(name).read_text(encoding="utf-8"))
        run = run_from_dict(data.get("run", data))
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} holds no run ({error}); wanted winner.json of a sweep, or run.json of a training run") from None
    if isinstance(stages := data.get("schedule"), list):
        say(f"{name} won by a schedule of {len(stages)} settings, one after the other; what follows are the last ones, throughout", "note")
    return run


def load_listener(name: str) -> Bundle:
    """As `moodcast.podcast.load_listener`, which takes seconds to import."""
    from moodcast import podcast

    return podcast.load_listener(name)


def job_names() -> list[str]:
    """The files of jobs/."""
    found = importlib.util.find_spec("jobs")
    return sorted(info.name for info in pkgutil.iter_modules(found.submodule_search_locations)) if found else []


def sort_words(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The words after a job: manifests (files) and overrides (field=value)."""
    manifests, changes = [], []
    for word in words:
        if "=" in word and not Path(word).exists():
            changes.append(word)
        else:
            manifests.append(Path(word))
    if absent := [str(path) for path in manifests if not path.is_file()]:
        raise ValueError(f"no manifest at {', '.join(absent)}; `moodcast prepare` makes one, and a field is changed with field=value")
    return manifests, changes


def named(files: Sequence[Path]) -> list[str]:
    """A name for what is written about each file: its stem, with a number where two files share it."""
    names: list[str] = []
    for file in files:
        tries = (file.stem if number == 1 else f"{file.stem}-{number}" for number in itertools.count(1))
        names.append(next(name for name in tries if name not in names))
    return names


def refuse_place(folder: Path) -> None:
    """Raise ValueError, before hours of work, where nothing can be written into a folder, which need not be there yet."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(
            f"nothing can be written into {folder}: {there} is {'read-only' if there.is_dir() else 'a file'}; choose another --out"
        )


class Advance(Protocol):
    """How a bar is moved: how much is done, of how much where that is known, and what is being done where that changes."""

    def __call__(self, done: float, of: float | None, what: str | None = None) -> None:
        """Move it."""


@contextmanager
def progress(title: str, total: float | None = None, hidden: bool = False) -> Iterator[Advance]:
    """A bar on standard error that goes away when done; yields how to move it. Nothing is drawn where nobody looks."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    screen = console(errors=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=hidden or not screen.is_terminal) as bars:
        task = bars.add_task(title, total=total)

        def advance(done: float, of: float | None, what: str | None = None) -> None:
            bars.update(task, completed=done, total=of if of is not None else total, description=what or title)

        yield advance
