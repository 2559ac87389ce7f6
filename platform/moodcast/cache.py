"""Two caches on disk: decoded audio, and what the frozen part of a method makes of it.

Decoded audio: every row of a manifest once, as float32 in memory-mapped files, so that epochs and sweeps only copy. Rows are taken in
shards of SHARD_ROWS, in their order, so that many processes may decode one manifest and what was stopped goes on at the shard where it
stood. A shard is named by what went into it: path, size and time of change of every file, its span, the rate and the decoder's version.
Whatever of these changes makes another one. A folder "<key>" holds waves.f32 (the samples of its rows, one after the other, little-endian)
and index.json. Features (`ArrayStore`): one small .npy file an array, under a name made of all that went into it.

Everything is written under another name and renamed when whole, so a reader never meets half of it and writers that race both win.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast import audio
from moodcast.manifest import Utterance

SHOWN = 10  # of the rows that cannot be read, so many are named
ABANDONED_S = 86_400.0  # a writer that has not written for a day was killed
SHARD_ROWS = 1024  # a quarter of a gigabyte of short utterances: little to lose, and few files to open
FORMAT = 2  # part of every key: a change of what is stored, or of how audio is decoded, takes the next number


class WaveStore:
    """Mono float32 stretches by row number, views of memory-mapped files: those of the shards in `folders`, in their order.

    `fingerprints` names what was heard in each, to 16 bits; `digests` its very samples. `folder` is for what else is made of these
    stretches; it is that of the shard where there is one alone, else one that may not be there yet.
    """

    def __init__(self, *folders: Path) -> None:
        names = hashlib.sha256(" ".join(folder.name for folder in folders).encode()).hexdigest()[:32]
        self.folder = folders[0] if len(folders) == 1 else folders[0].with_name(f"of-{names}")
        self.fingerprints: list[str] = []
        self.digests: list[str] = []
        self._waves: list[NDArray[np.float32]] = []
        self._edges: list[NDArray[np.int64]] = []  # of each shard, where its rows begin and end
        self._first: list[int] = []  # of each shard, the number of its first row
        for folder in folders:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self.rate: int = index["rate"]
            self._first.append(len(self.digests))
            self.fingerprints += index["fingerprints"]
            self.digests += index["digests"]
            self._edges.append(np.concatenate([[0], np.cumsum(index["lengths"], dtype=np.int64)]))
            self._waves.append(np.memmap(folder / "waves.f32", dtype="<f4", mode="r", shape=(int(self._edges[-1][-1]),)))

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, i: int) -> NDArray[np.float32]:
        """Row i, [N], read-only; raises IndexError as a list does."""
        shard, start, stop = self._place(i)
        return self._waves[shard][start:stop]

    def seconds(self, i: int) -> float:
        """The duration of row i, without touching its samples."""
        _, start, stop = self._place(i)
        return float(stop - start) / self.rate

    def _place(self, i: int) -> tuple[int, int, int]:
        """The shard of row i, and where its samples begin and end there."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} stretches, got {i}")
        i %= len(self)
        shard = bisect_right(self._first, i) - 1
        at = i - self._first[shard]
        return shard, int(self._edges[shard][at]), int(self._edges[shard][at + 1])


class ArrayStore:
    """Arrays by name in `folder`, shared by any number of processes; a name says what the array is made of, so nothing ever changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the array is there."""
        return self._path(name).is_file()

    def get(self, name: str) -> NDArray[np.float32]:
        """The array. Raises ValueError where it is not there, or was damaged, in which case it is taken away."""
        try:
            return np.asarray(np.load(self._path(name), allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:  # EOFError: an empty file, which a crashed machine may leave
            self._path(name).unlink(missing_ok=True)
            raise ValueError(f"the feature cache lost {self._path(name)} ({error}); start again, and it is computed anew") from error

    def put(self, name: str, array: NDArray[np.float32]) -> None:
        """Store an array; where another process was faster, with the same array, either stays."""
        write_array(self._path(name), array)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.npy"


def write_array(path: Path, array: NDArray[Any]) -> None:
    """An array as a .npy file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    temporary = _unfinished(path.parent)
    try:
        temporary.write_bytes(buffer.getbuffer())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_arrays(kind: str, root: Path | None = None) -> ArrayStore:
    """The store of all arrays of one `kind` (32 or more hexadecimal digits: weights, code and settings of what makes them)."""
    return ArrayStore(cache_root(root) / "features" / kind[:32])


def cache_root(root: Path | None = None) -> Path:
    """Where caches lie: `root`, or the environment variable MOODCAST_CACHE, or ~/.cache/moodcast."""
    return Path(root if root is not None else os.environ.get("MOODCAST_CACHE") or Path.home() / ".cache" / "moodcast")


def open_waves(
    rows: Sequence[Utterance],
    rate: int,
    root: Path | None = None,
    max_hours: float = 12.0,
    progress: Callable[[int, int], None] | None = None,
) -> WaveStore:
    """The stretches of `rows`, in their order, decoded once; a second call opens what the first one wrote.

    root: where stores lie; default the environment variable MOODCAST_CACHE, or ~/.cache/moodcast. progress(done, total) is told after
    each row. Memory: a row at a time. Raises AudioError, with the ids of the rows, for audio that cannot be read; shards without such
    rows stay.
    """
    if not rows:
        raise ValueError("there are no rows to decode; wanted at least one")
    placed = [(_folder(shard, rate, root), shard) for shard in shards(rows)]
    before, damaged = 0, []  # damaged rows are found at once, not one a start
    for folder, shard in placed:
        tell = None if progress is None else partial(_told, progress, before, len(rows))
        if not _whole(folder):
            damaged += _write(shard, rate, folder, max_hours, tell)
        elif tell is not None:
            tell(len(shard), len(shard))
        before += len(shard)
    if damaged:
        raise _all_of(damaged, len(rows))
    return WaveStore(*(folder for folder, _ in placed))


def shards(rows: Sequence[Utterance]) -> list[Sequence[Utterance]]:
    """Rows as they are decoded and kept together."""
    return [rows[start : start + SHARD_ROWS] for start in range(0, len(rows), SHARD_ROWS)]


def has_waves(rows: Sequence[Utterance], rate: int, root: Path | None = None) -> bool:
    """Whether all of `rows` are decoded already."""
    return all(_whole(_folder(shard, rate, root)) for shard in shards(rows))


def _told(progress: Callable[[int, int], None], before: int, total: int, done: int, _: int) -> None:
    """The progress of a shard as that of all rows."""
    progress(before + done, total)


def _folder(shard: Sequence[Utterance], rate: int, root: Path | None) -> Path:
    return cache_root(root) / "waves" / _key(shard, rate)


def _key(rows: Sequence[Utterance], rate: int) -> str:
    """32 hexadecimal digits over everything that decides the samples."""
    digest = hashlib.sha256(f"{FORMAT} {rate} {audio.DECODER}\n".encode())
    for row in rows:
        try:
            status = os.stat(row.path)
        except (OSError, ValueError) as error:
            raise audio.AudioError(f"{row.id}: {row.path} cannot be opened ({error}); correct its path in the manifest") from None
        entry = [os.path.abspath(row.path), status.st_size, status.st_mtime_ns, row.start_s, row.stop_s]
        digest.update(json.dumps(entry).encode() + b"\n")
    return digest.hexdigest()[:32]


def _write(
    rows: Sequence[Utterance], rate: int, folder: Path, max_hours: float, progress: Callable[[int, int], None] | None
) -> list[audio.AudioError]:
    """Decode a shard; of each row that cannot be read an error, and where there is one nothing is kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _tidy(folder.parent)
    temporary = _unfinished(folder.parent)
    temporary.mkdir()
    try:
        lengths: list[int] = []
        fingerprints: list[str] = []
        digests: list[str] = []
        damaged: list[audio.AudioError] = []
        with open(temporary / "waves.f32", "wb") as file:
            for done, row in enumerate(rows, start=1):  # no threads: they fight for the interpreter at every packet and are slower
                try:
                    wave = _decode(row, rate, max_hours)
                except audio.AudioError as error:
                    damaged.append(error)
                    continue
                samples = np.ascontiguousarray(wave, dtype="<f4")
                file.write(samples.data)
                digests.append(hashlib.sha256(samples.data).hexdigest()[:32])
                lengths.append(len(wave))
                fingerprints.append(audio.fingerprint(wave))
                if progress is not None:
                    progress(done, len(rows))
        if damaged:
            return damaged
        index = {"format": FORMAT, "rate": rate, "lengths": lengths, "fingerprints": fingerprints, "digests": digests}
        (temporary / "index.json").write_text(json.dumps(index), encoding="utf-8")
        _publish(temporary, folder)
        return []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unfinished(parent: Path) -> Path:
    """A new name. What `tempfile` makes is its owner's alone, and others are to read what is in a shared cache, as their umask has it."""
    return parent / f".unfinished-{secrets.token_hex(8)}"


def _tidy(parent: Path) -> None:
    """Take away what writers that were killed have left."""
    for left in parent.glob(".unfinished-*"):
        with suppress(FileNotFoundError):  # another process tidies, too
            if time.time() - max(path.stat().st_mtime for path in (left, *left.glob("*"))) > ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


def _all_of(damaged: Sequence[audio.AudioError], rows: int) -> audio.AudioError:
    if len(damaged) == 1:
        return damaged[0]
    shown = "; ".join(str(error) for error in damaged[:SHOWN])
    more = f"; and {len(damaged) - SHOWN} more" if len(damaged) > SHOWN else ""
    return audio.AudioError(f"{len(damaged)} of {rows} rows cannot be read: {shown}{more}. Mend these files, or take their rows out")


def _publish(temporary: Path, folder: Path) -> None:
    """Give a finished store its name; where another process was faster with the same samples, its store stays."""
    while True:
        try:
            os.replace(temporary, folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _whole(folder):
            return
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as aside, suppress(FileNotFoundError):
            os.replace(folder, Path(aside) / folder.name)  # cut by a full disk or a hand: put away, readers that hold it keep their view


def _whole(folder: Path) -> bool:
    """Whether a store is there, its index readable and every sample that the index counts on disk."""
    try:
        lengths = json.loads((folder / "index.json").read_text(encoding="utf-8"))["lengths"]
        return bool((folder / "waves.f32").stat().st_size == 4 * sum(lengths))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _decode(row: Utterance, rate: int, max_hours: float) -> NDArray[np.float32]:
    try:
        return audio.read(row.path, row.start_s, row.stop_s, rate, max_hours)
    except audio.AudioError as error:
        raise type(error)(f"{row.id}: {error}") from None
