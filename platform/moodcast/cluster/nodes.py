"""Do all nodes of a cluster see what a run needs: the recordings of its manifest, the folder it writes to? Asked before it begins."""

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


def _absent(paths: list[str]) -> list[str]:
    """Which paths there are not here."""
    from pathlib import Path

    return [path for path in paths if not Path(path).exists()]


def _tell(node: str, absent: Sequence[str], of: int) -> None:
    if absent:
        raise ValueError(f"{node} misses {len(absent)} of {of} recordings, the first is {absent[0]}; {ADVICE}")
