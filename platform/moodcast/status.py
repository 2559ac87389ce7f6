"""Whether a turn can be answered. Where it cannot, a status says why, instead of an emotion that would be made up.

The thresholds: too short below 0.3 s; silence below -80 dBFS (speech of far, quiet microphones lies near -50); no speech where silero-vad
hears somebody in less than a tenth of the frames, which holds of 95 % of environmental sounds, of one in a hundred acted utterances (the
shouted ones) and of next to no spoken one (docs/log.md); overlap where somebody else speaks in more than half of the turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moodcast.chunks import samples_of
from moodcast.diarize import Turn
from moodcast.timeline import Status

MIN_TURN_S = 0.3
SILENCE_DBFS = -80.0  # RMS
MIN_SPEECH = 0.1  # share of a turn
MOST_OVERLAP = 0.5  # share of a turn

Wave = NDArray[np.float32]


def status_of(piece: Wave, rate: int, speech: float | None = None, overlap: float = 0.0) -> Status:
    """The status of a turn with samples [N] at `rate` Hz: the first of the reasons above that holds, else "ok".

    speech: the share in which a detector hears somebody, None where none was asked; overlap: the share in which somebody else speaks.
    """
    if len(piece) < samples_of(MIN_TURN_S, rate):
        return "too_short"
    if float(np.mean(np.square(piece, dtype=np.float64))) < 10 ** (SILENCE_DBFS / 10):
        return "silence"
    if speech is not None and speech < MIN_SPEECH:
        return "non_speech"
    return "overlap" if overlap > MOST_OVERLAP else "ok"


def overlap_shares(turns: Sequence[Turn]) -> list[float]:
    """The share of each turn in which a turn of somebody else runs, too; turns by start time."""
    found: list[list[tuple[float, float]]] = [[] for _ in turns]
    open_rows: list[int] = []
    for i, turn in enumerate(turns):
        open_rows = [j for j in open_rows if turns[j].stop_s > turn.start_s]
        for j in open_rows:
            if turns[j].speaker != turn.speaker:
                span = (turn.start_s, min(turn.stop_s, turns[j].stop_s))
                found[i].append(span)
                found[j].append(span)
        open_rows.append(i)
    return [_covered(spans) / turn.duration_s if turn.duration_s > 0 else 0.0 for turn, spans in zip(turns, found, strict=True)]


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that spans cover together."""
    total, end = 0.0, 0.0
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
