"""Run: everything that decides a training run, one frozen typed tree. Every leaf has a dotted name and there are no other knobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from moodcast import config
from moodcast.augment import Augment
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.method import Method, Spec, find_method, method_name


@dataclass(frozen=True)
class Audio:
    """How audio is read: mono at `rate` Hz; files that decode to more than `max_hours` are refused."""

    rate: int = 16_000
    max_hours: float = 12.0


@dataclass(frozen=True)
class Train:
    """How a method is trained.

    batch_size counts utterances over all workers together; accumulate: each worker computes its share of them in so many parts, one after
    the other, so that a batch may be larger than memory (losses that compare utterances then compare those of a part). shard: weights,
    gradients and the optimiser's memory of a large encoder are divided among workers (FSDP). precision: in which a method's encoders
    compute in training steps; all else is float32, dev scores and what a bundle answers, too. lr is the peak of a linear warm-up
    (warmup_share of all steps) and a cosine decay to zero. balance: "none" shows each utterance once an epoch; "class", "corpus" and
    "corpus_class" draw with replacement so that classes, corpora, or classes within corpora, come equally often. cache_features: what a
    frozen part of the method makes of a recording is computed once and kept on disk; "auto": where there is such a part and nothing
    augments the sound, "on": refused otherwise. keep: the checkpoint that becomes the bundle, the best by dev UAR (where
    attributes are learned, by its mean with dev CCC) or the last. threads: torch threads a worker, 0 leaves them alone. allow_leaks: train
    although speakers, dialogues or recordings stand on two sides of the split; the bundle then says so with every score.
    """

    epochs: int = 20
    batch_size: int = 32
    accumulate: int = 1
    shard: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    lr: float = 1e-3
    weight_decay: float = 1e-2
    warmup_share: float = 0.1
    clip_norm: float = 5.0
    balance: Literal["none", "class", "corpus", "corpus_class"] = "class"
    cache_features: Literal["auto", "on", "off"] = "auto"
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    threads: int = 0
    allow_leaks: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "lr", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"train.{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "seed", "threads"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"train.{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.warmup_share < 1:
            raise ValueError(f"train.warmup_share must be in [0, 1), got {self.warmup_share}")


@dataclass(frozen=True)
class Run:
    """One training run: which method with which settings, what it learns, how audio becomes chunks, how it is trained.

    augment: what happens to the sound of training utterances, and of no others. start_from: a bundle whose weights are taken where a
    parameter's name begins with one of start_prefixes.
    """

    method: Any  # a Method.Config; the bundle stores where its class lives
    labels: Labels = Labels()
    audio: Audio = Audio()
    chunks: ChunkPlan = ChunkPlan(length_s=1.0, hop_s=0.5)
    augment: Augment = Augment()
    train: Train = Train()
    start_from: str | None = None
    start_prefixes: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if self.train.cache_features == "on" and self.augment.active:
            raise ValueError(
                "train.cache_features=on would train on features of recordings as they are, while augment.* changes the sound anew each "
                "epoch; leave it at auto or off, or turn augmentation off"
            )

    @property
    def spec(self) -> Spec:
        """What the method is built for."""
        return Spec(self.labels.classes, self.labels.attributes, self.audio.rate, self.chunks)


def build(run: Run, trust: tuple[str, ...] = (), files: Mapping[str, str] | None = None) -> Method:
    """A fresh method with weights drawn from the run's seed; the global random state is left as it was.

    files: the texts that travel in a bundle, when its method is built anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.train.seed)
        return find_method(method_name(run.method), trust)(run.method, replace(run.spec, files=files))


def run_to_dict(run: Run) -> dict[str, Any]:
    """The run as plain data for JSON; the method's class stands beside its settings under "class"."""
    data = config.to_dict(run)
    data["method"] = {"class": method_name(run.method), **data["method"]}
    return data


def trust_of(run: Run) -> tuple[str, ...]:
    """The package of the run's method: whoever holds the run has imported it already."""
    return (method_name(run.method).partition(":")[0].partition(".")[0],)


def run_from_dict(data: Mapping[str, Any], trust: tuple[str, ...] = ()) -> Run:
    """The run behind plain data. Raises ValueError for unknown fields, bad values, or a method that is not trusted."""
    method = dict(data["method"])
    found = find_method(method.pop("class"), trust)
    rest = {name: value for name, value in data.items() if name != "method"}
    return config.from_dict(Run, {**rest, "method": config.from_dict(found.Config, method, "method.")})
