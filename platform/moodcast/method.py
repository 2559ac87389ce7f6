"""Method: the one contract of every SER method. A new method is one file in methods/ (or in your own package).

A method is built from its frozen `Config` and a `Spec` (what it must answer and how audio is cut). `forward` is what is served,
`losses` is what is trained: unweighted terms by name, which `Config.weights` multiplies. The trainer sums and logs them, and wraps
`losses` as the forward of the distributed module (called past it, ranks drift apart silently).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from moodcast.batch import Batch, Prediction
from moodcast.chunks import ChunkPlan

OWN_METHODS = "moodcast.methods."


@dataclass(frozen=True)
class Spec:
    """What a method is built for: K class names, A attribute names, the sample rate in Hz and the plan that cuts its chunks.

    files: what `Method.files` gave, where the method is built again from a bundle; None where it is new.
    """

    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    rate: int
    plan: ChunkPlan
    files: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Weights:
    """How much each loss term counts, by its name. A method with other terms declares its own."""

    classes: float = 1.0


class View(Protocol):
    """What `start_epoch` and `fit_once` may see of the training data, gathered over all ranks."""

    def features(self, fn: Callable[[Batch], Tensor], stream: str | None = None) -> Tensor:
        """`fn` of every training stretch of a stream (the method's first, where none is named) in manifest order, [N, ...]."""

    def set_weights(self, weights: Tensor) -> None:
        """Sampling weights of the coming epoch, [N], not negative, for the method's first stream."""


STREAMS = (("labelled",), ("source", "target"), ("target",))


class Method(nn.Module):
    """Base of all methods; see the module docstring. Optional hooks do nothing by default.

    streams: the batches that `losses` gets, by name. ("labelled",) for most; ("source", "target") for methods that also hear a target,
    whose batches bring no labels (target, weight and attributes are None); ("target",) for those that begin with trained weights and hear
    nothing else. answers_attributes: whether a run may name some.
    """

    @dataclass(frozen=True)
    class Config:
        """Settings of the method; every field is a leaf of the run."""

        weights: Weights = Weights()

    inputs: ClassVar[tuple[str, ...]] = ("waves",)
    answers_attributes: ClassVar[bool] = False
    streams: ClassVar[tuple[str, ...]] = ("labelled",)

    def __init__(self, config: Any, spec: Spec) -> None:
        super().__init__()
        self.check_attributes(spec)
        self.config = config
        self.spec = spec

    def forward(self, batch: Batch) -> Prediction:
        """Answer a batch; no training-only behaviour hides here beyond dropout."""
        raise TypeError(f"{type(self).__name__} does not define forward(batch) -> Prediction")

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Unweighted scalar loss terms by name, from one batch a stream."""
        raise TypeError(f"{type(self).__name__} does not define losses(batches) -> dict of scalars")

    def on_source(self, batch: Batch) -> Prediction:
        """Answer a batch of the source, by which epochs are chosen: as `forward`, unless what is served is made for the target alone."""
        return self(batch)  # type: ignore[no-any-return]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; a group may hold "lr_scale", which multiplies the run's learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def large_parts(self) -> list[nn.Module]:
        """What `train.shard` divides among workers part by part: the trained layers of a large encoder; [] where there is nothing large.

        Whoever has some may change weights in `losses` alone, and gives the same number of batches to every rank.
        """
        return []

    def start_epoch(self, epoch: int, view: View) -> None:
        """Before an epoch (0-based): clustering, curricula, unfreezing."""

    def after_step(self, progress: float) -> None:
        """After each optimiser step; progress in (0, 1] of the whole training: moving averages, schedules."""

    def fit_once(self, view: View) -> None:
        """Before the first epoch: closed-form parts fill buffers."""

    @property
    def by_steps(self) -> bool:
        """Whether anything is trained by steps, which hear augmented sound; else `fit_once` is all of the training."""
        return True

    def take_statistics(self, view: View) -> bool:
        """Take the statistics by which inputs are standardised from recordings without labels; whether the method keeps any."""
        return False

    @classmethod
    def check_attributes(cls, spec: Spec) -> None:
        """Raises ValueError where attributes are asked for that the method does not answer."""
        if spec.attributes and not cls.answers_attributes:
            raise ValueError(f"{cls.__name__} answers no attributes; leave labels.attributes empty, or take a method that does: erm")

    @classmethod
    def make_ready(cls, config: Any, spec: Spec) -> None:
        """Called once, before any worker starts: fetch what the config names, refuse with a ValueError what cannot be had."""

    def files(self) -> dict[str, str]:
        """Texts that must travel in a bundle to build the method again, "folder/name.json" -> text: an encoder's config, a tokenizer."""
        return {}

    def terms(self) -> str:
        """What the model card must say of licences that come with the method itself, in a sentence or two; "" where there is nothing."""
        return ""

    def frozen(self, batch: Batch) -> Tensor:
        """What the part that never trains makes of a batch, [B, C, ...]: the feature cache keeps it as `Batch.frozen`, [C, ...] a stretch.

        A row may depend on its own stretch alone, and on nothing random. Only asked where `frozen_name` is not empty.
        """
        raise TypeError(f"{type(self).__name__} has a frozen_name but does not define frozen(batch) -> Tensor")

    def frozen_name(self) -> str:
        """Everything that decides `frozen`, weights and code and settings, as one digest; "" where no part stays frozen throughout."""
        return ""

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of loss terms. Raises ValueError where a term has no weight of its name."""
        known = {f.name: getattr(self.config.weights, f.name) for f in fields(self.config.weights)}
        if unknown := set(terms) - set(known):
            raise ValueError(f"loss terms {sorted(unknown)} have no weight; {type(self).__name__}.Config.weights has {sorted(known)}")
        parts: Iterator[Tensor] = (known[name] * term for name, term in terms.items())
        return sum(parts, start=next(iter(terms.values())).new_zeros(()))


def device_of(method: nn.Module) -> torch.device:
    """Where the method's weights are."""
    return next((value.device for value in chain(method.parameters(), method.buffers())), torch.device("cpu"))


def method_name(config: Any) -> str:
    """Where the method of a config lives, "module:Class", as the bundle stores it: Config is nested in its method."""
    outer, dot, own = type(config).__qualname__.rpartition(".")
    if not dot or own != "Config":
        raise ValueError(f"{type(config).__qualname__} is not a method's Config; wanted a class named Config nested in a Method")
    return f"{type(config).__module__}:{outer}"


def find_method(name: str, trust: tuple[str, ...] = ()) -> type[Method]:
    """The class behind "module:Class".

    Only modules of moodcast.methods are imported unless `trust` names another package ("mylab"), so that a bundle cannot make us
    import what it likes. Raises ValueError otherwise, or where the class is missing or no Method.
    """
    module, colon, attribute = name.partition(":")
    allowed = (OWN_METHODS, *(package.rstrip(".") + "." for package in trust))
    if not colon or not (module + ".").startswith(allowed):
        raise ValueError(
            f"refusing to import the method {name!r}: wanted one of {OWN_METHODS}*; "
            f"if you trust its package, name it: trust=({module.partition('.')[0]!r},)"
        )
    if module not in sys.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(f"the method {name!r} cannot be imported: {error}") from error
    found = getattr(sys.modules[module], attribute, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{name!r} is not a Method; {module} has no such class")
    return found
