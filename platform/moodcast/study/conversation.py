"""The whole chain scored on conversations: who spoke when, what was felt, and both at once. Errors are seconds, so that files add up.

DER    (missed + false alarm + speaker confusion) / reference speech, and its parts
JER    the mean over reference speakers of 1 - intersection / union (Ryant et al., DIHARD II, Interspeech 2019)
TEER   (missed + false alarm + emotion confusion) / reference speech, whoever spoke; sTEER where speaker and emotion must both be right,
       after the best mapping of speakers (Wu, Zhang, Woodland, "Integrating Emotion Recognition with Speech Recognition and Speaker
       Diarisation for Conversations", Interspeech 2023)
EDER   the same for emotions other than "neutral", over the scored time (Wang et al., "Speech Emotion Diarization: Which Emotion
       Appears When?", ASRU 2023)

All by pyannote.metrics, with its collar and its way of overlap. Where a reference knows no emotion, emotion is not scored; a turn that is
answered with a status instead of an emotion counts as missed. Shapes: N conversations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment  # type: ignore[import-untyped]
from pyannote.core import Timeline as Region
from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate
from pyannote.metrics.identification import IdentificationErrorRate
from pydantic import ValidationError

from moodcast import metrics
from moodcast.diarize import Turn, read_rttm
from moodcast.study import coverage
from moodcast.study.coverage import WHOLE, Judged, judge, measures
from moodcast.texts import open_csv, read_text
from moodcast.timeline import Segment as Row
from moodcast.timeline import Timeline

NEUTRAL = "neutral"
PARTS = ("missed detection", "false alarm", "confusion")
LONG_S = (1.0, 3.0)  # reference turns are short below the first, long from the second on
COLUMNS = ("start_s", "stop_s", "speaker")
Label = Callable[[Row], str | None]


@dataclass(frozen=True)
class Errors:
    """Seconds of missed speech, false alarm and confusion, and of what they are a share of."""

    missed_s: float
    false_alarm_s: float
    confusion_s: float
    total_s: float

    @property
    def array(self) -> NDArray[np.float64]:
        """The four as [4]."""
        return np.array([self.missed_s, self.false_alarm_s, self.confusion_s, self.total_s])


@dataclass(frozen=True)
class Score:
    """One conversation: errors by what was asked of it ("der", "teer", "steer", "eder", "teer, overlapped speech", ...).

    jaccard: summed 1 - intersection / union, and the number of reference speakers. judged: the found turns beside their true emotion,
    as far as they are scored.
    """

    uri: str
    errors: dict[str, Errors]
    jaccard: tuple[float, float]
    speakers: int
    speakers_found: int
    judged: tuple[Judged, ...] = ()


def score(reference: Timeline, found: Timeline, region: Region | None = None, collar_s: float = 0.0, overlap: bool = True) -> Score:
    """Score what was found against a reference, within `region` (all of the recording where it is None).

    collar_s: seconds around each reference boundary that do not count, half on either side. overlap=False leaves overlapped speech out.
    Raises ValueError where the region lies after the end of the recording.
    """
    whole = Segment(0.0, max(reference.duration_s, found.duration_s))
    scored = region if region is not None else Region([whole])
    if region and not region.crop(whole):
        raise ValueError(f"what is to be scored of {reference.uri} begins after the end of the recording ({whole.end:.2f} s)")
    settings: dict[str, Any] = {"collar": collar_s, "skip_overlap": not overlap}
    said, heard = (annotation(part, lambda row: row.speaker) for part in (reference, found))
    diarization = DiarizationErrorRate(**settings)
    errors = {"der": errors_of(diarization(said, heard, uem=scored, detailed=True))}
    jaccard = JaccardErrorRate(**settings)(said, heard, uem=scored, detailed=True)  # type: ignore[no-untyped-call]
    known = without(scored, [row for row in reference.segments if row.emotion is None])
    if known and any(row.emotion for row in reference.segments):
        names = diarization.optimal_mapping(said, heard, uem=scored)
        errors |= emotional(reference, found, names, counted(said, heard, known, collar_s, overlap))
    return Score(
        reference.uri,
        errors,
        (float(jaccard["speaker error"]), float(jaccard["speaker count"])),
        len(said.crop(scored).labels()),
        len(heard.crop(scored).labels()),
        judge(reference, found, _spans(region)) if "teer" in errors else (),
    )


def counted(said: Annotation, heard: Annotation, scored: Region, collar_s: float, overlap: bool) -> Region:
    """What is left of `scored` without the collars of all reference turns `said` and, unless `overlap`, where they overlap."""
    rate: Any = DiarizationErrorRate()
    left: Region = rate.uemify(said, heard, scored, collar_s, skip_overlap=not overlap, returns_uem=True)[2]
    return left


def emotional(reference: Timeline, found: Timeline, names: dict[str, str], scored: Region) -> dict[str, Errors]:
    """TEER, sTEER and EDER, and TEER of overlapped speech, of other speech, and of short, middle and long turns, all within `scored`."""

    def identified(label: Label, mapped: Label, where: Region, over_s: float | None = None) -> Errors:
        rate = IdentificationErrorRate()
        return errors_of(rate(annotation(reference, label), annotation(found, mapped), uem=where, detailed=True), over_s)

    def felt(row: Row) -> str | None:
        return row.emotion

    def moved(row: Row) -> str | None:
        return None if row.emotion == NEUTRAL else row.emotion

    def both(name: str, row: Row) -> str | None:
        return f"{name}\t{row.emotion}" if row.emotion else None

    result = {
        "teer": identified(felt, felt, scored),
        "steer": identified(lambda row: both(row.speaker, row), lambda row: both(names.get(row.speaker, f"? {row.speaker}"), row), scored),
        "eder": identified(moved, moved, scored, scored.duration()),
    }
    doubled = annotation(reference, lambda row: row.speaker).get_overlap()
    parts = {
        "overlapped speech": scored.crop(doubled),
        "other speech": scored.crop(doubled.gaps(scored.extent())) if doubled else scored,
        f"turns below {LONG_S[0]:g} s": turns_of(reference, 0.0, LONG_S[0], scored),
        f"turns of {LONG_S[0]:g} to {LONG_S[1]:g} s": turns_of(reference, LONG_S[0], LONG_S[1], scored),
        f"turns from {LONG_S[1]:g} s on": turns_of(reference, LONG_S[1], np.inf, scored),
    }
    return result | {f"teer, {name}": identified(felt, felt, where) for name, where in parts.items() if where.duration() > 0}


def annotation(timeline: Timeline, label: Label) -> Annotation:
    """Segments as pyannote knows them, under a label each; those without a label are left out."""
    made = Annotation(uri=timeline.uri)
    for index, row in enumerate(timeline.segments):
        if row.duration_s > 0 and (name := label(row)) is not None:
            made[Segment(row.start_s, row.stop_s), index] = name
    return made


def turns_of(reference: Timeline, least_s: float, below_s: float, scored: Region) -> Region:
    """Where reference turns of such a duration are, within what is scored."""
    spans = [Segment(row.start_s, row.stop_s) for row in reference.segments if least_s <= row.duration_s < below_s]
    return scored.crop(Region(spans).support())


def without(region: Region, rows: Iterable[Row]) -> Region:
    """The region less the rows' time."""
    hidden = Region([Segment(row.start_s, row.stop_s) for row in rows if row.duration_s > 0]).support()
    return region.crop(hidden.gaps(region.extent())) if hidden else region


def errors_of(parts: Any, over_s: float | None = None) -> Errors:
    """What a metric of pyannote counted, as a share of reference speech or of `over_s` seconds."""
    missed, alarm, confusion = (float(parts[name]) for name in PARTS)
    return Errors(missed, alarm, confusion, float(parts["total"]) if over_s is None else over_s)


def rate(sums: metrics.Counts) -> metrics.Counts:
    """The error rate of summed `Errors.array` [..., 4]: [...]; NaN where there is nothing to be a share of."""
    total = sums[..., 3]
    share: metrics.Counts = np.divide(sums[..., :3].sum(-1), total, out=np.full_like(total, np.nan), where=total > 0)
    return share


def pooled(scores: Sequence[Score]) -> dict[str, metrics.Interval]:
    """Error rates of all conversations together, with a 95 % interval by bootstrap over conversations.

    "jer" beside those of `Score`, and of judged turns "uar", "ece", "coverage" and "accuracy" (`coverage.measures`).
    """
    names = dict.fromkeys(name for one in scores for name in one.errors)
    sums = {name: np.stack([one.errors[name].array for one in scores if name in one.errors]) for name in names}
    found = {name: metrics.speaker_bootstrap(rate, values, bounds=(0.0, np.inf)) for name, values in sums.items()}
    found["jer"] = metrics.speaker_bootstrap(metrics.mean, np.array([one.jaccard for one in scores]))
    classes = sorted(
        {row.truth for one in scores for row in one.judged} | {name for one in scores for row in one.judged for name in row.emotions}
    )
    return found | measures([one.judged for one in scores], classes)


def count_error(scores: Sequence[Score]) -> tuple[metrics.Interval, metrics.Interval]:
    """By how many the number of speakers is off in the mean, and the share of conversations with the right number."""
    off = np.array([abs(one.speakers_found - one.speakers) for one in scores], dtype=np.float64)
    return (
        metrics.speaker_bootstrap(metrics.mean, metrics.with_count(off), bounds=(0.0, np.inf)),
        metrics.speaker_bootstrap(metrics.mean, metrics.with_count(off == 0)),
    )


def trivial(found: Timeline, class_counts: Mapping[str, int]) -> Timeline:
    """What knows nothing of voices: the same speech said by one speaker, in the class that is most frequent in training."""
    total = sum(class_counts.values()) or 1
    emotions = {name: class_counts.get(name, 0) / total for name in found.classes}
    best = max(emotions, key=lambda name: emotions[name], default=None)
    told = {
        "speaker": "anybody",
        "emotion": best,
        "emotions": emotions,
        "confidence": emotions.get(best or ""),
        "status": "ok",
        "chunks": (),
    }
    rows: list[Row] = []
    for row in sorted(found.segments, key=lambda row: row.start_s):
        if rows and row.start_s < rows[-1].stop_s:  # of one speaker nothing overlaps
            rows[-1] = rows[-1].model_copy(update={"stop_s": max(rows[-1].stop_s, row.stop_s)})
        else:
            rows.append(row.model_copy(update=told))
    return found.model_copy(update={"segments": tuple(rows)})


def read_reference(path: str | Path, uri: str | None = None, likely: str | None = None) -> Timeline:
    """A reference: a timeline as JSON; its CSV (start_s, stop_s, speaker, and emotion where it is known); or RTTM, speakers alone.

    uri, likely: which recording, where an RTTM file holds several (`moodcast.diarize.read_rttm`). Raises ValueError for another suffix,
    or what cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no reference {path}; wanted a timeline as .json or .csv, or turns as .rttm")
    kind = path.suffix.lower()
    if kind == ".json":
        try:
            return Timeline.from_json(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if kind == ".rttm":
        rows = [
            Row(speaker=turn.speaker, start_s=turn.start_s, stop_s=turn.stop_s, overlap=turn.overlap)
            for turn in read_rttm(path, uri, likely=likely or path.stem)
        ]
    elif kind == ".csv":
        rows = list(_csv_rows(path))
    else:
        raise ValueError(f"{path}: a reference is a timeline as .json or .csv, or turns as .rttm, not {kind or 'without suffix'}")
    classes = tuple(sorted({row.emotion for row in rows if row.emotion}))
    return Timeline(uri=uri or path.stem, duration_s=max((row.stop_s for row in rows), default=0.0), classes=classes, segments=tuple(rows))


def find_reference(place: Path, stem: str, alone: bool = False) -> Timeline:
    """The reference of a recording: the file `place`, or `stem` with one of the suffixes in the folder `place`.

    alone: no other recording is asked for, so that a file of one may call it otherwise.
    """
    if not place.is_dir():
        return read_reference(place, None if alone or place.suffix.lower() != ".rttm" else stem, likely=stem)
    for suffix in (".json", ".csv", ".rttm"):
        if (path := place / f"{stem}{suffix}").is_file():
            return read_reference(path)
    raise ValueError(f"{place} has no reference of {stem}; wanted {stem}.json, {stem}.csv or {stem}.rttm")


def read_uem(path: str | Path) -> dict[str, Region]:
    """What a UEM file (NIST RT-09) says is scored of each recording, from lines `uri channel start stop`, times in seconds.

    Raises ValueError, with the line, for one that is not of that form.
    """
    spans: dict[str, list[Segment]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";"):
            continue
        try:
            start_s, stop_s = float(fields[2]), float(fields[3])
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: wanted uri channel start stop, got {line!r}") from error
        if not 0 <= start_s < stop_s < math.inf:
            raise ValueError(f"{path}, line {number}: wanted a start of at least 0 and a later stop, got {line!r}")
        spans.setdefault(fields[0], []).append(Segment(start_s, stop_s))
    return {uri: Region(parts).support() for uri, parts in spans.items()}


def to_dict(scores: Sequence[Score]) -> dict[str, Any]:
    """Rates with intervals, and the seconds behind them, as plain data for JSON; a rate of nothing is None."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    found = pooled(scores).items()

    def told(one: metrics.Interval) -> dict[str, float | None]:
        return {"rate": known(one.value), "low": known(one.low), "high": known(one.high)}

    off, right = count_error(scores)
    return {
        "rates": {name: told(one) for name, one in found},
        "speakers": {"off_by": told(off), "right": told(right)},
        "coverage": coverage.to_dict(coverage.curve([one.judged for one in scores])),
        "conversations": [{name: value for name, value in asdict(one).items() if name != "judged"} for one in scores],
    }


def unanswerable(references: Iterable[tuple[Timeline, Region | None]], classes: Sequence[str]) -> dict[str, float]:
    """Seconds of turns by emotion, of those that are none of the classes and so are never found, as far as they are scored.

    references: each with what is scored of it, all where that is None.
    """
    found: dict[str, float] = {}
    for reference, region in references:
        for row in reference.segments:
            if row.emotion is None or row.emotion in classes:
                continue
            scored_s = row.duration_s if region is None else region.crop(Segment(row.start_s, row.stop_s)).duration()
            if scored_s > 0:
                found[row.emotion] = found.get(row.emotion, 0.0) + scored_s
    return found


def turns(reference: Timeline) -> tuple[Turn, ...]:
    """The reference's turns, for answers that need no diarizer ("oracle turns")."""
    return tuple(Turn(row.speaker, row.start_s, row.stop_s, row.overlap) for row in reference.segments if row.duration_s > 0)


def _spans(region: Region | None) -> Sequence[coverage.Span]:
    """What is scored as spans that do not overlap; all of the recording where it is None."""
    return WHOLE if region is None else [(part.start, part.end) for part in region.support()]


def _csv_rows(path: Path) -> Iterable[Row]:
    with open_csv(path) as reader:
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}; wanted start_s, stop_s, speaker and, where known, emotion")
        for number, record in enumerate(reader, start=1):
            yield _csv_row(record, f"row {number} of {path}")


def _csv_row(record: Mapping[str, str | None], where: str) -> Row:
    cells = {name: (record.get(name) or "").strip() for name in (*COLUMNS, "emotion")}
    if empty := [name for name in COLUMNS if not cells[name]]:
        raise ValueError(f"{where} has no {' and no '.join(empty)}")
    try:
        return Row(
            start_s=float(cells["start_s"]), stop_s=float(cells["stop_s"]), speaker=cells["speaker"], emotion=cells["emotion"] or None
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(": ".join([where, *map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])) from None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
