"""Which fields a sweep's scores depend on: fANOVA of forests over trials, judged at an epoch that most of them reached. Without Ray."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from moodcast.cluster.ledger import Ledger, Trial
from moodcast.cluster.search import study_of

FEWEST = 8  # trials below which a forest says nothing
FORESTS = 5  # of different seeds: how much the answer depends on chance
REACHED = 0.75  # the share of trials that have to have reached an epoch to be judged there


def common_epoch(ledger: Ledger) -> int:
    """The last epoch that three quarters of the trials reached: there, stopped ones and finished ones can be compared."""
    trials = [trial for trial in ledger.ended if trial.epochs and trial.parent is None]
    reached = sorted((trial.last_epoch for trial in trials), reverse=True)
    return reached[max(0, int(np.ceil(REACHED * len(reached))) - 1)] if reached else 0


def importances(ledger: Ledger, epoch: int) -> list[dict[str, Any]]:
    """Every question that the space asked, most important first: its share of the variance of scores, over FORESTS forests.

    What is asked only now and then (the settings of a loss that may be off) is judged among the trials that it was asked in, together with
    what is always asked; `trials` says how many those are. Empty where there are too few trials.
    """
    told = [trial for trial in ledger.ended if trial.at(epoch) is not None]
    names = list(dict.fromkeys(name for trial in told for name in trial.params))
    always = [name for name in names if all(name in trial.params for trial in told)]
    found = []
    for name in names:
        among = [trial for trial in told if name in trial.params]
        shares = _shares(among, sorted({*always, name}), epoch) if varies(among, name) else []
        own = [share[name] for share in shares if name in share]
        if own:
            mean, spread = float(np.mean(own)), float(np.std(own))
            found.append({"name": name, "share": mean, "spread": spread, "trials": len(among), "always": name in always})
    return sorted(found, key=lambda row: -row["share"])


def varies(trials: Sequence[Trial], name: str) -> bool:
    """Whether there are enough trials, and they differ in it."""
    return len(trials) >= FEWEST and len({str(trial.params[name]) for trial in trials}) > 1


def _shares(trials: Sequence[Trial], names: list[str], epoch: int) -> list[dict[str, float]]:
    study = study_of(trials, epoch=epoch)
    names = [name for name in names if len({str(trial.params[name]) for trial in trials}) > 1]
    found = []
    for seed in range(FORESTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = optuna.importance.FanovaImportanceEvaluator(seed=seed)
            try:
                found.append(optuna.importance.get_param_importances(study, evaluator=judge, params=names))
            except (RuntimeError, ValueError):  # all scores are equal: there is no variance to share
                return []
    return found
