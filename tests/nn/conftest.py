"""Encoders as the hub keeps them, saved once a file of tests, and no network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.nn.encoders import ARCHITECTURES


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture as the hub keeps it: config, feature extractor, safetensors."""
    found = {}
    for name, make in ARCHITECTURES.items():
        torch.manual_seed(0)
        model, extractor = make()
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        extractor.save_pretrained(found[name])
    return found


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would leave this machine fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
