"""What `moodcast adapt` does to a bundle on corpora that it never heard.

    python benchmarks/adapt_bundle.py ravdess                  # in view when the default way was settled; no setting was tuned on it
    python benchmarks/adapt_bundle.py nemo urdu --seeds 0 1 2  # the others, reported; JSON lines go to results/adapt_bundle.jsonl

The bundle adapts to half of a corpus' speakers, without labels, and answers the other half; then the halves change places, and answers are
pooled. Four classes, UAR with intervals by bootstrap over speakers, the difference from the bundle as it was in pairs. The audio is not
part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import moodcast
from moodcast import corpora, manifest, metrics
from moodcast.cluster.adapt import adapt
from moodcast.cluster.data import CachedStretches
from moodcast.passes import predict
from moodcast.transfer import TransferTask

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "adapt_bundle.jsonl"
WAYS: dict[str, dict[str, Any]] = {
    "as it was": {},
    "statistics": {"how": "statistics"},
    "sharpen": {"how": "sharpen"},
}


def rows_of(name: str, classes: tuple[str, ...]) -> list[manifest.Utterance]:
    root = Path(os.environ.get("MOODCAST_CORPORA") or ROOT.parent / "shared" / "corpora")
    return [row for row in corpora.prepare(name, root / name) if row.emotion in classes]


def main(options: argparse.Namespace) -> None:
    bundle = moodcast.load(options.bundle)
    for name in options.corpora:
        rows = rows_of(name, bundle.classes)
        for seed in options.seeds:
            sides = manifest.folds(rows, 2, seed)
            raw: metrics.Counts | None = None
            for way, settings in WAYS.items():
                counts: dict[str, metrics.Counts] = {}
                refused = []
                for side in range(2):
                    split = [replace(row, split="test" if at == side else "train") for row, at in zip(rows, sides, strict=True)]
                    task = TransferTask.of([], split)
                    method = bundle.method
                    if settings:
                        done = adapt(bundle, task.adapt, seed=seed, **{**settings, **options.set})
                        method, refused = done.bundle.method, [*refused, *done.check.why]
                    data = CachedStretches(task.test, bundle.run, labelled=False)
                    answers = task.answers(bundle.run.labels, predict(method, data, data.owners, data.seconds, 32)[0])
                    by = metrics.by_speaker(answers.truth, answers.guess, answers.speakers, len(bundle.classes))
                    for who, matrix in zip(np.unique(answers.speakers), by, strict=True):
                        counts[str(who)] = counts.get(str(who), 0) + matrix
                sums = np.stack([counts[who] for who in sorted(counts)])
                raw = sums if raw is None else raw
                found, above = metrics.speaker_bootstrap(metrics.uar, sums), metrics.paired_bootstrap(metrics.uar, sums, raw)
                row = {
                    "bundle": bundle.sha256[:12],
                    "corpus": name,
                    "way": way,
                    "seed": seed,
                    "uar": [round(100 * value, 2) for value in (found.value, found.low, found.high)],
                    "above": [round(100 * value, 2) for value in (above.value, above.low, above.high)],
                    "refused": refused,
                    "settings": {**settings, **options.set},
                    "uses": {"target_audio": bool(settings), "target_labels": False, "transductive": False},
                    "command": "python " + shlex.join(sys.argv),
                }
                if options.out is not None:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                print(f"{name} {seed} {way}: UAR {row['uar']}, above {row['above']} {refused or ''}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--set", type=json.loads, default={}, help='settings of `adapt`, as JSON: {"epochs": 3}')
    options = parser.parse_args()
    if options.bundle != "default" and options.out.resolve() == RESULTS:
        parser.error(f"{RESULTS.name} is of the default bundle; for {options.bundle} name another file with --out")
    main(options)
