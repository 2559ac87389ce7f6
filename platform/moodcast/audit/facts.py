"""What a recording is, found by decoding it once: level, clipping, silence, where speech is cut, pitch, and fingerprints of its sound.

Facts are kept in one SQLite file, by the SHA-256 of the file, the span, and the decoder's version: a corpus that was moved or renamed
is not decoded again, and one that was changed is. What the system refused, such as one file more at a time, is no fact and not kept.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count  # type: ignore[import-untyped]
from numpy.typing import NDArray

from moodcast import audio
from moodcast.audit import likeness
from moodcast.audit.likeness import Print
from moodcast.cache import cache_root
from moodcast.manifest import Utterance

FORMAT = 2  # part of every key: another number for other facts
RATE = 16_000
FRAME = 400  # samples: 25 ms
FULL_SCALE = 0.985  # samples at or above it are as loud as the format can hold
VOICED = 0.5  # of a frame's energy repeats after a period
LOWEST_HZ, HIGHEST_HZ = 60.0, 450.0  # of pitch
PITCHED = 4_000  # frames that are asked for their pitch
MISSING = "the file is missing or cannot be opened"
STORE = "audit.sqlite"  # in the cache
COPIES = "CREATE TABLE IF NOT EXISTS copies (one TEXT, other TEXT, PRIMARY KEY (one, other))"
KEEP_S = 1.0  # so often what was found is kept
ALONE = 64  # so many recordings are decoded here; for more, processes are worth their start


@dataclass(frozen=True)
class Facts:
    """One recording, mono at 16 kHz. Levels in dBFS over frames of 25 ms (-120: nothing).

    error: why it cannot be read (the rest is then empty). fingerprint: `audio.fingerprint` of its samples. level_db: of the whole;
    loud_db and quiet_db: the 95th and 5th percentile of frames; start_db and stop_db: its first and last 50 ms. clipped: share of samples
    at full scale. zeros_s: the longest stretch of digital silence. active_s: time within 30 dB of the loudest frame. pitch_hz: median of
    voiced frames, None where there are fewer than five. sound: for finding the same sound elsewhere.
    """

    error: str | None = None
    seconds: float = 0.0
    fingerprint: str = ""
    peak: float = 0.0
    level_db: float = -120.0
    loud_db: float = -120.0
    quiet_db: float = -120.0
    start_db: float = -120.0
    stop_db: float = -120.0
    clipped: float = 0.0
    zeros_s: float = 0.0
    active_s: float = 0.0
    pitch_hz: float | None = None
    sound: Print | None = None


def facts_of(
    rows: Sequence[Utterance],
    root: Path | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Facts]:
    """The facts of every row, in their order; files that cannot be read have facts that say why.

    root: where they are kept; default the environment variable MOODCAST_CACHE, or ~/.cache/moodcast. processes: default one a core that
    may be used. progress(done, total) is told as they come. Raises ValueError where what was kept cannot be used.
    """
    root = cache_root(root)
    root.mkdir(parents=True, exist_ok=True)
    keys = _keys(rows)
    with _store(root) as store:
        store.execute("CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, facts TEXT NOT NULL, bits BLOB, active BLOB)")
        known = _load(store, [key for key in keys if key])
        todo = {key: row for key, row in zip(keys, rows, strict=True) if key and key not in known}
        done = len(rows) - len(todo)
        found = _all(list(todo.values()), processes or cpu_count())
        waiting: list[tuple[str, Facts]] = []
        kept = time.monotonic()
        try:
            for count, (key, (facts, lasting)) in enumerate(zip(todo, found, strict=True), start=1):
                known[key] = facts
                if lasting:
                    waiting.append((key, facts))
                if time.monotonic() - kept > KEEP_S:
                    _keep(store, waiting)
                    waiting, kept = [], time.monotonic()
                if progress:
                    progress(done + count, len(rows))
        finally:
            _keep(store, waiting)
    missing = Facts(error=MISSING)
    return [known[key] if key else missing for key in keys]


def keep_copies(pairs: Iterable[tuple[str, str]], root: Path | None = None) -> None:
    """Note which sounds hold each other in another form, by fingerprint: whoever meets one of them later need not listen again."""
    with _store(cache_root(root)) as store, store:
        store.execute(COPIES)
        store.executemany("INSERT OR IGNORE INTO copies VALUES (?, ?)", (pair for a, b in pairs for pair in ((a, b), (b, a))))


def copies_of(fingerprints: Sequence[str], root: Path | None = None) -> dict[str, set[str]]:
    """The copies of each of these sounds that audits have found so far; sounds without one are left out."""
    found: dict[str, set[str]] = {}
    with _noted(root) as store:
        if store is not None:
            for one, other in _of(store, "one, other FROM copies WHERE one", fingerprints):
                found.setdefault(one, set()).add(other)
    return found


def copies_among(rows: Sequence[Utterance], root: Path | None = None) -> list[tuple[int, int]]:
    """Which of these rows, by number, audits have found to hold each other in another form. Files are read, nothing is decoded."""
    with _noted(root) as store:
        if store is None or not store.execute("SELECT 1 FROM copies").fetchone():
            return []
        keys = _keys(rows)
        marks = dict(_of(store, "key, json_extract(facts, '$.fingerprint') FROM facts WHERE key", [key for key in keys if key]))
    where: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        if key in marks:
            where.setdefault(marks[key], []).append(i)
    copies = copies_of(list(where), root)
    return sorted((a, b) for one, others in copies.items() for a in where[one] for other in others for b in where.get(other, ()) if a < b)


@contextmanager
def _store(root: Path, mode: str = "rwc") -> Iterator[sqlite3.Connection]:
    """The file of what audits keep; mode: of an SQLite URI. Raises ValueError where it cannot be used."""
    path = root / STORE
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60)) as store:
            yield store
    except sqlite3.Error as error:
        mend = "if it is damaged, remove it: the next audit hears all anew"
        raise ValueError(f"{path}, where audits keep what they heard, cannot be used ({error}); {mend}") from error


@contextmanager
def _noted(root: Path | None) -> Iterator[sqlite3.Connection | None]:
    """What audits have kept, to look at; None where there is nothing about copies yet."""
    root = cache_root(root)
    if not (root / STORE).is_file():
        yield None
        return
    with _store(root, mode="rw") as store:  # what an audit that was killed left is undone by whoever may write; others only read
        there = store.execute("SELECT 1 FROM sqlite_master WHERE name = 'copies'").fetchone()
        yield store if there else None


def _of(store: sqlite3.Connection, what: str, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, `what`, that ends with the column in which the names are looked for."""
    for start in range(0, len(names), 500):
        some = names[start : start + 500]
        yield from store.execute(f"SELECT {what} IN ({','.join('?' * len(some))})", some)


def examine(wave: NDArray[np.float32]) -> Facts:
    """The facts of mono samples [N] at 16 kHz, N > 0."""
    whole = wave[: len(wave) // FRAME * FRAME] if len(wave) >= FRAME else np.pad(wave, (0, FRAME - len(wave)))
    pieces = whole.reshape(-1, FRAME)
    energy = np.einsum("nf,nf->n", pieces, pieces).astype(np.float64) / FRAME
    levels = 10 * np.log10(energy + 1e-12)
    low = likeness.lowered(wave, RATE)
    return Facts(
        seconds=len(wave) / RATE,
        fingerprint=audio.fingerprint(wave),
        peak=float(max(wave.max(), -wave.min())),
        level_db=float(10 * np.log10(energy.mean() + 1e-12)),
        loud_db=float(np.percentile(levels, 95)),
        quiet_db=float(np.percentile(levels, 5)),
        start_db=_db(wave[: 2 * FRAME]),
        stop_db=_db(wave[-2 * FRAME :]),
        clipped=float(np.mean((wave >= FULL_SCALE) | (wave <= -FULL_SCALE))),
        zeros_s=_longest_run(wave == 0) / RATE,
        active_s=float(np.sum(levels > levels.max() - 30) * FRAME / RATE) if levels.max() > -100 else 0.0,
        pitch_hz=_pitch(low),
        sound=likeness.print_of(low),
    )


def _pitch(low: NDArray[np.float32]) -> float | None:
    """The median pitch of voiced frames, Hz, of samples at likeness.RATE, by autocorrelation; None where hardly any is voiced.

    Every fourth frame is asked; of a long recording, PITCHED of them, spread over it.
    """
    frames = likeness.frames_of(low)[::4]
    spectrum = likeness.power(frames[:: -(-len(frames) // PITCHED)])
    loudness = spectrum.sum(axis=1)
    spectrum = spectrum[loudness > loudness.max() / 100]
    if not len(spectrum):
        return None
    shape = np.fft.irfft(np.abs(np.fft.rfft(likeness.WINDOW, 2 * likeness.FRAME)) ** 2)[: likeness.FRAME]
    first, last = round(likeness.RATE / HIGHEST_HZ), round(likeness.RATE / LOWEST_HZ)
    repeats = np.fft.irfft(spectrum, axis=1)[:, : last + 1]
    repeats = repeats / (shape[: last + 1] / shape[0]) / np.maximum(repeats[:, :1], 1e-12)
    best = repeats[:, first:].argmax(axis=1)
    voiced = repeats[np.arange(len(best)), first + best] > VOICED
    return float(np.median(likeness.RATE / (first + best[voiced]))) if voiced.sum() >= 5 else None


def _db(wave: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(wave.astype(np.float64) ** 2) + 1e-12))


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.view(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _all(rows: Sequence[Utterance], processes: int) -> Iterator[tuple[Facts, bool]]:
    if len(rows) <= ALONE or processes < 2:
        yield from map(_decode, rows)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_decode, rows, chunksize=16)


def _decode(row: Utterance) -> tuple[Facts, bool]:
    """The facts of a row, and whether they would be the same tomorrow: not where the system refused something."""
    try:
        return examine(audio.read(row.path, row.start_s, row.stop_s, RATE)), True
    except (audio.AudioError, OSError) as error:
        refused = any(isinstance(each, OSError) for each in (error, error.__context__))  # the decoder's become an AudioError
        return Facts(error=" ".join(str(error).split())), not refused


def _keys(rows: Sequence[Utterance]) -> list[str | None]:
    """What names the facts of each row; None where the file cannot be opened."""
    contents: dict[str, str | None] = {}
    keys: list[str | None] = []
    for row in rows:
        if row.path not in contents:
            contents[row.path] = _sha256(row.path)
        content = contents[row.path]
        whole = f"{FORMAT} {RATE} {audio.DECODER} {content} {row.start_s} {row.stop_s}"
        keys.append(hashlib.sha256(whole.encode()).hexdigest()[:32] if content else None)
    return keys


def _sha256(path: str) -> str | None:
    """Of a file's content; None where it cannot be opened. As it stands, it is read once in a process."""
    try:
        status = os.stat(path)
        return _sha256_of(path, status.st_size, status.st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1 << 20)
def _sha256_of(path: str, size: int, changed_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(store: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Facts]:
    found = _of(store, "key, facts, bits, active FROM facts WHERE key", keys)
    return {key: _thaw(json.loads(facts), bits, active) for key, facts, bits, active in found}


def _thaw(values: dict[str, Any], bits: bytes | None, active: bytes | None) -> Facts:
    if bits is None or active is None:
        return Facts(**values)
    return Facts(**values, sound=Print(np.frombuffer(bits, dtype="<u4"), np.frombuffer(active, dtype=np.bool_)))


def _keep(store: sqlite3.Connection, found: Iterable[tuple[str, Facts]]) -> None:
    """All at once: while nothing is written, nobody who reads or writes there has to wait."""
    with store:
        for key, facts in found:
            values = {name: value for name, value in asdict(facts).items() if name != "sound"}
            sound = (None, None) if facts.sound is None else (facts.sound.bits.astype("<u4").tobytes(), facts.sound.active.tobytes())
            store.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", (key, json.dumps(values), *sound))
