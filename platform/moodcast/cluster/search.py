"""What the next trial tries: a space is asked by Optuna, which is told the ledger anew each time. Without Ray.

A searcher keeps no state of its own. What trial n asks for follows from the sweep's seed, n and what the ledger knows by then, so a sweep
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import TrialState

from moodcast import config
from moodcast.cluster.ledger import Trial
from moodcast.run import Run

optuna.logging.set_verbosity(optuna.logging.WARNING)

Space = Callable[[Any], dict[str, Any]]
SWITCH = ".on"  # "PATH.on" says whether PATH is more than zero: it steers a space and is no field
FIRST_AT_RANDOM = 10  # trials before the estimator is trusted
STATES = {
    "running": TrialState.RUNNING,
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def space_of(module: ModuleType) -> Space:
    """The space of a module of tune_spaces: its `space(trial)`, or its `SPACE` asked path by path.

    Raises ValueError where it holds neither, or both.
    """
    if hasattr(module, "space") == hasattr(module, "SPACE"):
        raise ValueError(f"{module.__name__} wants either SPACE (paths to domains of ray.tune) or space(trial)")
    if hasattr(module, "space"):
        return module.space  # type: ignore[no-any-return]
    domains = dict(module.SPACE)
    return lambda trial: {path: asked(trial, path, domain) for path, domain in domains.items()}


def asked(trial: Any, path: str, domain: Any) -> Any:
    """A value of a domain of ray.tune, asked of an Optuna trial. Raises ValueError for a domain that has no counterpart."""
    sampler = domain.get_sampler() if hasattr(domain, "get_sampler") else None
    step = getattr(sampler, "q", None)
    kind = type(getattr(sampler, "sampler", sampler)).__name__  # "_Uniform", "_LogUniform", "_Normal"
    if hasattr(domain, "categories"):
        return trial.suggest_categorical(path, list(domain.categories))
    log = "LogUniform" in kind
    if "Uniform" not in kind or not hasattr(domain, "lower"):
        raise ValueError(f"{path}: {domain} has no counterpart in Optuna; wanted uniform, loguniform, randint, choice or quantised ones")
    if type(domain).__name__ == "Integer":
        return trial.suggest_int(path, domain.lower, domain.upper - (step is None), step=int(step or 1), log=log)
    return trial.suggest_float(path, domain.lower, domain.upper, step=step, log=log)


@dataclass
class Fixed:
    """A trial of Optuna that answers some questions by itself: fields that were fixed are not searched."""

    trial: Any
    values: Mapping[str, Any]

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """As Optuna's."""
        return float(self._known(name)) if self._knows(name) else float(self.trial.suggest_float(name, low, high, step=step, log=log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As Optuna's."""
        return int(self._known(name)) if self._knows(name) else int(self.trial.suggest_int(name, low, high, step=step, log=log))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's."""
        return self._known(name) if self._knows(name) else self.trial.suggest_categorical(name, choices)

    def _knows(self, name: str) -> bool:
        return name in self.values or (name.endswith(SWITCH) and name.removesuffix(SWITCH) in self.values)

    def _known(self, name: str) -> Any:
        return self.values[name] if name in self.values else bool(self.values[name.removesuffix(SWITCH)])


def fields_of(space: Space, run: Run, fixed: Mapping[str, Any], draws: int = 200) -> list[str]:
    """The fields that a space may change, in the order in which it asks.

    Raises ValueError for one that the run does not have, with the nearest that it has; every draw is validated.
    """
    known = config.leaves(run)
    found: dict[str, None] = {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for draw in range(draws):
        changes = space(Fixed(study.ask(), fixed))
        if unknown := [path for path in changes if path not in known]:
            raise ValueError(f"the space changes '{unknown[0]}', which is no field.{config.suggest(unknown[0], known)}")
        if draw < 20:
            config.replace_at(run, changes)
        found.update(dict.fromkeys(path for path in changes if path not in fixed))
    if not found:
        raise ValueError("every field of the space is fixed: there is nothing to search")
    return list(found)


def published(space: Space, run: Run, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What the space has to be answered to give the run as it is; only what it asks for."""
    known = config.leaves(run)
    given = {**known, **{path + SWITCH: bool(value) for path, value in known.items()}}
    trial = optuna.trial.FixedTrial(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # settings outside of the range are tried nevertheless
        space(Fixed(trial, fixed))
    return dict(trial.params)


def next_trial(
    space: Space,
    run: Run,
    fixed: Mapping[str, Any],
    history: Sequence[Trial],
    *,
    number: int,
    searcher: str,
    seed: int,
    given: Mapping[str, Any] | None = None,
    origin: str = "searched",
    parent: int | None = None,
) -> Trial:
    """Trial `number` of a sweep whose other trials are `history`. given: answers that are settled; the rest is drawn.

    Trial 0 has the run's own settings, so that a search never ends below what was published without having tried it.
    """
    if number == 0 and given is None:
        given, origin = published(space, run, fixed), "published"
    study = study_of(history, sampler_of(searcher, seed, number))
    if given is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.enqueue_trial(dict(given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = study.ask()
        changes = space(Fixed(trial, fixed))
    distributions = {name: distribution_to_json(found) for name, found in trial.distributions.items()}
    changes = {path: value for path, value in changes.items() if not path.endswith(SWITCH)}
    return Trial(number, dict(trial.params), distributions, changes, origin, parent)


def sampler_of(searcher: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: all its randomness follows from the sweep's seed and the trial's number."""
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if searcher in ("random", "pbt"):
        return optuna.samplers.RandomSampler(seed=own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=own, n_startup_trials=FIRST_AT_RANDOM, multivariate=True, group=True, constant_liar=True)


def study_of(history: Sequence[Trial], sampler: optuna.samplers.BaseSampler | None = None, epoch: int | None = None) -> optuna.Study:
    """A study that was told of these trials. epoch: judge all by their score there, and leave out those that did not reach it."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in sorted(history, key=lambda trial: trial.number):
        value = trial.at(epoch) if epoch is not None else trial.value
        if epoch is not None and value is None:
            continue
        scores = {int(line["epoch"]): float(line["value"]) for line in trial.epochs}
        if trial.state == "diverged":  # as bad as can be, so that the searcher keeps away
            scores = {**scores, trial.last_epoch + 1: 0.0}
        state = TrialState.COMPLETE if epoch is not None else STATES[trial.state]
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=trial.params,
                distributions=distributions_of(trial),
                value=value if state == TrialState.COMPLETE else None,
                intermediate_values={step: score for step, score in scores.items() if math.isfinite(score)},
            )
        )
    return study


def distributions_of(trial: Trial) -> dict[str, BaseDistribution]:
    """From what each answer was drawn."""
    return {name: json_to_distribution(text) for name, text in trial.distributions.items()}


def digest(space: Space, run: Run, fixed: Mapping[str, Any]) -> str:
    """A name for a space: what it draws, so that a sweep is not gone on with in another one."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space(Fixed(study.ask(), fixed)) for _ in range(20)]
    return hashlib.sha256(json.dumps([drawn, published(space, run, fixed)], sort_keys=True, default=str).encode()).hexdigest()[:16]
