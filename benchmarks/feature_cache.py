"""What training saves by keeping what a frozen encoder makes of a recording: a run with the feature cache against one that computes anew.

    python benchmarks/feature_cache.py [--epochs 10] [--utterances 64] [--seconds 2.5] [--layers 4]

Both sides train the `pretrained` job (encoder frozen) on the same rows, seeds and settings by the training code without Ray, in turn epoch
by epoch, in one process on one thread; the side with the cache pays for filling it. The encoder is a small HuBERT with random weights, and
the sound is noise: neither has a say in how much is computed. Both sides must come to the same losses, or it would not be the same run.

Figures: feature_cache_speedup, seconds of the whole run without over seconds with the cache, goal 4 at ten epochs (more epochs bring more);
feature_cache_epoch_speedup, the same of the median epoch once the cache is full, goal 50.

Takes: 2 minutes on one core.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.shared import begin, figure
from benchmarks.sweep_cache import encoder_options, made
from jobs.pretrained import RUN
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features, kept
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.run import Run, build
from moodcast.step import Trainer

SIDES = ("off", "on")


def main() -> None:
    options = encoder_options(__doc__, utterances=64, seconds=2.5, epochs=10).parse_args()
    if options.epochs < 2:
        raise ValueError("the cache serves from the second epoch on; name two --epochs or more")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        rows = made(home, options)
        run = replace(RUN, chunks=ChunkPlan(length_s=options.seconds, hop_s=options.seconds))
        fields = {"method.encoder": str(home / "encoder"), "method.tune": "none", "train.epochs": options.epochs, "train.batch_size": 16}
        took: dict[str, list[float]] = {side: [] for side in SIDES}
        losses: dict[str, list[float]] = {side: [] for side in SIDES}
        trainers = {}
        for side in SIDES:
            started = time.monotonic()
            trainers[side] = begun(replace_at(run, {**fields, "train.cache_features": side}), rows, home / "cache")
            took[side].append(time.monotonic() - started)
        print(f"before the first epoch: {took['off'][0]:.1f} s, and {took['on'][0]:.1f} s with filling the cache", flush=True)
        for epoch in range(options.epochs):
            for side in SIDES if epoch % 2 == 0 else SIDES[::-1]:
                started = time.monotonic()
                losses[side].append(trainers[side].epoch(epoch)["loss"])
                took[side].append(time.monotonic() - started)
    worst = max(abs(one - other) for one, other in zip(*losses.values(), strict=True))
    if worst > 1e-3:
        raise SystemExit(f"not the same training: losses differ by {worst:g}")
    whole = {side: sum(seconds) for side, seconds in took.items()}
    each = {side: statistics.median(seconds[1:]) for side, seconds in took.items()}
    print(f"{options.epochs} epochs of {options.utterances} utterances: {whole['off']:.1f} s anew, {whole['on']:.1f} s kept")
    print(f"losses are the same to {worst:.0e}")
    print(f"an epoch: {each['off']:.2f} s anew, {each['on']:.3f} s kept")
    figure("feature_cache_epoch_speedup", f"{each['off'] / each['on']:.0f}", 50)
    figure("feature_cache_speedup", f"{whole['off'] / whole['on']:.1f}", 4)


def begun(run: Run, rows: list[Utterance], cache: Path) -> Trainer:
    """A trainer as a worker has it before its first epoch, with a full cache where the run keeps features."""
    data, method = CachedStretches(rows, run, cache), build(run)
    if name := kept(run, method):
        keep_features(method, [data], name, cache)
    trainer = Trainer(method, run.train, data)
    trainer.fit_once()
    return trainer


if __name__ == "__main__":
    begin(main)
