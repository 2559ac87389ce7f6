"""What a person sees while training runs: a live line in a terminal, a plain line an epoch elsewhere. It reads the run's folder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from moodcast.cluster import folder as files
from moodcast.cluster import nodes

EVERY_S = 0.2
QUIET_S = 20.0  # how long workers may bring nothing before Ray is asked whether it has room for them
PROGRESS_EVERY = "MOODCAST_PROGRESS_S"  # environment variable: outside a terminal, also a plain line of progress every so many seconds


@contextmanager
def watching(folder: Path, console: Console, epochs_done: int = 0) -> Iterator[None]:
    """Show the progress of the run in `folder` until the block ends."""
    stop = threading.Event()
    watch = _Watch(folder, console, epochs_done)
    thread = threading.Thread(target=watch.follow, args=(stop,), name="moodcast-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def counting(what: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that tells (done, total); nothing is shown outside a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task: list[Any] = []

        def tell(done: int, total: int) -> None:
            if not task:
                task.append(bar.add_task(what, total=total))
            bar.update(task[0], completed=done, total=total)

        yield tell


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """One epoch in words: losses by name, dev scores."""
    return f"epoch {line['epoch'] + 1}/{epochs}  {losses_line(line, 4)}{dev_scores(line)}  {line['seconds']:.1f} s"


def begun_again(attempt: dict[str, Any], before: dict[str, Any]) -> str:
    """In words, that the workers have begun again, and how many they are."""
    now, then = len(attempt["workers"]), len(before["workers"])
    count = f"{now} worker{'s' * (now > 1)}"
    return f"all workers began again with epoch {attempt['epoch'] + 1}: {count}{f' now, {then} before' if now != then else ''}"


def dev_scores(line: dict[str, Any], between: str = "  ") -> str:
    """The scores that an epoch has on dev, each after `between`; nothing without a dev split."""
    found = [f"dev UAR {100 * line['dev_uar']:.1f} %"] if line.get("dev_uar") is not None else []
    found += [f"dev CCC {line['dev_ccc']:.2f}"] if line.get("dev_ccc") is not None else []
    return "".join(between + each for each in found)


def losses_line(line: dict[str, Any], digits: int) -> str:
    """The terms of the loss by name, after their sum where there are several."""
    terms = {name.removeprefix("loss_"): value for name, value in line.items() if name.startswith("loss_")}
    shown = terms if len(terms) == 1 else {"loss": line["loss"], **terms} if "loss" in line else terms
    return "  ".join(f"{name} {value:.{digits}f}" for name, value in shown.items())


def duration(seconds: float) -> str:
    """Seconds as a person says them: "45 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


class _Watch:
    def __init__(self, folder: Path, console: Console, epochs_done: int) -> None:
        self.folder, self.console, self.told = folder, console, epochs_done
        self.attempts = len(files.read_lines(folder / files.ATTEMPTS)) + 1  # the first of this sitting is no news
        self.epochs = int((files.read_json(folder / files.RUN) or {"run": {"train": {"epochs": 0}}})["run"]["train"]["epochs"])
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[now]}"))
        self.bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.every_s = 0.0 if console.is_terminal else float(os.environ.get(PROGRESS_EVERY) or 0)
        self.said, self.said_at = "", time.monotonic() - self.every_s
        self.heard: object = None
        self.heard_at, self.waited = time.monotonic(), ""

    def follow(self, stop: threading.Event) -> None:
        with self.bar:
            task = self.bar.add_task("starting workers", total=None, now="")
            while not stop.wait(EVERY_S):
                self._look(task)
                self._ask()
            self._look(task)

    def _look(self, task: Any) -> None:
        attempts = files.read_lines(self.folder / files.ATTEMPTS)
        for number in range(self.attempts, len(attempts)):
            self.console.print(begun_again(attempts[number], attempts[number - 1]), highlight=False)
            self.attempts = number + 1
        for line in files.read_lines(self.folder / files.METRICS):
            if line["epoch"] >= self.told:  # after a restart lines are written again
                self.told = line["epoch"] + 1
                self.console.print(epoch_line(line, self.epochs), highlight=False)
        now = files.read_json(self.folder / files.PROGRESS)
        if now is None:
            return
        if "encoded" in now:
            words = f"{now['encoded']}/{now['of']}"
            self._say(f"computing features  {words}")
            self.bar.update(task, description="computing features", completed=now["encoded"], total=now["of"], now=words)
            return
        words = f"step {now['step']}/{now['steps']}  {losses_line(now['losses'], 3)}{dev_scores(now)}  {duration(now['left_s'])} left"
        self._say(f"epoch {now['epoch'] + 1}/{now['epochs']}  {words}")
        done = now["epoch"] * now["steps"] + now["step"]
        self.bar.update(
            task, description=f"epoch {now['epoch'] + 1}/{now['epochs']}", completed=done, total=now["epochs"] * now["steps"], now=words
        )

    def _ask(self) -> None:
        """Where nothing has come for a while: what is waited for, once."""
        now = (self.told, self.attempts, files.read_json(self.folder / files.PROGRESS))
        if now != self.heard:
            self.heard, self.heard_at, self.waited = now, time.monotonic(), ""
        elif time.monotonic() >= self.heard_at + QUIET_S:
            self.heard_at = time.monotonic()
            with suppress(Exception):  # a head that is away says nothing
                if (wanted := nodes.waited_for()) and wanted != self.waited:
                    self.waited = wanted
                    self.console.print(wanted, highlight=False)

    def _say(self, line: str) -> None:
        """A line for whoever follows a log, when there is something new and it is time."""
        if self.every_s and line != self.said and time.monotonic() >= self.said_at + self.every_s:
            self.said, self.said_at = line, time.monotonic()
            self.console.print(line, highlight=False, soft_wrap=True)
