"""Tiers of a Praat TextGrid (long or short text form), as far as forced aligners write them: intervals with labels."""

from __future__ import annotations

import re
from pathlib import Path

TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![\w."+-])([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\w."\]])')

Token = tuple[str | None, float | None]
Spans = tuple[tuple[str, float, float], ...]


def read_tiers(path: Path) -> dict[str, Spans]:
    """(label, start_s, stop_s) by the tier's name in lower case; intervals without a label are left out.

    Raises ValueError where the file is no TextGrid, or with the place where something else stands than a tier or an interval has.
    """
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    found: list[Token] = [(None, float(number)) if number else (word.replace('""', '"'), None) for word, number in TOKEN.findall(text)]
    if ("TextGrid", None) not in found[:3]:
        raise ValueError(f"{path} is no TextGrid; take it away, or align it again")
    tiers: dict[str, Spans] = {}
    place = 0
    while (place := _next(found, place)) < len(found):
        name, count = _head(found[place + 1 : place + 5], path)
        place += 5
        rows = (found[first : first + 3] for first in range(place, place + 3 * count, 3))
        spans = [_span(row, f"{path}: interval {number} of the tier {name!r}") for number, row in enumerate(rows, start=1)]
        tiers[name.lower()] = tuple(span for span in spans if span[0])
        place += 3 * count
    return tiers


def _head(tokens: list[Token], path: Path) -> tuple[str, int]:
    """The name of a tier and how many intervals it has. Raises ValueError for what is no head of a tier."""
    match tokens:
        case [(str(name), None), (None, float()), (None, float()), (None, float(count))] if count.is_integer() and count >= 0:
            return name, int(count)
    raise ValueError(f"{path}: a tier begins with {_told(tokens)}; wanted a name, a start, a stop and how many intervals; align it again")


def _span(tokens: list[Token], where: str) -> tuple[str, float, float]:
    """(label, start_s, stop_s) of an interval. Raises ValueError, with the place, for what is none."""
    match tokens:
        case [(None, float(start_s)), (None, float(stop_s)), (str(label), None)]:
            return label, start_s, stop_s
    raise ValueError(f"{where} is {_told(tokens)}; wanted a start, a stop and a label; align it again")


def _told(tokens: list[Token]) -> str:
    """Tokens for a message, or that there are none."""
    return ", ".join(repr(word) if number is None else f"{number:g}" for word, number in tokens) or "the end of the file"


def _next(tokens: list[Token], place: int) -> int:
    """Where the next tier of intervals begins."""
    while place < len(tokens) and tokens[place][0] != "IntervalTier":
        place += 1
    return place
