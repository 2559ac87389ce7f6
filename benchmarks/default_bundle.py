"""The recipe of the default bundle over five speaker folds, and on corpora it never heard.

    python benchmarks/default_bundle.py plain                          # the baseline: plain statistics, logistic regression
    python benchmarks/default_bundle.py run --seeds 0 1 2 --jobs 2     # trains; appends JSON lines to results/, answers to --answers
    python benchmarks/default_bundle.py report                         # the tables from them
    python benchmarks/default_bundle.py run --tasks refit --seeds 0 --set method.networks=1 --out results/default_bundle_trials.jsonl
    python benchmarks/default_bundle.py trials                         # what such changes do on corpora that are never heard
    python benchmarks/default_bundle.py speed                          # of the shipped bundle, against real time

A run trains on four folds of cremad + emodb + resd and answers the fifth, or trains on all ("refit") and answers ravdess, nemo and urdu; a
task named by one of the three leaves that corpus out and answers it, for choosing what matters on sounds that are far from training.
Folds are by speaker, by dialogue for resd, and never choose anything: no dev split, the last epoch counts. Runs are processes of their
own, `--jobs` at once, on the GPU where there is one; a second call makes only what is missing. The audio is not part of this repository:
MOODCAST_CORPORA, or shared/corpora beside the repository, holds it. ship_default_bundle.py makes the bundle that ships.

Figures of `report`, UAR in percent: default_bundle_cremad_uar_percent, goal 74; default_bundle_emodb_uar_percent, goal 87;
default_bundle_unheard_uar_percent, the mean of the three that are never heard, goal 46. Of `speed`, the median of five passes over 100
recordings: default_bundle_times_real_time, goal 100. Of `trials`: default_bundle_trial_NUMBER_minus_first_points, goal 0.

Takes: 17 to 26 minutes a run of six a seed on one core; `speed` half a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.default_bundle_tables import FOLDS, HEARD, REFIT, UNHEARD, gathered, mean_uar, members, stacked, table, tell_goals
from benchmarks.shared import (
    RESULTS,
    begin,
    command,
    corpora_folder,
    figure,
    figures,
    in_processes,
    options_of,
    prepared,
    refuse_others,
    some,
)
from moodcast import baselines, config, lines, manifest, metrics
from moodcast import bundle as bundles
from moodcast.batch import Batch
from moodcast.cache import open_waves
from moodcast.cluster.data import CachedStretches, Part
from moodcast.cluster.work import provenance_of
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.committee import Committee, together
from moodcast.order import balance_weights
from moodcast.passes import gather
from moodcast.run import Run, build
from moodcast.step import Trainer

OUT, TRIALS = RESULTS / "default_bundle.jsonl", RESULTS / "default_bundle_trials.jsonl"
WITHOUT = "without Fisher vectors"
Indices = NDArray[np.int64]
Counts = dict[str, dict[str, list[list[int]]]]  # by corpus and speaker, how often each class was answered as which


@dataclass(frozen=True)
class Taught(Part):
    """Targets are half the label and half what a teacher answered, [stretches, K]."""

    told: NDArray[np.float32]

    def batches(self, plan: Sequence[Indices], epoch: int | None = None) -> Iterator[Batch]:
        for indices, batch in zip(plan, super().batches(plan, epoch), strict=True):
            soft = torch.from_numpy(self.told[self.at[indices]])
            yield batch if batch.target is None else replace(batch, target=(batch.target + soft) / 2)


def answers_of(folder: Path, whole: CachedStretches) -> NDArray[np.float32]:
    """What a bundle says of every stretch, [N, K]."""
    method = bundles.load(folder).method
    part = Part(whole, np.arange(len(whole)))
    return np.asarray(gather(method, lambda batch: predicted(method, batch), part, 32).exp().numpy())


def predicted(method: Method, batch: Batch) -> Tensor:
    emotion = method(batch).emotion
    if not isinstance(emotion, Tensor):
        raise SystemExit(f"{type(method).__name__} answers no emotion")
    return emotion


def rows_of(names: Sequence[str], run: Run) -> list[Utterance]:
    rows = [row for name in names for row in prepared(name)]
    return [row for row in rows if run.labels.name(row) is not None and run.labels.target(row) is not None]  # votes may all be elsewhere


def settings(options: argparse.Namespace) -> Run:
    from jobs.default_bundle import RUN

    return config.replace_at(RUN, config.parse_overrides(options.set))


def trained(run: Run, part: Part) -> Committee:
    rows = [part.whole.rows[i] for i in part.whole.owners[part.at]]
    method = build(run).to("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(method, Committee):
        raise SystemExit(f"this benchmark is of committees, got {type(method).__name__}")
    trainer = Trainer(method, run.train, part, balance_weights(rows, run.labels, run.train.balance))
    trainer.fit_once()
    for epoch in range(run.train.epochs):
        started = time.monotonic()
        terms = trainer.epoch(epoch)
        told = ", ".join(f"{name} {value:.3f}" for name, value in terms.items())
        print(f"  epoch {epoch + 1}/{run.train.epochs}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    return method


def answered(method: Committee, part: Part) -> dict[str, NDArray[np.float64]]:
    """Probabilities of each row of the part, in the order of its rows, [N, K].

    Of the committee, of its networks with the statistics, all and each, and of the Fisher vectors alone, where there are any.
    """
    num, votes = method.config.networks, method.votes
    parts_of: dict[str, Sequence[int]] = {
        "committee": range(len(votes)),
        **{f"network {i}": (i, num) for i in range(num)},
    }
    if method.fisher is not None:
        parts_of |= {WITHOUT: range(num + 1), "Fisher vectors": (num + 1,)}
    owners, seconds = part.whole.owners[part.at], part.whole.seconds[part.at]
    _, local = np.unique(owners, return_inverse=True)

    def every(batch: Batch) -> Tensor:
        members = [whole for whole, _ in method.members(batch)[0]]
        said = [together([members[i] for i in some], [counted_as(i, some) for i in some]) for some in parts_of.values()]
        return torch.stack(said, dim=1)

    def counted_as(member: int, among: Sequence[int]) -> float:
        """Its votes; the networks that are asked have one together."""
        return votes[member] if member >= num else 1.0 / sum(i < num for i in among)

    found = gather(method, every, part, 32).double().exp().cpu().numpy() * seconds[:, None, None]  # [stretches, answers, K]
    merged = np.zeros((int(local.max()) + 1, *found.shape[1:]))
    np.add.at(merged, local, found)
    merged /= merged.sum(axis=-1, keepdims=True)
    return {name: merged[:, i] for i, name in enumerate(parts_of)}


def one(run: Run, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and answer one fold or the refit: counts by speaker of each corpus, and the answers as a file."""
    heard = CachedStretches(rows_of(HEARD, run), run)
    fold_of = np.array(manifest.folds(heard.rows, FOLDS, seed=options.split_seed))[heard.owners]
    home = np.array([row.corpus for row in heard.rows])[heard.owners]
    started = time.monotonic()
    if task == REFIT:
        part = Part(heard, np.arange(len(heard)))
        if options.teacher:
            part = Taught(heard, part.at, answers_of(options.teacher, heard))
        method = trained(run, part)
        if options.bundles:
            bundles.save(options.bundles / f"seed{run.train.seed}", method, run, provenance_of(heard, run))
        asked = CachedStretches(found, run) if (found := available(run)) else None
        test = None if asked is None else Part(asked, np.arange(len(asked)))
    else:
        left = (home == task) if task in HEARD else (fold_of == int(task))
        method = trained(run, Part(heard, np.flatnonzero(~left)))
        test = Part(heard, np.flatnonzero(left))
    minutes = round((time.monotonic() - started) / 60, 1)
    record: dict[str, Any] = {"task": task, "seed": run.train.seed, "recipe": recipe_of(run), "minutes": minutes}
    return record if test is None else {**record, **scored(run, method, test, task, options)}


def recipe_of(run: Run) -> str:
    """Which settings these are, whatever the seed: rows and answers of others are not mixed with them."""
    told = config.to_dict(config.replace_at(run, {"train.seed": 0, "train.threads": 0}))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def available(run: Run) -> list[Utterance]:
    """The rows of the corpora that are never trained on, where they lie beside the others."""
    return rows_of([name for name in UNHEARD if (corpora_folder() / name).is_dir()], run)


def scored(run: Run, method: Committee, test: Part, task: str, options: argparse.Namespace) -> dict[str, Any]:
    rows = [test.whole.rows[i] for i in np.unique(test.whole.owners[test.at])]
    given = answered(method, test)
    if options.answers:
        options.answers.mkdir(parents=True, exist_ok=True)
        ids = np.array([row.id for row in rows])
        kept = {name: p.astype(np.float32) for name, p in given.items()}
        np.savez(options.answers / f"{task}-{run.train.seed}.npz", ids=ids, recipe=np.array(recipe_of(run)), **kept)
    counts = {name: counted(run, rows, p.argmax(1)) for name, p in given.items()}
    return {"counts": counts.pop("committee"), "alone": counts}


def counted(run: Run, rows: Sequence[Utterance], guess: Indices) -> Counts:
    """By corpus and speaker (dialogue, where a corpus has dialogues), how often each class was answered as which."""
    truth = np.array([run.labels.classes.index(str(run.labels.name(row))) for row in rows])
    counts: Counts = {}
    for corpus in sorted({row.corpus for row in rows}):
        here = np.flatnonzero([row.corpus == corpus for row in rows])
        speakers = [rows[i].corpus_group for i in here]
        found = metrics.by_speaker(truth[here].tolist(), guess[here].tolist(), speakers, len(run.labels.classes))
        counts[corpus] = dict(zip(sorted(set(speakers)), found.astype(int).tolist(), strict=True))
    return counts


def plain(options: argparse.Namespace) -> None:
    """The baseline on the same folds and files, fitted within each corpus, which is its best; from all three to what was never heard."""
    run = settings(options)
    rows, asked = rows_of(HEARD, run), available(run)
    found, far = (baselines.statistics_of(CachedStretches(part, run).store) for part in (rows, asked))
    truth = np.array([run.labels.classes.index(str(run.labels.name(row))) for row in rows])
    folds, home = np.array(manifest.folds(rows, FOLDS, seed=options.split_seed)), np.array([row.corpus for row in rows])
    guess = at_home(found, truth, home, folds)
    for fold in range(FOLDS):
        here = np.flatnonzero(folds == fold)
        write(options, {"task": str(fold), "seed": None, "counts": counted(run, [rows[i] for i in here], guess[here])})
    guess = baselines.plain_statistics(found, truth, far).guess
    write(options, {"task": REFIT, "seed": None, "counts": counted(run, asked, guess)})


def at_home(found: NDArray[np.float64], truth: Indices, home: NDArray[np.str_], folds: Indices) -> Indices:
    """What plain statistics [N, F] say of the speakers of each fold, fitted within each corpus on the others: classes [N]."""
    guess = np.zeros_like(truth)
    for corpus in HEARD:
        for fold in range(FOLDS):
            test, train = (home == corpus) & (folds == fold), (home == corpus) & (folds != fold)
            guess[test] = baselines.plain_statistics(found[train], truth[train], found[test]).guess
    return guess


def run_all(options: argparse.Namespace) -> None:
    """Each run in a process of its own, --jobs at once."""
    ours = f"{command_of(options)}, recipe {recipe_of(settings(options))}"
    made = [(f"{r['command']}, recipe {r.get('recipe')}", r["task"], r["seed"]) for r in lines.read(options.out) if r["seed"] is not None]
    if options.out.resolve() != TRIALS:  # where recipes stand beside each other
        refuse_others(options.out, (told for told, _, _ in made), ours)
    done = {(task, seed) for told, task, seed in made if told == ours}
    wanted = [(task, seed) for seed in options.seeds for task in options.tasks if (task, seed) not in done]
    run = settings(options)
    heard = CachedStretches(rows_of(HEARD, run), run)  # decoded once, before many want it
    print(f"{len(heard)} stretches, {len(wanted)} runs to make, {len(done)} made", flush=True)
    always = ["--out", str(options.out), "--split-seed", str(options.split_seed)]
    always += [word for name in ("answers", "bundles", "teacher") if (path := getattr(options, name)) for word in (f"--{name}", str(path))]
    always += ["--set", *options.set] if options.set else []
    commands = [[sys.executable, __file__, "one", "--task", task, "--seeds", str(seed), *always] for task, seed in wanted]
    if failed := in_processes(commands, options.jobs)[1]:
        raise SystemExit(f"{failed} runs failed; the same command tries them again")


def run_one(options: argparse.Namespace) -> None:
    run = config.replace_at(settings(options), {"train.seed": options.seeds[0], "train.threads": 1})
    record = one(run, options.task, options)
    write(options, record)
    for corpus, counts in record.get("counts", {}).items():
        total = np.sum(list(counts.values()), axis=0, dtype=float)
        print(
            f"{options.task} seed {run.train.seed} {corpus} UAR {100 * float(metrics.uar(total)):.1f} ({record['minutes']} min)", flush=True
        )


def write(options: argparse.Namespace, record: dict[str, Any]) -> None:
    lines.add(options.out, {**record, "command": command_of(options, "plain" if record["seed"] is None else "run")})


def command_of(options: argparse.Namespace, do: str = "run") -> str:
    """What makes such a record: the recipe's changes belong to it."""
    changes = [*options.set, *(["teacher"] if options.teacher else [])]
    split = ["--split-seed", str(options.split_seed)] if options.split_seed else []
    return command(__file__, [do, *split, *(["--set", *changes] if changes else [])])


def report(options: argparse.Namespace) -> None:
    """The tables, and how far the goals are."""
    if not (known := lines.read(options.out)):
        raise ValueError(f"{options.out} holds no rows; `plain` and `run` make them")
    print("\n".join([*table(known), "", *members(known), ""]))
    tell_goals(known)


def trials(options: argparse.Namespace) -> None:
    """Runs with changes to the recipe, each on its own, against the first of the file: mean UAR of the corpora that are never heard."""
    out = TRIALS if options.out == OUT else options.out
    if not (known := lines.read(out)):
        raise ValueError(f"{out} holds no rows; `run --tasks {REFIT} --set FIELD=VALUE --out {out}` makes them")
    first = stacked({name: gathered(known[:1], name, known[0]["seed"]) for name in UNHEARD})
    print(f"| change | {' | '.join(UNHEARD)} | mean of the three | difference to the first |\n|---|---|---|---|---|---|")
    gains = {}
    for number, record in enumerate(known):
        found = {name: gathered([record], name, record["seed"]) for name in UNHEARD}
        cells = [f"{100 * float(metrics.uar(np.sum(list(counts.values()), axis=0))):.1f}" for counts in found.values()]
        ours = stacked(found)
        above = metrics.paired_bootstrap(mean_uar, ours, first)
        cells += [str(metrics.speaker_bootstrap(mean_uar, ours)), str(above)]
        gains[f"default_bundle_trial_{number}_minus_first_points"] = 100 * above.value
        print(f"| {record['command'].partition('--set ')[2]} | {' | '.join(cells)} |")
    figures({name: gain for number, (name, gain) in enumerate(gains.items()) if number}, 0)


def speed(options: argparse.Namespace) -> None:
    """Seconds of sound answered a second, each recording alone, by the shipped bundle: median of five passes over 100 recordings."""
    torch.set_num_threads(os.cpu_count() or 1)
    bundle = bundles.load("default")
    rows = rows_of(HEARD[:1], bundle.run)[:100]
    store = open_waves(rows, bundle.rate)
    waves = [np.array(store[i]) for i in range(len(store))]
    took = []
    for number in range(5):
        started = time.monotonic()
        for wave in waves:
            bundle.answer([wave])
        took.append(time.monotonic() - started)
        print(f"pass {number + 1}: {len(waves)} recordings of {HEARD[0]} in {took[-1]:.1f} s", flush=True)
    figure("default_bundle_times_real_time", f"{sum(map(len, waves)) / bundle.rate / float(np.median(took)):.0f}", 100)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("do", choices=("plain", "run", "one", "report", "speed", "trials"), help="one: what `run` calls for each run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=[REFIT, *map(str, range(FOLDS))])
    parser.add_argument("--task", default=REFIT, help=argparse.SUPPRESS)
    parser.add_argument("--split-seed", type=int, default=0, help="of the folds: 0 is reported, others are for choosing")
    parser.add_argument("--jobs", type=some, default=1, help="runs at once")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe, for a try")
    parser.add_argument("--answers", type=Path, help="a folder for the probabilities of every utterance")
    parser.add_argument("--bundles", type=Path, help="a folder for the refitted bundles")
    parser.add_argument("--teacher", type=Path, help="a bundle whose answers are half of the refit's targets")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"plain": plain, "run": run_all, "one": run_one, "report": report, "speed": speed, "trials": trials}[options.do](options)


if __name__ == "__main__":
    begin(main)
