"""From raw answers to final ones, a timeline to a timeline: centred on each speaker, smoothed, and withheld where they are not sure.

Centring (`adapted`) needs all turns of a speaker, so it is done when the last segment is known; what came before, one by one, is raw. Each
of a speaker's answered turns counts as one recording of `moodcast.study.speaker`, whose guard decides how far to believe it. It knows
answers to utterances: where those to turns are cooler (`moodcast.bundle.Calibration`), it is shown them as they were before. The verdict is
kept in `Timeline.adaptation`, the values before in `raw`.

Smoothing (`smoothed`) is "median:N": each chunk's probabilities become the median over the N chunks around it in its turn, each turn's
the median over the N turns of its speaker around it, and are normalised again.

Withholding (`withheld`) is last: answers whose most probable class has a probability below `min_confidence` get the status
"low_confidence" and no emotion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodcast.study import speaker
from moodcast.timeline import Adaptation, Segment, Timeline

Floats = NDArray[np.float64]
REFINED = ("adapt", "smooth", "min_confidence")  # in a timeline's provenance
ANSWERED = ("ok", "low_confidence")
ADAPT = False  # by default; docs/log.md says why
WIDEST = 99  # neighbours that a median is taken of: whoever asks a service for more asks for all of its memory


@dataclass(frozen=True)
class Refinement:
    """What is done to raw answers.

    smooth: "" or "median:N", N odd, 3 to WIDEST; min_confidence in [0, 1], None for what the bundle asks for; cooled: the bundle's
    `Calibration.cooled`.

    Raises ValueError for anything else.
    """

    adapt: bool = ADAPT
    smooth: str = ""
    min_confidence: float | None = None
    cooled: float = 1.0

    def __post_init__(self) -> None:
        if self.smooth and not _width(self.smooth):
            raise ValueError(f"smoothing {self.smooth!r} is not known; wanted median:N with N odd, 3 to {WIDEST}, for example median:3")
        if not 0.0 <= (self.min_confidence or 0.0) <= 1.0:
            raise ValueError(f"a confidence lies between 0 and 1, got min_confidence={self.min_confidence}")

    @property
    def provenance(self) -> dict[str, str]:
        """What a timeline says was done; nothing where nothing was."""
        told = ("speaker" if self.adapt else "", self.smooth, f"{self.min_confidence:g}" if self.min_confidence else "")
        return {name: value for name, value in zip(REFINED, told, strict=True) if value}


def refined(timeline: Timeline, how: Refinement) -> Timeline:
    """The timeline with all that is asked for done to its raw answers, in the order of the module's text, and its provenance.

    What was done to it before is undone first.
    """
    timeline = unrefined(timeline)
    found = adapted(timeline, how.cooled) if how.adapt else timeline
    found = smoothed(found, _width(how.smooth)) if how.smooth else found
    rows = tuple(withheld(segment, how.min_confidence or 0.0) for segment in found.segments)
    return found.model_copy(update={"segments": rows, "provenance": {**timeline.provenance, **how.provenance}})


def unrefined(timeline: Timeline) -> Timeline:
    """The timeline with its raw answers, none of them withheld, as if nothing had been asked for."""
    made = {name: told for name, told in timeline.provenance.items() if name not in REFINED}
    rows = tuple(_answered_raw(row) if is_answered(row) else row for row in timeline.segments)
    return timeline.model_copy(update={"segments": rows, "adaptation": (), "provenance": made})


def adapted(timeline: Timeline, cooled: float = 1.0) -> Timeline:
    """Each speaker's answers, of turns and of chunks, centred on what is usual for that speaker as far as the guard believes it.

    cooled: how many times cooler they are than those that the guard knows.
    """
    if len(timeline.classes) < 2:
        return timeline
    rows = list(timeline.segments)
    verdicts = []
    for name in timeline.speakers:
        own = [i for i, row in enumerate(rows) if row.speaker == name and is_answered(row)]
        logs = _tempered(_logs([rows[i].emotions for i in own], timeline.classes), 1 / cooled)
        of = speaker.usual(logs) if own else speaker.Usual(np.zeros(len(timeline.classes)), 0, 0.0, 0.0)
        centre = {label: round(float(x), 6) for label, x in zip(timeline.classes, of.centre, strict=True)}
        told = Adaptation(speaker=name, turns=of.num, centre=centre, information=round(of.information, 6), mixed=of.mixed, why=of.why)
        verdicts.append(told)
        if not own or of.mixed <= 0:
            continue
        for i, moved in zip(own, np.exp(_tempered(speaker.adapted(logs, of), cooled)), strict=True):
            inside = _tempered(_logs([chunk.emotions for chunk in rows[i].chunks], timeline.classes), 1 / cooled)
            centred = np.exp(_tempered(speaker.adapted(inside, of), cooled)) if len(inside) else ()
            rows[i] = changed(rows[i], moved, centred, timeline.classes)
    return timeline.model_copy(update={"segments": tuple(rows), "adaptation": tuple(verdicts)})


def smoothed(timeline: Timeline, width: int) -> Timeline:
    """Medians over `width` neighbours: chunks within their turn, turns among those of their speaker."""
    rows = list(timeline.segments)
    for name in timeline.speakers:
        own = [i for i, row in enumerate(rows) if row.speaker == name and is_answered(row)]
        turns = _medians(_table([rows[i].emotions for i in own], timeline.classes), width)
        for i, values in zip(own, turns, strict=True):
            inside = _medians(_table([chunk.emotions for chunk in rows[i].chunks], timeline.classes), width)
            rows[i] = changed(rows[i], values, inside, timeline.classes)
    return timeline.model_copy(update={"segments": tuple(rows)})


def withheld(segment: Segment, min_confidence: float) -> Segment:
    """The segment with or without its emotion, as its confidence has it; one that was not answered stays as it is."""
    if not is_answered(segment):
        return segment
    best = max(segment.emotions, key=lambda name: segment.emotions[name])
    sure = segment.emotions[best] >= min_confidence
    return segment.model_copy(
        update={
            "emotion": best if sure else None,
            "confidence": segment.emotions[best],
            "status": "ok" if sure else "low_confidence",
        }
    )


def is_answered(segment: Segment) -> bool:
    """Whether there are probabilities of classes, however sure."""
    return segment.status in ANSWERED and bool(segment.emotions)


def changed(segment: Segment, values: Floats, chunks: Sequence[Floats] | Floats, classes: Sequence[str]) -> Segment:
    """The segment with other probabilities [K], and its chunks with theirs [C, K]; what they were before anything was done is kept."""
    emotions = _named(values, classes)
    rows = tuple(
        chunk.model_copy(update={"emotions": _named(row, classes), "raw": chunk.raw or chunk.emotions})
        for chunk, row in zip(segment.chunks, chunks, strict=True)
    )
    best = max(emotions, key=lambda name: emotions[name])
    new = {"emotion": best, "confidence": emotions[best], "emotions": emotions, "raw": segment.raw or segment.emotions, "chunks": rows}
    return segment.model_copy(update=new)


def _answered_raw(segment: Segment) -> Segment:
    chunks = tuple(chunk.model_copy(update={"emotions": chunk.raw or chunk.emotions, "raw": {}}) for chunk in segment.chunks)
    return withheld(segment.model_copy(update={"emotions": segment.raw or segment.emotions, "raw": {}, "chunks": chunks}), 0.0)


def _width(smooth: str) -> int:
    """The N of "median:N"; 0 for anything else."""
    found = re.fullmatch(r"median:([0-9]{1,2})", smooth)
    width = int(found[1]) if found else 0
    return width if 3 <= width <= WIDEST and width % 2 else 0


def _medians(values: Floats, width: int) -> Floats:
    """[N, K] -> [N, K], rows sum to 1; the first and the last row stand for their missing neighbours."""
    if not len(values):
        return values
    padded = np.pad(values, ((width // 2, width // 2), (0, 0)), mode="edge")
    found = np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=0), axis=-1)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12))


def _table(rows: Sequence[Mapping[str, float]], classes: Sequence[str]) -> Floats:
    return np.array([[row[name] for name in classes] for row in rows], dtype=np.float64).reshape(len(rows), len(classes))


def _logs(rows: Sequence[Mapping[str, float]], classes: Sequence[str]) -> Floats:
    return np.asarray(np.log(np.clip(_table(rows, classes), speaker.TINY, 1.0)))


def _tempered(logs: Floats, temperature: float) -> Floats:
    """Log-probabilities [N, K] divided by a temperature and normalised again."""
    if temperature == 1.0:
        return logs
    cooler = logs / temperature
    return np.asarray(cooler - np.logaddexp.reduce(cooler, axis=1, keepdims=True))


def _named(values: Floats, classes: Sequence[str]) -> dict[str, float]:
    return {name: min(1.0, round(float(p), 6)) for name, p in zip(classes, values, strict=True)}
