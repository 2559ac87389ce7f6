"""What a run needs of a cluster's nodes: that all see its recordings and its folder, asked before it begins; and room for its workers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from moodcast.manifest import Utterance

ADVICE = "put them on storage that every node mounts under one path; `moodcast submit --paths HERE=THERE` says how that is called"


RUN = ("where the run is to be written", "choose it with --out")
CACHE = ("where decoded audio and features are to be kept", "set MOODCAST_CACHE where Ray is started")


def check(rows: Sequence[Utterance], out: Path, why: tuple[str, str] = RUN) -> None:
    """Raises ValueError where this machine or a node that has CPUs misses recordings, or does not see what is written to `out`.

    why: what is written there, and how another folder is chosen.
    """
    paths = sorted({row.path for row in rows})
    _tell("this machine", _absent(paths), len(paths))
    out.mkdir(parents=True, exist_ok=True)
    mark = out / f".seen-by-all-{uuid.uuid4().hex}"
    mark.touch()
    try:
        asked = {}
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["Alive"] and node["Resources"].get("CPU"):
                where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(num_cpus=0, max_retries=0)(_absent).options(scheduling_strategy=where)
                asked[look.remote([*paths, str(mark)])] = f"node {node['NodeManagerAddress']}"
        for answer, node in asked.items():
            absent = ray.get(answer)
            if str(mark) in absent:
                raise ValueError(
                    f"{node} does not see {out}, {why[0]}; wanted a folder on storage that every node mounts under the same path: {why[1]}"
                )
            _tell(node, absent, len(paths))
    finally:
        mark.unlink(missing_ok=True)


def waited_for() -> str:
    """In words, the workers of this job that Ray has no room for now; "" where there are none, or no Ray."""
    if not ray.is_initialized():
        return ""
    job = ray.get_runtime_context().get_job_id()  # with which the id of everything ends that a job makes
    groups = [one for one in ray.util.placement_group_table().values() if one["placement_group_id"].endswith(job)]
    asked = next((list(group["bundles"].values()) for group in groups if group["state"] == "PENDING"), [])
    if not asked:
        return ""
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    each = ", ".join(f"{amount:g} {kind}" for kind, amount in asked[0].items())
    left = ", ".join(f"{free.get(kind, 0):g} {kind}" for kind in asked[0])
    return f"waiting for room: {len(asked)} worker{'s' * (len(asked) > 1)} of {each} asked for, and Ray has {left} free"


def _absent(paths: list[str]) -> list[str]:
    """Which paths there are not here."""
    from pathlib import Path

    return [path for path in paths if not Path(path).exists()]


def _tell(node: str, absent: Sequence[str], of: int) -> None:
    if absent:
        raise ValueError(f"{node} misses {len(absent)} of {of} recordings, the first is {absent[0]}; {ADVICE}")
