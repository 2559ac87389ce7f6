"""The command `moodcast <verb>`. A verb imports what it needs when it is called, so that `moodcast --help` is quick."""

from __future__ import annotations

from moodcast.cli.verbs import app, main

__all__ = ["app", "main"]
