"""What a person types, and what is said to it: the installed command in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from moodcast import cli


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
