"""Files of JSON lines that several processes add to: a line is there whole or not at all, and what is left of one is told."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any


def add(path: str | Path, row: Mapping[str, Any]) -> None:
    """One more line, on disk before anything rests on it; who adds at the same time waits.

    What a process that was killed left of a line is cut off first, and told on standard error. Raises OSError where there is no space;
    nothing of the line stays then.
    """
    line = memoryview((json.dumps(row) + "\n").encode())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _mend(file, path)
        end = file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise


def read(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a file, none where there is no file. Half of a last line is left out, and told on standard error.

    Raises ValueError where another line is no JSON object.
    """
    if not Path(path).is_file():
        return []
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        *lines, rest = file.read().split(b"\n")
    if rest and _row(rest) is None:
        print(f"{path}: half of line {len(lines) + 1} is left out; a process ended while it wrote", file=sys.stderr, flush=True)
    elif rest:
        lines.append(rest)
    rows = []
    for number, line in enumerate(lines, start=1):
        if (row := _row(line)) is None:
            raise ValueError(f"{path}: line {number} is no JSON object, as each line of such a file is; mend or remove it")
        rows.append(row)
    return rows


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _mend(file: FileIO, path: str | Path) -> None:
    """End a last line that lacks its end, or cut it off where it is half of one."""
    if not (size := file.seek(0, os.SEEK_END)):
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    rest = file.read().rpartition(b"\n")[2]
    if _row(rest) is not None:
        file.write(b"\n")
        return
    file.truncate(size - len(rest))
    print(f"{path}: half of its last line was cut off; a process ended while it wrote", file=sys.stderr, flush=True)
