"""The card of ChunkAttention: are dynamic chunking's two claims, constant cost and robustness to duration, true here?

    python benchmarks/chunk_attention_card.py run --corpus emodb --seeds 0 1     # appends JSON lines to results/
    python benchmarks/chunk_attention_card.py report --corpus emodb              # the table and the figures from them

Same encoder (two LSTM layers over log-mel and deltas), same training, speaker-independent folds, seven ways to make a sentence of it:
dynamic chunks with four aggregations; zero padding with a masked LSTM over everything ("longer" trains it for as many times the epochs
as dynamic chunks cost it in time); cropping or padding to the training median; chunks that do not overlap, as many as it takes, and
their mean. "padding_max" is timed only: its answers are those of "padding", but
every batch is as long as the corpus' longest clip, which is what constant shapes cost without chunking.

Time is CPU seconds of one thread, so that other work on the machine hardly counts. The audio is not part of this repository:
MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shlex
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodcast import corpora, manifest, metrics
from moodcast.batch import Batch, collate
from moodcast.cache import open_waves
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.chunk_attention import AGGREGATORS, ChunkAttention
from moodcast.run import Run, Train, build
from moodcast.step import Trainer

ROOT = Path(__file__).resolve().parents[1]
RATE = 16_000
CHUNK_S = 0.5
LONGEST_S = {"emodb": 9.0, "ravdess": 5.5}  # T_max of each corpus; its clips are shorter
DYNAMIC = tuple(f"dynamic/{name}" for name in AGGREGATORS)
LONGER = 2.4  # what an epoch of dynamic chunks costs in epochs of padding, measured on emodb with one thread
ARMS = (*DYNAMIC, "padding", "padding/longer", "crop", "hopped/mean")
Wave = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Clips:
    """Stretches in memory under one plan; what the trainer reads from."""

    rows: Sequence[Utterance]
    waves: Sequence[Wave]
    plan: ChunkPlan
    labels: Labels

    def __len__(self) -> int:
        return len(self.rows)

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [self.rows[i].id for i in indices]

    def batches(self, plan: Sequence[NDArray[np.int64]]) -> Iterator[Batch]:
        for indices in plan:
            yield collate([self.waves[i] for i in indices], self.plan, RATE, self.labels, [self.rows[i] for i in indices])


def plan_of(arm: str, corpus: str, median_s: float) -> ChunkPlan:
    longest = LONGEST_S[corpus]
    if arm.startswith("dynamic/"):
        return ChunkPlan(length_s=CHUNK_S, count=round(longest / CHUNK_S))
    if arm == "hopped/mean":
        return ChunkPlan(length_s=CHUNK_S, hop_s=CHUNK_S)
    length = median_s if arm == "crop" else longest
    return ChunkPlan(length_s=length, hop_s=length)


def prepared(arm: str, waves: Sequence[Wave], median_s: float) -> list[Wave]:
    """The middle of what is longer than the median, in the arm that crops."""
    if arm != "crop":
        return list(waves)
    size = round(median_s * RATE)
    return [wave[max(0, (len(wave) - size) // 2) :][:size] for wave in waves]


def pad_to_longest(method: ChunkAttention, longest_s: float) -> None:
    """Make the encoder run over as many frames as the longest clip has, whatever the batch."""
    frames = int(method.log_mel.num_frames(torch.tensor(round(longest_s * RATE))))

    def pad(_: Any, inputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        behind = frames - inputs[0].shape[1]
        return torch.nn.functional.pad(inputs[0], (0, 0, 0, behind)), torch.nn.functional.pad(inputs[1], (0, behind))

    method.encoder.register_forward_pre_hook(pad)


def guesses(method: ChunkAttention, clips: Clips) -> tuple[list[int], list[float]]:
    """The likeliest class of each clip, asked alone, and the CPU milliseconds it took."""
    method.eval()
    found, took = [], []
    with torch.inference_mode():
        for wave in clips.waves:
            before = time.process_time()
            answer = method(collate([wave], clips.plan, RATE)).emotion
            took.append(1000 * (time.process_time() - before))
            assert answer is not None
            found.append(int(answer[0].argmax()))
    return found, took


def run_arm(
    arm: str, rows: list[Utterance], waves: list[Wave], fold_of: list[int], fold: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Train on all folds but one, answer that one, whole and cut to its first half."""
    timed_only = arm == "padding_max"
    labels = Labels(classes=options.classes)
    train = [i for i, f in enumerate(fold_of) if f != fold]
    test = [i for i, f in enumerate(fold_of) if f == fold]
    median_s = median(len(waves[i]) for i in train) / RATE
    plan = plan_of(arm, options.corpus, median_s)
    aggregation = arm.partition("/")[2] if arm in DYNAMIC else "mean"
    epochs = round(options.epochs * LONGER) if arm == "padding/longer" else options.epochs
    settings = Train(epochs=epochs, batch_size=options.batch_size, lr=options.lr, seed=options.seed, balance="none")
    run = Run(ChunkAttention.Config(aggregation=aggregation, width=options.width), labels, chunks=plan, train=settings)
    method = build(run)
    assert isinstance(method, ChunkAttention)
    if timed_only:
        pad_to_longest(method, LONGEST_S[options.corpus])
    trainer = Trainer(method, settings, Clips([rows[i] for i in train], prepared(arm, [waves[i] for i in train], median_s), plan, labels))
    took = []
    for epoch in range(2 if timed_only else epochs):
        before = time.process_time()
        trainer.epoch(epoch)
        took.append(time.process_time() - before)
    record: dict[str, Any] = {"arm": arm, "fold": fold, "seed": options.seed, "epoch_s": median(took)}
    if timed_only:
        return record
    truth = [labels.classes.index(str(rows[i].emotion)) for i in test]
    speakers = [rows[i].corpus_speaker for i in test]
    seconds = np.array([len(waves[i]) / RATE for i in test])
    tercile = np.digitize(seconds, options.edges)
    for name, sounds in (("full", [waves[i] for i in test]), ("cut", [waves[i][: len(waves[i]) // 2] for i in test])):
        clips = Clips([rows[i] for i in test], prepared(arm, sounds, median_s), plan, labels)
        found, ms = guesses(method, clips)
        counts = metrics.by_speaker(truth, found, speakers, len(labels.classes))
        record[name] = dict(zip(sorted(set(speakers)), counts.astype(int).tolist(), strict=True))
        if name == "full":
            record["ms"] = [float(np.median(np.array(ms)[tercile == t])) if (tercile == t).any() else None for t in range(3)]
            thirds = [np.flatnonzero(tercile == t) for t in range(3)]
            record["terciles"] = [
                metrics.confusion([truth[i] for i in at], [found[i] for i in at], len(labels.classes)).astype(int).tolist() for at in thirds
            ]
    return record


def rows_of(corpus: str, root: Path) -> list[Utterance]:
    if corpus in corpora.names():
        return corpora.prepare(corpus, root / corpus)
    with open(root / corpus / "manifest.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return [
        Utterance(row["path"], str(root / corpus / row["path"]), corpus=corpus, speaker=row["speaker"], emotion=row["emotion"])
        for row in table
    ]


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    root = Path(os.environ.get("MOODCAST_CORPORA") or ROOT.parent / "shared" / "corpora")
    rows = rows_of(options.corpus, root)
    store = open_waves(rows, RATE)
    waves = [store[i] for i in range(len(rows))]
    options.classes = tuple(sorted({str(row.emotion) for row in rows}))
    options.edges = np.quantile([len(wave) / RATE for wave in waves], [1 / 3, 2 / 3])
    fold_of = manifest.folds(rows, options.folds, seed=0)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    setting = {name: getattr(options, name) for name in ("corpus", "folds", "epochs", "batch_size", "lr", "width")}
    setting |= {"classes": options.classes, "clips": len(rows), "tercile_edges_s": [round(float(edge), 2) for edge in options.edges]}
    setting["command"] = shlex.join(["python", "benchmarks/chunk_attention_card.py", *sys.argv[1:]])
    for seed in options.seeds:
        options.seed = seed
        for fold in options.only if options.only is not None else range(options.folds):
            for arm in (*options.arms, *(["padding_max"] if fold == 0 and "padding" in options.arms else [])):
                record = run_arm(arm, rows, waves, fold_of, fold, options)
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(json.dumps({**setting, **record}) + "\n")
                print(f"seed {seed} fold {fold} {arm}: {record['epoch_s']:.2f} s/epoch", flush=True)


@dataclasses.dataclass(frozen=True)
class Row:
    """What all folds and seeds of one arm add up to."""

    speakers: metrics.Counts  # [S, K, K], whole clips
    cut: metrics.Counts  # [S, K, K], first halves
    terciles: metrics.Counts  # [3, K, K] by duration
    epoch_s: float
    ms: list[float]  # by tercile


def gathered(records: list[dict[str, Any]]) -> Row:
    speakers = sorted({name for record in records for name in record["full"]})
    parts = [
        np.array([sum(np.array(record[part][name]) for record in records if name in record[part]) for name in speakers], dtype=float)
        for part in ("full", "cut")
    ]
    terciles = np.sum([record["terciles"] for record in records], axis=0).astype(float)
    ms = [median(record["ms"][t] for record in records if record["ms"][t] is not None) for t in range(3)]
    return Row(parts[0], parts[1], terciles, median(record["epoch_s"] for record in records), ms)


def drop(row: Row) -> float:
    """Points of UAR lost when clips are cut to their first half."""
    return 100 * float(metrics.uar(row.speakers.sum(0)) - metrics.uar(row.cut.sum(0)))


def report(options: argparse.Namespace) -> None:
    records = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record["corpus"] == options.corpus]
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        by_arm[record["arm"]].append(record)
    first, seeds = records[0], sorted({record["seed"] for record in records})
    table = {arm: gathered(by_arm[arm]) for arm in ARMS if arm in by_arm}
    padding, padding_max_s = table["padding"], median(record["epoch_s"] for record in by_arm["padding_max"])
    folds, edges = first["folds"], first["tercile_edges_s"]
    print(
        f"{options.corpus}: {first['clips']} clips, {len(first['classes'])} classes, {folds} speaker-independent folds, seeds {seeds}, ",
        end="",
    )
    print(f"{first['epochs']} epochs, width {first['width']}; duration terciles at {edges} s; UAR in %, 95 % by speakers\n")
    print("| arm | UAR | minus padding | short / middle / long | first half only | s/epoch | ms/clip short / long |")
    print("|---|---|---|---|---|---|---|")
    for arm, row in table.items():
        thirds = " / ".join(f"{100 * float(metrics.uar(third)):.1f}" for third in row.terciles)
        ours = metrics.speaker_bootstrap(metrics.uar, row.speakers)
        versus = metrics.paired_bootstrap(metrics.uar, row.speakers, padding.speakers) if arm != "padding" else "-"
        half = metrics.speaker_bootstrap(metrics.uar, row.cut)
        print(f"| {arm} | {ours} | {versus} | {thirds} | {half} | {row.epoch_s:.2f} | {row.ms[0]:.1f} / {row.ms[2]:.1f} |")
    print(f"| padding_max (timed only) | as padding | | | | {padding_max_s:.2f} | |")
    pooled = padding.speakers.sum((0, 1))
    print(f"| majority class | {100 / len(pooled):.1f} | | | | | |\n")
    dynamic = [table[arm] for arm in DYNAMIC]
    dynamic_s = float(np.mean([row.epoch_s for row in dynamic]))
    slower = [float(np.mean([row.ms[2] / row.ms[0] for row in rows])) for rows in (dynamic, [padding])]
    robust = drop(padding) - float(np.mean([drop(row) for row in dynamic]))
    print(f"padding to the longest of each batch / dynamic, CPU seconds an epoch: {padding.epoch_s / dynamic_s:.2f}")
    print(f"longest / shortest tercile, CPU milliseconds a clip: dynamic {slower[0]:.2f}, padding {slower[1]:.2f}")
    print(f"figure chunk_attention_epoch_seconds_padding_over_dynamic {padding_max_s / dynamic_s:.2f} goal 1.0")
    print(f"figure chunk_attention_cut_drop_padding_minus_dynamic_points {robust:.1f} goal 0.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("do", choices=("run", "report"))
    parser.add_argument("--corpus", choices=sorted(LONGEST_S), default="emodb")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="+", type=int, help="these folds alone, for a run in pieces")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "chunk_attention_card.jsonl")
    options = parser.parse_args()
    run(options) if options.do == "run" else report(options)


if __name__ == "__main__":
    main()
