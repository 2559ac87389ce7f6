"""The options that `moodcast train`, `moodcast submit` and `python -m jobs.NAME` share: all that is no field of the run. Without Ray."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

Workers = Annotated[int, typer.Option(min=1, help="Training processes; each takes its share of a batch.")]
Gpu = Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="A GPU for each; unsaid, where there are enough.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where the run's folder is made.")]
Name = Annotated[str | None, typer.Option(help="The run's name; without it one is made up that is new.")]
Resume = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted run (auto: with that of --name, if any).")]
Target = Annotated[
    list[str] | None,
    typer.Option(metavar="MANIFEST", help="Recordings to adapt to, without labels: split train, or all if none; never those of test."),
]
Transductive = Annotated[bool, typer.Option("--transductive", help="Adapt to the very rows of the target that will be answered.")]
Unseal = Annotated[bool, typer.Option("--unseal", help="Train on the target's labels, too: an upper bound, which every score says.")]
Track = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Who is told: tensorboard, mlflow, both (tensorboard,mlflow) or none; unsaid, as before."),
]


def without_run(words: Iterable[str]) -> list[str]:
    """What was typed, without what names the run: for the message how to go on, to which "--resume FOLDER" is added."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("--resume", "--name"):
            skip = True
        elif not word.startswith(("--resume=", "--name=")):
            kept.append(word)
    return kept
