"""What `fit` costs beside a bare PyTorch loop, and what a second worker brings. Real training steps of the erm job on voice-like noise.

    python benchmarks/train_overhead.py [--steps 40] [--rounds 3]

Figures, each a median over interleaved rounds, all processes on one thread each:

- fit_over_bare_loop: steps per second under `fit` with one worker, over the same steps in a plain loop in a process of its own, with the
  same loader, data, batches and method. Steps are timed from one optimiser step to the next, after the first tenth (start-up), inside one
  epoch; goal 0.97.
- two_workers_over_one: steps per second of two workers over one worker at the same global batch, so half the batch each: the same
  training in less time; goal 1.8.
- two_workers_cost_over_one: processor time of two workers together for a step over that of one worker for the same step: what a training
  costs where processors are paid for; goal at most 1.1.
- two_workers_over_two_bare_loops: the same two workers over two bare loops at once, each with half the batch and nothing to tell each
  other, which is what this machine's cores allow (two virtual cores can be one real one); goal 0.97.

Takes: 15 minutes on two cores; `--rounds 1 --steps 10` 3 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import wave as wavefile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared import begin, figure, options_of, some
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.train import fit
from moodcast.config import replace_at
from moodcast.manifest import Utterance, read_manifest, write_manifest
from moodcast.method import Method
from moodcast.methods.erm import Erm
from moodcast.order import epoch_batches
from moodcast.run import Run, build
from moodcast.step import LossModule, lr_factor, make_optimizer, train_step

TIMES = "MOODCAST_BENCHMARK_TIMES"  # the folder where a step writes when it ended
BATCH = 32


class Timed(Erm):
    """Erm that notes the time after each optimiser step, wherever it is trained."""

    @dataclass(frozen=True)
    class Config(Erm.Config):
        times: str = ""

    def __init__(self, config: Config, spec: object) -> None:
        super().__init__(config, spec)  # type: ignore[arg-type]
        self.ended: list[tuple[float, float]] = []

    def after_step(self, progress: float) -> None:
        self.ended.append((time.perf_counter(), time.process_time()))
        if progress >= 1.0:
            path = Path(self.config.times) / f"{os.getpid()}.json"
            path.write_text(json.dumps(self.ended))


def a_run(times: Path, batch: int = BATCH) -> Run:
    """One epoch of the erm job, timed."""
    from jobs.erm import RUN

    settings = {name: getattr(RUN.method, name) for name in RUN.method.__dataclass_fields__}
    run = Run(method=Timed.Config(**settings, times=str(times)), labels=RUN.labels, chunks=RUN.chunks, train=RUN.train)
    return replace_at(run, {"train.epochs": 1, "train.batch_size": batch, "train.threads": 1, "train.balance": "none"})


def corpus(folder: Path, num: int) -> list[Utterance]:
    """`num` noises of 2.5 s (CREMA-D's median), shaped a little like speech; all are for training."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(num):
        t = np.arange(40_000) / 16_000
        samples = 0.2 * rng.standard_normal(len(t)) * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * t))
        path = folder / f"{i}.wav"
        with wavefile.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(16_000)
            out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        label = ("angry", "happy", "neutral", "sad")[i % 4]
        rows.append(Utterance(id=str(i), path=str(path), corpus="noise", speaker=str(i), emotion=label, split="train"))
    return rows


def bare_loop(manifest: Path, cache: Path, times: Path, steps: int, batch: int) -> None:
    """The same steps without Ray, without Trainer: what somebody would write in an afternoon."""
    torch.set_num_threads(1)
    run = a_run(times, batch)
    data = CachedStretches(read_manifest(manifest), run, cache)
    method: Method = build(run, ("benchmarks",)).train()
    module, optimizer = LossModule(method), make_optimizer(method, run.train)
    plan = epoch_batches(len(data), batch, run.train.seed, 0)[:steps]
    for step, labelled in enumerate(data.batches(plan)):
        for group in optimizer.param_groups:
            group["lr"] = run.train.lr * lr_factor(step, len(plan), run.train.warmup_share)
        train_step(module, method, optimizer, {"labelled": labelled}, run.train.clip_norm)
        method.after_step((step + 1) / len(plan))


def steps_per_second(times: Path) -> tuple[float, float]:
    """From the times that steps ended, the mean after the first tenth, so that rare costs count too; the slowest rank counts.

    Steps per second, and steps per second of processor time, which other work on the machine disturbs less.
    """
    rates = []
    for path in times.glob("*.json"):
        ended = np.array(json.loads(path.read_text()))
        rates.append(1.0 / np.diff(ended[len(ended) // 10 :], axis=0).mean(axis=0))
    wall, processor = np.min(rates, axis=0)
    return float(wall), float(processor)


def measure(kind: str, rows: Sequence[Utterance], root: Path, steps: int) -> tuple[float, float]:
    """Steps per second, of time and of processor time, of "bare", "pair", "one" or "two"."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        times = Path(folder)
        if kind in ("bare", "pair"):
            count = 1 if kind == "bare" else 2
            words = [str(root / "rows.jsonl"), str(root / "cache"), str(times), str(BATCH // count)]
            command = [sys.executable, __file__, "--steps", str(steps), "--bare", *words]
            running = [subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}) for _ in range(count)]
            if any(process.wait() for process in running):
                raise RuntimeError("the bare loop failed")
        else:
            workers = {"one": 1, "two": 2}[kind]
            fit(a_run(times), rows, root / "runs", workers=workers, gpu=False, cache=root / "cache", progress=False)
        return steps_per_second(times)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--steps", type=some, default=40)
    parser.add_argument("--rounds", type=some, default=3)
    parser.add_argument("--bare", nargs=4, metavar=("MANIFEST", "CACHE", "TIMES", "BATCH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        manifest, cache, times = map(Path, asked.bare[:3])
        bare_loop(manifest, cache, times, asked.steps, int(asked.bare[3]))
        return
    if asked.steps < 3:
        raise ValueError("a rate is from one step to the next, after the first; name three --steps or more")
    with tempfile.TemporaryDirectory(prefix="moodcast-benchmark-") as folder:
        root = Path(folder)
        (root / "audio").mkdir()
        rows = corpus(root / "audio", asked.steps * BATCH)
        write_manifest(rows, root / "rows.jsonl")
        found: dict[str, list[tuple[float, float]]] = {"bare": [], "one": [], "two": [], "pair": []}
        for number in range(asked.rounds):
            kinds = list(found) if number % 2 == 0 else list(found)[::-1]
            for kind in kinds:
                found[kind].append(measure(kind, rows, root, asked.steps))
                print(
                    f"round {number + 1}  {kind:5s} {found[kind][-1][0]:.3f} steps/s, {found[kind][-1][1]:.3f} a processor second",
                    flush=True,
                )
    median, processor = ({kind: statistics.median(pair[i] for pair in pairs) for kind, pairs in found.items()} for i in range(2))
    print(", ".join(f"{kind} {rate:.3f}" for kind, rate in median.items()), f"steps/s of {BATCH} utterances")
    for kind, workers in (("one", 1), ("two", 2)):
        cost = workers * 1000 / (processor[kind] * BATCH)
        print(f"{kind}: {median[kind] * BATCH:.1f} utterances/s, {cost:.1f} processor seconds for 1000 utterances")
    print(f"two bare loops at once: {median['pair'] / median['bare']:.3f} times one, the most that this machine allows")
    print(f"by processor time, one worker over the bare loop: {processor['one'] / processor['bare']:.3f}")
    figure("two_workers_over_two_bare_loops", f"{median['two'] / median['pair']:.3f}", 0.97)
    figure("two_workers_cost_over_one", f"{2 * processor['one'] / processor['two']:.3f}", "<= 1.1")
    figure("fit_over_bare_loop", f"{median['one'] / median['bare']:.3f}", 0.97)
    figure("two_workers_over_one", f"{median['two'] / median['one']:.3f}", 1.8)


if __name__ == "__main__":
    from benchmarks import train_overhead  # under its own name, so that workers find the method, too

    begin(train_overhead.main)
