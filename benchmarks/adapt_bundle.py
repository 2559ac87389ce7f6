"""What `moodcast adapt` does to a bundle on corpora that it never heard.

    python benchmarks/adapt_bundle.py ravdess                  # in view when the default way was settled; no setting was tuned on it
    python benchmarks/adapt_bundle.py nemo urdu --seeds 0 1 2  # the others, reported; JSON lines go to results/adapt_bundle.jsonl
    python benchmarks/adapt_bundle.py urdu --out TRY           # whether all of it works

The bundle adapts to half of a corpus' speakers, without labels, and answers the other half; then the halves change places, and answers are
pooled. Four classes, UAR with intervals by bootstrap over speakers, the difference from the bundle as it was in pairs. The audio is not
part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures, the mean over corpora and seeds: adapt_bundle_WAY_minus_as_it_was_points of each way to adapt, goal 0.

Takes: 10 minutes for ravdess, nemo and urdu on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import moodcast
from benchmarks.shared import RESULTS, begin, command, figures, mean_difference, options_of, percent, prepared
from moodcast import lines, manifest, metrics
from moodcast.bundle import Bundle
from moodcast.cluster.adapt import adapt
from moodcast.cluster.data import CachedStretches
from moodcast.manifest import Utterance
from moodcast.passes import predict
from moodcast.transfer import TransferTask

OUT = RESULTS / "adapt_bundle.jsonl"
RAW = "as it was"
WAYS: dict[str, dict[str, Any]] = {RAW: {}, "statistics": {"how": "statistics"}, "sharpen": {"how": "sharpen"}}


def answered(bundle: Bundle, rows: Sequence[Utterance], seed: int, settings: dict[str, Any]) -> tuple[metrics.Counts, list[str]]:
    """Counts by speaker [S, K, K] of both halves, each adapted to the other where there are settings, and why adapting was refused."""
    counts: dict[str, metrics.Counts] = {}
    refused: list[str] = []
    sides = manifest.folds(rows, 2, seed)
    for side in range(2):
        task = TransferTask.of([], [replace(row, split="test" if at == side else "train") for row, at in zip(rows, sides, strict=True)])
        method = bundle.method
        if settings:
            done = adapt(bundle, task.adapt, seed=seed, **settings)
            method, refused = done.bundle.method, [*refused, *done.check.why]
        data = CachedStretches(task.test, bundle.run, labelled=False)
        answers = task.answers(bundle.run.labels, predict(method, data, data.owners, data.seconds, 32)[0])
        by = metrics.by_speaker(answers.truth, answers.guess, answers.speakers, len(bundle.classes))
        for who, matrix in zip(np.unique(answers.speakers), by, strict=True):
            counts[str(who)] = counts.get(str(who), 0) + matrix
    return np.stack([counts[who] for who in sorted(counts)]), refused


def measure(options: argparse.Namespace) -> None:
    bundle = moodcast.load(options.bundle)
    print(f"bundle {bundle.name} {bundle.sha256[:12]}, seeds {options.seeds}, classes {', '.join(bundle.classes)}", flush=True)
    scores: dict[str, dict[tuple[str, int], float]] = {way: {} for way in WAYS}
    for name in options.corpora:
        rows = [row for row in prepared(name) if row.emotion in bundle.classes]
        for seed in options.seeds:
            raw: metrics.Counts | None = None
            for way, how in WAYS.items():
                settings = {**how, **options.set} if how else {}
                sums, refused = answered(bundle, rows, seed, settings)
                raw = sums if raw is None else raw
                found, above = metrics.speaker_bootstrap(metrics.uar, sums), metrics.paired_bootstrap(metrics.uar, sums, raw)
                row = {
                    **{"bundle": bundle.sha256[:12], "corpus": name, "way": way, "seed": seed},
                    **{"uar": percent(found), "above": percent(above), "refused": refused, "settings": {**how, **options.set}},
                    "uses": {"target_audio": bool(how), "target_labels": False, "transductive": False},
                    "command": command(__file__),
                }
                lines.add(options.out, row)
                scores[way][name, seed] = 100 * found.value
                print(f"{name}, seed {seed}, {way}: UAR {row['uar']}, above {row['above']} {refused or ''}", flush=True)
    told = {way: mean_difference(scores[way], scores[RAW]) for way in WAYS if way != RAW}
    figures({f"adapt_bundle_{way}_minus_as_it_was_points": found[0] for way, found in told.items() if found}, 0)


def as_settings(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise argparse.ArgumentTypeError(f'{text!r} is no JSON object such as {{"epochs": 3}}') from None


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("corpora", nargs="+", help="which the bundle never heard")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the halves, and of what is drawn while adapting")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--set", type=as_settings, default={}, help='settings of `adapt`, as JSON: {"epochs": 3}')
    options = parser.parse_args()
    if options.bundle != "default" and options.out.resolve() == OUT:
        parser.error(f"{OUT.name} is of the default bundle; for {options.bundle} name another file with --out")
    torch.set_num_threads(1)
    measure(options)


if __name__ == "__main__":
    begin(main)
