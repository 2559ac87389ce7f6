"""One self-contained HTML page of a timeline: lanes by speaker coloured by emotion, the sound, shares and a table.

Nothing is loaded from anywhere: style, script, data and sound lie inside the file, which works offline, from a disk, on a phone. Names
and words come from files that others made: the template escapes them, and the data for the script is JSON in which no tag can begin.
"""

from __future__ import annotations

import base64
import colorsys
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from moodcast import audio as sounds

if TYPE_CHECKING:
    from moodcast.timeline import ChunkRow, Segment, Timeline

TEMPLATES = Path(__file__).parent / "templates"
RATE = 16_000  # Hz, of the sound inside the page
BIT_RATE = 32_000  # bits a second: three hours make a page of about 60 MB; give an address for longer ones
PEAKS_PER_S = 20  # loudness values a second behind the lanes
FLOOR_DB = -45.0  # below the loudest moment nothing is drawn
SCRIPTS = ("timeline.data.js", "timeline.lanes.js", "timeline.table.js", "timeline.js")  # one script, in this order
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # what a column of the shares over time may stand for

# A turn without an emotion says why; a status that is not known here is shown in its own words.
STATUS_WORDS = {
    "ok": "no answer",
    "too_short": "too short to say",
    "silence": "silence",
    "non_speech": "not speech",
    "overlap": "several speak at once",
    "low_confidence": "not sure enough",
}

# Far apart for every kind of colour vision (tests/page/test_colours.py measures it): the seven common classes more than 20 CIELAB units
# under simulated protanopia, deuteranopia and tritanopia. The first is for a light page, the second for a dark one.
COLOURS: dict[str, tuple[str, str]] = {
    "angry": ("#A8231F", "#D4463C"),
    "happy": ("#F2CB1D", "#FBE069"),
    "neutral": ("#ACA9B2", "#A3A1AB"),
    "sad": ("#1F57D6", "#3A70F7"),
    "fear": ("#8A3A9C", "#B552C4"),
    "disgust": ("#37C281", "#45CF8E"),
    "enthusiasm": ("#D97C0A", "#DE7F14"),
    "surprise": ("#4FA8F5", "#6BB9FA"),
    "boredom": ("#5C5260", "#7C7185"),
    "calm": ("#B4D6F7", "#C9E2FA"),
}
CARDS = ("#FFFFFF", "#1C1A20")  # what lies behind them
SHADES = ((0.42, 0.62), (0.3, 0.45), (0.6, 0.75))  # lightness of further colours

Sound = str | Path | bytes | tuple[NDArray[np.float32], int]


@dataclass(frozen=True)
class Track:
    """The sound of a page: `data` is MP3 bytes (None where the page points at `address`), `peaks` loudness 0..255 [T]."""

    data: bytes | None
    address: str | None
    peaks: NDArray[np.uint8]


def render(timeline: Timeline, audio: Sound | None = None) -> str:
    """The page as HTML.

    audio: (samples, rate), the bytes of a file or a Path, which is put inside as mono MP3; a str is the address of a sound file, best
    relative to the page ("talk.mp3"); None leaves the sound out. Raises moodcast.audio.AudioError for what is not audio.
    """
    track = track_of(audio)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"clock": clock, "brief": brief, "percent": percent, "shade": shade}
    colours = colours_of(timeline.classes)
    step_s = step_of(timeline.duration_s)
    courses = [over_time(timeline, name, step_s) for name in timeline.speakers]
    most = max((float(course.sum(axis=1).max()) for course in courses), default=0.0)
    return environment.get_template("timeline.html.j2").render(
        timeline=timeline,
        colours=colours,
        statuses=statuses_of(timeline),
        shares=shares_of(timeline),
        seen={colour for course in courses for colour, seconds in zip(colours, course.sum(axis=0), strict=False) if seconds > 0},
        speakers=[
            {**speaker_summary(timeline, name), "course": columns(course, most)}
            for name, course in zip(timeline.speakers, courses, strict=True)
        ],
        step_s=step_s,
        bins=len(courses[0]) if courses else 0,
        marks=marks_of(timeline.duration_s),
        style=Markup((TEMPLATES / "timeline.css").read_text(encoding="utf-8")),
        script=Markup('"use strict";\n' + "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        data=Markup(script_json(page_data(timeline, colours, track, courses, step_s))),
        sound=Markup(base64.b64encode(track.data).decode()) if track.data else None,
        address=track.address,
    )


def page_data(
    timeline: Timeline, colours: dict[str, tuple[str, str]], track: Track, courses: Sequence[NDArray[np.float64]], step_s: float
) -> dict[str, Any]:
    """What the script draws from, short: classes by index, probabilities in percent, one cell where the turn has no chunk rows."""
    speakers = list(timeline.speakers)
    classes = list(timeline.classes)
    statuses = statuses_of(timeline)
    rows = []
    for segment in timeline.segments:
        top = classes.index(segment.emotion) if segment.emotion in classes else -1
        row: dict[str, Any] = {
            "who": speakers.index(segment.speaker),
            "from": segment.start_s,
            "to": segment.stop_s,
            "top": top,
            "p": _percents(segment.emotions, classes),
            "sure": None if segment.confidence is None else round(100 * segment.confidence, 1),
            "cells": [_cell(a, b, row, classes) for a, b, row in cells_of(segment)] if top >= 0 else [],
        }
        more = {"raw": _percents(segment.raw, classes), "overlap": segment.overlap, "text": segment.text, "notes": notes_of(segment)}
        if top < 0:
            row["no"] = statuses.index(said(segment))
        rows.append(row | {name: value for name, value in more.items() if value})
    return {
        "duration": timeline.duration_s,
        "classes": classes,
        "colours": [colours[name] for name in classes],
        "statuses": statuses,
        "speakers": speakers,
        "segments": rows,
        "courses": [np.round(course, 1).tolist() for course in courses],
        "courseStep": step_s,
        "inside": track.data is not None,
        "peaks": base64.b64encode(track.peaks.tobytes()).decode(),
        "peaksPerS": PEAKS_PER_S,
    }


def said(segment: Segment) -> str:
    """The emotion of a turn, or why there is none, in words."""
    return segment.emotion or STATUS_WORDS.get(segment.status) or str(segment.status).replace("_", " ")


def statuses_of(timeline: Timeline) -> list[str]:
    """Why turns of this timeline have no emotion, in words, each once. An emotion that is no class of the timeline is one of them."""
    return sorted({said(segment) for segment in timeline.segments if segment.emotion not in timeline.classes})


def notes_of(segment: Segment) -> dict[str, str]:
    """What else is known of a turn, by name: attributes, and what the answer rests on where that is more than the sound."""
    notes = {name: f"{value:.2f}" for name, value in segment.attributes.items()}
    return notes if tuple(segment.modalities) == ("audio",) else {**notes, "from": " and ".join(segment.modalities)}


def shares_of(timeline: Timeline) -> dict[str, float]:
    """The share of all speech by emotion, and by the words of a status where there is none."""
    total = sum(segment.duration_s for segment in timeline.segments) or 1.0
    shares: dict[str, float] = {}
    for segment in timeline.segments:
        shares[said(segment)] = shares.get(said(segment), 0.0) + segment.duration_s / total
    return shares


def step_of(duration_s: float) -> float:
    """Seconds of a column of the shares over time: about 60 columns, and a minute each where that makes at most 180."""
    return next((float(step) for step in STEPS_S if duration_s / step <= (60 if step < 60 else 180)), float(STEPS_S[-1]))


def over_time(timeline: Timeline, speaker: str, step_s: float) -> NDArray[np.float64]:
    """Seconds of one speaker in each stretch of `step_s`, by emotion of the chunks; the last column has no answer. [bins, K + 1]"""
    classes = list(timeline.classes)
    seconds = np.zeros((max(1, int(np.ceil(timeline.duration_s / step_s - 1e-9))), len(classes) + 1))
    for segment in (row for row in timeline.segments if row.speaker == speaker):
        spans = [(a, b, _top(row.emotions, classes)) for a, b, row in cells_of(segment)] if segment.emotion in classes else []
        for start_s, stop_s, k in spans or [(segment.start_s, segment.stop_s, -1)]:
            for i in range(int(start_s / step_s), min(len(seconds), int(np.ceil(stop_s / step_s)))):
                seconds[i, k] += max(0.0, min(stop_s, (i + 1) * step_s) - max(start_s, i * step_s))
    return seconds


def columns(seconds: NDArray[np.float64], most: float) -> list[tuple[int, str]]:
    """Stacked columns as SVG paths, (class index, path) in a box of len(seconds) by 100, where `most` seconds are 100 high."""
    wide = 0.84 if len(seconds) <= 90 else 1.0
    heights = 100 * seconds / max(most, 1e-9)
    feet = 100 - np.cumsum(heights, axis=1)
    paths = []
    for k in range(seconds.shape[1]):
        parts = [f"M{i} {feet[i, k]:.1f}h{wide}v{heights[i, k]:.1f}h-{wide}z" for i in np.flatnonzero(heights[:, k] > 0.05)]
        if parts:
            paths.append((k, "".join(parts)))
    return paths


def marks_of(duration_s: float) -> list[tuple[float, str]]:
    """A few round moments below the shares over time: (share of the recording, how it is written)."""
    step = next((step for step in STEPS_S if duration_s / step <= 6), 7200 if duration_s <= 12 * 3600 else 4 * 3600)
    return [(i * step / duration_s, brief(i * step)) for i in range(int(duration_s / step) + 1)] if duration_s > 0 else []


def cells_of(segment: Segment) -> list[tuple[float, float, ChunkRow | Segment]]:
    """The chunks of a turn side by side, (start_s, stop_s, chunk): overlapping neighbours meet midway between their middles.

    A turn without chunk rows is one cell, itself; none where it has no answer.
    """
    if not segment.chunks:
        return [(segment.start_s, segment.stop_s, segment)] if segment.emotions else []
    middles = [(chunk.start_s + chunk.stop_s) / 2 for chunk in segment.chunks]
    meets = [(a + b) / 2 for a, b in pairwise(middles)]
    edges = [
        round(float(t), 3)
        for t in np.maximum.accumulate(np.clip([segment.start_s, *meets, segment.stop_s], segment.start_s, segment.stop_s))
    ]
    return [(a, b, chunk) for (a, b), chunk in zip(pairwise(edges), segment.chunks, strict=True) if b > a]


def speaker_summary(timeline: Timeline, speaker: str) -> dict[str, Any]:
    """One speaker's seconds, share of all speech, share by emotion, most first ("" where there is no answer), and whether answers were
    centred on the speaker, in words."""
    total = sum(segment.duration_s for segment in timeline.segments) or 1.0
    own = [segment for segment in timeline.segments if segment.speaker == speaker]
    spoken = sum(segment.duration_s for segment in own)
    by_emotion = {name: sum(s.duration_s for s in own if (s.emotion or "") == name) for name in {s.emotion or "" for s in own}}
    shares = sorted(((name, seconds / (spoken or 1.0)) for name, seconds in by_emotion.items()), key=lambda row: (row[0] == "", -row[1]))
    why = next((row.why for row in timeline.adaptation if row.speaker == speaker), "")
    return {"name": speaker, "seconds": spoken, "share": spoken / total, "turns": len(own), "emotions": shares, "adaptation": why}


def colours_of(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A (light, dark) colour for each class: its own where it has one, else the next that no other class has, then what is farthest."""
    spare = iter([pair for name, pair in COLOURS.items() if name not in classes])
    taken, colours = [CARDS, *COLOURS.values()], {}
    for name in classes:
        pair = COLOURS.get(name) or next(spare, None)
        if pair is None:
            pair = _farthest(taken)
            taken.append(pair)
        colours[name] = pair
    return colours


def track_of(audio: Sound | None) -> Track:
    """The sound of a page, decoded and encoded block by block."""
    if audio is None or isinstance(audio, str):
        return Track(None, audio, np.zeros(0, dtype=np.uint8))
    loudness: list[NDArray[np.float64]] = []

    def heard(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            whole = -(-len(block) // (RATE // PEAKS_PER_S)) * (RATE // PEAKS_PER_S)
            padded = np.pad(block, (0, whole - len(block))).astype(np.float64)
            loudness.append(np.sqrt(np.mean(padded.reshape(-1, RATE // PEAKS_PER_S) ** 2, axis=1)))
            yield block

    if isinstance(audio, tuple):
        wave = np.asarray(sounds.convert(audio[0], audio[1], RATE))
        blocks: Iterable[NDArray[np.float32]] = (wave[i : i + 30 * RATE] for i in range(0, len(wave), 30 * RATE))
    else:
        blocks = sounds.stream(audio, rate=RATE)
    data = mp3(heard(blocks))
    return Track(data, None, peaks_of(np.concatenate(loudness) if loudness else np.zeros(0)))


def mp3(blocks: Iterable[NDArray[np.float32]]) -> bytes:
    """Mono samples at RATE Hz, block by block, as MP3 of BIT_RATE: the one format that every browser plays."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE)
        stream.bit_rate = BIT_RATE
        stream.layout = "mono"
        done = 0
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None], dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, done
            done += len(block)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return out.getvalue()


def peaks_of(rms: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Loudness 0..255 on a decibel scale from FLOOR_DB below the loudest moments (99th percentile) up to them."""
    if not len(rms) or not rms.max() > 0:
        return np.zeros(len(rms), dtype=np.uint8)
    top = 20 * np.log10(max(float(np.percentile(rms, 99)), 1e-9))
    level = 20 * np.log10(np.maximum(rms, 1e-9)) - top
    peaks: NDArray[np.uint8] = np.clip(255 * (1 - level / FLOOR_DB), 0, 255).astype(np.uint8)
    return peaks


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&`, so no tag and no comment can begin in it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def clock(seconds: float) -> str:
    """Seconds as people read time, to a tenth.

    >>> clock(7.26), clock(75), clock(3 * 3600 + 61)
    ('0:07.3', '1:15.0', '3:01:01.0')
    """
    tenths = round(seconds * 10)
    return f"{brief(tenths // 10)}.{tenths % 10}"


def brief(seconds: float) -> str:
    """The same to a second.

    >>> brief(7.26), brief(75), brief(3 * 3600 + 61)
    ('0:07', '1:15', '3:01:01')
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def percent(share: float | None) -> str:
    """A share as whole percent, "" for None.

    >>> percent(0.254), percent(0.002), percent(0), percent(None)
    ('25 %', '<1 %', '0 %', '')
    """
    return "" if share is None else "<1 %" if 0 < share < 0.005 else f"{round(100 * share)} %"


def shade(colour: tuple[str, str]) -> Markup:
    """A colour pair as CSS custom properties; the style sheet picks by light or dark."""
    return Markup("--light:{};--dark:{}").format(*colour)


def _top(emotions: dict[str, float], classes: Sequence[str]) -> int:
    return max(range(len(classes)), key=lambda k: emotions.get(classes[k], 0.0)) if emotions else -1


def _cell(start_s: float, stop_s: float, row: ChunkRow | Segment, classes: Sequence[str]) -> list[Any]:
    cell = [start_s, stop_s, _top(row.emotions, classes), _percents(row.emotions, classes)]
    return [*cell, _percents(row.raw, classes)] if row.raw else cell


def _percents(emotions: dict[str, float], classes: Sequence[str]) -> list[float]:
    return [round(100 * emotions.get(name, 0.0), 1) for name in classes] if emotions else []


def _farthest(taken: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Of colours around the wheel, the pair that is least like any that is taken, on a light page and on a dark one."""
    pairs = [(_hue(place / 36, light), _hue(place / 36, dark)) for light, dark in SHADES for place in range(36)]
    apart = np.linalg.norm(_lab(pairs)[:, None] - _lab(taken), axis=-1)  # [pairs, taken, 2]
    return pairs[int(apart.min(axis=(1, 2)).argmax())]


def _hue(place: float, lightness: float) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in colorsys.hls_to_rgb(place, lightness, 0.55))


def _lab(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
    """CIELAB (D65) of sRGB colours, [pairs, 2, 3]."""
    srgb = np.array([[[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in pair] for pair in pairs])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.moveaxis(linear @ np.array([[0.4339, 0.2126, 0.0178], [0.3762, 0.7152, 0.1095], [0.1899, 0.0722, 0.8730]]), -1, 0)
    a, b, c = (np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116) for part in (x, y, z))
    return np.stack([116 * b - 16, 500 * (a - b), 200 * (b - c)], axis=-1)
