"""One trial of a sweep: a model for every seed and inner speaker fold, trained side by side, epoch by epoch.

After epoch e of all of them comes one score, their mean, so that trials that are compared at an epoch are compared by means and not by
the luck of a fold. The folds are made of the training side; no test row is here. All that decides an epoch is the state before it, so a
trial that goes on from its last state gives what an undisturbed one gives.
"""

from __future__ import annotations

import copy
import math
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodcast import bundle, metrics
from moodcast.cluster.data import CachedStretches, Part
from moodcast.cluster.features import keep_features, kept
from moodcast.cluster.ledger import STATE
from moodcast.cluster.work import adapted_to, inherited, take_weights
from moodcast.manifest import Utterance, folds
from moodcast.order import Indices, balance_weights
from moodcast.passes import predict
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build
from moodcast.step import Trainer
from moodcast.whole import whole


@dataclass
class Member:
    """One model: its seed and fold, its trainer, and the stretches it is scored on, [M] of the whole."""

    run: Run
    fold: int
    trainer: Trainer
    heard: Indices
    asked: Indices


class Lockstep:
    """The models of one trial.

    rows: the training side. k: inner folds. seeds: how many models a fold, with seeds from the run's own on. target: rows without labels
    that every model hears beside its own; what is scored are folds of `rows` all the same. Raises ValueError for what cannot be trained on.
    """

    def __init__(
        self,
        run: Run,
        rows: Sequence[Utterance],
        k: int,
        seeds: int,
        *,
        seed: int = 0,
        root: Path | None = None,
        trust: tuple[str, ...] = (),
        device: torch.device | str = "cpu",
        world: int = 1,
        rank: int = 0,
        target: Sequence[Utterance] = (),
    ) -> None:
        self.run, self.k, self.world, self.rank, self.trust = run, k, world, rank, trust
        self.rows = usable(rows, run)
        self.whole = CachedStretches(self.rows, run, root)
        self.target = CachedStretches(list(target), run, root, labelled=False) if target else None
        self.history: list[dict[str, Any]] = []
        self.counts: dict[str, list[list[int]]] = {}  # by speaker, of the epoch that ended last, all seeds together
        sides = np.array(folds(self.rows, k, seed))[self.whole.owners]
        named = np.array([run.labels.name(row) is not None for row in self.rows])[self.whole.owners]
        wholes: dict[str, tuple[CachedStretches, CachedStretches | None]] = {}
        self.members: list[Member] = []
        for number in range(seeds):
            own = replace(run, train=replace(run.train, seed=run.train.seed + number))
            for fold in range(k):
                heard, asked = np.flatnonzero(sides != fold), np.flatnonzero((sides == fold) & named)
                if not len(asked):
                    wanted = ", ".join(run.labels.classes)
                    raise ValueError(f"nothing of inner fold {fold} is called one of {wanted}: to be scored, votes do not do")
                method = build(own, trust)
                if own.start_from:
                    take_weights(method, own.start_from, own.start_prefixes, trust)
                method = method.to(device)
                whole, beside = self.whole, self.target
                if name := kept(own, method):
                    if name not in wholes:
                        wholes[name] = copy.copy(self.whole), copy.copy(self.target)
                        keep_features(method, [side for side in wholes[name] if side is not None], name, root, world, rank)
                    whole, beside = wholes[name]
                owners = [self.rows[i] for i in self.whole.owners[heard]]
                weights = balance_weights(owners, own.labels, own.train.balance)
                trainer = Trainer(method, own.train, Part(whole, heard), weights, world, rank, target=beside)
                self.members.append(Member(own, fold, trainer, heard, asked))
        self._fresh = True

    def next(self) -> dict[str, Any]:
        """Train one epoch of every model, and score it; the record of the epoch. Raises Diverged where a loss is no number."""
        started = time.monotonic()
        if self._fresh:
            for member in self.members:
                member.trainer.fit_once()
            self._fresh = False
        epoch = len(self.history)
        losses = [member.trainer.epoch(epoch).get("loss", math.nan) for member in self.members]
        self.counts = {}
        each = [self._score(member) for member in self.members]
        line = {
            "epoch": epoch + 1,
            "value": float(np.mean(each)),
            "spread": float(np.std(each, ddof=1)) if len(each) > 1 else 0.0,
            "each": [round(score, 6) for score in each],
            "loss": round(float(np.mean(losses)), 6) if all(map(math.isfinite, losses)) else None,
            "seconds": round(time.monotonic() - started, 3),
        }
        self.history.append(line)
        return line

    def save(self, folder: Path) -> None:
        """The state, whole or not at all. Ranks ask together: each may hold but a part of it."""
        members = []
        for member in self.members:
            if not self.rank:
                members.append(member.trainer.state())
            elif member.trainer.divided:
                member.trainer.state()  # gathered for rank 0, and not kept here
        if self.rank:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / STATE) as half:
            torch.save({"members": members, "history": self.history, "counts": self.counts}, half)

    def load(self, folder: Path) -> bool:
        """Go on from the state in a folder, where there is one."""
        if not (folder / STATE).is_file():
            return False
        state = torch.load(folder / STATE, weights_only=True, map_location="cpu")
        for member, part in zip(self.members, state["members"], strict=True):
            member.trainer.load_state(part)
        self.history, self.counts, self._fresh = list(state["history"]), dict(state["counts"]), False
        return True

    def save_bundles(self, folder: Path) -> None:
        """A bundle of each fold's model of the first seed, with its score on the speakers it has not heard. Ranks ask together."""
        for member, score in zip(self.members[: self.k], self.history[-1]["each"], strict=False):
            method = member.trainer.served()
            if self.rank:
                continue
            place = folder / f"fold{member.fold}"
            half = folder / f".{place.name}"
            shutil.rmtree(half, ignore_errors=True)
            scores = {"epoch": len(self.history) - 1, "dev": {"uar": score}}
            bundle.save(half, method, member.run, self._provenance(member), scores)
            shutil.rmtree(place, ignore_errors=True)
            half.rename(place)

    def _score(self, member: Member) -> float:
        """UAR on the fold's own speakers, who are of the source; adds to the counts by speaker."""
        owners = self.whole.owners[member.asked]
        own, local = np.unique(owners, return_inverse=True)
        part = Part(member.trainer.data.whole, member.asked)  # type: ignore[attr-defined]
        method, size = member.trainer.method, self.run.train.batch_size
        given = predict(method, part, local, self.whole.seconds[member.asked], size, self.world, self.rank, method.on_source)[0]
        rows = [self.rows[i] for i in own]
        return counted(self.run, rows, given, self.counts)

    def _provenance(self, member: Member) -> Provenance:
        heard = self._of(member.heard)
        own = Provenance(
            corpora=tuple(sorted({self.rows[i].corpus for i in np.unique(self.whole.owners[member.heard])})),
            speakers=heard.speakers,
            groups=heard.groups,
            fingerprints=heard.fingerprints,
            class_counts=dict(
                sorted(Counter(str(self.run.labels.name(self.rows[i])) for i in np.unique(self.whole.owners[member.heard])).items())
            ),
            hours=round(float(self.whole.seconds[member.heard].sum()) / 3600, 3),
            chosen_on=self._of(member.asked),
            adapted_to=adapted_to(self.target),
        )
        start = self.run.start_from
        return inherited(own, bundle.load(start, self.trust, verify=False).provenance) if start else own

    def _of(self, at: Indices) -> ChosenOn:
        """Speakers, groups and fingerprints of some stretches."""
        rows = [self.rows[i] for i in np.unique(self.whole.owners[at])]
        marks = {self.whole.store.fingerprints[i] for i in np.unique(self.whole.owners[at])}
        names = ({row.corpus_speaker for row in rows}, {row.corpus_group for row in rows}, marks)
        return ChosenOn(*(tuple(sorted(found)) for found in names))


def usable(rows: Sequence[Utterance], run: Run) -> list[Utterance]:
    """The rows that say something about the run's classes."""
    return [row for row in rows if run.labels.target(row) is not None]


def counted(run: Run, rows: Sequence[Utterance], given: NDArray[np.float64], into: dict[str, list[list[int]]]) -> float:
    """UAR of answers [N, K]; how often each class was answered as which is added to `into`, by speaker."""
    classes = run.labels.classes
    truth = [classes.index(str(run.labels.name(row))) for row in rows]
    speakers = [row.corpus_speaker for row in rows]
    found = metrics.by_speaker(truth, given.argmax(axis=1).tolist(), speakers, len(classes))
    for name, count in zip(sorted(set(speakers)), found.astype(int), strict=True):
        into[name] = (np.array(into[name]) + count).tolist() if name in into else count.tolist()
    return float(metrics.uar(found.sum(0)))


def stacked(counts: Mapping[str, list[list[int]]]) -> NDArray[np.float64]:
    """Counts by speaker as an array [S, K, K], speakers in sorted order."""
    return np.array([counts[name] for name in sorted(counts)], dtype=np.float64)
