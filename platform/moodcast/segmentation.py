"""Who of a few speaks at each moment of some seconds: the local segmentation of the embedded diarizer, also two at once.

A powerset of speakers (Plaquet and Bredin, Interspeech 2023): each frame is one of nobody, each of `speakers` alone, each pair. Log-mel
frames, the convolutions of the voiceprint, and a bidirectional LSTM in place of PyanNet's SincNet and LSTM, so that two cores can train
it (jobs/segmentation.py does, with pyannote.audio's powerset and permutation) and pyannote.audio is not needed to use it. Which speaker
is which means nothing from one window to the next.

A folder holds segmentation.json (settings, the digest of the weights, scores), weights.safetensors and a card.
Shapes: W windows, L samples, T frames, M bands, S local speakers, P sets of them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from torch import Tensor, nn

from moodcast import config, features
from moodcast.chunks import samples_of
from moodcast.nn.encoder import ConvEncoder

FORMAT = 1
STRIDE = 4  # mel frames a frame of the answer
STEP_S = STRIDE * features.HOP_S
SCALE = 3.0  # nats, as in the voiceprint
SHIPPED = Path(__file__).resolve().parent / "bundles" / "segmentation"
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What decides the network: window_s of audio at `rate` Hz, up to `speakers` heard in it and `at_once` at the same moment."""

    rate: int = 16_000
    window_s: float = 10.0
    speakers: int = 3
    at_once: int = 2
    num_mels: int = 64
    width: int = 160
    channels: int = 16
    layers: int = 2
    hidden: int = 96
    depth: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.at_once <= self.speakers:
            raise ValueError(f"wanted 1 <= at_once <= speakers, got {self.at_once} and {self.speakers}")

    @property
    def samples(self) -> int:
        """L, of a window."""
        return samples_of(self.window_s, self.rate)

    @property
    def frames(self) -> int:
        """T, of a window."""
        return int(self.samples / self.rate / STEP_S + 0.5)


def powerset(speakers: int, at_once: int) -> Tensor:
    """Which speakers are in each set, [P, S] of 0 and 1: nobody, each alone, the pairs, ... in the order of pyannote.audio."""
    sets = [names for size in range(at_once + 1) for names in combinations(range(speakers), size)]
    return torch.tensor([[float(k in names) for k in range(speakers)] for names in sets])


class Segmenter(nn.Module):
    """`forward(waves [W, L])` gives log-probabilities of the sets of speakers, [W, T, P], whatever the level of the waves."""

    sets: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("sets", powerset(shape.speakers, shape.at_once), persistent=False)
        self.log_mel = features.LogMel(shape.rate, shape.num_mels)
        self.encoder = ConvEncoder(shape.num_mels, shape.width, shape.channels, shape.layers, shape.dropout)
        self.norm = nn.LayerNorm(shape.width)
        self.recurrence = nn.LSTM(
            shape.width, shape.hidden, shape.depth, batch_first=True, bidirectional=True, dropout=shape.dropout if shape.depth > 1 else 0.0
        )
        self.classify = nn.Sequential(nn.Linear(2 * shape.hidden, shape.hidden), nn.LeakyReLU(), nn.Linear(shape.hidden, len(self.sets)))

    def forward(self, waves: Tensor) -> Tensor:
        """See the class."""
        return self.answer(*self.mels(waves))

    def mels(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Level-normalised log-mel power of waves [W, L] and its mask: [W, 4 T, M] and [W, 4 T]."""
        lengths = torch.full((len(waves), 1), waves.shape[1], device=waves.device)
        frames, mask, exist = features.chunk_frames(self.log_mel, waves[:, None], lengths)
        frames = features.level_normalised(frames, mask, exist)
        short = STRIDE * int(waves.shape[1] / self.shape.rate / STEP_S + 0.5) - frames.shape[1]
        if short > 0:  # the last windows of 25 ms reach beyond the end
            frames = torch.cat([frames, frames[:, -1:].expand(-1, short, -1)], dim=1)
            mask = torch.cat([mask, mask[:, -1:].expand(-1, short)], dim=1)
        return frames, mask

    def answer(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities [W, T, P] of log-mel power [W, 4 T, M] with its mask [W, 4 T]."""
        heard, _ = self.encoder(frames / SCALE, mask)
        found: Tensor = self.classify(self.recurrence(self.norm(heard))[0]).log_softmax(-1)
        return found


class Segmentation:
    """A trained segmenter: `activity(wave)` says of overlapping windows who speaks in them. Threads may share it."""

    def __init__(self, network: Segmenter, name: str = "segmentation") -> None:
        self.network = network.eval()
        self.name = name
        self.shape = network.shape
        self.step_s = STEP_S
        self.sets: NDArray[np.float32] = network.sets.numpy()
        self.lock = threading.Lock()

    def activity(self, wave: Wave, starts: list[int], batch: int = 16) -> NDArray[np.float32]:
        """Probabilities of the sets, [W, T, P], of windows of mono samples [N] at the network's rate that begin at `starts`.

        What lies behind the end of the wave is silence.
        """
        size = self.network.shape.samples
        parts = []
        with self.lock, torch.inference_mode():
            for first in range(0, len(starts), batch):
                rows = np.zeros((len(some := starts[first : first + batch]), size), dtype=np.float32)
                for row, start in zip(rows, some, strict=True):
                    piece = wave[start : start + size]
                    row[: len(piece)] = piece
                parts.append(self.network(torch.from_numpy(rows)).exp().numpy())
        shape = self.network.shape
        return np.concatenate(parts) if parts else np.zeros((0, shape.frames, len(self.network.sets)), dtype=np.float32)


def load(folder: str | Path = SHIPPED) -> Segmentation:
    """The segmentation in a folder that jobs/segmentation.py wrote.

    Raises ValueError where there is none, where it is of another format, or where weights and settings do not belong together.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "segmentation.json").read_text(encoding="utf-8"))
        weights = (folder / "weights.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no segmentation: {error}; python -m jobs.segmentation writes one") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{folder} is not of format {FORMAT}; python -m jobs.segmentation writes one that is")
    if about.get("sha256") != digest(about.get("shape", {}), weights):
        raise ValueError(f"{folder}: settings and weights do not belong together (SHA-256); one of them was changed")
    network = Segmenter(config.from_dict(Shape, about["shape"]))
    network.load_state_dict(tensors_of(weights))
    return Segmentation(network, name=f"segmentation/{about['sha256'][:12]}")


def digest(shape: dict[str, Any], weights: bytes) -> str:
    """SHA-256 over settings and weights."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode() + b"\0" + weights).hexdigest()
