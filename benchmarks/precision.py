"""What `train.precision=bfloat16` brings: training steps of an encoder in both precisions, in turn, in one process on one thread.

    python benchmarks/precision.py [--steps 6] [--rounds 3] [--device cpu]
    python benchmarks/precision.py --learn emodb.parquet [--seeds 3] [--epochs 15]

Two encoders: the convolutions over log-mel of the erm job (0.27 M parameters), and `pretrained` with a whole HuBERT in training, of random
weights, as wide as the base models with fewer layers (written by this script). Voice-like noise of 2.5 s, batches of 32 and of 2; a step is
losses, gradients and the optimiser, with spectra and heads, which stay float32 in both. The rate of a round is that of its median step,
by processor time on a CPU, which other work on the machine disturbs less than the clock on the wall.

Figures, medians over rounds of steps a second in bfloat16 over those in float32: bfloat16_over_float32_convolutions, goal 1.3;
bfloat16_over_float32_transformer, goal 1.5. A processor without instructions for bfloat16 misses both, by far.

Takes: 3 minutes on one core; `--rounds 1 --steps 1 --layers 1` one minute; --learn 20 minutes for emodb.

With --learn: what the erm job learns of a corpus in each precision, every second speaker held out and then the others, the last epoch,
all seeds together. Figure bfloat16_less_float32_uar_points, its paired bootstrap over speakers before it; goal -1: at most a point lost.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared import begin, figure, figures, options_of, some
from jobs.erm import RUN as ERM
from moodcast import metrics
from moodcast.batch import collate
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.config import replace_at
from moodcast.manifest import Utterance, read_manifest
from moodcast.method import Method
from moodcast.methods.pretrained import Pretrained
from moodcast.order import balance_weights
from moodcast.passes import predict
from moodcast.run import Run, build
from moodcast.step import LossModule, Trainer, make_optimizer, train_step

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    options = asked()
    torch.set_num_threads(1)
    if options.learn:
        learn(options.learn, options.seeds, options.epochs)
        return
    with tempfile.TemporaryDirectory() as home:
        write_encoder(Path(home), options.layers)
        whole = Pretrained.Config(encoder=home, tune="full", thaw_per_epoch=0, dropout=0.0)
        runs = {
            "convolutions": (ERM, ERM.train.batch_size, 1.3),
            "transformer": (replace(ERM, method=whole, chunks=ChunkPlan(length_s=2.5, hop_s=2.5)), 2, 1.5),
        }
        sides = {name: [Side(run, size, precision, options.device) for precision in PRECISIONS] for name, (run, size, _) in runs.items()}
    gains = {}
    for name, both in sides.items():
        rates: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
        for side in both:
            side.steps(2)  # the first ones pay for what is kept
        for number in range(options.rounds):
            for side in both if number % 2 == 0 else both[::-1]:
                rates[side.precision].append(1.0 / side.steps(options.steps))
        median = {precision: statistics.median(found) for precision, found in rates.items()}
        size = both[0].size
        told = ", ".join(f"{precision} {rate:.2f} steps/s, {rate * size:.1f} utterances/s" for precision, rate in median.items())
        ratios = [rough / plain for plain, rough in zip(*rates.values(), strict=True)]
        print(f"{name}: {told}; rounds from {min(ratios):.2f} to {max(ratios):.2f}; losses {both[0].loss:.4f}, {both[1].loss:.4f}")
        gains[name] = median["bfloat16"] / median["float32"]
    for name, gain in gains.items():
        figure(f"bfloat16_over_float32_{name}", f"{gain:.2f}", runs[name][2])


class Side:
    """A method in training, in one precision, on the same batch again and again."""

    def __init__(self, run: Run, size: int, precision: Any, device: str) -> None:
        self.size, self.precision = size, precision
        self.run = replace_at(run, {"train.batch_size": size, "train.precision": precision})
        self.method: Method = build(self.run).to(device).train()
        self.module, self.optimizer = LossModule(self.method, precision), make_optimizer(self.method, self.run.train)
        rng = np.random.default_rng(0)
        t = np.arange(40_000) / 16_000
        waves = [(0.2 * rng.standard_normal(len(t)) * (0.5 + 0.5 * np.sin(8 * np.pi * t))).astype(np.float32) for _ in range(size)]
        rows = [Utterance(str(i), "-", emotion=run.labels.classes[i % len(run.labels.classes)]) for i in range(size)]
        self.batch = collate(waves, run.chunks, 16_000, run.labels, rows).to(torch.device(device))
        self.loss = 0.0

    def steps(self, count: int) -> float:
        """The median seconds of a step."""
        if self.optimizer is None:
            raise ValueError("nothing trains")
        took = []
        clock = time.process_time if self.batch.chunks.device.type == "cpu" else time.perf_counter
        for _ in range(count):
            started = clock()
            terms = train_step(self.module, self.method, self.optimizer, {"labelled": self.batch}, self.run.train.clip_norm)
            self.loss = float(terms["loss"])  # waits for the device
            took.append(clock() - started)
        return statistics.median(took)


def learn(manifest: Path, seeds: int, epochs: int) -> None:
    """Held-out UAR of both precisions, and their difference."""
    classes = ERM.labels.classes
    rows = [row for row in read_manifest(manifest) if row.emotion in classes]
    speakers = sorted({row.corpus_speaker for row in rows})
    found: dict[str, list[Any]] = {precision: [] for precision in PRECISIONS}
    for seed in range(seeds):
        for held in (set(speakers[::2]), set(speakers[1::2])):
            for precision in PRECISIONS:
                run = replace_at(ERM, {"train.precision": precision, "train.seed": seed, "train.epochs": epochs})
                train, test = ([row for row in rows if (row.corpus_speaker in held) == side] for side in (False, True))
                data, heard = CachedStretches(train, run), CachedStretches(test, run)
                weights = balance_weights([train[i] for i in data.owners], run.labels, run.train.balance)
                trainer = Trainer(build(run), run.train, data, weights)
                for epoch in range(epochs):
                    trainer.epoch(epoch)
                guess = predict(trainer.method, heard, heard.owners, heard.seconds, 32)[0].argmax(1)
                found[precision] += [(row, k) for row, k in zip(test, guess.tolist(), strict=True)]
        counts = {precision: counted(answers, classes) for precision, answers in found.items()}
        told = ", ".join(f"{precision} {metrics.speaker_bootstrap(metrics.uar, each)}" for precision, each in counts.items())
        print(f"UAR of {len(speakers)} speakers of {manifest.stem}, seeds 0 to {seed}: {told}; chance {100 / len(classes):.1f}", flush=True)
    difference = metrics.paired_bootstrap(metrics.uar, counts["bfloat16"], counts["float32"])
    same = [one[1] == other[1] for one, other in zip(*found.values(), strict=True)]
    print(f"bfloat16 less float32: {difference}; {100 * sum(same) / len(same):.1f} % of the answers are the same")
    figures({"bfloat16_less_float32_uar_points": 100 * difference.value}, -1)


def counted(answers: list[Any], classes: tuple[str, ...]) -> Any:
    """A confusion matrix a speaker."""
    truth = [classes.index(str(row.emotion)) for row, _ in answers]
    return metrics.by_speaker(truth, [k for _, k in answers], [row.corpus_speaker for row, _ in answers], len(classes))


def write_encoder(folder: Path, layers: int) -> None:
    """A HuBERT of random weights in the Hugging Face layout, as wide as the base models."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig(num_hidden_layers=layers)).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


def asked() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--steps", type=some, default=6)
    parser.add_argument("--rounds", type=some, default=3)
    parser.add_argument("--layers", type=some, default=2, help="of the transformer; the base models have 12")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--learn", type=Path, metavar="MANIFEST", help="of a corpus")
    parser.add_argument("--seeds", type=some, default=3)
    parser.add_argument("--epochs", type=some, default=15)
    return parser.parse_args()


if __name__ == "__main__":
    begin(main)
