"""The options that `moodcast train`, `moodcast submit` and `python -m jobs.NAME` share: all that is no field of the run. Without Ray."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

Workers = Annotated[
    str,
    typer.Option(metavar="N|MIN-MAX", help="Training processes, which share every batch; 1-4: as many as there is room for at any time."),
]
Gpu = Annotated[bool | None, typer.Option("--gpu/--no-gpu", help="A GPU for each worker; if neither is said, where there are enough.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where the run's folder is made.")]
Name = Annotated[str | None, typer.Option(help="The run's name; without it one is made up that is new.")]
Resume = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted run (auto: with that of --name, if any).")]
Target = Annotated[
    list[str] | None,
    typer.Option(metavar="MANIFEST", help="Recordings to adapt to, without labels: split train, or all if none; never those of test."),
]
Transductive = Annotated[bool, typer.Option("--transductive", help="Adapt to the very rows of the target that will be answered.")]
Unseal = Annotated[bool, typer.Option("--unseal", help="Train on the target's labels, too: an upper bound, which every score says.")]
Ahead = Annotated[bool, typer.Option("--encode", help="Decode and encode first, with all that the cluster has: see moodcast encode.")]
Track = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Where metrics go beside the folder: tensorboard, mlflow, both (tensorboard,mlflow) or none."),
]


def workers_of(said: str) -> int | tuple[int, int]:
    """What --workers says: a number, or the fewest and the most that a run may have. Raises ValueError for anything else.

    >>> workers_of("4"), workers_of("1-4")
    (4, (1, 4))
    """
    fewest, dash, most = said.partition("-")
    if not fewest.isdecimal() or (dash and not most.isdecimal()) or int(fewest) < 1 or int(most or fewest) < int(fewest):
        raise ValueError(f"--workers takes a number, or the fewest and the most: 4, or 1-4; got {said!r}")
    return (int(fewest), int(most)) if dash else int(fewest)


def workers_said(workers: int | tuple[int, int]) -> str:
    """The inverse of `workers_of`."""
    return str(workers) if isinstance(workers, int) else f"{workers[0]}-{workers[1]}"


def refuse_without_target(transductive: bool, unsealed: bool) -> None:
    """Raises ValueError where something is asked of a target, and no target came."""
    if transductive or unsealed:
        raise ValueError(f"{'--transductive' if transductive else '--unseal'} is about --target, which was not given")


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
