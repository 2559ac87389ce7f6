"""One training step and one epoch, without Ray: learning rate, optimiser, loss module; the order of the data is in `order`, passes without
training are in `passes`.

Everything here is a pure function of its arguments or says otherwise, so that a resumed run equals an undisturbed one and any number of
ranks sees the same global batches. Shapes: N stretches, B stretches of a batch, K classes.
"""

from __future__ import annotations

import copy
import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moodcast.batch import Batch
from moodcast.method import STREAMS, Method, device_of
from moodcast.nn.precision import Precision, computing, has_encoders
from moodcast.order import Plan, epoch_batches, num_steps, stream_batches
from moodcast.passes import Stretches, TrainingView, gather_objects
from moodcast.run import Train
from moodcast.sharding import divide, is_divided, like, load_whole, whole, whole_state

BEFORE_EPOCHS = 2**31  # stands in for the epoch when random numbers are drawn before the first one


class Stopped(ValueError):
    """Training cannot go on, and every rank knows it: each raises this at the same place."""


class Diverged(Stopped):
    """The loss or its gradient is no longer a number."""


def seed_everything(seed: int, epoch: int, rank: int) -> None:
    """Global random states (torch, numpy, random) from the place in the run, not from its history."""
    state = int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1)[0])
    torch.manual_seed(state)
    np.random.seed(state)  # augmentation libraries draw from the global states
    random.seed(state)


# ------------------------------------------------------------------------------------------------ optimiser


def lr_factor(step: int, total: int, warmup_share: float) -> float:
    """What multiplies the peak learning rate at `step` (0-based) of `total`: a linear rise, then half a cosine down to zero."""
    warmup = round(total * warmup_share)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizer(method: Method, train: Train) -> torch.optim.AdamW | None:
    """AdamW over the method's groups; "lr_scale" of a group multiplies the learning rate. None where nothing is trainable."""
    groups = []
    for group in method.parameter_groups():
        params = [parameter for parameter in group["params"] if parameter.requires_grad]
        if params:
            groups.append({"lr_scale": 1.0, **group, "params": params})
    return torch.optim.AdamW(groups, lr=train.lr, weight_decay=train.weight_decay) if groups else None


def optimizer_state(method: Method, optimizer: torch.optim.Optimizer | None) -> dict[str, dict[str, Any]]:
    """The optimiser's memory by parameter name, so that it survives groups that change."""
    if optimizer is None:
        return {}
    return {
        name: {key: whole(value) if isinstance(value, Tensor) else value for key, value in optimizer.state[p].items()}
        for name, p in method.named_parameters()
        if p in optimizer.state
    }


def load_optimizer_state(method: Method, optimizer: torch.optim.Optimizer | None, state: Mapping[str, dict[str, Any]]) -> None:
    """Put back what `optimizer_state` gave; parameters that it does not know start afresh."""
    if optimizer is None:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in method.named_parameters():
        if name in state and id(parameter) in held:
            optimizer.state[parameter] = {key: _beside(value, parameter) for key, value in state[name].items()}


def _beside(value: Any, parameter: Tensor) -> Any:
    """A copy of an optimiser's memory of a parameter, on its device; the count of steps stays where AdamW keeps it."""
    if not isinstance(value, Tensor):
        return value
    if is_divided(parameter) and value.shape == parameter.shape:
        return like(value.clone(), parameter)
    return value.to(parameter.device, copy=True) if value.shape == parameter.shape else value.clone()


# ----------------------------------------------------------------------------------------------------- steps


class LossModule(nn.Module):
    """A method's `losses` as a forward, which is what a distributed module wraps: called past it, ranks drift apart silently.

    precision: in which encoders compute here, see `moodcast.nn.precision`.
    """

    def __init__(self, method: Method, precision: Precision = "float32") -> None:
        super().__init__()
        self.method, self.precision = method, precision

    def forward(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """The unweighted loss terms by name."""
        with computing(self.precision):
            return self.method.losses(batches)


def check_precision(method: Method, train: Train) -> None:
    """Raises ValueError where a precision is asked for that nothing of the method would compute in."""
    if train.precision != "float32" and not has_encoders(method):
        raise ValueError(
            f"train.precision={train.precision} is for encoders that train, and this {type(method).__name__} has none: what it computes is "
            "little and wants every digit; leave it at float32"
        )


def train_step(
    module: nn.Module, method: Method, optimizer: torch.optim.Optimizer, batches: Mapping[str, Batch], clip_norm: float, accumulate: int = 1
) -> dict[str, Tensor]:
    """One optimiser step; the loss terms by name, detached, with their weighted sum as "loss".

    `module` is a LossModule, distributed or not. accumulate: the batches are computed in so many parts, whose gradients are averaged before
    ranks share them once; terms are means over the parts. Raises Diverged, before anything has moved, where the loss or the gradient is not
    finite: on every rank, because gradients are shared and a bad loss spoils them all.
    """
    optimizer.zero_grad(set_to_none=True)
    told: list[dict[str, Tensor]] = []
    bad = False
    for last, share, part in _parts(batches, accumulate):
        silent = module.no_sync() if isinstance(module, DistributedDataParallel) and not last else nullcontext()
        with silent:
            terms = module(part)
            loss = method.total(terms)
            bad = bad or not torch.isfinite(loss)
            (share * (loss * math.nan if bad else loss)).backward()  # type: ignore[no-untyped-call]
        told.append({name: share * term.detach() for name, term in {"loss": loss, **terms}.items()})
    means = {name: sum((terms[name] for terms in told[1:]), start=told[0][name]) for name in told[0]}
    norm = whole(nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip_norm))
    if bad:
        values = ", ".join(f"{name} {term.item():g}" for name, term in means.items() if name != "loss")
        raise Diverged(f"the loss is {means['loss'].item()} (terms: {values})")
    if not torch.isfinite(norm):
        raise Diverged(f"the norm of the gradient is {norm.item()}")
    optimizer.step()
    return means


def _parts(batches: Mapping[str, Batch], count: int) -> Iterator[tuple[bool, float, dict[str, Batch]]]:
    """The parts of a step's batches, and of each whether it is the last and which share of the first stream it has."""
    if count == 1:
        yield True, 1.0, dict(batches)
        return
    count = min(count, *(batch.size for batch in batches.values()))
    cut = {stream: batch.parts(count) for stream, batch in batches.items()}
    first = next(iter(batches))
    for number in range(count):
        share = cut[first][number].size / batches[first].size
        yield number + 1 == count, share, {stream: parts[number] for stream, parts in cut.items()}


class Trainer:
    """One method in training on one rank. The process group, where world > 1, must be up already.

    data: the stretches of the method's first stream and `weights` [N], how they are drawn (None: each once an epoch); they say how long
    an epoch is. target: those of its second stream, where it has one, drawn beside them in an order of their own.
    """

    def __init__(
        self,
        method: Method,
        train: Train,
        data: Stretches,
        weights: NDArray[np.float64] | None = None,
        world: int = 1,
        rank: int = 0,
        target: Stretches | None = None,
    ) -> None:
        if method.streams not in STREAMS:
            raise ValueError(f"{type(method).__name__} wants the streams {method.streams}; a trainer feeds one of {STREAMS}")
        if (target is not None) != (len(method.streams) == 2):
            came = "one" if target is None else "two"
            raise ValueError(f"{type(method).__name__} trains on the streams {method.streams}; stretches of {came} came")
        check_precision(method, train)
        self.method, self.train, self.data, self.target = method, train, data, target
        self.world, self.rank = world, rank
        self.steps = num_steps(len(data), train.batch_size)
        self._balance = weights
        self._copy = copy.deepcopy(method).cpu() if train.shard and world > 1 else None  # what is saved, where each rank has but a part
        if self._copy is not None:
            divide(method, world)
        self._wrap()

    @property
    def divided(self) -> bool:
        """Whether ranks hold parts of the method, so that `state` and `served` are asked of all of them together."""
        return self._copy is not None

    def served(self) -> Method:
        """The method as it is saved and served: whole."""
        if self._copy is None:
            return self.method
        self._copy.load_state_dict(whole_state(self.method))
        return self._copy

    def fit_once(self) -> None:
        """The closed-form parts of a fresh run, and the same weights and buffers on every rank."""
        seed_everything(self.train.seed, BEFORE_EPOCHS, 0)
        self.method.fit_once(self.view())
        self._wrap()
        if self.world > 1:  # what nothing trains is not copied by the distributed module
            for value in self.method.state_dict().values():
                if not is_divided(value):
                    dist.broadcast(value, src=0)

    def view(self) -> TrainingView:
        """What hooks may see of the training data."""
        return TrainingView(self.method, self.data, self.train.batch_size, self.world, self.rank, self.target)

    def epoch(self, epoch: int, on_step: Callable[[int, dict[str, Tensor]], None] | None = None) -> dict[str, float]:
        """Train one epoch (0-based); the mean of each loss term over its steps and all ranks."""
        weights = self._start(epoch)
        if self.optimizer is None:
            return {}
        plan = epoch_batches(len(self.data), self.train.batch_size, self.train.seed, epoch, self.world, self.rank, weights)
        sums: dict[str, Tensor] = {}
        for step, (names, batches) in enumerate(self._fed(plan, epoch)):
            terms = self.step(epoch, step, names, batches)
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + term.double().cpu()
            if on_step is not None:
                on_step(step, terms)
        self._agree_on_buffers()
        return _means(sums, len(plan), self.world)

    def _fed(self, plan: Plan, epoch: int) -> Iterator[tuple[list[str], dict[str, Batch]]]:
        """Of every step of an epoch the utterances' names and the batches by stream."""
        if self.target is None:
            for indices, batch in zip(plan, self.data.batches(plan, epoch), strict=True):
                yield self.data.names(indices), {self.method.streams[0]: batch}
            return
        beside = stream_batches(len(self.target), self.train.batch_size, self.train.seed, epoch, len(plan), self.world, self.rank)
        both = zip(plan, self.data.batches(plan, epoch), beside, self.target.batches(beside, epoch), strict=True)
        first, second = self.method.streams
        for indices, batch, others, other in both:
            yield [*self.data.names(indices), *self.target.names(others)], {first: batch, second: other}

    def step(self, epoch: int, step: int, names: Sequence[str], batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """One step at its place in the run, on a batch a stream. Raises Diverged that names epoch, step and utterances."""
        if self.optimizer is None:
            raise ValueError(f"{type(self.method).__name__} has nothing to train; it only has fit_once")
        done, total = epoch * self.steps + step, self.train.epochs * self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.train.lr * group["lr_scale"] * lr_factor(done, total, self.train.warmup_share)
        try:
            moved = {stream: batch.to(device_of(self.method)) for stream, batch in batches.items()}
            terms = train_step(self.module, self.method, self.optimizer, moved, self.train.clip_norm, self.train.accumulate)
        except Diverged as error:
            told = gather_objects(f"{error}; utterances {', '.join(names)}", self.world)
            guilty = [words for words in told if "loss" in words] or told
            advice = "look at these recordings, or lower train.lr"
            raise Diverged(f"training stopped in epoch {epoch}, step {step}: {' | '.join(guilty)}; {advice}") from None
        self.method.after_step((done + 1) / total)
        return terms

    def state(self) -> dict[str, Any]:
        """What, beside nothing else, a resumed run needs: weights, buffers, the optimiser's memory, what was trainable."""
        return {
            "method": whole_state(self.method) if self.divided else self.method.state_dict(),
            "optimizer": optimizer_state(self.method, self.optimizer),
            "trainable": [name for name, p in self.method.named_parameters() if p.requires_grad],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        load_whole(self.method, state["method"])
        trainable = set(state["trainable"])
        for name, parameter in self.method.named_parameters():
            parameter.requires_grad_(name in trainable)
        self._wrap()
        load_optimizer_state(self.method, self.optimizer, state["optimizer"])

    def _start(self, epoch: int) -> NDArray[np.float64] | None:
        """The hook of the method, then this rank's own random numbers; how the epoch's stretches are drawn."""
        seed_everything(self.train.seed, epoch, 0)  # the same on every rank: clustering must agree
        view = self.view()
        before = [p.requires_grad for p in self.method.parameters()]
        self.method.start_epoch(epoch, view)
        if before != [p.requires_grad for p in self.method.parameters()]:
            memory = optimizer_state(self.method, self.optimizer)
            self._wrap()
            load_optimizer_state(self.method, self.optimizer, memory)
        self.method.train()
        seed_everything(self.train.seed, epoch, self.rank)
        return self._balance if view.weights is None else view.weights

    def _wrap(self) -> None:
        """Build optimiser and loss module for what is trainable now; a distributed module also copies rank 0's weights to all."""
        self.optimizer = make_optimizer(self.method, self.train)
        module: nn.Module = LossModule(self.method, self.train.precision)
        alone = self.world == 1 or self.optimizer is None or self.divided  # what is divided shares its gradients itself
        self.module = module if alone else DistributedDataParallel(module)

    def _agree_on_buffers(self) -> None:
        """Running statistics differ by rank after the last step; rank 0's count, as they do at every step."""
        if self.world > 1:
            for buffer in self.method.buffers():
                dist.broadcast(buffer, src=0)


def weights_digest(method: nn.Module) -> str:
    """SHA-256 over names and values of all weights and buffers: equal means bit-equal."""
    digest = hashlib.sha256()
    for name, value in sorted(method.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _means(sums: Mapping[str, Tensor], steps: int, world: int) -> dict[str, float]:
    names = list(sums)
    values = torch.stack([sums[name] for name in names])
    if world > 1:
        dist.all_reduce(values)
    return {name: float(value) / (steps * world) for name, value in zip(names, values, strict=True)}
