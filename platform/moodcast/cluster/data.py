"""From manifest rows to batches: stretches cut from the cached waves, collated ahead of time by a background thread. Without Ray."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodcast.batch import Batch, collate
from moodcast.cache import WaveStore, open_waves
from moodcast.chunks import samples_of, split_evenly
from moodcast.manifest import Utterance
from moodcast.run import Run
from moodcast.step import Indices

AHEAD = 2  # batches that wait ready: enough to hide collating, little memory


@dataclass(frozen=True)
class Stretch:
    """Samples start <= i < stop of the manifest row `row`: all of it, or a piece of one that is longer than the plan covers."""

    row: int
    start: int
    stop: int


class CachedStretches:
    """The stretches of manifest rows in order, N of them; see `moodcast.step.Stretches`.

    A row longer than the plan's `max_s` becomes several equal stretches with the row's target, as serving splits a long turn.
    """

    def __init__(
        self,
        rows: Sequence[Utterance],
        run: Run,
        root: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.rows, self.run = list(rows), run
        self.store: WaveStore = open_waves(self.rows, run.audio.rate, root, run.audio.max_hours, progress)
        longest = samples_of(run.chunks.max_s, run.audio.rate)
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

    def names(self, indices: Indices) -> list[str]:
        """Utterance ids."""
        return [self.rows[self.stretches[i].row].id for i in indices]

    def fetch(self, indices: Indices) -> Batch:
        """One collated batch with targets."""
        wanted = [self.stretches[i] for i in indices]
        waves = [self.store[stretch.row][stretch.start : stretch.stop] for stretch in wanted]
        return collate(waves, self.run.chunks, self.run.audio.rate, self.run.labels, [self.rows[stretch.row] for stretch in wanted])

    def batches(self, plan: Sequence[Indices], epoch: int | None = None) -> Iterator[Batch]:
        """One batch for each entry of the plan, made ahead in a thread; an error there is raised here."""
        return ahead(self.fetch, plan)


def ahead(fetch: Callable[[Indices], Batch], plan: Sequence[Indices]) -> Iterator[Batch]:
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
