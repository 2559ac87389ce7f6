"""Timelines as files for the tools that people use: one function a format, and `write`, which makes the files of a recording.

| name | file | opened by |
|---|---|---|
| json, csv, rttm, html | Timeline.to_json and its siblings | moodcast, spreadsheets, pyannote.database, a browser |
| parquet | one row a segment, typed, with what made it in the metadata | pandas, polars, DuckDB |
| audacity | a label track | Audacity: File, Import, Labels |
| textgrid | two interval tiers a speaker | Praat |
| eaf | the same tiers | ELAN |
| vtt | cues with the speaker as voice | players of video and of podcasts |
| audformat | a folder with a database of one table | audformat |

In tiers of one speaker nothing may overlap, so where a turn begins before the speaker's last one ends, it begins there.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from moodcast.extras import library
from moodcast.timeline import STATUSES, Segment, Timeline
from moodcast.whole import whole, write_whole

Sound = str | Path | bytes | tuple[NDArray[np.float32], int]
DEFAULT = ("json", "csv", "rttm", "html")
SETTINGS = ("bundle_sha256", "speakers", "transcriber", "adapt", "smooth", "min_confidence")  # of provenance: what a file was made by
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what no XML 1.0 file can hold
MADE_OF = "source_sha256"  # in the provenance of what is written: files of one name lie in many folders


def write(
    timeline: Timeline,
    folder: str | Path,
    stem: str,
    audio: Sound | None = None,
    formats: Sequence[str] = DEFAULT,
    vouched: bool = False,
) -> list[Path]:
    """Write the timeline as files `stem` with the suffix of each format into a folder (made where missing); their paths, in that order.

    JSON comes first, so that a file older than it was made another time (`lacking`); a JSON of before that is not written anew is made to
    look younger, so that it vouches for none of these, unless it holds this very timeline (vouched).
    audio: the sound, for the page, which holds it, and for what names its file; of a file, the provenance gets its SHA-256. A str that is
    no file is an address, at which the page looks for it. Raises ValueError for a format that is not known, or whose library is missing,
    before anything is written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise ValueError(f"there is no format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    _need(formats)
    if isinstance(audio, str) and Path(audio).is_file():
        audio = Path(audio)
    if isinstance(audio, Path):
        timeline = timeline.model_copy(update={"provenance": {**timeline.provenance, MADE_OF: _digest(audio)}})
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    paths = [path / (stem + SUFFIXES[name]) for name in formats]
    for name, made in sorted(zip(formats, paths, strict=True), key=lambda pair: pair[0] != "json"):
        FORMATS[name](timeline, made, audio)
    if not vouched and "json" not in formats and (held := path / (stem + SUFFIXES["json"])).is_file():
        after_ns = 1_000_000_000 + max(_written_ns(made) for made in paths)  # file systems may count whole seconds
        os.utime(held, ns=(after_ns, after_ns))
    return paths


def parse(words: str) -> tuple[str, ...]:
    """Formats from their names with commas between. Raises ValueError for none, or one that is not known or whose library is missing."""
    names = tuple(dict.fromkeys(name.strip() for name in words.split(",") if name.strip()))
    if not names or not set(names) <= FORMATS.keys():
        raise ValueError(f"{words!r} names what is no format; wanted some of {', '.join(FORMATS)} with commas between")
    _need(names)
    return names


def known(folder: str | Path, stem: str, source: Path, provenance: Mapping[str, str]) -> Timeline | None:
    """What the JSON in the folder says of this very recording, which is older, where it was made by what `provenance` says; else None.

    What was made with turns that a person gave is never known: nobody noted which.
    """
    held = Path(folder) / (stem + SUFFIXES["json"])
    if not held.is_file() or held.stat().st_mtime < source.stat().st_mtime:
        return None
    try:
        timeline = Timeline.from_json(held.read_bytes())
    except ValueError:
        return None
    by = timeline.provenance
    same = by.get("diarizer") != "given" and all(by.get(key) == provenance.get(key) for key in {*SETTINGS, *provenance})
    return timeline if same and by.get(MADE_OF) == _digest(source) else None


def lacking(folder: str | Path, stem: str, formats: Sequence[str]) -> tuple[str, ...]:
    """Those formats whose file is not there, or was made another time than the JSON."""
    made = {name: Path(folder) / (stem + SUFFIXES[name]) for name in ("json", *formats)}
    held_ns = _written_ns(made["json"]) if made["json"].is_file() else None
    return tuple(name for name in formats if held_ns is None or not made[name].exists() or _written_ns(made[name]) < held_ns)


def refuse_others(folder: str | Path, stem: str, formats: Sequence[str], source: Path) -> None:
    """Raise ValueError where one of these files is there already and is not known to be made of this very recording."""
    there = [path for name in formats if (path := Path(folder) / (stem + SUFFIXES[name])).is_file()]
    if not there:
        return
    held = Path(folder) / (stem + SUFFIXES["json"])
    otherwise = "choose another --out, or say --again to replace it"
    try:
        known = Timeline.from_json(held.read_bytes()).provenance
    except (OSError, ValueError):
        raise ValueError(
            f"{there[0]} is there already, and no timeline {held.name} beside it says that moodcast made it; {otherwise}"
        ) from None
    if known.get(MADE_OF) != _digest(source):
        raise ValueError(f"{there[0]} is of another recording of that name, or of one that nobody noted; {otherwise}")


def label(segment: Segment) -> str:
    """What is said of a segment in one line: "happy 83 %", or its status, "(too short)"."""
    if segment.emotion is None:
        return f"({segment.status.replace('_', ' ')})"
    return f"{segment.emotion} {100 * (segment.confidence or 0.0):.0f} %"


def to_audacity(timeline: Timeline) -> str:
    """A label track: start, stop and "speaker: emotion" on a line, separated by tabs, times in seconds."""
    rows = (f"{s.start_s:.6f}\t{s.stop_s:.6f}\t{_line(s.speaker)}: {label(s)}\n" for s in timeline.segments)
    return "".join(rows)


def to_vtt(timeline: Timeline) -> str:
    """WebVTT: a cue a segment, the speaker as its voice, the emotion and, where it is known, what was said."""
    webvtt = _library("webvtt", "vtt")
    track = webvtt.WebVTT()
    for segment in timeline.segments:
        if segment.stop_s <= segment.start_s:
            continue  # a cue must end after it begins
        said = f"\n{_cue(segment.text)}" if segment.text else ""
        text = f"<v {_cue(segment.speaker)}>{label(segment)}{said}"
        track.captions.append(webvtt.Caption(_clock(segment.start_s), _clock(segment.stop_s), text))
    content: str = track.content
    return content + "\n"


def to_textgrid(timeline: Timeline) -> str:
    """Praat's TextGrid: a tier of turns (what was said, else the speaker) and one of emotions for each speaker."""
    textgrid = _library("praatio.textgrid", "textgrid")
    grid = textgrid.Textgrid(0.0, timeline.duration_s)
    for name, spans in _tiers(timeline):
        grid.addTier(textgrid.IntervalTier(name, spans, 0.0, timeline.duration_s))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


def to_eaf(timeline: Timeline, sound: Path | None = None) -> str:
    """ELAN's annotation format: the tiers of `to_textgrid`, times in milliseconds; `sound` is linked by its name."""
    pympi = _library("pympi", "eaf")
    eaf = pympi.Elan.Eaf(author="moodcast")
    eaf.remove_tier("default")
    if sound is not None:
        eaf.add_linked_file(_plain(sound.name), relpath=f"./{_plain(sound.name)}", mimetype="audio/*")
    for name, spans in _tiers(timeline):
        eaf.add_tier(name, part=name.removesuffix(EMOTION))
        for start_s, stop_s, text in spans:
            if round(1000 * stop_s) > round(1000 * start_s):
                eaf.add_annotation(name, round(1000 * start_s), round(1000 * stop_s), text)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "timeline.eaf"
        eaf.to_file(str(path), pretty=True)
        return path.read_text(encoding="utf-8")


def to_table(timeline: Timeline) -> Any:
    """An Arrow table of one row a segment; `p_CLASS` are probabilities, attributes have their own names; metadata says what made it.

    Where answers were centred on speakers or smoothed, `raw_CLASS` are the probabilities before that.
    """
    attributes = sorted({name for segment in timeline.segments for name in segment.attributes})
    columns: dict[str, list[Any]] = {
        name: [getattr(segment, name) for segment in timeline.segments]
        for name in ("start_s", "stop_s", "speaker", "emotion", "confidence", "status", "overlap", "text")
    }
    columns["modalities"] = ["+".join(segment.modalities) for segment in timeline.segments]
    columns |= {f"p_{name}": [segment.emotions.get(name) for segment in timeline.segments] for name in timeline.classes}
    if any(segment.raw for segment in timeline.segments):
        columns |= {f"raw_{name}": [segment.raw.get(name) for segment in timeline.segments] for name in timeline.classes}
    columns |= {name: [segment.attributes.get(name) for segment in timeline.segments] for name in attributes}
    kinds = {**dict.fromkeys(("speaker", "emotion", "status", "text", "modalities"), pa.string()), "overlap": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
    about = {"schema": timeline.schema_, "uri": timeline.uri, "duration_s": str(timeline.duration_s), **timeline.provenance}
    return pa.Table.from_pydict(columns, schema=schema.with_metadata(about))


def to_database(timeline: Timeline, file: str) -> Any:
    """An audformat database with one segmented table "timeline" of `file`: speaker, emotion, confidence, status; text where known."""
    audformat = _library("audformat", "audformat")
    import pandas as pd  # type: ignore[import-untyped]

    database = audformat.Database(
        "moodcast", source=timeline.uri, usage=audformat.define.Usage.OTHER, description="Predictions, not annotations."
    )
    database.schemes["speaker"] = audformat.Scheme(labels=list(timeline.speakers))
    database.schemes["emotion"] = audformat.Scheme(labels=list(timeline.classes))
    database.schemes["confidence"] = audformat.Scheme("float", minimum=0, maximum=1)
    database.schemes["status"] = audformat.Scheme(labels=list(STATUSES))
    names = ["speaker", "emotion", "confidence", "status"]
    if any(segment.text for segment in timeline.segments):
        database.schemes["text"] = audformat.Scheme("str")
        names.append("text")
    spans = [(s.start_s, s.stop_s) for s in timeline.segments]
    starts, stops = ([pd.to_timedelta(span[i], unit="s") for span in spans] for i in range(2))
    before: Counter[tuple[float, float]] = Counter()
    for i, span in enumerate(spans):  # audformat wants each span once: a later one of the same ends a microsecond later
        stops[i] += pd.Timedelta(before[span], unit="us")
        before[span] += 1
    table = database["timeline"] = audformat.Table(audformat.segmented_index([file] * len(spans), starts, stops))
    for name in names:
        table[name] = audformat.Column(scheme_id=name)
        table[name].set([getattr(segment, name) for segment in timeline.segments])
    return database


EMOTION = " emotion"  # what the name of a speaker's second tier ends with


def _tiers(timeline: Timeline) -> Iterator[tuple[str, list[tuple[float, float, str]]]]:
    """Two tiers a speaker, as (start_s, stop_s, text) in order and without overlap; a turn that another swallows is left out.

    Of names that would be the same, the later ones get a number.
    """
    taken: set[str] = set()
    for speaker in timeline.speakers:
        end, turns, emotions = 0.0, [], []
        for segment in sorted((s for s in timeline.segments if s.speaker == speaker), key=lambda s: (s.start_s, s.stop_s)):
            start, stop = max(end, segment.start_s), min(segment.stop_s, timeline.duration_s)
            if stop > start:
                turns.append((start, stop, _line(segment.text or speaker)))
                emotions.append((start, stop, label(segment)))
                end = stop
        if turns:
            tries = (_line(speaker) if number == 1 else f"{_line(speaker)} ({number})" for number in itertools.count(1))
            name = next(each for each in tries if not {each, each + EMOTION} & taken)
            taken |= {name, name + EMOTION}
            yield name, turns
            yield name + EMOTION, emotions


def _written_ns(path: Path) -> int:
    """When a file, or the last file of a folder, was written; 0 for an empty folder."""
    return max((one.stat().st_mtime_ns for one in (path.iterdir() if path.is_dir() else (path,))), default=0)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(text: str) -> str:
    """Text on one line, without what separates columns, or what no XML file can hold."""
    return " ".join(NO_XML.sub(" ", text).split()) or "unnamed"


def _cue(text: str) -> str:
    """Text that stands in a cue as it is: no markup, no arrow, on one line."""
    return _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float) -> str:
    whole = round(1000 * seconds)
    return f"{whole // 3_600_000:02d}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def _need(formats: Iterable[str]) -> None:
    """Raise where the library of one of the formats is missing."""
    for name in formats:
        if module := NEEDS.get(name):
            _library(module, name)


def _library(module: str, name: str) -> Any:
    return library(module, "formats", f"the format {name!r} needs")


Writer = Callable[[Timeline, Path, Sound | None], None]


def _text(made: Callable[[Timeline, Sound | None], str]) -> Writer:
    def to_file(timeline: Timeline, path: Path, audio: Sound | None) -> None:
        write_whole(path, made(timeline, audio))

    return to_file


def _parquet(timeline: Timeline, path: Path, audio: Sound | None) -> None:
    with whole(path) as half:
        pq.write_table(to_table(timeline), half)


def _audformat(timeline: Timeline, path: Path, audio: Sound | None) -> None:
    with whole(path) as half:
        to_database(timeline, _plain(linked.name) if (linked := _linked(audio)) else timeline.uri).save(str(half), storage_format="csv")


def _plain(name: str) -> str:
    """The name of a file with U+FFFD for what is no UTF-8 in it."""
    return os.fsencode(name).decode("utf-8", "replace")


def _linked(audio: Sound | None) -> Path | None:
    return Path(audio) if isinstance(audio, str | Path) else None


FORMATS: dict[str, Writer] = {
    "json": _text(lambda timeline, _: timeline.to_json()),
    "csv": _text(lambda timeline, _: timeline.to_csv()),
    "rttm": _text(lambda timeline, _: timeline.to_rttm()),
    "html": _text(lambda timeline, audio: timeline.to_html(audio)),
    "parquet": _parquet,
    "audacity": _text(lambda timeline, _: to_audacity(timeline)),
    "textgrid": _text(lambda timeline, _: to_textgrid(timeline)),
    "eaf": _text(lambda timeline, audio: to_eaf(timeline, _linked(audio))),
    "vtt": _text(lambda timeline, _: to_vtt(timeline)),
    "audformat": _audformat,
}
SUFFIXES = {name: f".{name}" for name in FORMATS} | {"audacity": ".labels.txt", "textgrid": ".TextGrid"}
NEEDS = {"textgrid": "praatio.textgrid", "eaf": "pympi", "vtt": "webvtt", "audformat": "audformat"}
