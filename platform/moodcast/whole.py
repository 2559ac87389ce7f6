"""Files that are written whole or not at all: a reader, or a machine that stops half way, never leaves half of one in its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Inside, a place beside `path` for a file or a folder; after it, what was written there is `path`, unless something was raised.

    Of a folder that is there already, files of the same names are replaced and others stay. A link stays one; what is no file, such as
    /dev/stdout, is written to as it is. An OSError names `path`.

    >>> with whole("figures.txt") as half:  # doctest: +SKIP
    ...     half.write_text("42")
    """
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file() and not place.is_dir():
        yield place
        return
    half = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        yield half
        if half.is_dir() and place.is_dir():
            for made in half.iterdir():
                os.replace(made, place / made.name)
        else:
            os.replace(half, place)
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).startswith(str(half))):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)


def write_whole(path: str | Path, text: str) -> None:
    """A text in UTF-8, line ends as they are."""
    with whole(path) as half:
        half.write_text(text, encoding="utf-8", newline="")
