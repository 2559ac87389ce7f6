"""What a process of Ray Tune does for one trial of a sweep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from moodcast import config
from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster.lockstep import Lockstep
from moodcast.cluster.process import set_up, stand_in
from moodcast.manifest import read_manifest
from moodcast.run import run_from_dict
from moodcast.step import Diverged


def run_trial(given: dict[str, Any]) -> None:
    """One trial, in a process of Ray Tune."""
    stand_in(given["cwd"])
    for record in records(given):
        tune.report(record)


def records(given: Mapping[str, Any], world: int = 1, rank: int = 0) -> Iterator[dict[str, Any]]:
    """What a trial reports, an epoch each, from its last state on; "ended" and why, where it cannot go on. The same on every rank.

    Raises what goes wrong on one of several ranks: the others wait for it, and only a new start of all frees them.
    """
    own = books.trial_folder(Path(given["sweep"]), int(given["trial"]))
    try:
        cache = Path(given["cache"]) if given["cache"] else None
        steps = trial_of(Path(given["sweep"]), given["changes"], cache, given["device"], world, rank)
        if not steps.load(own) and given["from"] is not None:
            steps.load(books.trial_folder(Path(given["sweep"]), given["from"]))
        for line in steps.history[given["known"] :]:  # what a driver that is gone may not have heard
            yield told(line, steps.counts, given["until"])
        while len(steps.history) < given["until"]:
            line = steps.next()
            steps.save(own)
            if line["epoch"] == steps.run.train.epochs:
                steps.save_bundles(own)
            yield told(line, steps.counts, given["until"])
    except Diverged as error:
        yield {"ended": "diverged", "error": str(error), "value": 0.0}
    except Exception as error:  # one trial that cannot be is no reason to end the others
        if world > 1:
            raise
        yield {"ended": "failed", "error": f"{type(error).__name__}: {error}", "value": 0.0}


def last_reports(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the state of a trial says that its driver may not have heard."""
    path = books.trial_folder(Path(given["sweep"]), int(given["trial"])) / books.STATE
    if not path.is_file():
        return
    state = torch.load(path, weights_only=True, map_location="cpu")
    for line in state["history"][given["known"] :]:
        yield told(line, state["counts"], given["until"])


def told(line: Mapping[str, Any], counts: Mapping[str, Any], until: int) -> dict[str, Any]:
    """The report of an epoch; the last one brings the counts by speaker."""
    return {**line, "counts": json.dumps(counts)} if line["epoch"] == until else dict(line)


def trial_of(folder: Path, changes: Mapping[str, Any], cache: Path | None, device: str = "cpu", world: int = 1, rank: int = 0) -> Lockstep:
    """The models of a trial, as the sweep's folder says."""
    settings = files.read_json(folder / books.SETTINGS) or {}
    trust = tuple(settings["trust"])
    run = config.replace_at(run_from_dict(settings["run"], trust), changes)
    set_up(run.train.threads)
    rows = read_manifest(folder / books.ROWS)
    target = read_manifest(folder / books.TARGET_ROWS) if (folder / books.TARGET_ROWS).is_file() else []
    return Lockstep(
        run,
        rows,
        settings["folds"],
        settings["seeds"],
        seed=settings["seed"],
        root=cache,
        trust=trust,
        device=device,
        world=world,
        rank=rank,
        target=target,
    )
