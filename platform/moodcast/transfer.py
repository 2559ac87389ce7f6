"""TransferTask: from a source with labels to a target without, and a test side that only metrics open.

What a method may hear of the target are rows without labels (`sealed`: only what is needed to find and group the sound is kept), so that
no mistake further on can use them. The truth about the target lies in `SealedLabels`, which scores open and which cannot leave the process.
Upper bounds, which need labels of the target, ask for them by name (`TransferTask.unsealed`) and their bundles say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from moodcast import audit
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.scores import Answers

# All that is kept of a row without its labels: where the sound lies, and what may not be cut in two. Emotion, votes, attributes, what was
# said, traces, weights, age and gender are not; a field that is new is not, either.
KEPT = ("id", "path", "start_s", "stop_s", "corpus", "language", "speaker", "group", "split", "duration_s")
ALLOW = "train.allow_leaks=true"


def sealed(rows: Sequence[Utterance]) -> list[Utterance]:
    """The rows without anything that says, or could say, what is felt in them."""
    return [Utterance(**{name: getattr(row, name) for name in KEPT}) for row in rows]


class SealedLabels:
    """What is known about rows of a target. Opened by `TransferTask.answers` and `TransferTask.unsealed` alone; pickling it is refused."""

    def __init__(self, rows: Sequence[Utterance]) -> None:
        self.__rows = tuple(rows)

    def __repr__(self) -> str:
        return f"SealedLabels of {len(self.__rows)} rows"

    def __reduce__(self) -> NoReturn:
        raise TypeError("labels of the target are sealed and do not leave the process that scores; give workers the sealed rows")

    def open(self) -> tuple[Utterance, ...]:
        """The rows with their labels: for metrics, and for upper bounds that say so."""
        return self.__rows


@dataclass(frozen=True)
class TransferTask:
    """Rows of a source with labels, split "train" and "dev"; of a target, without labels, those to adapt to and those to answer.

    Nobody is on two sides of it: not a speaker, not a dialogue. A transductive task, which must be asked for by name, adapts to the very
    rows that it answers.
    """

    source: tuple[Utterance, ...]
    adapt: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    transductive: bool
    _adapt_labels: SealedLabels = field(repr=False)
    _test_labels: SealedLabels = field(repr=False)

    @classmethod
    def of(
        cls,
        source: Sequence[Utterance],
        target: Sequence[Utterance],
        *,
        transductive: bool = False,
        allow_leaks: bool = False,
        how: str = ALLOW,
    ) -> TransferTask:
        """A task of rows with a split: of the target, "train" is adapted to and "test" is answered.

        A target without any split is adapted to as a whole, and nothing of it is left to answer. transductive: adapt to what is answered,
        the rows whose split is "test", or all where there is none. Raises ValueError where there is nothing to adapt to, some rows lack a
        split, or somebody stands on two sides; and where a recording that is adapted to is one of the source, too, or audits have found it
        there in another form. allow_leaks lets these through; how: the option that does so.
        """
        target = with_target_split(target, transductive)
        test = [row for row in target if row.split == "test"]
        adapt = [replace(row, split="train") for row in (test if transductive else target) if transductive or row.split == "train"]
        if not adapt:
            wanted = "test" if transductive else "train"
            raise ValueError(f"nothing to adapt to among {len(target)} rows of the target: wanted split {wanted!r}, or no splits at all")
        if not allow_leaks:
            _refuse_same(source, adapt, how)
        sides = [row for row in source if row.split is not None] + ([] if transductive else adapt) + test
        audit.guard(audit.leaks_among(sides), allow_leaks, how)
        return cls(tuple(source), tuple(sealed(adapt)), tuple(sealed(test)), transductive, SealedLabels(adapt), SealedLabels(test))

    def answers(self, labels: Labels, probabilities: NDArray[np.float64]) -> Answers:
        """What somebody answered to the test rows, [N, K] in their order, beside the truth: what `moodcast.scores` takes.

        Rows without one of the classes are left out. Raises ValueError where none has one.
        """
        rows = self._test_labels.open()
        if len(probabilities) != len(rows):
            raise ValueError(f"{len(probabilities)} answers to {len(rows)} test rows; wanted one each, in their order")
        known = [i for i, row in enumerate(rows) if labels.name(row) is not None]
        if not known:
            raise ValueError(f"none of {len(rows)} test rows has one of the classes {labels.classes}")
        truth = np.array([labels.classes.index(str(labels.name(rows[i]))) for i in known], dtype=np.int64)
        votes = np.full((len(known), len(labels.classes)), np.nan)
        return Answers(labels.classes, tuple(rows[i] for i in known), truth, np.asarray(probabilities)[known], votes)

    def unsealed(self) -> list[Utterance]:
        """The rows to adapt to with their labels: for upper bounds alone. Whoever calls this says so beside every score."""
        return list(self._adapt_labels.open())


def _refuse_same(source: Sequence[Utterance], adapt: Sequence[Utterance], how: str) -> None:
    """Raises ValueError where stretches that are adapted to are heard with their labels: a method would learn nothing of another corpus."""
    heard = [row for row in source if row.split in ("train", "dev")]
    places = {_place(row) for row in heard}
    copies = {second - len(heard) for first, second in audit.copies_among([*heard, *adapt]) if first < len(heard) <= second}
    other = f"name other recordings as --target, or let them through with {how}"
    for same, what in (
        ([row.id for row in adapt if _place(row) in places], ""),
        ([adapt[i].id for i in sorted(copies)], f", {audit.ANOTHER_FORM}"),
    ):
        if same:
            named = f"{', '.join(same[:3])}{', ...' if len(same) > 3 else ''}"
            raise ValueError(f"{len(same)} of {len(adapt)} rows of the target are rows of the source, too{what} ({named}): {other}")


def _place(row: Utterance) -> tuple[object, ...]:
    return Path(row.path).absolute(), row.start_s, row.stop_s


def with_target_split(rows: Sequence[Utterance], transductive: bool = False) -> list[Utterance]:
    """Rows of a target that say nothing of a split are all to be adapted to ("train"; "test" in a transductive task).

    Raises ValueError where only some have a split.
    """
    missing = [row.id for row in rows if row.split is None]
    if not missing:
        return list(rows)
    if len(missing) < len(rows):
        raise ValueError(f"{len(missing)} of {len(rows)} rows of the target have no split, the first is {missing[0]}; set all or none")
    return [replace(row, split="test" if transductive else "train") for row in rows]
