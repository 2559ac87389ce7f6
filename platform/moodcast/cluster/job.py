"""What every file of jobs/ shares: manifests and overrides in, a trained run out.

A job is a module with `RUN` (published settings) and `DATA` (the corpora they are meant for). `python -m jobs.erm` and
`moodcast train erm` both end in `train`.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from moodcast import bundle as bundles
from moodcast import config
from moodcast.cluster import folder as files
from moodcast.cluster import local, nodes, options, tracker
from moodcast.cluster.publish import publish
from moodcast.cluster.train import Failed, Fit, Interrupted, fit, method_of, span
from moodcast.cluster.watch import counting
from moodcast.manifest import Utterance, read_manifest, read_manifests, split_by_group
from moodcast.method import method_name
from moodcast.run import Run, run_from_dict, trust_of

AUTO = Path("auto")
TRAINED = ("train", "dev")  # the splits that training may see; others ("test", "test1") are left alone


def train(
    run: Run,
    manifests: Sequence[str | Path] | Sequence[Utterance],
    *,
    out: Path = Path("runs"),
    name: str | None = None,
    workers: int | tuple[int, int] = 1,
    gpu: bool | None = None,
    resume: Path | None = None,
    progress: bool = True,
    cache: Path | None = None,
    target: Sequence[str | Path] | Sequence[Utterance] = (),
    transductive: bool = False,
    unsealed: bool = False,
    ahead: bool = False,
    track: Sequence[str] | None = None,
) -> Fit:
    """Train `run` on manifests (their rows together) or rows; see `moodcast.cluster.train.fit`.

    Rows without any split are split by speaker and dialogue, seed 0. Where speakers are what is learned, the dev split is made of other
    utterances of the training speakers, who become the classes. target: manifests of what is adapted to without labels, which may come
    alone where a method hears nothing else. ahead: what will be read is decoded and encoded first, by all that the cluster has
    (`moodcast.cluster.encode`). With `resume` and no manifest, the run's own rows are used; resume=Path("auto") goes on with
    the run of that name where there is one, and begins it where there is none.
    """
    if resume == AUTO:
        resume = files.going_on(Path(out), name)
    if resume is not None and not manifests and not target:
        files.described(Path(resume))
        manifests, target = ([path] if (path := Path(resume) / name).is_file() else [] for name in (files.MANIFEST, files.TARGET))
    asked = read_manifests(target) if target else None
    rows: list[Utterance] = []
    if manifests or asked is None or method_of(run).streams != ("target",):
        run, rows = prepared(run, read_manifests(manifests))
    command = os.environ.get("MOODCAST_COMMAND") or _typed(sys.orig_argv) if progress else None

    def fitted() -> Fit:
        if ahead:
            from moodcast.cluster.encode import encode  # Ray Data takes a second or two to import

            console = Console(stderr=True, quiet=not progress)
            with counting("decoding and encoding", console) as tell:
                done = encode(run, rows, target=asked, transductive=transductive, unsealed=unsealed, gpu=gpu, cache=cache, progress=tell)
            console.print(done.said(), highlight=False)
        return fit(
            run,
            rows,
            out,
            name=name,
            workers=workers,
            gpu=gpu,
            resume=resume,
            progress=progress,
            cache=cache,
            command=command,
            target=asked,
            transductive=transductive,
            unsealed=unsealed,
            track=track,
        )

    if not os.environ.get("RAY_ADDRESS"):
        with local.cluster(num_cpus=max(local.usable_cpus(), span(workers)[0])) if ahead else nullcontext():
            return fitted()
    with local.cluster():  # somebody's cluster, whose nodes may see other disks than this machine
        nodes.check([*rows, *(asked or ())], Path(out) if resume is None else Path(resume).parent)
        return fitted()


def going_on_with(run: Run, resume: Path | None) -> Run:
    """The settings of the run in the folder `resume`, where it is one of the method of `run`: what changed them need not be said again.

    Else `run` itself: `fit` says what differs. What is started again by itself ("auto") says all of it again.
    """
    if resume is None or resume == AUTO:
        return run
    stored = files.described(Path(resume))["run"]
    if stored["method"].get("class") != method_name(run.method):
        return run
    try:
        return run_from_dict(stored, trust_of(run))
    except (ValueError, KeyError, TypeError):  # of another release
        return run


def with_split(rows: Sequence[Utterance]) -> list[Utterance]:
    """Rows that say nothing of a split get one by group; rows of which only some do are refused."""
    missing = [row.id for row in rows if row.split is None]
    if not missing:
        return list(rows)
    if len(missing) < len(rows):
        raise ValueError(f"{len(missing)} of {len(rows)} rows have no split, the first is {missing[0]}; set all or none")
    return split_by_group(rows, seed=0)


def main(run: Run, data: Sequence[str], notes: str = "", held_out: Callable[[Utterance], bool] | None = None) -> None:
    """The command line of a job; `notes` go into the model card that --into writes.

    held_out: which rows are the test split, where the job fixes that itself whatever split the manifests hold.
    """

    def command(
        words: Annotated[list[str] | None, typer.Argument(metavar="MANIFEST|FIELD=VALUE")] = None,
        workers: options.Workers = "1",
        gpu: options.Gpu = None,
        out: options.Out = Path("runs"),
        name: options.Name = None,
        resume: options.Resume = None,
        into: Annotated[Path | None, typer.Option(help="Score on the test split, and write the bundle with a card here, too.")] = None,
        target: options.Target = None,
        transductive: options.Transductive = False,
        unseal: options.Unseal = False,
        encode_first: options.Ahead = False,
        track: options.Track = None,
    ) -> None:
        manifests = [word for word in words or [] if "=" not in word or Path(word).is_file()]
        try:
            if into is not None:
                bundles.refuse_others(into)
            changes = config.parse_overrides(word for word in words or [] if word not in manifests)
            rows: Sequence[str] | Sequence[Utterance] = manifests
            if held_out is not None and manifests:
                rows = [replace(row, split="test" if held_out(row) else "train") for row in read_manifests(manifests)]
            done = train(
                config.replace_at(going_on_with(run, resume), changes),
                rows,
                out=out,
                name=name,
                workers=options.workers_of(workers),
                gpu=gpu,
                resume=resume,
                target=target or (),
                transductive=transductive,
                unsealed=unseal,
                ahead=encode_first,
                track=tracker.chosen(track),
            )
            if into is not None:
                scored = read_manifests(target) if target else read_manifest(done.folder / files.MANIFEST)
                publish(done.bundle, scored, into, notes, trust_of(run))
        except Interrupted as stopped:
            typer.echo(str(stopped), err=True)
            raise typer.Exit(130) from None
        except Failed as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        except ValueError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from None
        typer.echo(str(into or done.bundle))

    command.__doc__ = f"Train with the settings of this job on manifests from `moodcast prepare` (meant for: {', '.join(data)})."
    app = typer.Typer(add_completion=False)
    app.command()(command)
    app()


def prepared(run: Run, rows: Sequence[Utterance]) -> tuple[Run, list[Utterance]]:
    """Rows with a split; where speakers are what is learned, also the split that this takes, and the speakers as classes."""
    rows = with_split(rows)
    if run.labels.source != "speaker":
        return run, rows
    rows = speaker_split(rows)
    speakers = sorted({row.corpus_speaker for row in rows if row.split == "train"})
    return replace(run, labels=replace(run.labels, classes=tuple(speakers))), rows


def speaker_split(rows: Sequence[Utterance], dev_every: int = 10) -> list[Utterance]:
    """Of every speaker of train and dev one utterance in `dev_every` is dev, the rest train; other splits ("test", "test1") stay.

    Which ones follows from their ids alone, so that the split is the same in any order of the rows.
    """
    chosen: set[str] = set()
    by_speaker: dict[str, list[str]] = {}
    for row in rows:
        if row.split in TRAINED:
            by_speaker.setdefault(row.corpus_speaker, []).append(row.id)
    for ids in by_speaker.values():
        ids.sort(key=lambda name: hashlib.sha256(name.encode()).digest())
        chosen.update(ids[: len(ids) // dev_every])
    return [replace(row, split="dev" if row.id in chosen else "train") if row.split in TRAINED else row for row in rows]


def _typed(argv: Sequence[str]) -> str:
    """The command line that brought us here; "--resume FOLDER" is to be added."""
    moodcast = len(argv) > 1 and Path(argv[1]).name == "moodcast"
    words = ["moodcast", *argv[2:]] if moodcast else [Path(argv[0]).name, *argv[1:]]
    return shlex.join(options.without_run(words))
