"""Who of a few speaks at each moment of some seconds: the local segmentation of the embedded diarizer, also two at once.

A powerset of speakers (Plaquet and Bredin, Interspeech 2023): each frame is one of nobody, each of `speakers` alone, each pair. The network
is PyanNet (Bredin et al., ICASSP 2020), so that what pyannote.audio published can be its first weights (jobs/segmentation.py goes on from
those, with pyannote.audio's powerset and permutation), but pyannote.audio, which takes seconds to import, is not needed to use it. Which
speaker is which means nothing from one window to the next.

A folder holds segmentation.json (settings, the digest of the weights, scores), weights.safetensors and a card.
Shapes: W windows, L samples, T frames, S local speakers, P sets of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as tensors_of
from safetensors.torch import save_file
from torch import Tensor, nn

from moodcast import config
from moodcast.chunks import samples_of

FORMAT = 2
RATE = 16_000  # Hz, of which the filters' lengths are made
HOP = 270  # samples a frame: the filters' stride of 10, and three times the largest of three
SEEN = 991  # samples that a frame hears
STEP_S = HOP / RATE
SHIPPED = Path(__file__).resolve().parent / "bundles" / "segmentation"
SINC = "sincnet.conv1d.0.filterbank."
THEIRS = {
    "sincnet.wav_norm1d.": "level.",
    "sincnet.conv1d.": "convolutions.",
    "sincnet.norm1d.": "norms.",
    "lstm.": "recurrence.",
    "linear.": "dense.",
    "classifier.": "classify.",
}
PUBLISHED = {  # checkpoints by their SHA-256
    "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298": """the weights of pyannote/segmentation-3.0 (MIT, see LICENSE),
which its authors trained on real conversations of AISHELL, AliMeeting, AMI, AVA-AVD, DIHARD, Ego4D, MSDWild, REPERE and VoxConverse.
What it knows of meetings it learned there, so no score on training meetings of AMI is one on meetings that it has not heard""",
}
Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What decides the network: window_s of audio, up to `speakers` heard in it and `at_once` at the same moment; sizes of its layers."""

    window_s: float = 10.0
    speakers: int = 3
    at_once: int = 2
    filters: int = 80
    width: int = 60
    hidden: int = 128
    depth: int = 4
    dense: int = 128
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.at_once <= self.speakers:
            raise ValueError(f"wanted 1 <= at_once <= speakers, got {self.at_once} and {self.speakers}")

    @property
    def samples(self) -> int:
        """L, of a window."""
        return samples_of(self.window_s, RATE)

    @property
    def frames(self) -> int:
        """T, of a window."""
        return self.samples // HOP


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
        self.level = nn.InstanceNorm1d(1, affine=True)
        self.filters = nn.Conv1d(1, shape.filters, 251, stride=10, bias=False)
        self.convolutions = nn.ModuleList([nn.Conv1d(shape.filters, shape.width, 5), nn.Conv1d(shape.width, shape.width, 5)])
        self.norms = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (shape.filters, shape.width, shape.width))
        self.recurrence = nn.LSTM(
            shape.width, shape.hidden, shape.depth, batch_first=True, bidirectional=True, dropout=shape.dropout if shape.depth > 1 else 0.0
        )
        self.dense = nn.ModuleList([nn.Linear(2 * shape.hidden, shape.dense), nn.Linear(shape.dense, shape.dense)])
        self.classify = nn.Linear(shape.dense, len(self.sets))

    def forward(self, waves: Tensor) -> Tensor:
        """See the class."""
        frames = waves.shape[1] // HOP
        before = (SEEN - HOP) // 2  # so that the middle of what a frame hears is the middle of the frame
        padded = nn.functional.pad(waves, (before, max(0, HOP * (frames - 1) + SEEN - before - waves.shape[1])))
        found = self.filters(self.level(padded[:, None])).abs()
        for norm, convolution in zip(self.norms, (*self.convolutions, None), strict=True):
            found = nn.functional.leaky_relu(norm(nn.functional.max_pool1d(found, 3)))
            if convolution is not None:
                found = convolution(found)
        found = self.recurrence(found[..., :frames].transpose(1, 2))[0]
        for dense in self.dense:
            found = nn.functional.leaky_relu(dense(found))
        answer: Tensor = self.classify(found).log_softmax(-1)
        return answer


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
        """Probabilities of the sets, [W, T, P], of windows of mono samples [N] at 16 kHz that begin at `starts`.

        What lies behind the end of the wave is silence.
        """
        size = self.shape.samples
        parts = []
        with self.lock, torch.inference_mode():
            for first in range(0, len(starts), batch):
                rows = np.zeros((len(some := starts[first : first + batch]), size), dtype=np.float32)
                for row, start in zip(rows, some, strict=True):
                    piece = wave[start : start + size]
                    row[: len(piece)] = piece
                parts.append(self.network(torch.from_numpy(rows)).exp().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.shape.frames, len(self.sets)), dtype=np.float32)


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


def save(network: Segmenter, folder: str | Path, about: Mapping[str, Any], card: str) -> None:
    """Settings, weights (as halves) and card into a folder that `load` reads."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, folder / "weights.safetensors")
    shape = config.to_dict(network.shape)
    sha256 = digest(shape, (folder / "weights.safetensors").read_bytes())
    text = json.dumps({"format": FORMAT, "sha256": sha256, "shape": shape, **about}, indent=1)
    (folder / "segmentation.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def digest(shape: dict[str, Any], weights: bytes) -> str:
    """SHA-256 over settings and weights."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode() + b"\0" + weights).hexdigest()


def published(path: Path) -> Segmenter:
    """A network with the shape and the weights of a PyanNet that pyannote.audio trained; nothing in its checkpoint is run.

    Raises ValueError where it is none, or holds more than tensors and pyannote.audio's own settings.
    """
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"  # pyannote.audio reports its use unless told not to, before it is imported
    from asteroid_filterbanks import ParamSincFB  # type: ignore[import-untyped]
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from torch.torch_version import TorchVersion

    try:
        with torch.serialization.safe_globals([Problem, Resolution, Specifications, TorchVersion]):
            kept = torch.load(path, map_location="cpu", weights_only=True)
        says, lstm, weights = kept["pyannote.audio"]["specifications"], kept["hyper_parameters"]["lstm"], kept["state_dict"]
        shape = Shape(
            window_s=says.duration,
            speakers=len(says.classes),
            at_once=says.powerset_max_classes,
            hidden=lstm["hidden_size"],
            depth=lstm["num_layers"],
            dense=kept["hyper_parameters"]["linear"]["hidden_size"],
            dropout=lstm["dropout"],
        )
        sinc = ParamSincFB(shape.filters, 251, stride=10, sample_rate=RATE, min_low_hz=50, min_band_hz=50)
        sinc.load_state_dict({name.removeprefix(SINC): value for name, value in weights.items() if name.startswith(SINC)})
        network = Segmenter(shape)
        network.load_state_dict(
            {"filters.weight": sinc.filters().detach()}
            | {renamed(name): value for name, value in weights.items() if not name.startswith(SINC)}
        )
    except (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).partition(". ")[0]  # torch goes on to say how to open it all the same
        raise ValueError(f"{path} is no checkpoint of a PyanNet that pyannote.audio trained: {reason}") from error
    return network


def renamed(name: str) -> str:
    """What a weight of PyanNet is called here."""
    for theirs, ours in THEIRS.items():
        if name.startswith(theirs):
            place, _, rest = name.removeprefix(theirs).partition(".")
            return f"convolutions.{int(place) - 1}.{rest}" if ours == "convolutions." else f"{ours}{name.removeprefix(theirs)}"
    raise KeyError(f"no weight of PyanNet is called {name}")
