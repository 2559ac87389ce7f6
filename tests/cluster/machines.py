"""A real cluster of several nodes on this machine's loopback, with a dashboard, in a process of its own: for the tests of submitting.

`python -m tests.cluster.machines 2 2` starts a head without CPUs (as KubeRay advises) and two nodes with two CPUs each, says as one
line of JSON where they are, and takes all down when its standard input ends. A number that it reads is another node of so many CPUs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Machines:
    """The dashboard's address and the raylet's process of each node, the head's first."""

    address: str
    raylets: list[int]
    process: subprocess.Popen[str]

    def join(self, cpus: int) -> None:
        """Another node comes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{cpus}\n")
        self.process.stdin.flush()
        self.raylets.append(int(self.process.stdout.readline()))

    def kill(self, node: int) -> None:
        """A node dies: its raylet, and with it everything that it started."""
        raylet = psutil.Process(self.raylets[node])
        family = [raylet, *raylet.children(recursive=True)]
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def node_of(self, pid: int) -> int:
        """The node on which a worker runs."""
        above = [process.pid for process in psutil.Process(pid).parents()]
        return next(node for node, raylet in enumerate(self.raylets) if raylet in above)


@contextmanager
def machines(cpus: Sequence[int], **environment: str) -> Iterator[Machines]:
    """A head without CPUs and a node for each entry of `cpus`; environment: what is set for Ray over what a local one gets."""
    from moodcast.cluster import local

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    temporary = tempfile.mkdtemp(prefix="moodcast-", dir="/tmp")
    env = {**os.environ, **local.SETTINGS, "RAY_AUTH_MODE": "disabled", "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    env |= {"RAY_TMPDIR": temporary, "RAY_health_check_period_ms": "500", **environment}  # else a dead node passes for alive for 13 s
    command = [sys.executable, "-m", "tests.cluster.machines", *map(str, cpus)]
    log = Path(temporary) / "machines.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            line = process.stdout.readline()
            assert line, log.read_text()
            told = json.loads(line)
            yield Machines(told["address"], told["raylets"], process)
        finally:
            process.stdin.close()
            process.wait(timeout=60)
    shutil.rmtree(temporary, ignore_errors=True)


def raylet_of(node: Any) -> int:
    """The process of a node's raylet."""
    return int(node.all_processes["raylet"][0].process.pid)


def main(cpus: Sequence[int]) -> None:
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    from moodcast.cluster import serve

    ray_constants.ENABLE_RAY_CLUSTER = False

    def settings(number: int) -> dict[str, object]:  # on real machines what is unpacked lies in a folder of each
        return {"object_store_memory": 100 * 2**20, "runtime_env_dir_name": f"runtime_resources_{number}"}

    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": serve.free_port(), **settings(0)}
    head["dashboard_agent_listen_port"] = serve.free_port()  # the usual one may be taken by another Ray of this machine
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=num, **settings(number)) for number, num in enumerate(cpus, start=1))]
    raylets = [raylet_of(node) for node in nodes]
    print(json.dumps({"address": f"http://{cluster.webui_url}", "raylets": raylets}), flush=True)
    for number, line in enumerate(sys.stdin, start=len(nodes)):
        print(raylet_of(cluster.add_node(num_cpus=int(line), **settings(number))), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]])
