"""What a person types, and what is said to it: the installed command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from moodcast import cli
from moodcast.bundle import save
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.run import Run, build


@dataclass(frozen=True)
class Said:
    """What one call of the command said and how it ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`command(...)("predict", file)`, through the same door as the installed command."""
    monkeypatch.setenv("COLUMNS", "220")
    monkeypatch.delenv("MOODCAST_DEBUG", raising=False)

    def call(*parts: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["moodcast", *map(str, parts)])
        code = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def untrained(folder: Path, labels: Labels | None = None) -> Path:
    """A small bundle that was never trained: what it answers means nothing, but it answers."""
    run = Run(method=Erm.Config(width=16, channels=4), labels=labels or Labels())
    return save(folder, build(run), run)
