"""The verbs about somebody's cluster: `submit` sends a training job there, `jobs` follows, lists and stops what was sent."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli.words import console, fail, find_job, find_run, say, sort_words
from moodcast.cluster.options import (
    Ahead,
    Gpu,
    Target,
    Track,
    Transductive,
    Unseal,
    Workers,
    refuse_without_target,
    without_run,
    workers_of,
)

if TYPE_CHECKING:
    from moodcast.cluster.submit import JobDetails, JobSubmissionClient

jobs = typer.Typer(
    name="jobs", help="The Ray jobs that `moodcast submit` sent to a cluster: list, status, logs, stop.", no_args_is_help=True
)
Address = Annotated[
    str | None,
    typer.Option("--address", "-a", metavar="URL", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard: http://HEAD:8265."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="What `moodcast submit` said, or `moodcast jobs list`.")]


def submit(
    job: Annotated[
        str,
        typer.Argument(metavar="JOB", help="A file of jobs/ (erm, chunk_attention, ...) or a dotted module of your own that holds RUN."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="MANIFEST|FIELD=VALUE", help="Manifests (cluster:/PATH: one that lies there), fields to change."),
    ] = None,
    address: Address = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder on the cluster, seen by all nodes, where the run's folder is made.")
    ] = "",
    name: Annotated[str | None, typer.Option(help="The run's name; without it the id that the Ray job gets, which is new.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted run: its folder on the cluster, or auto.")
    ] = None,
    workers: Workers = "1",
    gpu: Gpu = None,
    target: Target = None,
    transductive: Transductive = False,
    unseal: Unseal = False,
    encode_first: Ahead = False,
    track: Track = None,
    paths: Annotated[
        list[str] | None,
        typer.Option(metavar="HERE=THERE", help="How a folder of recordings is called on the cluster, if not as here; may be repeated."),
    ] = None,
    python: Annotated[str, typer.Option(help="The Python of the cluster's machines that has moodcast's libraries.")] = "python",
    wait: Annotated[bool, typer.Option("--follow/--no-follow", help="Follow the log until the job ends.")] = True,
) -> None:
    """Send a training job to a Ray cluster and follow it. What is uploaded: code and manifests; recordings stay where they are."""
    from moodcast import config
    from moodcast.cluster import submit as sending
    from moodcast.cluster.tracker import named
    from moodcast.cluster.upload import THERE

    chosen = Path(job) if job.endswith(".json") else find_job(job)
    given = words or []
    manifests, changes = sort_words([word for word in given if not word.startswith(THERE)])
    run = config.replace_at(find_run(job), config.parse_overrides(changes))
    moved, processes, trackers = config.parse_overrides(paths or []), workers_of(workers), named(track)
    if not target:
        refuse_without_target(transductive, unseal)
    client = sending.connect(address)
    if note := sending.versions(client):
        say(note, "note")
    sent = sending.submit(
        client,
        chosen,
        run,
        [*manifests, *(word for word in given if word.startswith(THERE))],
        changes=changes,
        out=out,
        name=name,
        resume=resume,
        workers=processes,
        gpu=gpu,
        target=target or (),
        options=[word for word, said in (("--transductive", transductive), ("--unseal", unseal), ("--encode", encode_first)) if said],
        track=trackers,
        moved=moved,
        python=python,
        command=shlex.join(["moodcast", *without_run(sys.argv[1:])]),
    )
    say(f"{sent.id}, {sent.sent_mb:.1f} MB of code and manifests, code {sent.code}; the run will be {sent.run}", "submitted")
    if wait:
        _follow(client, sent.id, address)
    else:
        print(sent.id)


@jobs.command("list")
def list_jobs(address: Address = None) -> None:
    """The jobs that `moodcast submit` sent to the cluster, the latest first."""
    from rich.table import Column, Table

    from moodcast.cluster import submit as sending

    name = Column("job", no_wrap=True, overflow="fold")  # what the other commands want: never cut
    table = Table(name, Column("status", no_wrap=True), "began", "took", "settings", "run")
    for job in sending.ours(sending.connect(address)):
        known = job.metadata or {}
        run = Path(known.get("run", "")).name  # where it lies, `status` says
        table.add_row(job.submission_id, job.status.value.lower(), _clock(job.start_time), _took(job), known.get("job"), run)
    if table.row_count:
        console().print(table)
    else:
        say("no job of moodcast was sent there yet", "jobs")


@jobs.command()
def status(id_: Id, address: Address = None) -> None:
    """How a job stands, and the last that it said."""
    from moodcast.cluster import submit as sending

    client = sending.connect(address)
    job = sending.known(client, id_)
    known = job.metadata or {}
    print(f"{id_}: {job.status.value.lower()}, began {_clock(job.start_time)}, {_took(job)}; {known.get('job')} in {known.get('run')}")
    for line in sending.last_lines(client, id_):
        print(f"  {line}")


@jobs.command()
def logs(
    id_: Id,
    address: Address = None,
    wait: Annotated[bool, typer.Option("--follow/--no-follow", help="Until the job ends, or what there is now.")] = True,
) -> None:
    """What a job said, and says until it ends."""
    from moodcast.cluster import submit as sending

    client = sending.connect(address)
    if wait:
        _follow(client, id_, address)
    else:
        sending.known(client, id_)
        print("\n".join(sending.last_lines(client, id_, num=10_000)))


@jobs.command()
def stop(id_: Id, address: Address = None) -> None:
    """Interrupt a job as Ctrl-C would: it keeps the checkpoint of the last whole epoch and says how to go on."""
    from moodcast.cluster import submit as sending

    client = sending.connect(address)
    _ended(sending.stop(client, id_))


def _follow(client: JobSubmissionClient, id_: str, address: str | None) -> None:
    """The job's lines on standard error, its progress as a line that moves; Ctrl-C ends the following, not the job."""
    from moodcast.cluster import submit as sending

    screen = console(errors=True)
    try:
        if screen.is_terminal:
            with screen.status("waiting for the job to begin") as moving:
                details = sending.follow(client, id_, _teller(lambda line: screen.print(line, markup=False), moving.update))
        else:
            details = sending.follow(client, id_, _teller(lambda line: print(line, file=sys.stderr, flush=True), lambda line: None))
    except KeyboardInterrupt:
        where = f" --address {address}" if address else ""
        say(f"the job goes on; moodcast jobs logs {id_}{where} follows it again, moodcast jobs stop {id_}{where} ends it", "left")
        raise typer.Exit(130) from None
    _ended(details)


def _teller(line: Callable[[str], None], progress: Callable[[str], None]) -> Callable[[str, bool], None]:
    return lambda text, moving: progress(text) if moving else line(text)


def _ended(job: JobDetails) -> None:
    """How a job ended, as the exit code says it, too: 0 done, 130 stopped, 1 failed, or told to stop without having ended yet."""
    run = (job.metadata or {}).get("run", "")
    state = job.status.value.lower()
    if state == "succeeded":
        say(f"{job.submission_id}, {_took(job)}; the run is {run}, its bundle {Path(run) / 'bundle'}", "done")
    elif state == "stopped":
        say(f"{job.submission_id}, {_took(job)}; the same command with --resume {run} goes on with it", "stopped")
        raise typer.Exit(130)
    elif not job.status.is_terminal():
        fail(f"{job.submission_id} has been told to stop and still runs; moodcast jobs status {job.submission_id}", "stopping")
        raise typer.Exit(1)
    else:
        fail(f"{job.submission_id} {state}: {' '.join((job.message or 'no reason was given').split())[:500]}")
        raise typer.Exit(1)


def _clock(milliseconds: int | None) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S") if milliseconds else "not yet"


def _took(job: JobDetails) -> str:
    import time

    from moodcast.cluster.watch import duration

    return duration(((job.end_time or time.time() * 1000) - job.start_time) / 1000) if job.start_time else ""
