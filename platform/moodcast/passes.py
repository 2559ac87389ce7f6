"""Passes over data without training, without Ray: what a method says of every stretch, gathered over all ranks.

Shapes: N stretches, B stretches of a batch, K classes, A attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from moodcast.batch import Batch, Prediction
from moodcast.method import Method, device_of
from moodcast.order import Indices, probabilities

T = TypeVar("T")


class Stretches(Protocol):
    """What training reads from: N stretches in manifest order."""

    def __len__(self) -> int: ...

    def names(self, indices: Indices) -> list[str]:
        """Utterance ids, for messages."""

    def batches(self, plan: Sequence[Indices], epoch: int | None = None) -> Iterator[Batch]:
        """One batch for each entry of the plan: for training in `epoch`, augmented where the run says so, or (None) as recorded.

        A stretch that comes again in an epoch is augmented anew where the plan is a Plan, which knows that it does.
        """


def gather_objects(value: T, world: int) -> list[T]:
    """The value of every rank, in order."""
    found: list[Any] = [value] * world
    if world > 1:
        dist.all_gather_object(found, value)
    return found


@torch.no_grad()
def gather(method: Method, fn: Callable[[Batch], Tensor], data: Stretches, batch_size: int, world: int = 1, rank: int = 0) -> Tensor:
    """`fn` of every stretch in order, [N, ...], in evaluation mode; each rank computes its share and all get everything."""
    num = len(data)
    share = -(-num // world)  # every rank the same count, so that what is gathered has one shape: the surplus wraps around and is cut
    mine = (np.arange(share, dtype=np.int64) * world + rank) % num
    size = max(1, batch_size // world)
    was_training = method.training
    method.eval()
    try:
        plan = [mine[start : start + size] for start in range(0, share, size)]
        device = device_of(method)
        found = torch.cat([fn(batch.to(device)) for batch in data.batches(plan)])
    finally:
        method.train(was_training)
    if world == 1:
        return found
    parts = [torch.empty_like(found) for _ in range(world)]
    dist.all_gather(parts, found.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)[:num]


def predict(
    method: Method,
    data: Stretches,
    owners: Indices,
    seconds: NDArray[np.float64],
    batch_size: int,
    world: int = 1,
    rank: int = 0,
    answer: Callable[[Batch], Prediction] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Class probabilities [rows, K] of a method over a manifest, and attributes [rows, A] where it answers some.

    Pieces of one row (`owners` [N]) are merged by duration. answer: who is asked, the method as it is served where nobody is named.
    """
    asked = method if answer is None else answer
    found = gather(method, lambda batch: _values(method, asked(batch)), data, batch_size, world, rank).cpu().numpy()
    merged = np.zeros((int(owners.max()) + 1, found.shape[1]))
    np.add.at(merged, owners, found * seconds[:, None])
    total = np.bincount(owners, seconds)
    classes = len(method.spec.classes)
    probabilities = merged[:, :classes] / merged[:, :classes].sum(axis=1, keepdims=True)
    return probabilities, merged[:, classes:] / total[:, None] if found.shape[1] > classes else None


class TrainingView:
    """The `View` of a method's hooks: training data gathered over all ranks, and the weights that a hook sets."""

    def __init__(
        self, method: Method, data: Stretches, batch_size: int, world: int = 1, rank: int = 0, target: Stretches | None = None
    ) -> None:
        self._method, self._data, self._batch_size, self._world, self._rank = method, data, batch_size, world, rank
        self._streams = dict(zip(method.streams, (data, target), strict=False))
        self.weights: NDArray[np.float64] | None = None

    def features(self, fn: Callable[[Batch], Tensor], stream: str | None = None) -> Tensor:
        """`fn` of every training stretch of a stream in manifest order, [N, ...], without gradients and in evaluation mode."""
        data = self._data if stream is None else self._streams.get(stream)
        if data is None:
            raise ValueError(f"{type(self._method).__name__} has no stream {stream!r}; its streams are {self._method.streams}")
        return gather(self._method, fn, data, self._batch_size, self._world, self._rank)

    def set_weights(self, weights: Tensor) -> None:
        """Sampling weights of the coming epoch, [N], in place of train.balance, for the first stream; rank 0's are used everywhere."""
        shared = weights.detach().double().cpu().contiguous()
        if self._world > 1:
            dist.broadcast(shared, src=0)
        self.weights = probabilities(shared.numpy(), len(self._data))


def _values(method: Method, prediction: Prediction) -> Tensor:
    """Class probabilities and, where there are any, attributes, [B, K + A]."""
    if prediction.emotion is None:
        raise ValueError(f"{type(method).__name__} answers no emotion, which the dev score needs; leave the dev split out")
    emotion = prediction.emotion.double().exp()
    return emotion if prediction.attributes is None else torch.cat([emotion, prediction.attributes.double()], dim=1)
