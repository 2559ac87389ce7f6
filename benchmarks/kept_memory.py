"""What it brings that a training process keeps its memory between steps: the same steps without and with it, a process each, in turn.

    python benchmarks/kept_memory.py [--rounds 5] [--steps 8]

The network of the multi_loss job with its energy-adaptive mixup, on noise of 2 to 4 s in batches of 32, one thread. The rate of a process
is that of its median step after two for warming up, by processor time, the kernel's included. Figures, medians over rounds:
steps_a_second_with_memory_kept_over_given_back, goal 1.2; peak_memory_with_memory_kept_over_given_back, goal 1.2 at most.

Takes: 5 minutes on one core; `--rounds 1 --steps 2` one minute.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.shared import begin, figure, options_of, some
from jobs.multi_loss import RUN
from moodcast.batch import collate
from moodcast.cluster.process import set_up
from moodcast.run import build
from moodcast.step import LossModule, make_optimizer, train_step


def main() -> None:
    options = asked()
    if options.one:
        print(json.dumps(steps(options.one == "kept", options.steps)))
        return
    rates, peaks = [], []
    for number in range(options.rounds):
        found = {way: in_a_process(way, options.steps) for way in ("given_back", "kept")}
        rates.append(found["given_back"]["step_s"] / found["kept"]["step_s"])
        peaks.append(found["kept"]["peak_mb"] / found["given_back"]["peak_mb"])
        print(f"round {number + 1}: {found}", flush=True)
    figure("steps_a_second_with_memory_kept_over_given_back", f"{statistics.median(rates):.2f}", 1.2)
    figure("peak_memory_with_memory_kept_over_given_back", f"{statistics.median(peaks):.2f}", "<= 1.2")


def in_a_process(way: str, num_steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, "--steps", str(num_steps)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))


def steps(kept: bool, num_steps: int) -> dict[str, float]:
    """Seconds of the median step and the process' peak of memory in megabytes."""
    if kept:
        set_up(threads=1)
    else:
        torch.set_num_threads(1)
    torch.manual_seed(0)
    method = build(RUN).train()
    module, optimizer = LossModule(method), make_optimizer(method, RUN.train)
    rng = np.random.default_rng(0)
    seconds = []
    for _ in range(2 + num_steps):
        waves = [rng.normal(0, 0.1, round(RUN.audio.rate * rng.uniform(2.0, 4.0))).astype(np.float32) for _ in range(32)]
        batch = collate(waves, RUN.chunks, RUN.audio.rate)
        batch = replace(batch, target=torch.eye(8)[torch.arange(32) % 8], weight=torch.ones(32))
        begun = time.process_time()
        train_step(module, method, optimizer, {"labelled": batch}, RUN.train.clip_norm)
        seconds.append(time.process_time() - begun)
    return {"step_s": statistics.median(seconds[2:]), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def asked() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=some, default=5)
    parser.add_argument("--steps", type=some, default=8, help="of a process, timed")
    parser.add_argument("--one", choices=("given_back", "kept"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    begin(main)
