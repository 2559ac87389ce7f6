"""Fixtures of the tests of training: a corpus made by code, a local Ray that the tests of a file share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moodcast.manifest import Utterance
from tests.cluster.tiny import tiny_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return tiny_corpus(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    from moodcast.cluster import local

    with local.cluster(num_cpus=2):
        yield
