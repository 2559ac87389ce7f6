"""Weights, gradients and the optimiser's memory of a large method divided among workers, so that none holds all of them.

PyTorch's `fully_shard` (FSDP; Zhao et al. 2023): each part of `Method.large_parts` is put together when it computes and divided again
afterwards. What comes out is what the same workers learn with whole copies each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from moodcast.method import Method, device_of


def divide(method: Method, world: int) -> None:
    """Divide a method among the `world` ranks of the process group, in place. Raises ValueError where it has no large parts."""
    parts = method.large_parts()
    if not parts:
        raise ValueError(
            f"train.shard divides what trains of a large encoder among workers, and this {type(method).__name__} has no such part; "
            "leave it off"
        )
    mesh = init_device_mesh(device_of(method).type, (world,))
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(method, mesh=mesh)
    register_fsdp_forward_method(method, "losses")


def is_divided(value: Tensor) -> bool:
    """Whether a tensor is held in parts."""
    return isinstance(value, DTensor)


def whole(value: Tensor) -> Tensor:
    """All of a tensor; every rank must ask for it at the same time."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, the same on all ranks, held as `other` is."""
    if not isinstance(other, DTensor):
        return value
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def whole_state(method: Method) -> dict[str, Tensor]:
    """The weights and buffers of a method, whole; every rank must ask for them at the same time."""
    return {name: whole(value.detach()) for name, value in method.state_dict().items()}


@torch.no_grad()
def load_whole(method: Method, state: Mapping[str, Tensor]) -> None:
    """Put whole weights and buffers into a method, divided or not."""
    if not any(is_divided(value) for value in method.state_dict().values()):
        method.load_state_dict(state)
        return
    own = method.state_dict()
    if missing := own.keys() ^ state.keys():
        raise ValueError(f"these weights fit another method: {sorted(missing)[:5]} are only there or only here")
    for name, value in own.items():
        value.copy_(like(state[name], value))
