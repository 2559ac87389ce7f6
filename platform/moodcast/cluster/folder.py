"""The folder of a run: what is written where, and whether a resumed run is the same one. Without Ray.

run.json               the whole Run, the command, a digest of the manifest
manifest.parquet       the rows it trains on
target.parquet         the rows it adapts to, without labels; where there are such
checkpoints/           the latest and the best: a bundle each (what is frozen is one file for both), with training.pt for a resumed run
metrics.jsonl          one line an epoch
tensorboard/           the same for TensorBoard; track.json: what else is told (tracker.py)
attempts.jsonl         one line each time the workers (re)started, with the epoch they started at
progress.json          where training is now
bundle/                the result
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from moodcast.manifest import Utterance
from moodcast.method import method_name
from moodcast.run import Run, run_from_dict, run_to_dict, trust_of
from moodcast.whole import write_whole

RUN, MANIFEST, TARGET, CHECKPOINTS, BUNDLE = "run.json", "manifest.parquet", "target.parquet", "checkpoints", "bundle"
METRICS, ATTEMPTS, PROGRESS, FAILURE, TENSORBOARD = "metrics.jsonl", "attempts.jsonl", "progress.json", "failure.json", "tensorboard"
TRAINING, LOCK = "training.pt", ".lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = "Make room there, and "  # in the words about a full disk, before what goes on
HALF = re.compile(r"\.(.+)\.\d+")  # a file that `whole` was writing when its process died


def new_folder(out: Path, name: str | None, run: Run) -> Path:
    """A folder that did not exist: `name` below `out`, or a name made of method, time and chance.

    One in which nothing was begun is removed. Raises ValueError where a named run exists already: going on with it must be asked for.
    """
    made_up = f"{method_name(run.method).rpartition(':')[2].lower()}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = _named(out, name or made_up)
    _remove_unbegun(folder)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ValueError(
            f"there is a run {folder} already; choose another name, or go on with it: --resume {folder} (fit: resume=)"
        ) from None
    return folder


def going_on(out: Path, name: str | None) -> Path | None:
    """The run of that name below `out` where it has begun, else None: for what is started again by itself.

    A folder in which nothing was begun is removed. Raises ValueError without a name, and where a driver still reads its audio.
    """
    if not name:
        raise ValueError("--resume auto goes on with the run of a --name, where there is one; say which")
    folder = _named(out, name)
    if (folder / RUN).is_file():
        return folder
    _remove_unbegun(folder)
    return None


def _remove_unbegun(folder: Path) -> None:
    """Remove a folder whose driver died before it had written all that a run begins with: there is its lock, or nothing at all.

    Raises ValueError where that driver still reads.
    """
    if (folder / RUN).is_file() or not folder.is_dir() or folder.is_symlink():
        return
    there = names_in(folder)
    if not there or (LOCK in there and there <= {MANIFEST, TARGET, RUN, LOCK}):
        with held(folder):
            shutil.rmtree(folder)


def names_in(folder: Path) -> set[str]:
    """What lies in a folder; a file that is half written by the name that it was to have."""
    return {HALF.sub(r"\1", path.name) for path in folder.iterdir()}


def _named(out: Path, name: str) -> Path:
    """The folder of a run below `out`. Raises ValueError for a name that leads elsewhere."""
    folder = (out / name).absolute()
    if folder.parent != out.absolute() or folder.name.startswith("."):
        raise ValueError(f"{name!r} is no name for a run; wanted one word without / that does not begin with a dot")
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Inside, the run is this process's alone. Raises ValueError where another one trains it now."""
    import fcntl  # not on every system that may read bundles

    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"{folder} is being trained now, by {file.read().strip() or 'another process'}; wait, or stop that one"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def so_far(folder: Path) -> str:
    """How far a run is, in words, with the last checkpoint."""
    done = max(checkpoints(folder), default=-1) + 1
    return (
        f"{done} epoch{'s are' if done > 1 else ' is'} done, the last is in {checkpoint_path(folder, done - 1)}"
        if done
        else "no epoch is done yet"
    )


def no_space(folder: Path) -> str:
    """What to say where a run's disk is full."""
    return f"no space left in {folder}; {so_far(folder)}. {ROOM}go on with --resume {folder}"


def rows_digest(rows: Sequence[Utterance]) -> str:
    """SHA-256 over all that the rows say, apart from where the files lie: corpora may move between two sittings."""
    digest = hashlib.sha256()
    for row in rows:
        known = {name: value for name, value in asdict(row).items() if name not in ("path", "video", "clean", "trace")}
        plain = json.loads(json.dumps(known), parse_int=float)  # 31 is 31.0, as it is once it was in a file
        digest.update(json.dumps(plain, sort_keys=True).encode())
    return digest.hexdigest()


def describe(
    folder: Path,
    run: Run,
    rows: Sequence[Utterance],
    workers: int | tuple[int, int],
    target: Sequence[Utterance] = (),
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write run.json. target: the rows that it adapts to, without labels; notes: what a bundle must say of them."""
    data = {"run": run_to_dict(run), "workers": workers, "rows": len(rows), "rows_sha256": rows_digest(rows), **(notes or {})}
    if target:
        data |= {"target_rows": len(target), "target_sha256": rows_digest(target)}
    write_json(folder / RUN, data)


def described(folder: Path) -> dict[str, Any]:
    """What `describe` wrote. Raises ValueError for a folder that is no run."""
    if (found := read_json(folder / RUN)) is None:
        raise ValueError(f"{folder} is no run to go on with: it has no {RUN}")
    return found


def check_same(folder: Path, run: Run, rows: Sequence[Utterance], target: Sequence[Utterance] = ()) -> None:
    """Refuse to resume what is not this run. Raises ValueError that names each field that differs, there and here."""
    stored = described(folder)
    there, here = flat(as_now(stored["run"], run)), flat(json.loads(json.dumps(run_to_dict(run))))
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if names:
        listed = "; ".join(f"{name}: {there.get(name)!r} there, {here.get(name)!r} here" for name in names)
        raise ValueError(f"{folder} is another run and cannot be gone on with: {listed}. Start a new one for new settings")
    if stored["rows_sha256"] != rows_digest(rows):
        raise ValueError(f"{folder} was trained on another manifest ({stored['rows']} rows there, {len(rows)} here); use the same one")
    if stored.get("target_sha256") != (rows_digest(target) if target else None):
        there_are = stored.get("target_rows", 0)
        raise ValueError(f"{folder} was adapted to another target ({there_are} rows there, {len(target)} here); use the same one")


def as_now(stored: dict[str, Any], run: Run) -> dict[str, Any]:
    """A stored run with the fields that moodcast has got since, at their defaults; as it is where it is of a kind that `run` is not."""
    try:
        known: dict[str, Any] = json.loads(json.dumps(run_to_dict(run_from_dict(stored, trust_of(run)))))
    except (ValueError, KeyError, TypeError):
        return stored
    return known


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by epoch. Each was renamed into place when whole, so whatever is here can be used."""
    return {int(path.name.removeprefix("epoch_")): path for path in sorted((folder / CHECKPOINTS).glob("epoch_*"))}


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch lies."""
    return folder / CHECKPOINTS / f"epoch_{epoch:04d}"


def kept_epoch(lines: Sequence[Mapping[str, Any]], keep: str) -> int:
    """The epoch that becomes the bundle, given the metrics so far: the best on dev (the latest of equals), or the last.

    Best by UAR, or by the mean of UAR and CCC where attributes are learned beside classes; a CCC that is not known counts as 0.
    """
    if keep == "last" or any("dev_uar" not in line for line in lines):
        return len(lines) - 1
    names = ["dev_uar", *(["dev_ccc"] if any("dev_ccc" in line for line in lines) else [])]
    return max(range(len(lines)), key=lambda epoch: (sum(lines[epoch].get(name, 0.0) for name in names), epoch))


def write_json(path: Path, data: Any) -> None:
    """The whole file or none of it: a reader never sees half."""
    write_whole(path, json.dumps(data) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """What lies there, or None."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines; none where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines() if line]


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """One more JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(data) + "\n")


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings by dotted path."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found
