"""In which precision a method computes while it is trained: its encoders in bfloat16 where that is asked for, all else in float32.

Encoders (convolutions, recurrences, attention) are where the time goes, and eight bits of mantissa are enough for them (Kalamkar et al.,
"A Study of BFLOAT16 for Deep Learning Training", 2019). Spectra, pooled statistics, covariances and losses are differences of like
numbers, for which those bits are not enough. So an encoder says that it is one, `encoding`, and nothing else changes. Weights, gradients
and the optimiser stay in float32 (PyTorch's autocast makes the copies); what a bundle answers, dev scores and kept features are float32,
because nobody asks for anything else there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16"]
P = ParamSpec("P")
R = TypeVar("R")

_asked: ContextVar[Precision] = ContextVar("the precision of encoders", default="float32")


@contextmanager
def computing(name: Precision) -> Iterator[None]:
    """Inside, encoders compute so; in this thread alone."""
    before = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(before)


def encoding(function: Callable[P, R]) -> Callable[P, R]:
    """A method of an encoder that may compute in bfloat16; what it gives is float32 all the same.

    >>> class Mine(nn.Linear):
    ...     @encoding
    ...     def forward(self, given: Tensor) -> Tensor:
    ...         return super().forward(given)
    >>> with computing("bfloat16"):
    ...     Mine(2, 2)(torch.ones(1, 2)).dtype
    torch.float32
    """

    @wraps(function)
    def encoded(*given: P.args, **named: P.kwargs) -> R:
        if _asked.get() == "float32":
            return function(*given, **named)
        with torch.autocast(_device(*given, *named.values()), torch.bfloat16):
            found: R = _float32(function(*given, **named))
        return found

    encoded.encodes = True  # type: ignore[attr-defined]
    return encoded


def exact(function: Callable[P, R]) -> Callable[P, R]:
    """A part of an encoder that computes in float32 all the same: spectra, statistics over many frames."""

    @wraps(function)
    def computed(*given: P.args, **named: P.kwargs) -> R:
        device = _device(*given, *named.values())
        if not torch.is_autocast_enabled(device):  # layers that are computed again for their gradients have nothing else to go by
            return function(*given, **named)
        with torch.autocast(device, enabled=False):
            return function(*_float32(given), **{name: _float32(value) for name, value in named.items()})

    return computed


def has_encoders(method: nn.Module) -> bool:
    """Whether any part of a method says that it encodes."""
    kinds = {kind for module in method.modules() for kind in type(module).__mro__}
    return any(getattr(value, "encodes", False) for kind in kinds for value in vars(kind).values())


def _device(*given: object) -> str:
    """The kind of device on which a function's tensors are."""
    return next(value.device.type for value in given if isinstance(value, Tensor))


def _float32(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.float() if found.is_floating_point() else found
    if isinstance(found, (list, tuple)):
        return type(found)(_float32(part) for part in found)
    return found
