"""Population-based training as trials of a sweep: schedules of loss weights, found while they are followed. Without Ray.

Jaderberg et al., "Population Based Training of Neural Networks", arXiv 1711.09846 (2017). A population of M members trains `interval`
epochs; then the worst quarter goes on from the best quarter's weights, with settings that are theirs times 1.25 or 0.8, or drawn anew.
Each member of each generation is one trial of the ledger, numbered generation * M + member, and `parent` is whose state it goes on from;
what a member does next follows from the ledger and the seed alone. All members wait for each other, so that epochs are compared with the
same epochs. Only fields that leave the shape of every weight alone can change on the way; the others stay as in the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from moodcast import config
from moodcast.cluster.ledger import Trial
from moodcast.cluster.search import Fixed, Space, distributions_of
from moodcast.run import Run, build

QUARTER = 0.25  # of the population is replaced
ANEW = 0.25  # how often a setting is drawn anew instead of moved
STEPS = (0.8, 1.25)


def members(settings: Mapping[str, Any]) -> int:
    """How many members a population has."""
    return int(settings["trials"]) // generations(settings)


def generations(settings: Mapping[str, Any]) -> int:
    """How often the population is looked at, the end included."""
    return -(-int(settings["epochs"]) // int(settings["interval"]))


def since(settings: Mapping[str, Any], number: int) -> int:
    """The epoch that a trial goes on from."""
    return number // members(settings) * int(settings["interval"])


def until(settings: Mapping[str, Any], number: int) -> int:
    """The epoch that a trial ends with."""
    return min(int(settings["epochs"]), since(settings, number) + int(settings["interval"]))


def needed(settings: Mapping[str, Any], trials: Mapping[int, Trial]) -> set[int]:
    """The trials whose state others may yet go on from: those of the last two generations that began, while not all have ended."""
    if settings["searcher"] != "pbt" or sum(t.state != "running" for t in trials.values()) == settings["trials"] or not trials:
        return set()
    first = max(trials) // members(settings) * members(settings) - members(settings)
    return {number for number in trials if number >= first}


def check(plan: Any, epochs: int) -> None:
    """Raises ValueError where trials are no whole number of populations."""
    count = -(-epochs // plan.interval)
    if plan.trials % count or plan.trials // count < 2:
        good = max(2, plan.trials // count) * count
        raise ValueError(
            f"pbt: {epochs} epochs in steps of {plan.interval} are {count} generations, and trials must be a multiple of that with at "
            f"least 2 members each: take --trials {good} (now {plan.trials})"
        )


def schedulable(space: Space, run: Run, fixed: dict[str, Any], fields: Sequence[str]) -> list[str]:
    """The fields of a space that may change while training goes on. The others are put into `fixed`, as the run has them.

    Raises ValueError where none is left.
    """
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [space(Fixed(study.ask(), fixed)) for _ in range(40)]
    shapes, known = shapes_of(run), config.leaves(run)
    kept = []
    for path in fields:
        tried: list[Any] = []
        for value in (changes[path] for changes in drawn if path in changes):
            if value not in tried and len(tried) < 4:
                tried.append(value)
        if path not in ("train.epochs", "train.batch_size") and all(
            shapes_of(config.replace_at(run, {path: value})) == shapes for value in tried
        ):
            kept.append(path)
        else:
            fixed[path] = known[path]
    if not kept:
        raise ValueError("no field of this space can change while training goes on; pbt has nothing to do")
    return kept


def shapes_of(run: Run) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a fresh method."""
    return {name: tuple(value.shape) for name, value in build(run, (type(run.method).__module__.partition(".")[0],)).state_dict().items()}


def next_member(space: Space, run: Run, settings: Mapping[str, Any], trials: Mapping[int, Trial], number: int) -> dict[str, Any] | None:
    """How trial `number` comes about (`given`, `origin`, `parent` of `search.next_trial`); None while its parents still train."""
    size = members(settings)
    if number < size:
        return {}
    before = [trials[n] for n in range(number // size * size - size, number // size * size)]
    if any(trial.state == "running" for trial in before):
        return None
    rng = np.random.default_rng([int(settings["seed"]), number, 1])
    alive = sorted((t for t in before if t.state == "finished"), key=lambda t: (-t.value, t.number))
    if not alive:
        raise ValueError(f"no member of generation {number // size - 1} is left: {before[0].error or before[0].state}")
    own = before[number % size]
    few = max(1, int(QUARTER * size))
    worst = {t.number for t in alive[len(alive) - few :]} if len(alive) > few else set()
    if own.state == "finished" and own.number not in worst:
        return {"given": own.params, "origin": own.origin, "parent": own.number}
    source = alive[int(rng.integers(min(few, len(alive))))]
    return {"given": moved(source.params, distributions_of(source), rng), "origin": "searched", "parent": source.number}


def moved(params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], rng: np.random.Generator) -> dict[str, Any]:
    """Settings beside others: each number times 1.25 or 0.8 within its range, now and then drawn anew; choices only drawn anew."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        kind = distributions[name]
        anew = rng.random() < ANEW
        if isinstance(kind, CategoricalDistribution):
            found[name] = kind.choices[int(rng.integers(len(kind.choices)))] if anew else value
        elif isinstance(kind, (optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution)):
            if anew:
                place = rng.random()
                wanted = kind.low * (kind.high / kind.low) ** place if kind.log else kind.low + (kind.high - kind.low) * place
            else:
                wanted = value * STEPS[int(rng.integers(2))]
            if kind.step:
                wanted = kind.low + round((wanted - kind.low) / kind.step) * kind.step
            wanted = min(kind.high, max(kind.low, wanted))
            found[name] = round(wanted) if isinstance(kind, optuna.distributions.IntDistribution) else float(wanted)
    return found


def lineage(trials: Mapping[int, Trial], number: int) -> list[Trial]:
    """A trial and those it went on from, the first first: the schedule that it followed."""
    found = [trials[number]]
    while found[0].parent is not None:
        found.insert(0, trials[found[0].parent])
    return found
