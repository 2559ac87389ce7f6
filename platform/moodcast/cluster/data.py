"""From manifest rows to batches: stretches cut from the cached waves, collated ahead of time by a background thread. Without Ray."""

from __future__ import annotations

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from joblib import cpu_count  # type: ignore[import-untyped]
from numpy.typing import NDArray

from moodcast.augment import Augmenter, Wave
from moodcast.batch import Batch, collate
from moodcast.cache import ArrayStore, WaveStore, open_waves
from moodcast.chunks import samples_of, split_evenly
from moodcast.config import to_dict
from moodcast.manifest import Utterance
from moodcast.order import Indices, Plan
from moodcast.run import Run

T = TypeVar("T")
AUGMENTING = 4  # threads, at most, that change the sound of training utterances
AHEAD = 2  # batches that wait ready: enough to hide collating, little memory


@dataclass(frozen=True)
class Stretch:
    """Samples start <= i < stop of the manifest row `row`: all of it, or a piece of one that is longer than the plan covers."""

    row: int
    start: int
    stop: int


class CachedStretches:
    """The stretches of manifest rows in order, N of them; see `moodcast.passes.Stretches`.

    A row longer than the plan's `max_s` becomes several equal stretches with the row's target, as serving splits a long turn.
    labelled=False: batches bring no targets, whatever the rows say.
    """

    def __init__(
        self,
        rows: Sequence[Utterance],
        run: Run,
        root: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
        labelled: bool = True,
    ) -> None:
        self.rows, self.run, self.labelled = list(rows), run, labelled
        self.store: WaveStore = open_waves(self.rows, run.audio.rate, root, run.audio.max_hours, progress)
        longest = samples_of(run.chunks.max_s, run.audio.rate)
        self.features: ArrayStore | None = None
        self._own = threading.local()
        self.stretches = [
            Stretch(row, start, stop) for row in range(len(self.rows)) for start, stop in split_evenly(len(self.store[row]), longest)
        ]

    def __len__(self) -> int:
        return len(self.stretches)

    @property
    def owners(self) -> Indices:
        """The row of each stretch, [N]."""
        return np.array([stretch.row for stretch in self.stretches], dtype=np.int64)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """The duration of each stretch, [N]."""
        return np.array([stretch.stop - stretch.start for stretch in self.stretches]) / self.run.audio.rate

    def seconds_of(self, index: int) -> float:
        """The duration of one stretch."""
        return (self.stretches[index].stop - self.stretches[index].start) / self.run.audio.rate

    def names(self, indices: Indices) -> list[str]:
        """Utterance ids."""
        return [self.rows[self.stretches[i].row].id for i in indices]

    def fetch(self, indices: Indices, epoch: int | None = None, draws: Indices | None = None) -> Batch:
        """One collated batch with targets, and features where `keep_features` has found them; in a training `epoch`, augmented.

        draws: how often each was drawn before in this epoch (never, where it is None); each draw is augmented in its own way.
        """
        wanted = [self.stretches[i] for i in indices]
        waves = [self.store[stretch.row][stretch.start : stretch.stop] for stretch in wanted]
        rows = [self._beginning_at(stretch) for stretch in wanted]
        if epoch is not None and self.run.augment.active:
            seed, drawn = self.run.train.seed, np.zeros(len(indices), dtype=np.int64) if draws is None else draws
            names = [f"{row.id}:{stretch.start}" + f"#{n}" * bool(n) for row, stretch, n in zip(rows, wanted, drawn, strict=True)]
            heard = list(self._pool.map(lambda wave, name: self._augmented(wave, seed, epoch, name), waves, names))
            pieces = zip(rows, heard, waves, strict=True)
            rows = [row if len(new) == len(old) else replace(row, words=None) for row, new, old in pieces]  # nobody says what was cut off
            waves = heard
        batch = collate(waves, self.run.chunks, self.run.audio.rate, self.run.labels if self.labelled else None, rows)
        if self.features is None:
            return batch
        return replace(batch, frozen=padded([self.features.get(self.feature_name(i)) for i in indices]))

    def feature_name(self, index: int) -> str:
        """What the features of a stretch are called: all that decides them beside the method, as hexadecimal digits."""
        stretch, run = self.stretches[index], self.run
        made_of = [self.store.digests[stretch.row], stretch.start, stretch.stop, run.audio.rate, to_dict(run.chunks)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

    def batches(self, plan: Sequence[Indices], epoch: int | None = None) -> Iterator[Batch]:
        """One batch for each entry of the plan, made ahead in a thread; an error there is raised here."""
        draws = plan.draws if isinstance(plan, Plan) else [None] * len(plan)
        return ahead(lambda batch: self.fetch(batch[0], epoch, batch[1]), list(zip(plan, draws, strict=True)))

    def _beginning_at(self, stretch: Stretch) -> Utterance:
        """The row of a stretch, from where that begins: by it words are timed."""
        row = self.rows[stretch.row]
        return replace(row, start_s=row.start_s + stretch.start / self.run.audio.rate) if stretch.start else row

    def _augmented(self, wave: Wave, seed: int, epoch: int, name: str) -> Wave:
        """As an epoch hears it, by this thread's own augmenter; made late, because it opens a library that takes seconds."""
        if not hasattr(self._own, "augmenter"):
            self._own.augmenter = Augmenter(self.run.augment, self.run.audio.rate)
        heard: Wave = self._own.augmenter(wave, seed, epoch, name)
        return heard

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        """Threads that augment: most of the work is done by code that lets others run."""
        return ThreadPoolExecutor(min(AUGMENTING, cpu_count()), thread_name_prefix="augment")


@dataclass(frozen=True)
class Part:
    """Some stretches of a whole, at [N], as a trainer reads them; see `moodcast.passes.Stretches`."""

    whole: CachedStretches
    at: Indices

    def __len__(self) -> int:
        return len(self.at)

    def names(self, indices: Indices) -> list[str]:
        """Utterance ids."""
        return self.whole.names(self.at[indices])

    def batches(self, plan: Sequence[Indices], epoch: int | None = None) -> Iterator[Batch]:
        """Batches of the part."""
        moved = [self.at[indices] for indices in plan]
        return self.whole.batches(Plan(moved, plan.draws) if isinstance(plan, Plan) else moved, epoch)


def padded(arrays: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Arrays [C_i, ...] as one tensor [B, C, ...], zero where one has fewer rows."""
    out = torch.zeros(len(arrays), max(len(array) for array in arrays), *arrays[0].shape[1:])
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    return out


def ahead(fetch: Callable[[T], Batch], plan: Sequence[T]) -> Iterator[Batch]:
    """`fetch` of each entry in order, AHEAD of them computed before they are asked for."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def work() -> None:
        for indices in plan:
            try:
                found: Batch | BaseException = fetch(indices)
            except BaseException as error:
                found = error
            while not stop.is_set():
                try:
                    ready.put(found, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or isinstance(found, BaseException):
                return

    thread = threading.Thread(target=work, name="moodcast-batches", daemon=True)
    thread.start()
    try:
        for _ in plan:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
