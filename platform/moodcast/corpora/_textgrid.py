"""Tiers of a Praat TextGrid (long or short text form), as far as forced aligners write them: intervals with labels."""

from __future__ import annotations

import re
from pathlib import Path

TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![\w."])(-?\d+(?:\.\d+)?)(?![\w"\]])')

Token = tuple[str | None, float | None]
Spans = tuple[tuple[str, float, float], ...]


def read_tiers(path: Path) -> dict[str, Spans]:
    """(label, start_s, stop_s) by the tier's name in lower case; intervals without a label are left out.

    Raises ValueError where the file is no TextGrid.
    """
    raw = path.read_bytes()
    text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    found: list[Token] = [(None, float(number)) if number else (word.replace('""', '"'), None) for word, number in TOKEN.findall(text)]
    if ("TextGrid", None) not in found[:3]:
        raise ValueError(f"{path} is no TextGrid; take it away, or align it again")
    tiers: dict[str, Spans] = {}
    place = 0
    while (place := _next(found, place)) < len(found):
        name = str(found[place + 1][0]).lower()
        count = int(found[place + 4][1] or 0)
        body = found[place + 5 : place + 5 + 3 * count]
        triples = zip(body[0::3], body[1::3], body[2::3], strict=False)
        spans = [(str(label), float(start or 0), float(stop or 0)) for (_, start), (_, stop), (label, _) in triples if label]
        tiers[name] = tuple(spans)
        place += 5 + 3 * count
    return tiers


def _next(tokens: list[Token], place: int) -> int:
    """Where the next tier of intervals begins."""
    while place < len(tokens) and tokens[place][0] != "IntervalTier":
        place += 1
    return place
