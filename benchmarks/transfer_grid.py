"""Adaptation across languages, method by method, on statistics of utterances: the grid behind docs/adaptation.md.

    python benchmarks/transfer_grid.py choose --seeds 0 1 2        # weights of the objectives, on development pairs alone
    python benchmarks/transfer_grid.py run --seeds 0 1 2 3 4       # appends a JSON line a cell to results/transfer_grid.jsonl
    python benchmarks/transfer_grid.py report --methods mcc dann   # the figures of what is there
    python scripts/adaptation_table.py                             # the tables of docs/adaptation.md from them

Four classes (angry, happy, neutral, sad). A cell trains on a source corpus with labels and on half of a target's speakers (of resd:
dialogues) without, and answers the other half; then the halves change places, and the answers are pooled. Nobody is on two sides, nothing
is chosen on the target, the last epoch counts. A second call makes only what is missing. Of large corpora a part is taken, the same number
of each class. The audio is not part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures of `run` and `report`, the mean over the pairs and seeds that both have: transfer_grid_METHOD_minus_target_norm_points, goal 0. Of
`choose`, the mean over seeds and development pairs: transfer_choice_METHOD_SETTING_uar_percent, no goal.

Takes: 1.3 hours for the 650 cells in results/ on one core, 2 to 50 s each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared import RESULTS, begin, command, figures, options_of, percent, prepared, tell_gains
from moodcast import config, lines, manifest, metrics
from moodcast.adapting import Front
from moodcast.batch import Batch
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.coral import Coral
from moodcast.methods.dann import Dann
from moodcast.methods.mcc import Mcc
from moodcast.methods.mean_teacher import MeanTeacher
from moodcast.methods.mk_mmd import MkMmd
from moodcast.methods.shot import Shot
from moodcast.methods.target_norm import TargetNorm
from moodcast.order import balance_weights
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer
from moodcast.transfer import TransferTask

GRID, CHOICES = RESULTS / "transfer_grid.jsonl", RESULTS / "transfer_choices.jsonl"
BASE = "target_norm"
CLASSES = ("angry", "happy", "neutral", "sad")
LABELS = Labels(CLASSES)
LANGUAGES = {"cremad": "en", "ravdess": "en", "emodb": "de", "nemo": "pl", "resd": "ru", "urdu": "ur"}
MOST = 300  # utterances of a class that are taken of a corpus, drawn once
PAIRS = (
    ("cremad", "emodb"),
    ("cremad", "nemo"),
    ("cremad", "resd"),
    ("cremad", "urdu"),
    ("emodb", "cremad"),
    ("emodb", "nemo"),
    ("nemo", "emodb"),
    ("nemo", "urdu"),
    ("emodb", "urdu"),
    ("nemo", "cremad"),
)
DEVELOPMENT = (("emodb", "ravdess"), ("nemo", "ravdess"))  # settings are chosen on these; ravdess is in no reported pair
FRONT = Front(kind="functionals", width=64, layers=2, dropout=0.3)
TRAIN = Train(epochs=15, batch_size=64, lr=2e-3, weight_decay=1e-2, balance="class", keep="last")
APART = 1000  # between the seeds of the networks of an arm that has several
PLAN = ChunkPlan(length_s=6.0, hop_s=6.0)

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Arm:
    """One row of the table: a method with settings, and what of the target it uses beside statistics."""

    name: str
    method: Any
    audio: bool = True
    labels: bool = False
    after: str | None = None  # the arm whose weights it starts from
    inputs: str = "plain"  # what becomes of statistics before they are standardised: plain, rank or white
    layers: int = FRONT.layers
    networks: int = 1  # so many, each from a seed of its own; their probabilities are averaged

    @property
    def run(self) -> Run:
        return Run(
            method=replace(self.method, front=replace(self.method.front, **asdict_front(self))), labels=LABELS, chunks=PLAN, train=TRAIN
        )


def asdict_front(arm: Arm) -> dict[str, Any]:
    keep = arm.method.front.standardise
    return {"kind": FRONT.kind, "width": FRONT.width, "layers": arm.layers, "dropout": FRONT.dropout, "standardise": keep}


ARMS = {
    arm.name: arm
    for arm in (
        Arm("source_only", TargetNorm.Config(front=Front(standardise="source")), audio=False),
        Arm("target_norm", TargetNorm.Config()),
        Arm("coral", Coral.Config()),
        Arm("mk_mmd", MkMmd.Config()),
        Arm("dann", Dann.Config()),
        Arm("mcc", Mcc.Config()),
        Arm("mean_teacher", MeanTeacher.Config()),
        Arm("shot", Shot.Config(), after="target_norm"),
        Arm("joint", TargetNorm.Config(), labels=True),
        Arm("target_supervised", TargetNorm.Config(), labels=True),
        Arm("linear_mcc", Mcc.Config(), layers=0),
        Arm("rank_mcc", Mcc.Config(), inputs="rank"),
        Arm("white_mcc", Mcc.Config(), inputs="white"),
        Arm("five_norm", TargetNorm.Config(), networks=5),
        Arm("five_mcc", Mcc.Config(), networks=5),
    )
}
SETTINGS = {  # what `choose` compares, on the development pairs
    "coral": [{"method.weights.coral": value} for value in (1.0, 10.0, 100.0)],
    "mk_mmd": [{"method.weights.discrepancy": value} for value in (0.3, 1.0, 3.0)],
    "dann": [{"method.weights.judge": 1.0, "method.reversal": value} for value in (0.1, 0.3, 1.0)],
    "mcc": [{"method.weights.confusion": value} for value in (0.1, 0.3, 1.0)],
    "mean_teacher": [{"method.weights.taught": value} for value in (0.3, 1.0)],
    "shot": [{"train.lr": value} for value in (1e-4, 3e-4, 1e-3)],
}


# ---------------------------------------------------------------------------------------------------- data


@dataclass
class Table:
    """The statistics of a corpus, [N, 1, F], and its rows."""

    rows: list[Utterance]
    found: torch.Tensor


@dataclass
class Statistics:
    """Some rows of tables as a trainer reads them; labels only where they are given."""

    rows: Sequence[Utterance]
    found: torch.Tensor
    labelled: bool

    def __len__(self) -> int:
        return len(self.rows)

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [self.rows[i].id for i in indices]

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
        if self.labelled and not hasattr(self, "targets"):
            self.targets = torch.tensor([LABELS.target(row) for row in self.rows])
        for indices in plan:
            size = len(indices)
            target = self.targets[indices] if self.labelled else None
            weight = torch.ones(size) if self.labelled else None
            yield Batch(
                torch.zeros(size, 1, 1), torch.ones(size, 1, dtype=torch.int64), torch.ones(size), target, weight, self.found[indices]
            )


@cache
def rows_of(name: str, most: int) -> list[Utterance]:
    """A corpus, or so many utterances of each class: its rows with one of the classes."""
    rows = sorted((row for row in prepared(name) if LABELS.name(row) is not None), key=lambda row: row.id)
    rng = np.random.default_rng(0)
    kept = [i for label in CLASSES for i in rng.permutation([i for i, row in enumerate(rows) if row.emotion == label])[:most]]
    return [rows[i] for i in sorted(kept)]


@cache
def table(name: str) -> Table:
    """A corpus, or a part of it, and its statistics."""
    rows = rows_of(name, MOST)
    run = ARMS["target_norm"].run
    method, data = build(run), CachedStretches(rows, run, labelled=False)
    keep_features(method, [data], method.frozen_name(), None)
    pieces = np.concatenate([data.features.get(data.feature_name(i)) for i in range(len(data))])  # [stretches, F]
    share = data.seconds[:, None]
    found = np.stack([(pieces * share)[data.owners == i].sum(0) / share[data.owners == i].sum() for i in range(len(rows))])
    return Table(rows, torch.from_numpy(found.astype(np.float32))[:, None])


def of(rows: Sequence[Utterance], labelled: bool) -> Statistics:
    """The statistics of rows, in their order."""
    where = {row.id: (name, i) for name in {row.corpus for row in rows} for i, row in enumerate(table(name).rows)}
    return Statistics(rows, torch.stack([table(where[row.id][0]).found[where[row.id][1]] for row in rows]), labelled)


def changed(given: torch.Tensor, by: torch.Tensor, inputs: str) -> torch.Tensor:
    """Statistics [N, 1, F] as an arm hears them, by the distribution of `by` [M, 1, F], of the same domain and heard without labels."""
    if inputs == "plain":
        return given
    values, known = given[:, 0].double().numpy(), by[:, 0].double().numpy()
    if inputs == "rank":
        pairs = zip(np.sort(known, axis=0).T, values.T, strict=True)
        ranks = np.stack([np.searchsorted(column, value, "right") for column, value in pairs], axis=1)
        shares = torch.from_numpy((ranks + 0.5) / (len(known) + 1.0))
        return torch.special.ndtri(shares).float()[:, None]
    spread = known.std(0).clip(1e-9)
    standard, others = (known - known.mean(0)) / spread, (values - known.mean(0)) / spread
    covariance = 0.5 * np.cov(standard.T) + 0.5 * np.eye(len(spread))
    size, axes = np.linalg.eigh(covariance)
    return torch.from_numpy((others @ (axes / np.sqrt(size)) @ axes.T).astype(np.float32))[:, None]


def tasks(source: Sequence[Utterance], target: Sequence[Utterance], seed: int) -> list[TransferTask]:
    """Both halves of a target, split by group."""
    sides = manifest.folds(target, 2, seed)
    labelled = [replace(row, split="train") for row in source]
    found = []
    for side in range(2):
        rows = [replace(row, split="test" if at == side else "train") for row, at in zip(target, sides, strict=True)]
        found.append(TransferTask.of(labelled, rows))
    return found


# -------------------------------------------------------------------------------------------------- training


def trained(run: Run, task: TransferTask, arm: Arm, begin: Method | None) -> Method:
    """One training of a cell."""
    rows = list(task.source)
    if arm.labels:
        opened = task.unsealed()
        rows = [*rows, *opened] if arm.name == "joint" else opened
    other = of(task.adapt, labelled=False)
    labelled = of(rows, labelled=True)
    labelled.found, other.found = (changed(side.found, side.found, arm.inputs) for side in (labelled, other))
    method = build(run)
    if begin is not None:
        method.load_state_dict({**method.state_dict(), **{k: v for k, v in begin.state_dict().items() if k.startswith("trunk.")}})
    if method.streams == ("target",):
        trainer = Trainer(method, run.train, other)
    else:
        weights = balance_weights(rows, LABELS, run.train.balance)
        trainer = Trainer(method, run.train, labelled, weights, target=other)
    trainer.fit_once()
    for epoch in range(run.train.epochs):
        trainer.epoch(epoch)
    return method


def cell(source: str, target: str, names: Sequence[str], seed: int, changes: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """One row an arm: what it answers to all of the target, each half by a model that adapted to the other."""
    both = tasks(table(source).rows, table(target).rows, seed)
    needed = [*dict.fromkeys([name for arm in names for name in (ARMS[arm].after, arm) if name])]
    done: dict[str, list[list[Method]]] = {}
    for name in needed:
        arm, started = ARMS[name], time.monotonic()
        given = changes or {} if name in names else {}
        runs = [config.replace_at(arm.run, {"train.seed": seed + APART * i, **given}) for i in range(arm.networks)]
        begin = [found[0] for found in done[arm.after]] if arm.after else [None, None]
        done[name] = [[trained(run, task, arm, one) for run in runs] for task, one in zip(both, begin, strict=True)]
        if name not in names:
            continue
        counts: dict[str, Counts] = {}
        for methods, task in zip(done[name], both, strict=True):
            size = len(task.test)
            heard = of(task.test, labelled=False)
            heard.found = changed(heard.found, of(task.adapt, labelled=False).found, arm.inputs)
            said = [predict(method, heard, np.arange(size), np.ones(size), 256)[0] for method in methods]
            answers = task.answers(LABELS, np.mean(said, axis=0))
            for who, matrix in zip(
                np.unique(answers.speakers), metrics.by_speaker(answers.truth, answers.guess, answers.speakers, len(CLASSES)), strict=True
            ):
                counts[str(who)] = counts.get(str(who), 0) + matrix
        yield {
            "task": f"{source}->{target}",
            "languages": f"{LANGUAGES[source]}->{LANGUAGES[target]}",
            "method": name,
            "seed": seed,
            **scored(counts),
            "uses": {"target_audio": arm.audio, "target_labels": arm.labels, "transductive": False},
            "seconds": round(time.monotonic() - started, 1),
            "changes": changes or {},
            "counts": {who: matrix.astype(int).tolist() for who, matrix in counts.items()},
        }


def scored(counts: dict[str, Counts]) -> dict[str, Any]:
    """UAR and macro-F1 with intervals by bootstrap over speakers."""
    sums = np.stack(list(counts.values()))
    return {name: percent(metrics.speaker_bootstrap(score, sums)) for name, score in (("uar", metrics.uar), ("macro_f1", metrics.macro_f1))}


def beside(row: dict[str, Any], other: dict[str, Any]) -> list[float]:
    """The paired difference of UAR, in points, with its interval."""
    ours, theirs = (np.array([item["counts"][who] for who in sorted(row["counts"])], dtype=float) for item in (row, other))
    return percent(metrics.paired_bootstrap(metrics.uar, ours, theirs))


def known_pair(text: str) -> str:
    """A pair of corpora as the command line takes it."""
    source, arrow, target = text.partition("->")
    if not arrow or not {source, target} <= LANGUAGES.keys():
        raise argparse.ArgumentTypeError(f"{text!r} is no pair of {', '.join(LANGUAGES)}; write it in quotes: 'cremad->emodb'")
    return text


def tell_known(made: int, asked: int, out: Path) -> None:
    """Say how much is left to do, so that who repeats figures does not take the rows that came along for new ones."""
    print(
        f"{asked - made} cells to make, {made} of {asked} made: they stand in {out}, and another file (--out) makes all of them", flush=True
    )


def asked_of(options: argparse.Namespace) -> set[tuple[str, str, int]]:
    """Pair, method and seed of every cell that the options name."""
    return {(pair, name, seed) for pair in options.pairs for name in options.methods for seed in options.seeds}


def report(options: argparse.Namespace) -> None:
    """The figures of the cells that are there; nothing is made."""
    if not (rows := lines.read(options.out)):
        raise ValueError(f"{options.out} holds no rows; `run` makes them")
    tell_gains("transfer_grid", rows, asked_of(options), BASE)


def run_grid(options: argparse.Namespace) -> None:
    """Every cell that is missing, seed after seed, so that what is there is balanced at any time."""
    have = {(row["task"], row["method"], row["seed"]) for row in lines.read(options.out)}
    pairs, asked = [pair.split("->") for pair in options.pairs], asked_of(options)
    tell_known(len(asked & have), len(asked), options.out)
    for seed in options.seeds:
        for source, target in pairs:
            wanted = [name for name in options.methods if (f"{source}->{target}", name, seed) not in have]
            if not wanted:
                continue
            known = {row["method"]: row for row in lines.read(options.out) if (row["task"], row["seed"]) == (f"{source}->{target}", seed)}
            for row in cell(source, target, wanted, seed):
                known[row["method"]] = row
                for name in ("source_only", BASE):
                    if name in known:
                        row[f"above_{name}"] = beside(row, known[name])
                lines.add(options.out, {**row, "command": command(__file__)})
                print(f"{row['task']} {row['method']} {seed}: {row['uar'][0]:.1f} ({row['seconds']:.0f} s)", flush=True)
    tell_gains("transfer_grid", lines.read(options.out), asked, BASE)


def choose(options: argparse.Namespace) -> None:
    """Each method with several settings on the development pairs, whose target is none of the grid's."""
    pairs = [pair.split("->") for pair in options.pairs]
    found: dict[str, float] = {}
    for name in options.methods:
        for changes in SETTINGS[name]:
            scores = []
            for seed in options.seeds:
                for source, target in pairs:
                    for row in cell(source, target, [name], seed, changes):
                        lines.add(options.out, {**row, "command": command(__file__)})
                        scores.append(row["uar"][0])
                        print(f"{row['task']} {name} {changes} {seed}: {row['uar'][0]:.1f} ({row['seconds']:.0f} s)", flush=True)
            told = "_".join(f"{field.rpartition('.')[2]}_{value:g}" for field, value in changes.items())
            found[f"transfer_choice_{name}_{told}_uar_percent"] = float(np.mean(scores))
    figures(found)


def main() -> None:
    parser = options_of(__doc__)
    verbs = parser.add_subparsers(required=True)
    for verb, act, out, arms, pairs in (
        ("run", run_grid, GRID, list(ARMS), PAIRS),
        ("report", report, GRID, list(ARMS), PAIRS),
        ("choose", choose, CHOICES, list(SETTINGS), DEVELOPMENT),
    ):
        one = verbs.add_parser(verb, description=act.__doc__)
        one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
        one.add_argument("--methods", nargs="+", default=arms, choices=arms)
        one.add_argument("--pairs", nargs="+", type=known_pair, default=["->".join(pair) for pair in pairs], metavar="SOURCE->TARGET")
        one.add_argument("--out", type=Path, default=out)
        one.set_defaults(act=act)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.act(given)


if __name__ == "__main__":
    begin(main)
