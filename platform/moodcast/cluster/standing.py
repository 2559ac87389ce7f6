"""What a person sees while a sweep runs: a live table in a terminal, a plain line a trial elsewhere. Without Ray."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from moodcast.cluster.ledger import Ledger, Trial
from moodcast.cluster.watch import duration

SHOWN = 14  # trials in the live table: those that run, then the best
MARKS = {"finished": "green", "stopped": "dim", "running": "yellow", "diverged": "red", "failed": "red"}


class Standing:
    """How far a sweep is. Use as a context; `show` when something was learnt."""

    def __init__(self, ledger: Ledger, progress: bool = True) -> None:
        self.ledger = ledger
        self.console = Console(stderr=True, quiet=not progress)
        self.marks = [(time.monotonic(), epochs_done(ledger))]  # where counting begins; later that after the first trial
        self.left: float | None = None
        alive = self.console.is_terminal and progress
        self.live = Live(console=self.console, refresh_per_second=2, transient=True, get_renderable=self.table) if alive else None

    def __enter__(self) -> Standing:
        done = len(self.ledger.ended)
        went = f"{done} of {self.ledger.wanted} trials are done" if done else f"{self.ledger.wanted} trials"
        self._say(f"sweep {self.ledger.folder}: {went}, each the mean over {means_over(self.ledger)}")
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()
        if error is None and (best := self.ledger.best):
            self._say(f"best: {best_line(best)}")

    def show(self, ended: int | None = None) -> None:
        """Draw anew; a line for a trial that ended."""
        self.left = self.left_s()
        if ended is not None:
            self._say(ended_line(self.ledger, self.ledger.trials[ended], self.left))
            if len(self.marks) == 1:
                self.marks.append((time.monotonic(), epochs_done(self.ledger)))

    def left_s(self) -> float | None:
        """Seconds that are left if every trial that is missing were to take as long as those that ended did; None before there are any.

        The first trial of a sitting counts only while there is no other: Ray starts and audio is decoded in its time.
        """
        ended = [trial for trial in self.ledger.ended if trial.epochs]
        now = epochs_done(self.ledger)
        since, done = next(((since, now - first) for since, first in reversed(self.marks) if now > first), (0.0, 0))
        if not ended or not done:
            return None
        each = sum(trial.last_epoch for trial in ended) / len(ended)
        missing = (self.ledger.wanted - len(self.ledger.trials)) * each
        missing += sum(max(1.0, each - trial.last_epoch) for trial in self.ledger.unfinished)
        return (time.monotonic() - since) / done * missing

    def table(self) -> Group:
        """Those that run, and the best."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, justify in (("trial", "right"), ("", "left"), ("epoch", "right"), ("inner UAR", "right"), ("what is changed", "left")):
            table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        running = self.ledger.unfinished
        best = sorted((t for t in self.ledger.ended if t.epochs), key=lambda t: (t.state != "finished", -t.value))
        for trial in [*running, *best[: max(3, SHOWN - len(running))]]:
            value = f"{100 * trial.value:.1f}" if trial.epochs else ""
            table.add_row(str(trial.number), Text(trial.state, style=MARKS[trial.state]), str(trial.last_epoch), value, Text(brief(trial)))
        left = f", about {duration(self.left)} left" if self.left else ""
        head = f"{len(self.ledger.ended)} of {self.ledger.wanted} trials{left}"
        if self.ledger.best:
            head += f"; best: {best_line(self.ledger.best)}"
        return Group(Text(head), table)

    def _say(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def epochs_done(ledger: Ledger) -> int:
    """Epochs of all trials together."""
    return sum(len(trial.epochs) for trial in ledger.trials.values())


def means_over(ledger: Ledger) -> str:
    """ "3 inner speaker folds", "3 inner speaker folds and 2 seeds"."""
    folds, seeds = ledger.settings["folds"], ledger.settings["seeds"]
    whose = " of the source" if "target_rows" in ledger.settings else ""
    return f"{folds} inner speaker folds{whose}" + (f" and {seeds} seeds" if seeds > 1 else "")


def best_line(trial: Trial) -> str:
    """A trial and its score."""
    name = "the published settings" if trial.origin == "published" else brief(trial)
    return f"trial {trial.number}, inner UAR {100 * trial.value:.1f} % ({name})"


def ended_line(ledger: Ledger, trial: Trial, left_s: float | None) -> str:
    """A trial that ended, in words."""
    score = f"inner UAR {100 * trial.value:.1f} % " if trial.epochs else ""
    how = f"{trial.state} after epoch {trial.last_epoch}" if trial.state != "failed" else f"failed: {trial.error[:200]}"
    left = f"; about {duration(left_s)} left" if left_s else ""
    return f"trial {trial.number}: {score}{how}, {len(ledger.ended)} of {ledger.wanted}{left}"


def brief(trial: Trial, most: int = 6) -> str:
    """What a trial changes, in a line."""
    if trial.origin == "published":
        return "published settings"
    words = [f"{path.rpartition('.')[2]}={short(value)}" for path, value in trial.changes.items()]
    return " ".join(words[:most]) + (" ..." if len(words) > most else "")


def short(value: Any) -> str:
    """A value in a few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
