"""A corpus made by code and a method small enough that an epoch takes a moment: for the tests of training."""

from __future__ import annotations

import time
import wave as wavefile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from moodcast.batch import Batch, Prediction
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method, Spec
from moodcast.methods.pretrained import Pretrained
from moodcast.run import Audio, Run, Train

RATE = 8_000
CLASSES = ("high", "low")


class Tiny(Method):
    """Chunk energies in time, two linear layers. Slow on purpose where asked, and able to go wrong."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        width: int = 8
        dropout: float = 0.0
        sleep_s: float = 0.0
        nan_at_step: int = -1  # on rank 1
        drift: bool = False

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.net = nn.Sequential(
            nn.Linear(32, config.width), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(config.width, len(spec.classes))
        )
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(32))

    def spectra(self, batch: Batch) -> Tensor:
        power = torch.fft.rfft(batch.chunks, n=512).abs()[..., :256].unflatten(-1, (32, 8)).mean(-1)
        return (power.sum(1) / (batch.lengths > 0).sum(1, keepdim=True)).clamp_min(1e-3).log()

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(emotion=self.net(self.spectra(batch)).log_softmax(-1))

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        batch = batches["labelled"]
        if self.config.sleep_s:
            time.sleep(self.config.sleep_s)
        self.seen += self.spectra(batch).mean(0).detach()  # differs by rank, as running statistics do
        loss = -(batch.target * self(batch).emotion).sum(-1).mean()
        bad = int(self.steps) == self.config.nan_at_step and dist.get_rank() == 1
        return {"classes": loss * float("nan") if bad else loss}

    def after_step(self, progress: float) -> None:
        self.steps += 1
        if self.config.drift:
            with torch.no_grad():
                self.net[0].bias += 1e-3 * torch.rand(())  # another number on every rank


class Dozing(Pretrained):
    """A small encoder with a head, so slow that it can be killed in an epoch."""

    @dataclass(frozen=True)
    class Config(Pretrained.Config):
        sleep_s: float = 0.05

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        time.sleep(self.config.sleep_s)
        return super().losses(batches)


def tiny_run(epochs: int = 3, batch_size: int = 8, seed: int = 0, **method: float) -> Run:
    """A run of Tiny on `tiny_corpus`."""
    return Run(
        method=Tiny.Config(**method),
        labels=Labels(CLASSES),
        audio=Audio(rate=RATE),
        chunks=ChunkPlan(length_s=0.2, hop_s=0.2),
        train=Train(epochs=epochs, batch_size=batch_size, lr=1e-2, seed=seed, threads=1),
    )


def tiny_corpus(folder: Path, num: int = 160, speakers: int = 8) -> list[Utterance]:
    """Tones, high or low by class, of a fifth to half a second; speakers 0 and 1 are the dev split."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(num):
        speaker, label = i % speakers, CLASSES[(i // speakers) % 2]
        t = np.arange(round(RATE * rng.uniform(0.2, 0.5))) / RATE
        hz = rng.uniform(900, 1500) if label == "high" else rng.uniform(200, 500)
        samples = 0.3 * np.sin(2 * np.pi * hz * t) + 0.02 * rng.standard_normal(len(t))
        path = folder / f"{i:03d}.wav"
        with wavefile.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(RATE)
            out.writeframes((samples * 32767).astype("<i2").tobytes())
        split = "dev" if speaker < 2 else "train"
        rows.append(Utterance(id=f"u{i:03d}", path=str(path), corpus="tiny", speaker=f"s{speaker}", emotion=label, split=split))
    return rows
