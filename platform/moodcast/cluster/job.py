"""What every file of jobs/ shares: manifests and overrides in, a trained run out.

A job is a module with `RUN` (published settings) and `DATA` (the corpora they are meant for). `python -m jobs.erm` and
`moodcast train erm` both end in `train`.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moodcast import config
from moodcast.cluster import folder as files
from moodcast.cluster.train import Fit, Interrupted, fit
from moodcast.manifest import Utterance, read_manifest, split_by_group
from moodcast.run import Run


def train(
    run: Run,
    manifests: Sequence[str | Path] | Sequence[Utterance],
    *,
    out: Path = Path("runs"),
    name: str | None = None,
    workers: int = 1,
    resume: Path | None = None,
    progress: bool = True,
    cache: Path | None = None,
) -> Fit:
    """Train `run` on manifests (their rows together) or rows; see `moodcast.cluster.train.fit`.

    Rows without any split are split by speaker and dialogue, seed 0. With `resume` and no manifest, the run's own rows are used.
    """
    if resume is not None and not manifests:
        manifests = [Path(resume) / files.MANIFEST]
    rows = with_split(rows_of(manifests))
    command = _typed(sys.orig_argv, resume) if progress else None
    return fit(run, rows, out, name=name, workers=workers, resume=resume, progress=progress, cache=cache, command=command)


def rows_of(manifests: Sequence[str | Path] | Sequence[Utterance]) -> list[Utterance]:
    """The rows of all manifests. Raises ValueError for none, or an id that two of them use."""
    if not manifests:
        raise ValueError("no manifest to train on; `moodcast prepare CORPUS FOLDER` writes one")
    rows: list[Utterance] = []
    for item in manifests:
        rows.extend([item] if isinstance(item, Utterance) else read_manifest(item))
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise ValueError(f"two rows have the id {row.id!r}; give each manifest only once, and ids a prefix by corpus")
        seen.add(row.id)
    return rows


def with_split(rows: Sequence[Utterance]) -> list[Utterance]:
    """Rows that say nothing of a split get one by group; rows of which only some do are refused."""
    missing = [row.id for row in rows if row.split is None]
    if not missing:
        return list(rows)
    if len(missing) < len(rows):
        raise ValueError(f"{len(missing)} of {len(rows)} rows have no split, the first is {missing[0]}; set all or none")
    return split_by_group(rows, seed=0)


def main(run: Run, data: Sequence[str]) -> None:
    """The command line of a job."""

    def command(
        words: Annotated[list[str] | None, typer.Argument(metavar="MANIFEST... [FIELD=VALUE...]")] = None,
        workers: Annotated[int, typer.Option(min=1, help="Training processes; each takes its share of a batch.")] = 1,
        out: Annotated[Path, typer.Option("--out", "-o", help="Where the run's folder is made.")] = Path("runs"),
        name: Annotated[str | None, typer.Option(help="The run's name; without it one is made up that is new.")] = None,
        resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted run.")] = None,
    ) -> None:
        manifests = [word for word in words or [] if "=" not in word or Path(word).is_file()]
        try:
            changes = config.parse_overrides(word for word in words or [] if word not in manifests)
            done = train(config.replace_at(run, changes), manifests, out=out, name=name, workers=workers, resume=resume)
        except Interrupted as stopped:
            typer.echo(str(stopped), err=True)
            raise typer.Exit(130) from None
        except ValueError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        typer.echo(str(done.bundle))

    command.__doc__ = f"Train with the settings of this job on manifests from `moodcast prepare` (meant for: {', '.join(data)})."
    app = typer.Typer(add_completion=False)
    app.command()(command)
    app()


def labelled(run: Run, rows: Sequence[Utterance]) -> Run:
    """The run with the speakers of its training rows as classes, where speakers are what it learns."""
    if run.labels.source != "speaker":
        return run
    speakers = sorted({row.corpus_speaker for row in rows if row.split == "train"})
    return replace(run, labels=replace(run.labels, classes=tuple(speakers)))


def _typed(argv: Sequence[str], resume: Path | None) -> str:
    """The command line that brought us here, without what names the run; "--resume FOLDER" is to be added."""
    words = list(argv)
    if len(words) > 1 and Path(words[1]).name == "moodcast":
        words = ["moodcast", *words[2:]]
    else:
        words[0] = Path(words[0]).name
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in ("--resume", "--name"):
            skip = True
        elif not word.startswith(("--resume=", "--name=")):
            kept.append(word)
    return shlex.join(kept)
