"""Tiny bundles of random weights and a real conversation, for what is served."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from moodcast import audio, bundle
from moodcast.batch import collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.methods.voiceprint import Voiceprint
from moodcast.run import Run, build

RATE = 16_000


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory, conversation: bytes) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    emotion = Run(Erm.Config(num_mels=16, width=16, channels=4, layers=1), chunks=ChunkPlan(length_s=1.0, hop_s=1.0))
    voices = Run(
        Voiceprint.Config(num_mels=16, width=16, channels=4, layers=1, embedding=8),
        labels=Labels(classes=("c/a", "c/b"), source="speaker"),
        chunks=ChunkPlan(length_s=1.5, hop_s=1.5),
    )
    embed = build(voices)
    centre(embed, voices, conversation)
    return {"emotion": bundle.save(folder / "emotion", build(emotion), emotion), "voices": bundle.save(folder / "voices", embed, voices)}


def centre(method: Any, run: Run, conversation: bytes) -> None:
    """Random weights give nearly the same embedding to all windows; without their mean these differ, and there are turns to serve."""
    wave = audio.read(conversation)
    pieces = [wave[i * RATE : i * RATE + 24_000] for i in range(6, 28)]
    method.eval()
    kept: list[torch.Tensor] = []
    hook = method.embed.register_forward_hook(lambda module, given, out: kept.append(out))
    with torch.inference_mode():
        method(collate(pieces, run.chunks, RATE))
    hook.remove()
    with torch.no_grad():
        method.embed[-1].bias -= kept[0].mean(dim=0)


@pytest.fixture(scope="session")
def conversation() -> bytes:
    """Half a minute of a real telephone conversation, which ships with pyannote.audio."""
    found = importlib.util.find_spec("pyannote.audio")
    assert found is not None
    assert found.submodule_search_locations is not None
    return (Path(found.submodule_search_locations[0]) / "sample" / "sample.wav").read_bytes()
