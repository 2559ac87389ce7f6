"""What Ray Tune asks while a sweep runs: which trial comes next, and whether one goes on. The answers follow from the ledger.

Ray restores searchers and schedulers from pickles that it writes now and then; a driver that is killed may leave old ones. Nothing of that
is used here: when a driver starts, the ledger is read, and ASHA is told every score in it, in the order in which they came.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from moodcast.cluster import ledger as books
from moodcast.cluster import population, search
from moodcast.cluster.ledger import Ledger, Trial
from moodcast.cluster.standing import Standing
from moodcast.run import Run

DEATHS = 2  # a trial whose process died is started again from its last epoch, this often


class Stateless:
    """Ray Tune pickles searchers and schedulers to restore them; what is restored here is the ledger, so there is nothing to pickle."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is kept here."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing is kept here."""


class Asker(Stateless, Searcher):
    """Gives Ray Tune the trials that are missing: first those that began and did not end, then new ones."""

    def __init__(self, ledger: Ledger, space: search.Space, run: Run, given: Mapping[str, Any]) -> None:
        super().__init__(metric="value", mode="max")
        self.ledger, self.space, self.run, self.given = ledger, space, run, dict(given)
        self.waiting = list(ledger.unfinished)

    def suggest(self, trial_id: str) -> Any:
        """What a trial changes; None where others have to end first, FINISHED where there are no more."""
        if self.waiting:
            return self._config(self.waiting.pop(0))
        number = len(self.ledger.trials)
        if number >= self.ledger.wanted:
            return Searcher.FINISHED
        settings, history = self.ledger.settings, list(self.ledger.trials.values())
        more: dict[str, Any] = {}
        if settings["searcher"] == "pbt":
            found = population.next_member(self.space, self.run, settings, self.ledger.trials, number)
            if found is None:
                return None
            more = found
        trial = search.next_trial(
            self.space, self.run, settings["fixed"], history, number=number, searcher=settings["searcher"], seed=settings["seed"], **more
        )
        self.ledger.begin(trial)
        return self._config(trial)

    def _config(self, trial: Trial) -> dict[str, Any]:
        settings = self.ledger.settings
        until = population.until(settings, trial.number) if settings["searcher"] == "pbt" else settings["epochs"]
        since = population.since(settings, trial.number) if trial.parent is not None else 0
        return {
            **self.given,
            "trial": trial.number,
            "changes": trial.changes,
            "from": trial.parent,
            "until": until,
            "known": min(trial.last_epoch, until - 1) or since,  # the last epoch is told again: its driver died before it wrote the end
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The ledger knows."""


class Referee(Stateless, FIFOScheduler):
    """Writes what trials report into the ledger and says who goes on: Ray's ASHA, told the ledger when a driver starts."""

    def __init__(self, ledger: Ledger, standing: Standing, dismiss: Callable[[Mapping[str, Any]], None] | None = None) -> None:
        """dismiss: how a trial that is over is asked to leave, where Ray Tune is not to end its process."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger, self.standing, self.dismiss = ledger, standing, dismiss
        self.halvings = halvings_of(ledger.settings)
        for number, line in ledger.told:
            decision = self._decide(number, line)
            trial = ledger.trials[number]
            behind = decision == TrialScheduler.STOP and line["epoch"] < ledger.settings["epochs"]  # who came to the end has finished
            if behind and trial.state == "running" and line["epoch"] == trial.last_epoch:
                ledger.end(number, "stopped")  # the driver was killed between the score and what follows from it

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """It knows what it looks at."""
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to note: ASHA was told of it by number."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """Note an epoch, or the end."""
        decision = self._noted(trial, result)
        if decision != TrialScheduler.STOP or self.dismiss is None:
            return decision
        self.dismiss(trial.config)
        return str(TrialScheduler.CONTINUE)

    def _noted(self, trial: Any, result: Mapping[str, Any]) -> str:
        number = int(trial.config["trial"])
        if self.ledger.trials[number].state != "running":
            return str(TrialScheduler.STOP)
        if "ended" in result:
            self._end(number, result["ended"], str(result["error"]))
            return str(TrialScheduler.STOP)
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        line = {name: result[name] for name in ("epoch", "value", "spread", "each", "loss", "seconds")}
        new, last = self.ledger.epoch(number, line), line["epoch"] >= trial.config["until"]
        if not new and not last:
            return str(TrialScheduler.CONTINUE)
        if last:
            self._decide(number, line)
            self._end(number, "finished", counts=json.loads(result["counts"]))
            return str(TrialScheduler.CONTINUE)  # it is about to return
        decision = self._decide(number, line)
        if decision == TrialScheduler.STOP:
            self._end(number, "stopped")
        self.standing.show()
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """It has said so before."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A process died. Ray Tune also calls this where it is about to start it again."""
        number = int(trial.config["trial"])
        if self.ledger.trials[number].state == "running" and not trial.should_recover():
            self._end(number, "failed", f"its process died {DEATHS + 1} times; the last time: {_last_words(trial)}")

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to forget."""

    def debug_string(self) -> str:
        """For Ray's own table, which is not shown."""
        return "moodcast"

    def _decide(self, number: int, line: Mapping[str, Any]) -> str:
        """What ASHA says of a score. The published settings are compared with everything else, so they go to the end."""
        if not self.halvings:
            return str(TrialScheduler.CONTINUE)
        halving, name = self.halvings[number % len(self.halvings)], SimpleNamespace(trial_id=f"{number:04d}")
        if name.trial_id not in halving._trial_info:
            halving.on_trial_add(None, name)
        decision = str(halving.on_trial_result(None, name, dict(line)))
        free = self.ledger.trials[number].origin == "published"
        return str(TrialScheduler.CONTINUE) if free else decision

    def _end(self, number: int, state: books.State, error: str = "", counts: Mapping[str, Any] | None = None) -> None:
        self.ledger.end(number, state, error, counts)
        settings = self.ledger.settings
        self.ledger.sweep_up(settings["keep"], population.needed(settings, self.ledger.trials))
        self.standing.show(number)


def halvings_of(settings: Mapping[str, Any]) -> list[Any]:
    """One ASHA; several, whose rungs begin later and later, for "bohb-like"; none where every trial runs to its end."""
    if settings["scheduler"] == "none" or settings["searcher"] == "pbt" or settings["epochs"] <= settings["grace"]:
        return []
    factor, epochs = settings["factor"], settings["epochs"]
    first = [settings["grace"]]
    while settings["searcher"] == "bohb-like" and first[-1] * factor < epochs:
        first.append(first[-1] * factor)
    return [
        ASHAScheduler(
            time_attr="epoch", metric="value", mode="max", max_t=epochs, grace_period=grace, reduction_factor=factor, stop_last_trials=False
        )
        for grace in first
    ]


def _last_words(trial: Any) -> str:
    """The first line of what Ray knows of a death."""
    with contextlib.suppress(Exception):
        error = trial.get_pickled_error() or trial.get_error()
        return next(line.strip() for line in str(error).splitlines() if line.strip())
    return "nobody knows why"
