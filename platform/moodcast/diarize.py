"""Who speaks when: turns, what finds them (a Diarizer), and turns that are known already. The diarizer that comes along: embedded.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moodcast.texts import one_word, read_text

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Turn:
    """One speaker from start_s to stop_s, seconds; `overlap` where somebody else is heard too.

    speech: the share of the turn in which a speech detector hears somebody; None where none was asked.
    """

    speaker: str
    start_s: float
    stop_s: float
    overlap: bool = False
    speech: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds from start to stop."""
        return self.stop_s - self.start_s


class Diarizer(Protocol):
    """What finds the turns of a recording."""

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns by start time, none where nobody speaks. wave: mono samples [N] at `rate` Hz."""


@dataclass(frozen=True)
class Given:
    """Turns that the user knows already; asking for a number of speakers changes nothing."""

    turns: tuple[Turn, ...]
    name: str = "given"

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """The given turns by start time, cut at the end of the recording."""
        end_s = len(wave) / rate
        turns = [replace(turn, stop_s=min(turn.stop_s, end_s)) if turn.start_s < end_s else turn for turn in self.turns]
        return sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))


def read_rttm(path: str | Path, uri: str | None = None, likely: str | None = None) -> list[Turn]:
    """The SPEAKER lines of an RTTM file (NIST RT-09) as turns by start time; turns that meet another speaker are marked `overlap`.

    uri: which recording, where the file holds several; likely: the same, but a file of one recording may call it otherwise. Raises
    ValueError for a line that is not RTTM, a recording that is not there, or several where none was named.
    """
    by_uri: dict[str, list[Turn]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start_s, duration_s, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: wanted SPEAKER uri 1 start duration <NA> <NA> speaker ..., got {line!r}") from error
        if not (start_s >= 0 and 0 <= duration_s < float("inf")):
            raise ValueError(f"{path}, line {number}: wanted a start of at least 0 and a finite duration of at least 0, got {line!r}")
        if duration_s > 0:
            by_uri.setdefault(fields[1], []).append(Turn(speaker, start_s, start_s + duration_s))
    if uri is None and len(by_uri) > 1 and (uri := likely) is None:
        raise ValueError(f"{path} holds turns of {len(by_uri)} recordings ({_some(by_uri)}); name one with uri")
    if uri is not None and uri not in by_uri and (uri := one_word(asked := uri)) not in by_uri:
        raise ValueError(f"{path} holds no turns of {asked!r}, only of {_some(by_uri)}")
    return mark_overlap(by_uri[uri] if uri is not None else [turn for turns in by_uri.values() for turn in turns])


def mark_overlap(turns: Iterable[Turn]) -> list[Turn]:
    """The turns by start time, `overlap` set where a turn of somebody else shares time with it."""
    rows = sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))
    marked = [False] * len(rows)
    open_rows: list[int] = []
    for i, turn in enumerate(rows):
        open_rows = [j for j in open_rows if rows[j].stop_s > turn.start_s]
        for j in open_rows:
            if rows[j].speaker != turn.speaker:
                marked[i] = marked[j] = True
        open_rows.append(i)
    return [replace(turn, overlap=flag) for turn, flag in zip(rows, marked, strict=True)]


def join(turns: Iterable[Turn], join_s: float) -> list[Turn]:
    """Neighbouring turns of one speaker less than `join_s` apart as one; turns by start time, not overlapping."""
    joined: list[Turn] = []
    for turn in turns:
        last = joined[-1] if joined else None
        if last is not None and last.speaker == turn.speaker and turn.start_s - last.stop_s < join_s:
            joined[-1] = replace(last, stop_s=turn.stop_s)
        else:
            joined.append(turn)
    return joined


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "") if listed else "none"
