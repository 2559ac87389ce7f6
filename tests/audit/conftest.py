"""Rows that an audit finds nothing wrong with, and a cache of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile

from moodcast.manifest import Utterance
from tests.audit.planted import CLASSES, Wave, faded


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Facts are kept by content: the same clean sounds are decoded once for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOODCAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def voices(speechlike: Callable[..., Wave]) -> list[list[Wave]]:
    """[speaker][class], made once."""
    return [[faded(speechlike(2.0, seed=10 * s + k, hz=100 + 20 * s)) for k in range(4)] for s in range(6)]


@pytest.fixture
def rows(tmp_path: Path, voices: list[list[Wave]]) -> list[Utterance]:
    """Six speakers, two a split, four classes each: nothing is wrong with them."""
    found = []
    for s in range(6):
        for k, emotion in enumerate(CLASSES):
            path = tmp_path / f"s{s}_{emotion}.wav"
            soundfile.write(path, voices[s][k], 16_000)
            split = ("train", "dev", "test")[s // 2]
            found.append(Utterance(id=path.stem, path=str(path), corpus="toy", speaker=f"s{s}", emotion=emotion, split=split))
    return found
