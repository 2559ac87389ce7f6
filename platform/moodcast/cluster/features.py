"""The feature cache in training: what a method's frozen part makes of every stretch, computed once by all ranks together. Without Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from moodcast.cache import ArrayStore, open_arrays
from moodcast.cluster.data import CachedStretches
from moodcast.method import Method, device_of, find_method, method_name
from moodcast.passes import gather_objects
from moodcast.run import Run, build, trust_of
from moodcast.step import check_precision


def check_method(run: Run, carried: Mapping[str, str] | None = None) -> None:
    """Refuse before any worker starts what one would: settings that do not fit the method or its encoder, and what `kept` refuses.

    carried: the texts of a checkpoint that a run goes on from, which holds the encoder, too.
    """
    trust = trust_of(run)
    if carried is None:
        find_method(method_name(run.method), trust).make_ready(run.method, run.spec)
    try:
        method = build(run, trust, carried)
    except RuntimeError as error:  # torch's
        raise ValueError(f"{method_name(run.method)} cannot be built with these settings: {str(error).splitlines()[0]}") from error
    check_precision(method, run.train)
    if run.augment.active or run.train.cache_features == "on":  # else it refuses nothing, and would read all weights
        kept(run, method)


def kept(run: Run, method: Method) -> str:
    """The name under which the method's frozen features are kept, or "" where they are not.

    Raises ValueError where train.cache_features=on asks for what the method does not have, or nothing would hear what augment.* does.
    """
    if run.augment.active and not method.by_steps:
        raise ValueError(
            f"augment.* changes the sound anew for each epoch, and {type(method).__name__} is fitted once, on the recordings as they are: "
            "leave augment.* out, or take a method that is trained by steps"
        )
    if run.train.cache_features == "off" or run.augment.active:
        return ""
    name = method.frozen_name()
    if not name and run.train.cache_features == "on":
        raise ValueError(
            f"train.cache_features=on, but nothing of {type(method).__name__} stays frozen with these settings: nothing to keep; "
            "freeze its encoder (method.tune=none), or leave train.cache_features=auto"
        )
    return name


@torch.no_grad()
def keep_features(
    method: Method,
    data: Sequence[CachedStretches],
    name: str,
    root: Path | None,
    world: int = 1,
    rank: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Compute what is missing of the features of all `data`, each rank its share, and let batches bring them; how many this rank computed.

    Ranks that share no disk compute what they miss by themselves. progress(done, total) counts this rank's share.
    """
    store = open_arrays(name, root)
    was_training = method.training
    method.eval()
    done = 0
    try:
        for side in data:
            names = [side.feature_name(i) for i in range(len(side))]
            first = {name: i for i, name in reversed(list(enumerate(names)))}  # one of those that sound the same
            missing = gather_objects([i for name, i in first.items() if not store.has(name)], world)[0]  # the list of rank 0, for all
            done += _compute(method, side, store, missing[rank::world], world, progress)
            gather_objects(None, world)  # nobody looks before all have written
            left = [i for name, i in first.items() if not store.has(name)]
            done += _compute(method, side, store, left, world, progress)
            side.features = store
    finally:
        method.train(was_training)
    return done


def _compute(
    method: Method,
    side: CachedStretches,
    store: ArrayStore,
    wanted: list[int],
    world: int,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Features of the stretches `wanted`, in batches of like durations; how many."""
    order = np.array(sorted(wanted, key=lambda i: side.seconds_of(i)), dtype=np.int64)
    size = max(1, side.run.train.batch_size // world)
    plan = [order[start : start + size] for start in range(0, len(order), size)]
    device, done = device_of(method), 0
    for indices, batch in zip(plan, side.batches(plan), strict=True):
        found = method.frozen(batch.to(device)).float().cpu().numpy()
        count = (batch.lengths > 0).sum(1).tolist()
        for row, i in enumerate(indices):
            store.put(side.feature_name(int(i)), found[row, : count[row]])
        done += len(indices)
        if progress is not None:
            progress(done, len(order))
    return done
