"""What ranks tell each other: in losses that compare utterances each sees everybody's embeddings; what is fitted is the first one's.

Without it two ranks would compare within halves of a batch and learn something else than one rank does. Shapes: R rows of a rank, W ranks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """How many ranks train together, 1 where nobody else does."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rows(values: Tensor) -> Tensor:
    """Of the rows [W R, ...] of all ranks those of this one, [R, ...]: the inverse of `everybody`."""
    size = len(values) // num_ranks()
    first = dist.get_rank() * size if num_ranks() > 1 else 0
    return values[first : first + size]


def everybody(values: Tensor) -> Tensor:
    """The rows [R, ...] of all ranks in their order, [W R, ...]; only one's own carry a gradient. Every rank must call it, with equal R."""
    if num_ranks() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(num_ranks())]
    dist.all_gather(parts, values.detach().contiguous())
    parts[dist.get_rank()] = values
    return torch.cat(parts)


def of_first_rank(values: Iterable[Tensor]) -> None:
    """Each value becomes what rank 0 has, in place. Every rank must call it, with values of the same shapes in the same order."""
    if num_ranks() > 1:
        for value in values:
            dist.broadcast(value, src=0)


def shared(term: Tensor) -> Tensor:
    """A scalar that every rank computed of `everybody`: the same value, and the gradient W times as large.

    A rank has the gradient of its own rows alone. The distributed module averages over ranks what must be summed: W mends that.
    """
    count = num_ranks()
    return term if count == 1 else count * term - (count - 1) * term.detach()
