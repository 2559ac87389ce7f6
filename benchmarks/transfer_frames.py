"""Adaptation across languages, method by method, on a small encoder of log-mel frames: the second grid behind docs/adaptation.md.

    python benchmarks/transfer_frames.py run --seeds 0 1 2         # appends a JSON line a cell to results/transfer_frames.jsonl
    python benchmarks/transfer_frames.py run --pairs "emodb->ravdess" --methods target_norm --out TRY
    python benchmarks/transfer_frames.py report                    # the figures of what is there
    python scripts/adaptation_table.py                             # the tables of docs/adaptation.md from them

Classes, halves of a target and scores are those of transfer_grid.py; of a corpus 100 utterances of a class at most. To fit an hour of
one processor core, every arm begins with the network that the source alone has trained (BEGIN_STEPS, the same for all arms of a source and
seed) and goes on for STEPS with its own objective, in windows of 1.5 s; whole utterances are answered. Arms that hear no target go on for
as long with the source alone, so that they differ from the others in nothing else, and need not be trained for each target anew. The arms
of layer_anchor begin with its own network, nothing anchored. Nothing is chosen on a target, the last step counts; a second call makes
only what is missing. The audio is not part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures, the mean over the pairs and seeds that both have, goal 0: transfer_frames_METHOD_minus_target_norm_points, and of the arms of
layer_anchor transfer_frames_METHOD_minus_anchor_none_points.

Takes: 2 hours for the 312 cells in results/ on one core, 1 to 120 s each.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.shared import RESULTS, begin, command, options_of, tell_gains
from benchmarks.transfer_grid import (
    BASE,
    CLASSES,
    LABELS,
    LANGUAGES,
    PAIRS,
    Counts,
    beside,
    known_pair,
    rows_of,
    scored,
    tasks,
    tell_known,
)
from moodcast import lines, metrics
from moodcast.adapting import Front
from moodcast.augment import Augment, Crop
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.process import set_up
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.coral import Coral
from moodcast.methods.dann import Dann
from moodcast.methods.layer_anchor import LayerAnchor
from moodcast.methods.mcc import Mcc
from moodcast.methods.mean_teacher import MeanTeacher
from moodcast.methods.target_norm import TargetNorm
from moodcast.methods.vq_adapt import VqAdapt
from moodcast.order import balance_weights, num_steps
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer
from moodcast.transfer import TransferTask

OUT = RESULTS / "transfer_frames.jsonl"
MOST = 100  # utterances of a class that are taken of a corpus, drawn once
FRONT = Front(num_mels=40, width=48, channels=8, layers=2, dropout=0.2, hide_bands=6)
WINDOW_S = 1.5
BEGIN_STEPS, STEPS = 300, 80
BEGIN = Train(batch_size=32, lr=2e-3, weight_decay=1e-2, balance="class", keep="last", threads=1)
ON = replace(BEGIN, lr=1e-3)
LAYERED_BASE = "anchor_none"
SHOWN = 8  # of the ten pairs; the last two of transfer_grid.py are left out

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Arm:
    """One row of the table. alone: it hears no target while it trains; drawn: its random group is another one for every seed."""

    name: str
    method: Any
    alone: bool = False
    labels: bool = False
    drawn: bool = False

    def run(self, seed: int, train: Train) -> Run:
        front = replace(FRONT, standardise=self.method.front.standardise)
        method = replace(self.method, front=front, **({"draw": seed} if self.drawn else {}))
        crop = Augment(crop=Crop(share=1.0, seconds=WINDOW_S))
        return Run(method, LABELS, chunks=ChunkPlan(length_s=WINDOW_S, hop_s=WINDOW_S), augment=crop, train=replace(train, seed=seed))

    @property
    def layered(self) -> bool:
        """Whether it is one of layer_anchor, whose network is another."""
        return isinstance(self.method, LayerAnchor.Config)


def anchored(how: str) -> LayerAnchor.Config:
    return LayerAnchor.Config(anchors=how, warm=0.0)  # type: ignore[arg-type]


ARMS = {
    arm.name: arm
    for arm in (
        Arm("source_only", TargetNorm.Config(front=Front(standardise="source")), alone=True),
        Arm("target_norm", TargetNorm.Config(), alone=True),
        Arm("mcc", Mcc.Config()),
        Arm("mean_teacher", MeanTeacher.Config()),
        Arm("coral", Coral.Config()),
        Arm("dann", Dann.Config()),
        Arm("vq_adapt", VqAdapt.Config()),
        Arm("vq_apart", VqAdapt.Config(together=False)),
        Arm("joint", TargetNorm.Config(), labels=True),
        Arm("anchor_none", anchored("none"), alone=True),
        Arm("anchor_last", anchored("last")),
        Arm("anchor_group", anchored("group")),
        Arm("anchor_random", anchored("random"), drawn=True),
        Arm("anchor_all", anchored("all")),
    )
}


# -------------------------------------------------------------------------------------------------- training


@cache
def begun(source: str, layered: bool, seed: int, on: bool) -> Weights:
    """What a network has learned from a source alone: after the beginning, or `on`, after as many steps as the other arms go on for."""
    arm = ARMS["anchor_none" if layered else "target_norm"]
    rows = [replace(row, split="train") for row in rows_of(source, MOST)]
    trainer = trainer_of(arm, rows, rows, seed, ON if on else BEGIN, begun(source, layered, seed, False) if on else None)
    go(trainer)
    return {name: value.detach().clone() for name, value in trainer.method.named_parameters()}


def trainer_of(
    arm: Arm, source: Sequence[Utterance], target: Sequence[Utterance], seed: int, train: Train, begin: Weights | None
) -> Trainer:
    """Ready to begin, with the statistics of both domains and, where weights came, those that this method has, too."""
    steps = num_steps(len(source), train.batch_size)
    run = arm.run(seed, replace(train, epochs=max(1, math.ceil((BEGIN_STEPS if begin is None else STEPS) / steps))))
    method = build(run)
    if begin is not None:
        method.load_state_dict({**method.state_dict(), **{name: v for name, v in begin.items() if fits(method, name, v)}})
    sides = CachedStretches(source, run), CachedStretches(target, run, labelled=False)
    weights = balance_weights([source[i] for i in sides[0].owners], LABELS, train.balance)
    trainer = Trainer(method, run.train, sides[0], weights, target=sides[1])
    trainer.fit_once()
    return trainer


def fits(method: Method, name: str, value: Tensor) -> bool:
    """Whether the method has a parameter of that name and shape."""
    own = method.state_dict().get(name)
    return own is not None and own.shape == value.shape


def go(trainer: Trainer) -> dict[str, float]:
    """All epochs; what the last one told."""
    told: dict[str, float] = {}
    for epoch in range(trainer.train.epochs):
        told = trainer.epoch(epoch)
    return told


def trained(arm: Arm, source: str, task: TransferTask, seed: int) -> tuple[Any, dict[str, float]]:
    """A half of a cell: the method, and what its losses were at the end."""
    rows = [*task.source, *(task.unsealed() if arm.labels else [])]
    trainer = trainer_of(arm, rows, task.adapt, seed, ON, begun(source, arm.layered, seed, arm.alone))
    return trainer.method, {} if arm.alone else go(trainer)


def cell(source: str, target: str, name: str, seed: int) -> dict[str, Any]:
    """What an arm answers to all of the target, each half by a model that adapted to the other."""
    arm, started = ARMS[name], time.monotonic()
    counts: dict[str, Counts] = {}
    told: list[dict[str, Any]] = []
    for task in tasks(rows_of(source, MOST), rows_of(target, MOST), seed):
        method, losses = trained(arm, source, task, seed)
        heard = CachedStretches(task.test, arm.run(seed, ON), labelled=False)
        answers = task.answers(LABELS, predict(method, heard, heard.owners, heard.seconds, 32)[0])
        found = metrics.by_speaker(answers.truth, answers.guess, answers.speakers, len(CLASSES))
        for who, matrix in zip(np.unique(answers.speakers), found, strict=True):
            counts[str(who)] = counts.get(str(who), 0) + matrix
        layers = {"anchored": method.anchored.nonzero()[:, 0].tolist()} if arm.layered else {}
        told.append({**{key: round(value, 4) for key, value in losses.items()}, **layers})
    return {
        "task": f"{source}->{target}",
        "languages": f"{LANGUAGES[source]}->{LANGUAGES[target]}",
        "method": name,
        "seed": seed,
        **scored(counts),
        "uses": {"target_audio": name != "source_only", "target_labels": arm.labels, "transductive": False},
        "seconds": round(time.monotonic() - started, 1),
        "told": told,
        "counts": {who: matrix.astype(int).tolist() for who, matrix in counts.items()},
    }


def run_grid(options: argparse.Namespace) -> None:
    """Every cell that is missing, seed after seed and source after source, so that what is there is balanced at any time."""
    rows = {(row["task"], row["method"], row["seed"]): row for row in lines.read(options.out)}
    asked = {(pair, name, seed) for seed, pair, name in wanted(options)}
    tell_known(len(asked & rows.keys()), len(asked), options.out)
    stop = time.monotonic() + 60 * options.minutes if options.minutes else math.inf
    for seed, pair, name in wanted(options):
        if (pair, name, seed) in rows:
            continue
        if time.monotonic() > stop:
            break
        source, _, target = pair.partition("->")
        row = cell(source, target, name, seed)
        rows[pair, name, seed] = row
        for base in ("source_only", BASE, LAYERED_BASE):
            if (pair, base, seed) in rows and base != name:
                row[f"above_{base}"] = beside(row, rows[pair, base, seed])
        lines.add(options.out, {**row, "command": command(__file__)})
        print(f"{pair} {name} {seed}: {row['uar'][0]:.1f} ({row['seconds']:.0f} s)", flush=True)
    tell(rows.values(), asked)


def report(options: argparse.Namespace) -> None:
    """The figures of the cells that are there; nothing is made."""
    if not (rows := lines.read(options.out)):
        raise ValueError(f"{options.out} holds no rows; `run` makes them")
    tell(rows, {(pair, name, seed) for seed, pair, name in wanted(options)})


def tell(rows: Iterable[dict[str, Any]], asked: set[tuple[str, str, int]]) -> None:
    """The figures, arms beside the baseline that has their network."""
    rows = list(rows)
    for base in (BASE, LAYERED_BASE):
        alike = [row for row in rows if row["method"] in ARMS and ARMS[row["method"]].layered == ARMS[base].layered]
        tell_gains("transfer_frames", alike, asked, base)


def wanted(options: argparse.Namespace) -> Iterator[tuple[int, str, str]]:
    """Seeds, pairs and arms in their order."""
    pairs = options.pairs or sorted(["->".join(pair) for pair in PAIRS[:SHOWN]], key=lambda pair: pair.partition("->")[0])
    return ((seed, pair, name) for seed in options.seeds for pair in pairs for name in options.methods)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--pairs", nargs="+", type=known_pair, metavar="SOURCE->TARGET")
    parser.add_argument("--minutes", type=float, default=0, help="start nothing new after so many; 0 for no limit")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    set_up(threads=1)
    {"run": run_grid, "report": report}[options.what](options)


if __name__ == "__main__":
    begin(main)
