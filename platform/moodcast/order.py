"""In which order the stretches of a manifest are trained on: permuted, or drawn by weight, the same for any number of ranks.

Everything here is a pure function of its arguments, so that a resumed run equals an undisturbed one. Shapes: N stretches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from moodcast.labels import Labels
from moodcast.manifest import Utterance

Indices = NDArray[np.int64]
BESIDE = 1  # sets the order of a second stream apart from that of the first


class Plan(list[Indices]):
    """The batches of an epoch, and in `draws`, of the same shape, how often each stretch was drawn before in this epoch, by any rank."""

    def __init__(self, batches: Iterable[Indices], draws: Iterable[Indices]) -> None:
        super().__init__(batches)
        self.draws = list(draws)


def balance_weights(rows: Sequence[Utterance], labels: Labels, balance: str) -> NDArray[np.float64] | None:
    """Sampling weights [N] under which classes ("class"), corpora ("corpus") or classes within corpora ("corpus_class") come equally often.

    None for "none": every stretch once an epoch. The class is the likeliest of the target, so votes count too.
    """
    if balance == "none":
        return None
    by_class, by_corpus = balance != "corpus", balance != "class"
    keys = [(row.corpus if by_corpus else "", _class_of(row, labels) if by_class else "") for row in rows]
    counts = Counter(keys)
    return np.array([1.0 / counts[key] for key in keys])


def epoch_batches(
    num: int, batch_size: int, seed: int, epoch: int, world: int = 1, rank: int = 0, weights: NDArray[np.float64] | None = None
) -> Plan:
    """The batches of indices that `rank` of `world` sees in an epoch; a pure function of its arguments.

    Without `weights` a permutation of `num`, with them (shape [num], not negative) `num` draws with replacement. Global batch g is the
    same for every `world`, and rank r takes its entries r, r + world, ...: shares are equal, so averaged gradients are those of one
    worker. The last incomplete batch is dropped; where there is no complete one, a single batch shrinks to what `world` divides.

    Raises ValueError where a batch cannot be shared equally or there is too little data.
    """
    if batch_size % world:
        raise ValueError(f"train.batch_size={batch_size} cannot be shared equally by {world} workers; choose a multiple of {world}")
    if num < world:
        raise ValueError(f"{num} stretches to train on are too few for {world} workers; use fewer workers or more data")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(num) if weights is None else rng.choice(num, size=num, p=probabilities(weights, num))
    size = batch_size if num >= batch_size else num - num % world
    share = [slice(start + rank, start + size, world) for start in range(0, num - size + 1, size)]
    before = drawn_before(order)
    return Plan([order[part] for part in share], [before[part] for part in share])


def stream_batches(num: int, batch_size: int, seed: int, epoch: int, steps: int, world: int = 1, rank: int = 0) -> Plan:
    """The batches of a second stream of `num` stretches that goes beside the first one's `steps` an epoch; as pure as `epoch_batches`.

    Permutation follows permutation, from epoch to epoch without a break, so that each stretch comes equally often however unlike the
    lengths of both streams are. Where fewer than a batch exist, batches shrink to what `world` divides. A batch that holds the end of one
    permutation and the beginning of the next may hold a stretch twice.

    Raises ValueError where a batch cannot be shared equally or there is too little data.
    """
    if batch_size % world:
        raise ValueError(f"train.batch_size={batch_size} cannot be shared equally by {world} workers; choose a multiple of {world}")
    if num < world:
        raise ValueError(f"{num} stretches of the target are too few for {world} workers; use fewer workers or more data")
    size = batch_size if num >= batch_size else num - num % world
    start, stop = epoch * steps * size, (epoch + 1) * steps * size
    first, last = start // num, (stop - 1) // num
    rounds = [np.random.default_rng([seed, BESIDE, turn]).permutation(num) for turn in range(first, last + 1)]
    order = np.concatenate(rounds)[start - first * num :][: steps * size]
    before = drawn_before(order)
    share = [slice(at + rank, at + size, world) for at in range(0, steps * size, size)]
    return Plan([order[part] for part in share], [before[part] for part in share])


def drawn_before(order: Indices) -> Indices:
    """How often each entry stands earlier in `order`.

    >>> drawn_before(np.array([4, 2, 4, 4, 2]))
    array([0, 0, 1, 2, 1])
    """
    by_value = np.argsort(order, kind="stable")
    values = order[by_value]
    firsts = np.searchsorted(values, values)  # of each run of equal entries
    before = np.empty(len(order), dtype=np.int64)
    before[by_value] = np.arange(len(order)) - firsts
    return before


def num_steps(num: int, batch_size: int) -> int:
    """Steps of an epoch over `num` stretches."""
    return max(1, num // batch_size)


def _class_of(row: Utterance, labels: Labels) -> str:
    target = labels.target(row)
    if target is None:
        raise ValueError(f"{row.id} has no target among {labels.classes}; drop it first with Labels.keep")
    return labels.classes[int(np.argmax(target))]


def probabilities(weights: NDArray[np.float64], num: int) -> NDArray[np.float64]:
    """Sampling weights [num] as probabilities. Raises ValueError where they are not finite, negative or all zero."""
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (num,) or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(f"sampling weights must be {num} finite numbers >= 0, not all zero; got shape {weights.shape}")
    return np.asarray(weights / weights.sum())
