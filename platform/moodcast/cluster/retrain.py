"""Recipes trained anew on the whole training side of a sweep, with fresh seeds, and what each answers to the test side.

Every answer is kept in DIR/report and never asked for again: what was scored once stays as it was. Runs are tasks of Ray, several at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from rich.console import Console

from moodcast import bundle as bundles
from moodcast import evaluate as evaluation
from moodcast import metrics
from moodcast.cache import open_waves
from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster import local
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features, kept
from moodcast.cluster.ledger import Trial
from moodcast.cluster.process import set_up, stand_in
from moodcast.cluster.train import Interrupted
from moodcast.cluster.watch import counting
from moodcast.cluster.work import inherited, provenance_of, take_weights
from moodcast.manifest import Utterance, read_manifest
from moodcast.order import balance_weights
from moodcast.run import Run, build, run_from_dict, run_to_dict
from moodcast.scores import Floats
from moodcast.step import Trainer
from moodcast.whole import whole

REPORT, BUNDLE = "report", "winner"
LET = ". A sweep begun with train.allow_leaks=true lets them through, and says so"
FRESH = 1000  # the first of the seeds that no search uses


@dataclass(frozen=True)
class Arm:
    """One recipe that is trained anew: its name, what it is in words, and its run; of a schedule, (epochs, run) one after the other."""

    name: str
    what: str
    stages: tuple[tuple[int, Run], ...]
    trial: Trial | None

    @property
    def run(self) -> Run:
        """The run that it ends with."""
        return self.stages[-1][1]

    @property
    def digest(self) -> str:
        """A name for all that decides it."""
        told = [(until, run_to_dict(run)) for until, run in self.stages]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=list).encode()).hexdigest()[:12]


def tasks(folder: Path, arms: Sequence[Arm], seeds: int, trust: tuple[str, ...], cache: Path | None) -> list[dict[str, Any]]:
    """What `train_one` has to do yet, so that every arm was trained with every fresh seed: the first seed of all arms first."""
    given = {"sweep": str(folder), "trust": trust, "cache": str(Path(cache).absolute()) if cache else "", "cwd": os.getcwd()}
    found: dict[Path, dict[str, Any]] = {}
    for seed in range(FRESH, FRESH + seeds):
        for arm in arms:
            path = answers_path(folder, arm, seed)
            bundle = str(folder / BUNDLE) if arm is arms[0] and seed == FRESH else ""
            stages = [(until, run_to_dict(run)) for until, run in arm.stages]
            task = {**given, "name": f"{arm.name}, seed {seed}", "stages": stages, "seed": seed, "into": str(path), "bundle": bundle}
            if not path.is_file() or (bundle and not (folder / BUNDLE).is_dir()):
                found.setdefault(path, task)
    return list(found.values())


def train_missing(wanted: Sequence[Mapping[str, Any]], cpus: int, progress: bool) -> None:
    """Do the tasks on Ray, several at once. Raises Interrupted at Ctrl-C; what is done is kept."""
    if not wanted:
        return
    console = Console(stderr=True, quiet=not progress)
    console.print(f"training anew on the whole training side: {len(wanted)} runs", highlight=False)
    with local.cluster(), local.interruptible(), counting("training anew", console) as tell:
        work = ray.remote(num_cpus=cpus, max_retries=2)(train_one)
        waiting = {work.remote(dict(task)): task["name"] for task in wanted}
        try:
            while waiting:
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                try:
                    ray.get(ready)
                except ray.exceptions.RayTaskError as error:  # a ValueError, too, with Ray's traceback as its text
                    raise (error.cause if isinstance(error.cause, ValueError) else error) from None
                console.print(f"{waiting.pop(ready)}: done", highlight=False)
                tell(len(wanted) - len(waiting), len(wanted))
        except KeyboardInterrupt:
            raise Interrupted("interrupted; what was trained is kept, and the same command goes on") from None


def answers_path(folder: Path, arm: Arm, seed: int) -> Path:
    """Where the answers of one training lie."""
    return folder / REPORT / f"{arm.digest}-{seed}.npz"


def train_one(given: Mapping[str, Any]) -> None:
    """Train one run on the whole training side, and keep its bundle's answers to the test side."""
    stand_in(given["cwd"])
    folder, trust = Path(given["sweep"]), tuple(given["trust"])
    root = Path(given["cache"]) if given["cache"] else None
    stages = [(until, seeded(run_from_dict(data, trust), given["seed"])) for until, data in given["stages"]]
    rows = [replace(row, split="train") for row in read_manifest(folder / books.ROWS)]
    target = read_manifest(folder / books.TARGET_ROWS) if (folder / books.TARGET_ROWS).is_file() else []
    into = Path(given["into"])
    place = Path(given["bundle"]) if given["bundle"] else into.with_suffix("")
    trained(stages, rows, place, trust, root, target, leaks_of(folder))
    bundle = bundles.load(place, trust)
    known, _ = evaluation.scorable(bundle, [replace(row, split="test") for row in read_manifest(folder / books.TEST_ROWS)], "test")
    if not bundle.run.train.allow_leaks:
        marks = open_waves(known, bundle.rate, root, bundle.run.audio.max_hours).fingerprints
        evaluation.refuse_trained_recordings(bundle, known, marks, otherwise=LET, root=root)
    answers = evaluation.answer(bundle, known, allow_leaks=True, root=root)
    with whole(into) as half, half.open("wb") as file:
        np.savez(file, ids=np.array([row.id for row in known]), probabilities=answers.probabilities, allow_pickle=False)
    if not given["bundle"]:
        shutil.rmtree(place)


def leaks_of(folder: Path) -> tuple[str, ...]:
    """What stands on the training side and the test side of a sweep, and was let through, as sentences."""
    return tuple((files.read_json(folder / books.SETTINGS) or {}).get("leaks", ()))


def seeded(run: Run, seed: int) -> Run:
    """The run with another seed."""
    return replace(run, train=replace(run.train, seed=seed))


def trained(
    stages: Sequence[tuple[int, Run]],
    rows: Sequence[Utterance],
    place: Path,
    trust: tuple[str, ...],
    root: Path | None,
    target: Sequence[Utterance] = (),
    leaks: tuple[str, ...] = (),
) -> None:
    """Train on all rows to the last epoch, stage by stage, and write the bundle.

    target: rows that are heard without labels beside them. leaks: what the bundle has to say with every score.
    """
    trainer: Trainer | None = None
    for until, run in stages:
        set_up(run.train.threads)
        data = CachedStretches(rows, run, root)
        beside = CachedStretches(target, run, root, labelled=False) if target else None
        method = build(run, trust)
        if run.start_from and trainer is None:
            take_weights(method, run.start_from, run.start_prefixes, trust)
        if name := kept(run, method):
            keep_features(method, [data] if beside is None else [data, beside], name, root)
        weights = balance_weights([rows[i] for i in data.owners], run.labels, run.train.balance)
        before, trainer = trainer, Trainer(method, run.train, data, weights, target=beside)
        if before is None:
            trainer.fit_once()
            done = 0
        else:
            trainer.load_state(before.state())
        for epoch in range(done, until):
            trainer.epoch(epoch)
        done = until
    provenance = provenance_of(data, run, leaks, target=beside)
    if run.start_from:
        provenance = inherited(provenance, bundles.load(run.start_from, trust, verify=False).provenance)
    bundles.save(place, trainer.method, run, provenance, {"epoch": done - 1})  # type: ignore[union-attr]


def counts_of(folder: Path, arm: Arm, rows: Sequence[Utterance], seeds: int) -> Floats:
    """How often each class was answered as which, [seeds, S, K, K]."""
    classes, found = arm.run.labels.classes, []
    truth = [classes.index(str(arm.run.labels.name(row))) for row in rows]
    for number in range(seeds):
        with np.load(answers_path(folder, arm, FRESH + number), allow_pickle=False) as kept_answers:
            if kept_answers["ids"].tolist() != [row.id for row in rows]:
                raise ValueError(f"{answers_path(folder, arm, FRESH + number)} answers other rows than the test side holds now")
            guess: NDArray[np.int64] = kept_answers["probabilities"].argmax(axis=1)
        found.append(metrics.by_speaker(truth, guess.tolist(), [row.corpus_speaker for row in rows], len(classes)))
    return np.stack(found)
