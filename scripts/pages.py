"""What the scripts of this folder share that write pages: tables between markers, and writing a page or only checking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def filled(page: Path, script: str, tables: Mapping[str, str]) -> str:
    """The text of a page with each table between its markers. Raises ValueError where the page lacks them.

    Those of "means" are `<!-- means: begin (scripts/SCRIPT.py) -->` and `<!-- means: end -->`: who edits the page sees what writes there.
    """
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = f"<!-- {name}: begin (scripts/{script}.py) -->", f"<!-- {name}: end -->"
        if begin not in text or end not in text:
            raise ValueError(f"{page.name} lacks the markers {begin} and {end}")
        text = text.split(begin)[0] + begin + "\n" + table + "\n" + end + text.split(end)[1]
    return text


def settle(wanted: Mapping[Path, str], script: str, words: Sequence[str]) -> int:
    """Write the pages that do not hold what they should, or with the word "--check" only name them; the exit code, 1 for named ones."""
    check = "--check" in words
    stale = [page for page, text in wanted.items() if not page.is_file() or page.read_text(encoding="utf-8") != text]
    for page in stale:
        if check:
            print(f"{page.relative_to(ROOT)} is out of date: run python scripts/{script}.py")
        else:
            page.write_text(wanted[page], encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")
    return int(check and bool(stale))
