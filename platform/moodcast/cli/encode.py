"""The verb `encode`: what a run will read, decoded and encoded ahead, by as many processes as there are."""

from __future__ import annotations

from typing import Annotated

import typer

from moodcast.cli.words import find_run, progress, sort_words
from moodcast.cluster.options import Gpu, Target, Transductive, Unseal


def encode(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="The job that will be trained: a file of jobs/, a module of your own, or a run as a file.")
    ],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="MANIFEST|FIELD=VALUE", help="Manifests, and fields to change, as for train.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; without it one for each core.")] = None,
    gpu: Gpu = None,
    target: Target = None,
    transductive: Transductive = False,
    unseal: Unseal = False,
) -> None:
    """Decode the recordings that a run will read, and keep what its frozen encoder makes of them. Stopped, it goes on where it stood."""
    from moodcast import config
    from moodcast.cluster.encode import encode as prepare
    from moodcast.cluster.job import prepared
    from moodcast.manifest import read_manifests

    settings = find_run(job)
    manifests, changes = sort_words(words or [])
    run, rows = prepared(
        config.replace_at(settings, config.parse_overrides(changes)), read_manifests(manifests) if manifests or not target else []
    )
    with progress("decoding and encoding") as advance:
        done = prepare(
            run,
            rows,
            target=read_manifests(target) if target else None,
            transductive=transductive,
            unsealed=unseal,
            workers=workers,
            gpu=gpu,
            progress=advance,
        )
    print(done.said())
