"""The process group of training workers: gloo, beside NCCL where there are GPUs, on a cluster or on loopback alone."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from moodcast.cluster import local

COLLECTIVE_TIMEOUT_S = 300


def group_of(gpu: bool, folder: Path) -> TorchConfig:
    """What Ray Train sets up between workers. Ray must be up; on loopback they meet in a file below `folder`."""
    group: dict[str, Any] = {"backend": "cpu:gloo,cuda:nccl" if gpu else "gloo", "timeout_s": COLLECTIVE_TIMEOUT_S}
    return LoopbackConfig(**group, folder=str(folder)) if local.on_loopback() else TorchConfig(**group)


@dataclass
class LoopbackConfig(TorchConfig):
    """A process group on one machine that meets in a file below `folder`: torch's own meeting place would listen on every interface."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What sets the group up."""
        return LoopbackBackend


class LoopbackBackend(_TorchBackend):
    """Sets up gloo on loopback; shutting down is Ray's."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Called by Ray Train when the workers are there."""
        meeting = Path(backend_config.folder) / f".rendezvous-{uuid.uuid4().hex}"
        worker_group.execute(_set_torch_distributed_env_vars)
        size, kind, timeout_s = len(worker_group), backend_config.backend, backend_config.timeout_s
        ray.get([worker_group.execute_single_async(rank, _join, kind, str(meeting), rank, size, timeout_s) for rank in range(size)])


def _join(kind: str, meeting: str, rank: int, size: int, timeout_s: int) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo" if Path("/sys/class/net/lo").exists() else "lo0"
    dist.init_process_group(kind, init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=timedelta(seconds=timeout_s))
