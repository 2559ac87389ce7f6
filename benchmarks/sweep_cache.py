"""What a sweep saves by encoding once: 20 trials of a probe of a frozen encoder, with and without the feature cache.

    python benchmarks/sweep_cache.py [--trials 20] [--utterances 48] [--epochs 4] [--layers 4]

Both sides run the trial function of `moodcast tune` on the same settings, folds, seeds and rows, in one process on one thread, in turn; the
side with the cache pays for filling it. The encoder is a small HuBERT with random weights, written by this script, and the sound is noise:
neither has a say in how much is computed. Both sides must come to the same scores, or they would not be the same trials.

Figure: sweep_cache_speedup, seconds without over seconds with the cache; goal 5. A larger encoder, more epochs or more trials raise it.

Takes: 5 minutes on one core; `--trials 3 --utterances 24 --epochs 2 --layers 2` half a minute.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import wave as wavefile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared import begin, figure, options_of, some
from jobs.pretrained import RUN
from moodcast.chunks import ChunkPlan
from moodcast.cluster import search, sweep
from moodcast.cluster.ledger import Ledger
from moodcast.cluster.trial import records
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.run import run_from_dict
from tune_spaces.pretrained import space

RATE = 16_000


def main() -> None:
    parser = encoder_options(__doc__, utterances=48, seconds=2.0, epochs=4)
    parser.add_argument("--trials", type=some, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        rows = made(home, options)
        sides = {cached: begun(home, rows, options, cached) for cached in ("off", "on")}
        took = dict.fromkeys(sides, 0.0)
        for number in range(options.trials):  # in turn, so that what else the machine does hits both
            scores = {}
            for cached, folder in sides.items():
                started = time.monotonic()
                scores[cached] = trained(folder, number, options, home / f"cache-{cached}")
                took[cached] += time.monotonic() - started
            if abs(scores["off"] - scores["on"]) > 1e-6:
                raise SystemExit(f"trial {number} is not the same on both sides: {scores}")
            told = ", ".join(f"{cached} {seconds:.1f} s" for cached, seconds in took.items())
            print(f"trial {number}: score {scores['on']:.3f} on both sides; so far {told}", flush=True)
        figure("sweep_cache_speedup", f"{took['off'] / took['on']:.1f}", 5)


def made(home: Path, options: argparse.Namespace) -> list[Utterance]:
    """The corpus and the encoder of a benchmark, in its folder."""
    encoder(home / "encoder", options.layers)
    return corpus(home / "clips", options.utterances, options.seconds)


def encoder_options(doc: str | None, utterances: int, seconds: float, epochs: int) -> argparse.ArgumentParser:
    """What both benchmarks of a frozen encoder ask."""
    parser = options_of(doc)
    parser.add_argument("--epochs", type=some, default=epochs)
    parser.add_argument("--utterances", type=some, default=utterances)
    parser.add_argument("--seconds", type=float, default=seconds, help="of each utterance")
    parser.add_argument("--layers", type=some, default=4, help="of the encoder")
    return parser


def begun(home: Path, rows: list[Utterance], options: argparse.Namespace, cached: str) -> Path:
    """The folder of a sweep with or without the cache."""
    run = replace(RUN, chunks=ChunkPlan(length_s=options.seconds, hop_s=options.seconds))
    changes = {"method.encoder": str(home / "encoder"), "train.epochs": options.epochs, "train.threads": 1, "train.cache_features": cached}
    fixed = {"method.tune": "none", "train.batch_size": 16}
    plan = sweep.Plan(trials=options.trials, searcher="random", scheduler="none", folds=2)
    return sweep.begin(replace_at(run, changes), space, "pretrained", rows, home / f"sweep-{cached}", plan, fixed)


def trained(folder: Path, number: int, options: argparse.Namespace, cache: Path) -> float:
    """The score of a trial, by the function that Ray Tune would run."""
    settings = Ledger(folder).settings
    run = run_from_dict(settings["run"])
    trial = search.next_trial(space, run, settings["fixed"], [], number=number, searcher="random", seed=0)
    given: dict[str, Any] = {"sweep": str(folder), "trial": number, "changes": trial.changes, "from": None, "known": 0}
    reports = list(records({**given, "until": options.epochs, "cache": str(cache), "device": "cpu"}))
    if "ended" in reports[-1]:
        raise SystemExit(f"trial {number} {reports[-1]['ended']}: {reports[-1]['error']}")
    return float(reports[-1]["value"])


def corpus(folder: Path, count: int, seconds: float) -> list[Utterance]:
    """Noise of four colours, one a class, by eight speakers."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for i in range(count):
        label = RUN.labels.classes[(i + i // 8) % 4]
        spectrum = np.fft.rfft(rng.standard_normal(round(seconds * RATE)))
        tilt = np.linspace(1.0, 0.05, len(spectrum)) ** (RUN.labels.classes.index(label) + 1)
        samples = np.fft.irfft(spectrum * tilt, n=round(seconds * RATE))
        with wavefile.open(str(folder / f"{i}.wav"), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((0.2 * samples / np.abs(samples).max() * 32767).astype("<i2").tobytes())
        rows.append(Utterance(f"u{i}", str(folder / f"{i}.wav"), corpus="noise", speaker=f"s{i % 8}", emotion=label, split="train"))
    return rows


def encoder(folder: Path, layers: int) -> None:
    """A HuBERT of random weights in the Hugging Face layout: the front of the real one at a quarter of its width, a few layers of 256."""
    import transformers

    torch.manual_seed(0)
    settings = transformers.HubertConfig(
        hidden_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=1024,
        conv_dim=(128,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
    )
    transformers.HubertModel(settings).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)


if __name__ == "__main__":
    begin(main)
