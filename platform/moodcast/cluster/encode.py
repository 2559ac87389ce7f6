"""encode: what training reads, prepared ahead by Ray Data: every recording decoded once, and what a frozen encoder makes of it kept.

A corpus is taken in shards (`moodcast.cache`). Each is a block of a dataset and a task, which decodes it and encodes what is missing, so
that a cluster works on as many shards as it has cores or GPUs. Everything lands in the caches that training reads, under names made of its
content: what was stopped goes on where it stood, and what is there is not made again. Training itself maps these files and has nothing to
do with Ray Data, which would want cores of its own beside the workers that train.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import ray
import ray.data
import torch

from moodcast import cache as caches
from moodcast.cluster import local, nodes
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import check_method, keep_features, kept
from moodcast.cluster.process import stand_in
from moodcast.cluster.train import heard_of
from moodcast.cluster.work import sides, take_weights
from moodcast.manifest import Utterance
from moodcast.run import Run, build, run_from_dict, run_to_dict, trust_of


@dataclass(frozen=True)
class Encoded:
    """What `encode` did: how many rows are decoded now and how many of them were not before; the same of stretches and their features.

    kind: the name of what is kept of each stretch, "" where nothing of the method stays frozen. hours: of all rows together.
    """

    rows: int
    decoded: int
    stretches: int
    encoded: int
    hours: float
    kind: str

    def said(self) -> str:
        """In a line."""
        decoded = f"decoded {self.rows} recordings, {self.hours:.2f} h ({self.decoded} now, {self.rows - self.decoded} before)"
        if not self.kind:
            return f"{decoded}; nothing of this run stays frozen and may be kept, so nothing is encoded"
        return f"{decoded}; encoded {self.stretches} stretches ({self.encoded} now, {self.stretches - self.encoded} before)"


def encode(
    run: Run,
    rows: Sequence[Utterance],
    *,
    target: Sequence[Utterance] | None = None,
    transductive: bool = False,
    unsealed: bool = False,
    workers: int | None = None,
    gpu: bool | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Encoded:
    """Decode and encode what `fit` with the same arguments will read; see the module docstring.

    workers: processes, as many as there are CPUs where it is None. gpu: one for each; None takes them where Ray has any and the method has
    something to encode. progress(done, total) counts recordings, shard by shard.

    Raises ValueError for audio that cannot be read, with the ids of all such rows; the rest is kept.
    """
    heard = heard_of(run, rows, target, transductive, unsealed)
    train, dev = sides(heard.rows, run)
    check_method(run)
    parts = [shard for side in (train, dev, heard.target) for shard in caches.shards(side)]
    if not parts:
        raise ValueError(
            f"nothing of {len(rows)} rows is trained on or chosen by: wanted rows with split train or dev and a label of the run"
        )
    total = sum(len(part) for part in parts)
    with local.cluster(num_cpus=max(local.usable_cpus(), workers or 1)), _quietly():
        if os.environ.get("RAY_ADDRESS"):
            nodes.check([row for part in parts for row in part], caches.cache_root(cache), nodes.CACHE)
        count, with_gpu = _workers(workers, gpu if kept(run, build(run, trust_of(run))) else False, len(parts))
        found = _found(run, parts, count, with_gpu, cache, progress, total)
    errors = [error for shard in found for error in shard["errors"]]
    if errors:
        shown = "; ".join(errors[: caches.SHOWN])
        more = f"; and {len(errors) - caches.SHOWN} shards more" if len(errors) > caches.SHOWN else ""
        raise ValueError(f"{shown}{more}. What could be read is kept; mend these, and encode again")
    numbers = {name: sum(shard[name] for shard in found) for name in ("decoded", "stretches", "encoded", "seconds")}
    return Encoded(total, numbers["decoded"], numbers["stretches"], numbers["encoded"], numbers["seconds"] / 3600, found[0]["kind"])


def _workers(asked: int | None, gpu: bool | None, parts: int) -> tuple[int, bool]:
    """How many processes, and whether each has a GPU. Raises ValueError where GPUs were asked for and Ray has none."""
    cpus, gpus = (int(ray.cluster_resources().get(name, 0)) for name in ("CPU", "GPU"))  # type: ignore[no-untyped-call]
    if gpu and not gpus:
        raise ValueError("a GPU for each worker was asked for; this Ray has none. Leave --gpu away")
    with_gpu = bool(gpus) if gpu is None else gpu
    return max(1, min(asked or cpus, cpus, parts, *([gpus] if with_gpu else []))), with_gpu


def _found(
    run: Run,
    parts: Sequence[Sequence[Utterance]],
    workers: int,
    gpu: bool,
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
    total: int,
) -> list[dict[str, Any]]:
    """What each shard gave, in the order in which they were done."""
    given = {
        "run": run_to_dict(run),
        "trust": trust_of(run),
        "cwd": os.getcwd(),
        "cache": str(Path(cache).absolute()) if cache else "",
    }
    data = ray.data.from_items([{"rows": pickle.dumps(list(part))} for part in parts], override_num_blocks=len(parts))
    told = data.map(
        partial(encode_shard, given=json.dumps(given)),
        compute=ray.data.TaskPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=1 if gpu else None,
    )
    found: list[dict[str, Any]] = []
    done = 0
    for row in told.iter_rows():
        found.append(row["told"])
        done += row["told"]["rows"]
        if progress is not None:
            progress(done, total)
    return found


@contextmanager
def _quietly() -> Iterator[None]:
    """Ray Data's own bars and its notes about how it works are not shown; warnings are."""
    context = ray.data.DataContext.get_current()
    levels = {logging.getLogger("ray.data"): logging.WARNING, logging.getLogger("ray.data._internal.progress"): logging.ERROR}
    before, bars = {logger: logger.level for logger in levels}, context.enable_progress_bars
    context.enable_progress_bars = False
    for logger, level in levels.items():
        logger.setLevel(level)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        for logger, level in before.items():
            logger.setLevel(level)


def encode_shard(row: dict[str, Any], given: str) -> dict[str, Any]:
    """Decode and encode what is missing of a shard; how much that was. Called by Ray Data."""
    rows: list[Utterance] = pickle.loads(row["rows"])
    encoder = shard_encoder(given)
    run, root = encoder.run, encoder.root
    found = {"rows": len(rows), "decoded": 0, "stretches": 0, "encoded": 0, "seconds": 0.0, "kind": encoder.kind, "errors": []}
    try:
        there = caches.has_waves(rows, run.audio.rate, root)
        data = CachedStretches(rows, run, root, labelled=all(run.labels.target(row) is not None for row in rows))
        found |= {"decoded": 0 if there else len(rows), "stretches": len(data), "seconds": float(data.seconds.sum())}
        if encoder.kind:
            found["encoded"] = keep_features(encoder.method, [data], encoder.kind, root)
    except ValueError as error:  # the user's to mend, so the other shards are gone through first
        found["errors"] = [str(error)]
    return {"told": found}


@lru_cache(maxsize=1)
def shard_encoder(given: str) -> ShardEncoder:
    """Made once a process, which takes shard after shard."""
    return ShardEncoder(json.loads(given))


class ShardEncoder:
    """The run, its method in memory, and the name of what is kept of it."""

    def __init__(self, given: dict[str, Any]) -> None:
        stand_in(given["cwd"])
        self.root = Path(given["cache"]) if given["cache"] else None
        trust = tuple(given["trust"])
        self.run: Run = run_from_dict(given["run"], trust)
        method = build(self.run, trust)
        if self.run.start_from:
            take_weights(method, self.run.start_from, self.run.start_prefixes, trust)
        self.kind = kept(self.run, method)
        self.method = method.to("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")
