"""Small sweeps for the tests: a space of Tiny, and a driver that has no Ray and can die after any report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.schedulers import TrialScheduler

from moodcast.cluster import population, sweep
from moodcast.cluster.ledger import Ledger
from moodcast.cluster.referee import Asker, Referee
from moodcast.cluster.standing import Standing
from moodcast.cluster.trial import records
from moodcast.manifest import Utterance
from moodcast.run import Run, run_from_dict
from tests.cluster.tiny import tiny_corpus, tiny_run

RUN = tiny_run(epochs=4)


def space(trial: Any) -> dict[str, Any]:
    """A rate, and a dropout that may be off."""
    changes = {"train.lr": trial.suggest_float("train.lr", 1e-4, 1e-1, log=True)}
    on = trial.suggest_categorical("method.dropout.on", [True, False])
    return {**changes, "method.dropout": trial.suggest_float("method.dropout", 0.1, 0.6) if on else 0.0}


def divided(folder: Path) -> list[Utterance]:
    """Six speakers to search on, two to test."""
    made = tiny_corpus(folder, num=96, speakers=8)
    return [replace(row, split="test" if row.speaker in ("s0", "s1") else "train") for row in made]


def begun(rows: list[Utterance], out: Path, run: Run = RUN, fixed: dict[str, Any] | None = None, **plan: Any) -> Path:
    """The folder of a sweep over two folds that has not run yet."""
    given = {"trials": 6, "folds": 2, "grace": 1, "factor": 2, **plan}
    return sweep.begin(run, space, "tiny", rows, out, sweep.Plan(**given), fixed)


def play(folder: Path, cache: Path, most: int = 10**6, at: Any = space) -> Ledger:
    """A driver without Ray, one trial after the other, that dies after `most` reports."""
    with Ledger(folder, write=True) as ledger, Standing(ledger, progress=False) as standing:
        ledger.sweep_up(ledger.settings["keep"], population.needed(ledger.settings, ledger.trials))
        run = run_from_dict(ledger.settings["run"], ("tests",))
        referee = Referee(ledger, standing)
        asker = Asker(ledger, at, run, {"sweep": str(folder), "cache": str(cache), "device": "cpu"})
        asker.waiting = ledger.unfinished
        while (config := asker.suggest("")) != tune.search.Searcher.FINISHED:
            for record in records(config):
                if most == 0:
                    return ledger
                most -= 1
                if referee.on_trial_result(None, SimpleNamespace(config=config), record) == TrialScheduler.STOP:
                    break
        ledger.sweep_up(ledger.settings["keep"])
    return ledger


def scores(ledger: Ledger) -> list[Any]:
    """What must be the same whoever was killed on the way."""
    return [(trial.number, trial.params, trial.state, [(line["epoch"], line["value"]) for line in trial.epochs]) for trial in ledger.ended]


def killed_between(folder: Path, cache: Path, reports: int) -> Ledger:
    """A sweep gone on with whose driver was killed after it wrote a trial's last score, and before it wrote that the trial has ended."""
    play(folder, cache, reports)
    with Ledger(folder, write=True) as ledger:
        config = Asker(ledger, space, RUN, {"sweep": str(folder), "cache": str(cache), "device": "cpu"}).suggest("")
        (last,) = records(config)
        ledger.epoch(config["trial"], {name: value for name, value in last.items() if name != "counts"})
    again = play(folder, cache)
    again.check_count()
    return again
