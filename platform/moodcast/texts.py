"""Text files that people hand over: in UTF-8, with a byte order mark or without, and tables of it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SEPARATOR = re.compile(r'"?sep=([^"\n])"?\r?\n')  # a first line that Excel writes and reads, and shows to nobody


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, with a byte order mark or without. Raises ValueError for another encoding."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from None


def one_word(name: str) -> str:
    """A name as a field of RTTM or UEM, which white space ends: with underscores."""
    return "_".join(name.split()) or "unnamed"


@contextmanager
def open_csv(path: str | Path, separator: str = ",") -> Iterator[csv.DictReader[str]]:
    """The records of a CSV file in UTF-8; a first line sep=; as Excel writes it names the separator and is no header.

    Raises ValueError, with the line, for quotes that are not doubled or not closed.
    """
    text = read_text(path)
    if told := SEPARATOR.match(text):
        text, separator = text[told.end() :], told[1]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        yield reader
    except csv.Error as error:
        line = reader.reader.line_num + (1 if told else 0)
        raise ValueError(f"{path}, line {line}: {error}; a quote inside of a quoted text is written twice") from None
