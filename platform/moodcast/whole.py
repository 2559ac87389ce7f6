"""Files that are written whole or not at all: a reader, or a machine that stops half way, never leaves half of one in its place."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 200  # bytes of a name that is kept in that of its half; file systems take 255


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Inside, a place beside `path` for a file or a folder; after it, what was written there is `path`, unless something was raised.

    Of a folder that is there already, files of the same names are replaced and others stay. A link stays one, and a file keeps its
    permissions. What is no file, such as a pipe, and a file in a folder that takes no new ones are written to as they are. An OSError
    names `path`.

    >>> with whole("figures.txt") as half:  # doctest: +SKIP
    ...     half.write_text("42")
    """
    path = Path(path)
    if path.exists() and not path.is_dir() and not (path.is_file() and os.access(path.resolve().parent, os.W_OK)):
        yield path
        return
    if path.is_file() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    place = path.resolve()
    name = place.name if len(os.fsencode(place.name)) <= LONGEST else hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]
    half = place.with_name(f".{name}.{os.getpid()}")
    try:
        yield half
        _replace(half, place)
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).startswith(str(half))):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            with suppress(OSError):
                half.unlink()


def _replace(half: Path, place: Path) -> None:
    if half.is_dir() and place.is_dir():
        for made in half.iterdir():
            os.replace(made, place / made.name)
        return
    if place.is_file():
        shutil.copymode(place, half)
    try:
        os.replace(half, place)
    except OSError as error:
        if error.errno != errno.EBUSY:  # a file that is mounted itself cannot be replaced
            raise
        shutil.copyfile(half, place)


def write_whole(path: str | Path, text: str) -> None:
    """A text in UTF-8, line ends as they are."""
    with whole(path) as half:
        half.write_text(text, encoding="utf-8", newline="")
