"""sweep: search a space on Ray Tune, over inner speaker folds of the training side, and leave a folder that survives anything.

Ray Tune runs the trials, several at once, starts one again whose process died, and stops those that fall behind (its ASHA). What is known
of trials is not Ray's but the ledger's (`moodcast.cluster.ledger`): the searcher and the scheduler are told it anew whenever a driver
starts, so that nothing rests on a pickle that a killed driver may not have written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from moodcast import attributes, audit, augment, config
from moodcast.cluster import distributed, local, population, search, tracker
from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster.features import check_method
from moodcast.cluster.folds import heard_at_start, refuse_heard
from moodcast.cluster.job import TRAINED, with_split
from moodcast.cluster.ledger import Ledger
from moodcast.cluster.lockstep import usable
from moodcast.cluster.referee import DEATHS, Asker, Referee
from moodcast.cluster.standing import Standing
from moodcast.cluster.train import ALLOW, Interrupted
from moodcast.cluster.trial import run_trial
from moodcast.manifest import Utterance, folds, read_manifest, write_manifest
from moodcast.method import find_method, method_name
from moodcast.run import Run, run_from_dict, run_to_dict, trust_of
from moodcast.transfer import TransferTask

SEARCHERS, SCHEDULERS = ("optuna", "random", "bohb-like", "pbt"), ("asha", "none")
FEWEST_FOLDS = 2
KEEP, BY_LAST = "train.keep", "cannot be had in a sweep: a trial is judged by its last epoch, and that is kept; leave it out"
QUIET = {"RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0", "TUNE_WARN_THRESHOLD_S": "30"}


@dataclass(frozen=True)
class Plan:
    """How a sweep searches.

    trials: how many. folds and seeds: inner speaker folds, and models of other seeds a fold, over which a trial's score is the mean.
    scheduler "asha": of the trials that reached epoch grace (times factor, times factor again, ...) those that are not among the best
    1 / factor stop. searcher "bohb-like": as "optuna", with rungs that begin later for every other trial. "pbt": members of a population go
    on from each other every `interval` epochs; trials is then members times generations. keep: of how many of the best finished trials
    bundles stay.
    """

    trials: int = 40
    searcher: str = "optuna"
    scheduler: str = "asha"
    folds: int = 3
    seeds: int = 1
    seed: int = 0
    grace: int = 5
    factor: int = 3
    interval: int = 5
    keep: int = 2

    def __post_init__(self) -> None:
        for name, known in (("searcher", SEARCHERS), ("scheduler", SCHEDULERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"there is no {name} '{getattr(self, name)}'.{config.suggest(getattr(self, name), known)} Known: {', '.join(known)}"
                )
        for name, low in (("trials", 1), ("folds", FEWEST_FOLDS), ("seeds", 1), ("grace", 1), ("factor", 2), ("interval", 1), ("keep", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Machines:
    """What trials run on: how many at once (None: as many as there are cores for), and which share of a GPU each has.

    workers: 0 runs a trial in one process; more makes it a Train run of its own, with so many (`moodcast.cluster.distributed`), each of
    which has a whole GPU where `gpus` is more than zero.
    """

    concurrent: int | None = None
    gpus: float = 0.0
    workers: int = 0


def begin(
    run: Run,
    space: search.Space,
    name: str,
    rows: Sequence[Utterance],
    out: Path,
    plan: Plan,
    fixed: Mapping[str, Any] | None = None,
    command: str = "",
    target: Sequence[Utterance] = (),
) -> Path:
    """Make the folder of a sweep of `run`; nothing is trained yet.

    rows: the whole manifest, searched on where the split is train or dev; its test side is put away and not read. fixed: fields that are
    settled and not searched, by path.
    target: what every model adapts to, rows whose split is "train" (all, if there are no splits), kept without their labels; its rows of
    split "test" are then the test side in place of those of `rows`. Trials are scored on folds of `rows` all the same.
    Raises ValueError for rows that cannot be searched on, a space that names other fields, or a folder that is there already.
    """
    fixed = dict(fixed or {})
    run = config.replace_at(run, fixed)
    fixed = {path: config.leaves(run)[path] for path in fixed}  # as the fields' types have them
    if fixed.get(KEEP, "last") != "last":
        raise ValueError(f"{KEEP}={fixed[KEEP]} {BY_LAST}")
    run = config.replace_at(run, {KEEP: "last", **({"train.threads": 1} if not run.train.threads else {})})
    out = Path(out).absolute()
    books.refuse_taken(out)
    if run.labels.source == "speaker":
        raise ValueError("speakers are what this job learns, so there are no speaker folds to search over")
    rows = [replace(row, path=str(Path(row.path).absolute())) for row in with_split(rows)]
    audit.guard(audit.leaks_among(rows), run.train.allow_leaks, ALLOW)
    came = [row for row in rows if row.split in TRAINED]
    own = [replace(row, split="train") for row in usable(came, run)]
    test = [row for row in rows if row.split == "test"]
    check(run, own, came, plan, adapting=bool(target))
    adapt: list[Utterance] = []
    if target:
        adapt, test = target_sides(run, own, target)
    refuse_heard(run, own if run.train.allow_leaks else [*own, *test])
    leaks = audit.guard(audit.leaks_among([*own, *adapt, *test]), run.train.allow_leaks, ALLOW)
    if run.train.allow_leaks and (heard := heard_at_start(run, test)):
        named = f"{len(heard)} of these speakers or dialogues ({', '.join(heard[:6])})"
        leaks = (*leaks, f"leak let through: the bundle that training starts from has heard {named}")  # no path: bundles travel
    fields = search.fields_of(space, run, fixed)
    if KEEP in fields:
        raise ValueError(f"the space changes {KEEP}, which {BY_LAST}")
    if plan.searcher == "pbt":
        population.check(plan, run.train.epochs)
        fields = population.schedulable(space, run, fixed, fields)
    settings = {
        "format": 1,
        "space": name,
        "space_digest": search.digest(space, run, fixed),
        "run": run_to_dict(run),
        "trust": list(trust_of(run)),
        "fixed": fixed,
        "fields": fields,
        **{key: getattr(plan, key) for key in plan.__dataclass_fields__},
        "epochs": run.train.epochs,
        "rows": len(own),
        "speakers": len({row.corpus_speaker for row in own}),
        "test_rows": len(test),
        "rows_sha256": files.rows_digest(own),
        "test_sha256": files.rows_digest(test),
        **({"target_rows": len(adapt), "target_sha256": files.rows_digest(adapt)} if adapt else {}),
        **({"leaks": leaks} if leaks else {}),
        "command": command,
    }
    with books.beginning(out):
        write_manifest(own, out / books.ROWS)
        for some, path in ((adapt, books.TARGET_ROWS), (test, books.TEST_ROWS)):
            if some:
                write_manifest(some, out / path)
        files.write_json(out / books.SETTINGS, json.loads(json.dumps(settings, default=list)))
    return out


def rival_of(out: Path, space: search.Space, words: Sequence[str]) -> Path:
    """The folder of a sweep of equal budget on the same rows with other fields fixed, below that of `out`; it may be there already.

    Raises ValueError for a field that the space of `out` does not search.
    """
    ledger = Ledger(Path(out).absolute())
    changes = config.parse_overrides(words)
    searched = ledger.settings["fields"]
    if strange := [path for path in changes if path not in searched]:
        near = config.suggest(strange[0], searched)
        raise ValueError(f"{strange[0]} is not searched by {out}, so fixing it makes no rival.{near} Searched: {', '.join(searched)}")
    settings = ledger.settings
    run = run_from_dict(settings["run"], tuple(settings["trust"]))
    known = config.leaves(config.replace_at(run, changes))
    folder = ledger.folder / f"rival-{'-'.join(f'{path}-{known[path]}' for path in sorted(changes))}".replace("/", "_")
    if (folder / books.SETTINGS).is_file():
        return folder
    sides = [ledger.folder / name for name in (books.ROWS, books.TEST_ROWS, books.TARGET_ROWS)]
    rows, test, target = (read_manifest(path) if path.is_file() else [] for path in sides)
    rows, target = (rows, [*target, *test]) if target else ([*rows, *test], [])
    plan = Plan(**{name: settings[name] for name in Plan.__dataclass_fields__})
    return begin(run, space, settings["space"], rows, folder, plan, {**settings["fixed"], **changes}, settings["command"], target)


def target_sides(run: Run, rows: Sequence[Utterance], target: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Of a target the rows to adapt to, without their labels, and its test side, which the report alone opens.

    Raises ValueError where there is nothing to adapt to, or somebody stands on two sides.
    """
    target = [replace(row, path=str(Path(row.path).absolute())) for row in target]
    task = TransferTask.of(rows, target, allow_leaks=run.train.allow_leaks)
    return list(task.adapt), [row for row in target if row.split == "test"]


def check(run: Run, rows: Sequence[Utterance], came: Sequence[Utterance], plan: Plan, adapting: bool = False) -> None:
    """Refuse what cannot be searched on: no rows, classes without any, too few speakers for the folds, no target where one is heard."""
    if not rows:
        raise ValueError("no utterance outside of the test split has a class of the run; there is nothing to search on")
    run.labels.check(rows, came)
    folds(rows, plan.folds, plan.seed)
    augment.check(run.augment)
    method = find_method(method_name(run.method), trust_of(run))
    if method.streams == ("target",):
        raise ValueError(f"{method.__name__} hears no labels at all, so no fold of a labelled corpus says how good its settings are")
    if adapting != ("target" in method.streams):
        needs = "learns from labels alone and hears no target; leave --target out"
        if not adapting:
            needs = "adapts to recordings without labels: name them, --target MANIFEST. Trials are then scored on speakers of the source"
        raise ValueError(f"{method.__name__} {needs}")
    attributes.check(method, run.spec, run.train.batch_size // run.train.accumulate)
    check_method(run)


def go_on(
    out: Path,
    space: search.Space,
    machines: Machines | None = None,
    *,
    cache: Path | None = None,
    progress: bool = True,
    track: Sequence[str] | None = None,
) -> Ledger:
    """Run what is missing of the sweep in a folder until every trial has ended; the ledger.

    track: who is told of it, `tracker.TRACKERS`; None: whoever was told before.
    Raises ValueError for a folder that is no sweep, or a space that draws otherwise than when it began; Interrupted (a KeyboardInterrupt)
    at Ctrl-C, RuntimeError where Ray went away.
    """
    machines = machines or Machines()
    out = Path(out).absolute()
    with Ledger(out, write=True) as ledger:
        settings = ledger.settings
        run = run_from_dict(settings["run"], tuple(settings["trust"]))
        if search.digest(space, run, settings["fixed"]) != settings["space_digest"]:
            raise ValueError(f"{out} was begun in another space than tune_spaces/{settings['space']} is now; put it back, or begin anew")
        ledger.sweep_up(settings["keep"], population.needed(settings, ledger.trials))
        shutil.rmtree(out / books.RAY_FOLDER, ignore_errors=True)
        standing, missing = Standing(ledger, progress), len(ledger.ended) < ledger.wanted
        with tracker.tracking(tracker.opened(out, track), lambda: tracker.of_sweep(out), standing.console):
            if missing:
                with standing:
                    _run(ledger, space, run, standing, machines, cache)
        if missing:
            ledger.sweep_up(settings["keep"])
            shutil.rmtree(out / books.RAY_FOLDER, ignore_errors=True)
        ledger.check_count()
        return ledger


def _run(ledger: Ledger, space: search.Space, run: Run, standing: Standing, machines: Machines, cache: Path | None) -> None:
    cpus = max(1, run.train.threads)
    given: dict[str, Any] = {"sweep": str(ledger.folder), "cwd": os.getcwd(), "cache": str(Path(cache).absolute()) if cache else ""}
    given |= {"device": "cuda" if machines.gpus else "cpu", "workers": machines.workers, "cpus": cpus}
    each, several = cpus * max(1, machines.workers), bool(machines.workers)
    little = distributed.LITTLE if several else 0.0
    here = (machines.concurrent or max(1, local.usable_cpus() // each)) * (each + little)
    with (
        local.cluster(num_cpus=max(local.usable_cpus(), math.ceil(here)), dashboard=several),
        local.environment(QUIET),
        local.interruptible(),
    ):
        at_once = trials_at_once(machines, each + little, ray.cluster_resources())  # type: ignore[no-untyped-call]
        dismiss = distributed.dismiss if several else None
        tuner = tune.Tuner(
            trainable(machines, cpus),
            tune_config=tune.TuneConfig(
                search_alg=Asker(ledger, space, run, given),
                scheduler=Referee(ledger, standing, dismiss),
                metric="value",
                mode="max",
                num_samples=ledger.wanted - len(ledger.ended),
                max_concurrent_trials=at_once,
                reuse_actors=not several,  # a process that has imported everything takes the next trial
            ),
            run_config=tune.RunConfig(
                name=books.RAY_FOLDER,
                storage_path=str(ledger.folder),
                failure_config=tune.FailureConfig(max_failures=DEATHS),
                verbose=0,
            ),
        )
        try:
            with _hushed():
                tuner.fit()
        except KeyboardInterrupt:
            raise Interrupted(how_to_resume(ledger)) from None
        except ValueError:  # the user's to mend, not Ray's
            raise
        except Exception as error:
            if len(ledger.ended) < ledger.wanted:
                raise RuntimeError(f"Ray went away ({type(error).__name__}: {error}). {how_to_resume(ledger)}") from error
            raise
    if len(ledger.ended) < ledger.wanted:  # Ray Tune returns as if nothing had been, where it was interrupted
        raise Interrupted(how_to_resume(ledger))


def trainable(machines: Machines, cpus: int) -> Any:
    """What Ray Tune starts for a trial, with what the trial asks of the cluster: its workers ask for themselves, where it has some."""
    if machines.workers:
        return tune.with_resources(distributed.launch, {"cpu": distributed.LITTLE})
    return tune.with_resources(run_trial, {"cpu": cpus, "gpu": machines.gpus})


def trials_at_once(machines: Machines, cpus: float, there: Mapping[str, float]) -> int:
    """How many trials of `cpus` cores each run at a time on a cluster that has `there`.

    Raises ValueError where it has not enough GPU for a single one, which would wait for ever.
    """
    found = machines.concurrent or max(1, int(there.get("CPU", 1) / cpus))
    if not machines.gpus:
        return found
    each, gpus = machines.workers or machines.gpus, there.get("GPU", 0.0)
    if gpus < each:
        raise ValueError(f"a trial was to have {each:g} GPU; this Ray has {gpus:g}. Leave --gpus out, or give it a smaller share")
    return min(found, int(gpus / each))


def how_to_resume(ledger: Ledger) -> str:
    """Where the sweep stands, and the command that goes on."""
    return f"interrupted; {len(ledger.ended)} of {ledger.wanted} trials are done. To go on:\n  moodcast tune --resume {ledger.folder}"


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Ray Tune's words about its own bookkeeping, which a sweep does not rest on: slow steps, late metrics, how its own `fit` goes on."""
    loggers = [logging.getLogger(f"ray.tune.{name}") for name in ("tune", "utils.util", "analysis.experiment_analysis")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
