"""Do layers that are chosen without labels of the target carry over better than the last one, or than some at random?

    python benchmarks/layer_anchor.py run --seeds 0 1 2 --out CELLS                           # a JSON line a cell, only what is missing
    python benchmarks/layer_anchor.py run --encoder FOLDER --pairs cremad:emodb --out CELLS   # the layers of a frozen encoder
    python benchmarks/layer_anchor.py report                                                  # the table of results/layer_anchor.jsonl
    python benchmarks/layer_anchor.py run --pairs urdu:emodb --arms none last --epochs 1 --width 16 --halves 1 --out TRY

Four classes. A cell trains on a source with labels and half of the target's speakers without, and answers the other half; then the halves
change places (`--halves 1` leaves that out). The last epoch counts, nothing is chosen on the target. Arms: nothing anchored ("none": the
same network with the target's own statistics), the last layer, all, the chosen group, the best single layer, random groups. Beside
each row stand the two measures that the choice rests on, by the method's own halves of stretches; `likeness_of_speakers` and
`probe_of_speakers` are the same with halves and folds of speakers, after training. The audio is not part of this repository:
MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures, the mean over the cells of the file that both have, goal 0: layer_anchor_group_minus_last_points and
layer_anchor_group_minus_random_points. Below 0 the choice is worth nothing.

Takes: 2 to 8 minutes a cell of the small encoder on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared import RESULTS, begin, command, figures, mean_difference, options_of, percent, prepared, refuse_others, signed, some
from moodcast import lines, manifest, metrics
from moodcast.adapting import SOURCE, TARGET, Front
from moodcast.batch import Batch
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features, kept
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.layer_anchor import LayerAnchor
from moodcast.nn import anchors
from moodcast.order import balance_weights
from moodcast.passes import gather, predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer
from moodcast.study.phonetics import few
from moodcast.transfer import TransferTask

OUT = RESULTS / "layer_anchor.jsonl"
SETTINGS = ("epochs", "width", "channels", "group", "most", "halves")  # that all rows of a file share
LABELS = Labels(("angry", "happy", "neutral", "sad"))
ARMS: dict[str, dict[str, Any]] = {
    "none": {"anchors": "none"},
    "last": {"anchors": "last"},
    "group": {"anchors": "group"},
    "random 0": {"anchors": "random", "draw": 0},
    "all": {"anchors": "all"},
    "single": {"anchors": "single"},
    "random 1": {"anchors": "random", "draw": 1},
    "random 2": {"anchors": "random", "draw": 2},
}


def rows_of(name: str, most: int) -> list[Utterance]:
    return few(prepared(name), LABELS.classes, most)


def run_of(arm: str, seed: int, options: argparse.Namespace) -> Run:
    front = Front(width=options.width, channels=options.channels, layers=2)
    method = LayerAnchor.Config(front=front, encoder=options.encoder, group=options.group, **ARMS[arm])
    train = Train(epochs=options.epochs, batch_size=32, lr=1e-3, balance="class", keep="last", seed=seed)
    return Run(method, LABELS, chunks=ChunkPlan(length_s=3.0, hop_s=3.0), train=train)


def cell(source: str, target: str, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The answers to the target, each half by a model that adapted to the other, and what the choice rests on."""
    started, run = time.monotonic(), run_of(arm, seed, options)
    labelled = [replace(row, split="train") for row in rows_of(source, options.most)]
    others = rows_of(target, options.most)
    sides, counts, layers = manifest.folds(others, 2, seed=0), {}, []
    for side in range(options.halves):
        halves = [replace(row, split="test" if at == side else "train") for row, at in zip(others, sides, strict=True)]
        task = TransferTask.of(labelled, halves)
        method, source_data, target_data = trained(run, task)
        layers.append(measured(method, source_data, target_data))
        heard = CachedStretches(list(task.test), run, labelled=False)
        given = predict(method, heard, heard.owners, heard.seconds, 64)[0]
        answers = task.answers(LABELS, given)
        found = metrics.by_speaker(answers.truth.tolist(), answers.guess.tolist(), answers.speakers, len(LABELS.classes))
        counts |= dict(zip(sorted(set(answers.speakers)), found.astype(int).tolist(), strict=True))
    uar = metrics.speaker_bootstrap(metrics.uar, np.array([counts[name] for name in sorted(counts)], dtype=float))
    return {
        **{"source": source, "target": target, "arm": arm, "seed": seed, "encoder": Path(options.encoder).name},
        **{name: getattr(options, name) for name in SETTINGS},
        **{"uar": percent(uar), "layers": layers, "counts": counts},
        "uses": {"target_audio": True, "target_labels": False, "transductive": False},
        "seconds": round(time.monotonic() - started, 1),
        "command": command(__file__),
    }


def trained(run: Run, task: TransferTask) -> tuple[LayerAnchor, CachedStretches, CachedStretches]:
    """One training, the last epoch."""
    method = build(run)
    if not isinstance(method, LayerAnchor):
        raise SystemExit(f"this benchmark is of layer_anchor, got {type(method).__name__}")
    sides = CachedStretches(list(task.source), run), CachedStretches(list(task.adapt), run, labelled=False)
    if name := kept(run, method):
        keep_features(method, sides, name, None)
    rows = [sides[0].rows[i] for i in sides[0].owners]
    trainer = Trainer(method, run.train, sides[0], balance_weights(rows, LABELS, run.train.balance), target=sides[1])
    trainer.fit_once()
    for epoch in range(run.train.epochs):
        trainer.epoch(epoch)
    return method, *sides


def measured(method: LayerAnchor, source: CachedStretches, target: CachedStretches) -> dict[str, Any]:
    """Both measures of every layer, as the method saw them and, after training, by speakers."""

    def vectors(at: int) -> Any:
        return lambda batch: method.trunk.vectors(batch, at)

    def classes(batch: Batch) -> torch.Tensor:
        if batch.target is None:
            raise SystemExit("the source has no labels")
        return batch.target.argmax(-1)

    ours, theirs = (gather(method, vectors(at), side, 64).double() for at, side in ((SOURCE, source), (TARGET, target)))
    truth = gather(method, classes, source, 64).numpy()
    who = np.unique([source.rows[i].corpus_group for i in source.owners], return_inverse=True)[1].astype(np.int64)
    pairs = list(zip(torch.split(ours, method.trunk.sizes, dim=1), torch.split(theirs, method.trunk.sizes, dim=1), strict=True))
    return {
        "anchored": method.anchored.nonzero()[:, 0].tolist(),
        "likeness": [round(value, 4) for value in method.likeness.tolist()],
        "probe": [round(value, 4) for value in method.probe.tolist()],
        "likeness_of_speakers": [round(anchors.likeness(a.numpy(), b.numpy(), who), 4) for a, b in pairs],
        "probe_of_speakers": [round(anchors.probe(a.numpy(), truth, who), 4) for a, _ in pairs],
    }


def settings_of(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {row.get(name, 'not noted')}" for name in SETTINGS)


def measure(options: argparse.Namespace) -> None:
    names = ("source", "target", "arm", "seed", "encoder")
    made = lines.read(options.out)
    refuse_others(options.out, map(settings_of, made), settings_of(vars(options)))
    done = {tuple(row[name] for name in names) for row in made}
    for seed in options.seeds:
        for pair in options.pairs:
            source, _, target = pair.partition(":")
            for arm in options.arms:
                if (source, target, arm, seed, Path(options.encoder).name) in done:
                    continue
                row = cell(source, target, arm, seed, options)
                lines.add(options.out, row)
                anchored = [found["anchored"] for found in row["layers"]]
                print(f"{pair} {arm} seed {seed}: UAR {row['uar']}, anchored {anchored}, {row['seconds']:.0f} s", flush=True)
    report(options)


def report(options: argparse.Namespace) -> None:
    """UAR of each arm, mean over seeds, and its paired difference from nothing anchored; random groups together."""
    rows = lines.read(options.out)
    if not rows:
        raise ValueError(f"{options.out} holds no rows; `run` makes them")
    print("| pair | encoder | arm | seeds | UAR % | above nothing anchored |\n|---|---|---|---|---|---|")
    for key in sorted({(row["source"], row["target"], row["encoder"]) for row in rows}):
        own = [row for row in rows if (row["source"], row["target"], row["encoder"]) == key]
        for arm in ("none", "last", "group", "single", "all", "random"):
            mine = [row for row in own if row["arm"].split(" ")[0] == arm]
            seeds = {row["seed"] for row in mine}
            base = [row for row in own if row["arm"] == "none" and row["seed"] in seeds]
            if mine and base:
                ours, theirs = summed(mine), summed(base) * len(mine) / len(base)
                uar, above = metrics.speaker_bootstrap(metrics.uar, ours), metrics.paired_bootstrap(metrics.uar, ours, theirs)
                print(f"| {key[0]} to {key[1]} | {key[2] or 'small, trained'} | {arm} | {len(seeds)} | {uar} | {signed(above)} |")
    scores = {arm: means(rows, arm) for arm in ("group", "last", "random")}
    told = {arm: mean_difference(scores["group"], scores[arm]) for arm in ("last", "random")}
    figures({f"layer_anchor_group_minus_{arm}_points": found[0] for arm, found in told.items() if found}, 0)


def means(rows: Sequence[dict[str, Any]], arm: str) -> dict[tuple[Any, ...], float]:
    """The UAR in % of an arm by source, target, encoder and seed; of several draws their mean."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["arm"].split(" ")[0] == arm:
            found.setdefault(tuple(row[name] for name in ("source", "target", "encoder", "seed")), []).append(row["uar"][0])
    return {key: float(np.mean(each)) for key, each in found.items()}


def summed(rows: Sequence[dict[str, Any]]) -> Any:
    """Counts by speaker over several rows, [speakers, K, K]."""
    return np.sum([[row["counts"][who] for who in sorted(row["counts"])] for row in rows], axis=0).astype(float)


def known_pair(text: str) -> str:
    if not all(text.partition(":")):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair SOURCE:TARGET such as ravdess:emodb")
    return text


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--pairs", nargs="+", type=known_pair, metavar="SOURCE:TARGET", default=["ravdess:emodb", "emodb:ravdess"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--encoder", default="", help="a Hugging Face encoder instead of the small one")
    parser.add_argument("--epochs", type=some, default=20)
    parser.add_argument("--width", type=some, default=64)
    parser.add_argument("--channels", type=some, default=16)
    parser.add_argument("--group", type=some, default=2)
    parser.add_argument("--most", type=some, default=600, help="utterances of a corpus")
    parser.add_argument("--halves", type=int, default=2, choices=[1, 2])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"run": measure, "report": report}[options.what](options)


if __name__ == "__main__":
    begin(main)
