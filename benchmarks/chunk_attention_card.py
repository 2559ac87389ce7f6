"""The card of ChunkAttention: are dynamic chunking's two claims, constant cost and robustness to duration, true here?

    python benchmarks/chunk_attention_card.py run --corpus emodb --seeds 0 1     # trains what is missing; appends JSON lines to results/
    python benchmarks/chunk_attention_card.py time --corpus emodb                # the cost of each arm, arms in turn
    python benchmarks/chunk_attention_card.py report --corpus emodb              # the table and the figures from them

Same encoder (two LSTM layers over log-mel and deltas), same training, speaker-independent folds, eight ways to make a sentence of it:
dynamic chunks with four aggregations; zero padding with a masked LSTM over everything ("longer" trains it for as many times the epochs
as dynamic chunks cost it in time); cropping or padding to the training median; chunks that do not overlap, as many as it takes, and
their mean. "padding_max" is timed only: its answers are those of "padding", but every batch is as long as the corpus' longest clip,
which is what constant shapes cost without chunking.

Time is CPU seconds of one thread, so that other work on the machine hardly counts. The audio is not part of this repository:
MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures of `report`, dynamic chunks as the mean of their four aggregations: chunk_attention_epoch_seconds_padding_over_dynamic, goal 1;
chunk_attention_cut_drop_padding_minus_dynamic_points, how much less is lost where clips are cut to their first half, goal 0.

Takes: hours for `run` on emodb, 80 runs of 12 epochs on one core; `time` 10 minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared import RESULTS, begin, command, figure, options_of, prepared, refuse_others, some
from moodcast import lines, manifest, metrics
from moodcast.batch import Batch, collate
from moodcast.cache import open_waves
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.chunk_attention import AGGREGATORS, ChunkAttention
from moodcast.run import Run, Train, build
from moodcast.step import Trainer

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

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
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


def cropped(arm: str, waves: Sequence[Wave], median_s: float) -> list[Wave]:
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


def guesses(method: Method, clips: Clips) -> tuple[list[int], list[float]]:
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


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Clips, their folds, and what all arms share."""

    rows: list[Utterance]
    waves: list[Wave]
    fold_of: list[int]
    labels: Labels
    edges_s: NDArray[np.float64]  # of the duration terciles

    def clips(self, indices: Sequence[int], waves: Sequence[Wave], plan: ChunkPlan) -> Clips:
        return Clips([self.rows[i] for i in indices], waves, plan, self.labels)

    def tercile(self, indices: Sequence[int]) -> NDArray[np.int64]:
        return np.digitize([len(self.waves[i]) / RATE for i in indices], self.edges_s)


@dataclasses.dataclass(frozen=True)
class Arm:
    """One arm ready to be trained on all folds but one, and how it prepares what it is asked."""

    name: str
    trainer: Trainer
    median_s: float
    plan: ChunkPlan
    test: list[int]

    def asked(self, corpus: Corpus, waves: Sequence[Wave]) -> Clips:
        return corpus.clips(self.test, cropped(self.name, waves, self.median_s), self.plan)


def arm_of(name: str, corpus: Corpus, fold: int, seed: int, options: argparse.Namespace) -> Arm:
    train = [i for i, f in enumerate(corpus.fold_of) if f != fold]
    median_s = median(len(corpus.waves[i]) for i in train) / RATE
    plan = plan_of(name, options.corpus, median_s)
    epochs = round(options.epochs * LONGER) if name == "padding/longer" else options.epochs
    settings = Train(epochs=epochs, batch_size=options.batch_size, lr=options.lr, seed=seed, balance="none")
    aggregation: Any = name.partition("/")[2] if name in DYNAMIC else "mean"
    method = build(Run(ChunkAttention.Config(aggregation=aggregation, width=options.width), corpus.labels, chunks=plan, train=settings))
    if name == "padding_max" and isinstance(method, ChunkAttention):
        pad_to_longest(method, LONGEST_S[options.corpus])
    data = corpus.clips(train, cropped(name, [corpus.waves[i] for i in train], median_s), plan)
    return Arm(name, Trainer(method, settings, data), median_s, plan, [i for i, f in enumerate(corpus.fold_of) if f == fold])


def answered(arm: Arm, corpus: Corpus) -> dict[str, Any]:
    """Train an arm and answer its test fold, whole and cut to first halves: counts by speaker and by duration."""
    for epoch in range(arm.trainer.train.epochs):
        arm.trainer.epoch(epoch)
    num_classes, sounds = len(corpus.labels.classes), [corpus.waves[i] for i in arm.test]
    truth = np.array([corpus.labels.classes.index(str(corpus.rows[i].emotion)) for i in arm.test])
    speakers = [corpus.rows[i].corpus_speaker for i in arm.test]
    record: dict[str, Any] = {}
    for part, waves in (("full", sounds), ("cut", [wave[: len(wave) // 2] for wave in sounds])):
        found = np.array(guesses(arm.trainer.method, arm.asked(corpus, waves))[0])
        counts = metrics.by_speaker(truth.tolist(), found.tolist(), speakers, num_classes)
        record[part] = dict(zip(sorted(set(speakers)), counts.astype(int).tolist(), strict=True))
        if part == "full":
            thirds = [corpus.tercile(arm.test) == t for t in range(3)]
            record["terciles"] = [metrics.confusion(truth[at], found[at], num_classes).astype(int).tolist() for at in thirds]
    return record


def timed(arms: list[Arm], corpus: Corpus, rounds: int) -> Iterator[dict[str, Any]]:
    """CPU seconds of one training epoch and milliseconds a clip by duration tercile: medians of rounds that visit every arm in turn."""
    epoch_s: dict[str, list[float]] = defaultdict(list)
    for round_ in range(rounds + 1):
        for arm in arms:
            before = time.process_time()
            arm.trainer.epoch(round_)
            if round_:  # the first one warms up
                epoch_s[arm.name].append(time.process_time() - before)
    for arm in arms:
        ms = np.array(guesses(arm.trainer.method, arm.asked(corpus, [corpus.waves[i] for i in arm.test]))[1])
        terciles = [float(np.median(ms[corpus.tercile(arm.test) == t])) for t in range(3)]
        yield {"arm": arm.name, "epoch_s": median(epoch_s[arm.name]), "ms": terciles}


def opened(options: argparse.Namespace) -> Corpus:
    rows = prepared(options.corpus)
    store = open_waves(rows, RATE)
    waves = [store[i] for i in range(len(rows))]
    edges_s = np.quantile([len(wave) / RATE for wave in waves], [1 / 3, 2 / 3])
    return Corpus(
        rows, waves, manifest.folds(rows, options.folds, seed=0), Labels(classes=tuple(sorted({str(r.emotion) for r in rows}))), edges_s
    )


SETTINGS = ("folds", "epochs", "batch_size", "lr", "width")  # that all rows of a corpus share


def settings_of(row: dict[str, Any]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in SETTINGS)


def writer(corpus: Corpus, options: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """Append records with the setting and the command that made them, and say so."""
    setting = {name: getattr(options, name) for name in ("corpus", *SETTINGS)}
    setting |= {"classes": corpus.labels.classes, "clips": len(corpus.rows), "tercile_edges_s": corpus.edges_s.round(2).tolist()}
    setting["command"] = command(__file__)

    def write(record: dict[str, Any]) -> None:
        lines.add(options.out, {**setting, **record})
        print({name: value for name, value in record.items() if name not in ("full", "cut", "terciles")}, flush=True)

    return write


def known(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the corpus that are there. Raises ValueError where they are of other settings."""
    rows = [row for row in lines.read(options.out) if row["corpus"] == options.corpus]
    refuse_others(options.out, map(settings_of, rows), settings_of(vars(options)))
    return rows


def run(options: argparse.Namespace) -> None:
    done = {(row["arm"], row["fold"], row["seed"]) for row in known(options) if "full" in row}
    corpus = opened(options)
    write = writer(corpus, options)
    for seed in options.seeds:
        for fold in options.only if options.only is not None else range(options.folds):
            for name in options.arms:
                if (name, fold, seed) not in done:
                    write({"arm": name, "fold": fold, "seed": seed, **answered(arm_of(name, corpus, fold, seed, options), corpus)})


def measure(options: argparse.Namespace) -> None:
    known(options)
    corpus = opened(options)
    write = writer(corpus, options)
    for record in timed([arm_of(name, corpus, 0, 0, options) for name in (*options.arms, "padding_max")], corpus, options.rounds):
        write(record)


@dataclasses.dataclass(frozen=True)
class Row:
    """What all folds and seeds of one arm add up to."""

    speakers: metrics.Counts  # [S, K, K], whole clips
    cut: metrics.Counts  # [S, K, K], first halves
    terciles: metrics.Counts  # [3, K, K] by duration


def gathered(records: list[dict[str, Any]]) -> Row:
    speakers = sorted({name for record in records for name in record["full"]})
    full, cut = (
        np.array([sum(np.array(record[part][name]) for record in records if name in record[part]) for name in speakers], dtype=float)
        for part in ("full", "cut")
    )
    return Row(full, cut, np.sum([record["terciles"] for record in records], axis=0).astype(float))


def drop(row: Row) -> float:
    """Points of UAR lost when clips are cut to their first half."""
    return 100 * float(metrics.uar(row.speakers.sum(0)) - metrics.uar(row.cut.sum(0)))


def report(options: argparse.Namespace) -> None:
    records = [record for record in lines.read(options.out) if record["corpus"] == options.corpus]
    runs = list({(record["arm"], record["fold"], record["seed"]): record for record in records if "full" in record}.values())
    times = {record["arm"]: record for record in records if "full" not in record and "ms" in record}  # the last measurement counts
    if missing := sorted(set(ARMS) - {record["arm"] for record in runs} | {*ARMS, "padding_max"} - times.keys()):
        raise ValueError(f"{options.out} lacks rows of {', '.join(missing)} for {options.corpus}; `run` and `time` make them")
    table = {arm: gathered([record for record in runs if record["arm"] == arm]) for arm in ARMS}
    first, seeds, folds = runs[0], sorted({record["seed"] for record in runs}), sorted({record["fold"] for record in runs})
    classes, edges_s = len(first["classes"]), first["tercile_edges_s"]
    print(f"{options.corpus}: {first['clips']} clips, {classes} classes, folds {folds} of {first['folds']} by speaker, seeds {seeds},")
    print(f"{first['epochs']} epochs of batches of {first['batch_size']}, learning rate {first['lr']}, width {first['width']}.")
    print(f"Duration terciles at {edges_s} s; UAR in %, 95 % by speaker bootstrap; CPU time of one thread.\n")
    print("| arm | UAR | minus padding | short / middle / long | first half only | s/epoch | ms/clip short / long |")
    print("|---|---|---|---|---|---|---|")
    for arm, row in table.items():
        thirds = " / ".join(f"{100 * float(metrics.uar(third)):.1f}" for third in row.terciles)
        ours, half = (metrics.speaker_bootstrap(metrics.uar, counts) for counts in (row.speakers, row.cut))
        versus = metrics.paired_bootstrap(metrics.uar, row.speakers, table["padding"].speakers) if arm != "padding" else "-"
        print(f"| {arm} | {ours} | {versus} | {thirds} | {half} | {cost(times[arm])} |")
    print(f"| padding_max | as padding | | | | {cost(times['padding_max'])} |")
    print(f"| majority class | {100 / classes:.1f} | | | | | |\n")
    figures(table, times)


def cost(time: dict[str, Any]) -> str:
    return f"{time['epoch_s']:.2f} | {time['ms'][0]:.1f} / {time['ms'][2]:.1f}"


def figures(table: dict[str, Row], times: dict[str, dict[str, Any]]) -> None:
    """What is reported of dynamic chunks is the mean of their four aggregations, so that none is picked after the fact."""
    lost = float(np.mean([drop(table[arm]) for arm in DYNAMIC]))
    dynamic_s = float(np.mean([times[arm]["epoch_s"] for arm in DYNAMIC]))
    growth = [float(np.mean([times[arm]["ms"][2] / times[arm]["ms"][0] for arm in arms])) for arms in (DYNAMIC, ("padding",))]
    print(f"padding to the longest of each batch / dynamic, CPU seconds an epoch: {times['padding']['epoch_s'] / dynamic_s:.2f}")
    print(f"longest / shortest tercile, CPU time a clip: dynamic {growth[0]:.2f}, padding {growth[1]:.2f}")
    print(f"points lost by cutting, padding/longer minus dynamic: {drop(table['padding/longer']) - lost:.1f}")
    figure("chunk_attention_epoch_seconds_padding_over_dynamic", f"{times['padding_max']['epoch_s'] / dynamic_s:.2f}", 1)
    figure("chunk_attention_cut_drop_padding_minus_dynamic_points", f"{drop(table['padding']) - lost:.1f}", 0)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("do", choices=("run", "time", "report"))
    parser.add_argument("--corpus", choices=sorted(LONGEST_S), default="emodb")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="+", type=int, help="these folds alone, for a run in pieces")
    parser.add_argument("--epochs", type=some, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=some, default=3, help="timed epochs of each arm")
    parser.add_argument("--out", type=Path, default=RESULTS / "chunk_attention_card.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"run": run, "time": measure, "report": report}[options.do](options)


if __name__ == "__main__":
    begin(main)
