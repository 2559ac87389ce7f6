"""A folder of recordings without labels, at any depth: what adaptation needs of a target domain.

Source: your own. Terms: yours.

Layout: any audio or video files below the folder. Labels: none. Splits: none; every recording goes to train, since there is nothing to
score. Speakers are unknown unless speaker=folder says that each folder is one, or speaker=REGEX finds the name in the path, in its
first group.
"""

from __future__ import annotations

import re
from pathlib import Path

from moodcast.corpora._table import recordings_below
from moodcast.manifest import Utterance

LABELS = "none"
EMOTIONS: dict[str, str] = {}


def prepare(source: Path, *, corpus: str = "", language: str | None = None, speaker: str | None = None) -> list[Utterance]:
    """One row a file. corpus: its name (default: the folder's).

    Raises ValueError for a folder without recordings, and where `speaker` finds nobody in any path.
    """
    name = corpus or source.absolute().name
    rows = []
    for path in recordings_below(source):
        inside = path.relative_to(source)
        rows.append(
            Utterance(
                id=f"{name}/{inside.as_posix()}",
                path=str(path.absolute()),
                corpus=name,
                language=language,
                speaker=speaker_of(inside, speaker),
                split="train",
            )
        )
    if speaker is not None and not any(row.speaker for row in rows):
        raise ValueError(f"speaker={speaker} finds no speaker in any of {len(rows)} paths; the first is {rows[0].path}")
    return rows


def speaker_of(inside: Path, how: str | None) -> str | None:
    """The speaker of a path by "folder" (the folder it lies in) or a regular expression with one group; None where it does not match."""
    if how is None:
        return None
    if how == "folder":
        return inside.parent.as_posix() if inside.parent.name else None
    try:
        found = re.search(how, inside.as_posix())
    except re.error as error:
        raise ValueError(
            f"speaker={how!r} is no regular expression ({error}); write one with a group, such as speaker=(\\w+)_\\d+"
        ) from None
    if found is not None and not found.groups():
        raise ValueError(f"speaker={how!r} has no group; put parentheses around what names the speaker")
    return found[1] if found else None
