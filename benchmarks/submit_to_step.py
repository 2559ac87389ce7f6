"""How long a person waits from `moodcast submit` to the first step of training, on a cluster that is up: this machine's own, of one node.

    python benchmarks/submit_to_step.py [--rounds 3]

A head without CPUs and a node with two on loopback, with a dashboard; a small corpus of tones that is decoded before (what decoding costs
is the corpus' own). A round is a job of its own, started as a person types it: the command's start, code and manifest sent, the job's
driver, Ray Train's workers with torch, the first step noted in the run's folder. Beside it the same training by `moodcast train` on a local
Ray that begins with it. Medians over rounds.

Figures: submit_to_first_step_s and train_to_first_step_s, goal at most 30 each.

Takes: 3 minutes on two cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.shared import begin, figures, options_of, some
from moodcast.cluster import folder as files
from moodcast.manifest import write_manifest
from tests.cluster.machines import ROOT, machines
from tests.cluster.tiny import tiny_corpus

FIELDS = "labels.classes=high,low audio.rate=8000 chunks.length_s=0.5 chunks.hop_s=0.5 method.width=16 method.num_mels=32"
TRAIN = [*FIELDS.split(), "train.batch_size=8", "train.threads=1", "train.epochs=2"]


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--rounds", type=some, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="moodcast-") as temporary:
        home = Path(temporary)
        manifest, cache = home / "tiny.parquet", home / "cache"
        write_manifest(tiny_corpus(home / "tiny"), manifest)
        local = [
            timed(["train", "erm", str(manifest), "--out", str(home / "local"), "--name"], home / "local", n, cache)
            for n in range(rounds + 1)
        ]
        with machines((2,), MOODCAST_CACHE=str(cache)) as nodes:
            words = ["submit", "erm", str(manifest), "-a", nodes.address, "--out", str(home / "runs"), "--name"]
            sent = [timed(words, home / "runs", n, cache) for n in range(rounds)]
    steps = {}
    for name, found in (("submit", sent), ("train", local[1:])):  # the first one has decoded
        folder_s, step_s = (statistics.median(each[part] for each in found) for part in range(2))
        print(
            f"{name}: the run's folder after {folder_s:.1f} s, its first step after {step_s:.1f} s; {[round(step, 1) for _, step in found]}"
        )
        steps[f"{name}_to_first_step_s"] = step_s
    figures(steps, 30)


def timed(words: list[str], out: Path, number: int, cache: Path) -> tuple[float, float]:
    """Seconds from the command to the run's folder, and to its first step; the command runs to its end."""
    name = f"run-{number}"
    command = [sys.executable, "-m", "moodcast.cli", *words, name, *TRAIN]
    environment = {**os.environ, "MOODCAST_CACHE": str(cache)}
    started, begun = time.monotonic(), 0.0
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while "steps" not in (files.read_json(out / name / files.PROGRESS) or {}):
            begun = begun or ((out / name / files.RUN).is_file() and time.monotonic() - started) or 0.0
            if process.poll() is not None:
                break
            time.sleep(0.02)
        stepped = time.monotonic() - started
        _, told = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{told}")
    print(f"{words[0]} {name}: folder after {begun:.1f} s, first step after {stepped:.1f} s", flush=True)
    return begun, stepped


if __name__ == "__main__":
    begin(main)
