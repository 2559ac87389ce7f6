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
    from moodcast.timeline import Segment, Timeline

TEMPLATES = Path(__file__).parent / "templates"
RATE = 16_000  # Hz, of the sound inside the page
BIT_RATE = 32_000  # bits a second: three hours make a page of about 60 MB; give an address for longer ones
PEAKS_PER_S = 20  # loudness values a second behind the lanes
FLOOR_DB = -45.0  # below the loudest moment nothing is drawn

# Far apart for every kind of colour vision (tests/test_page.py measures it): the seven common classes more than 20 CIELAB units under
# simulated protanopia, deuteranopia and tritanopia. The first is for a light page, the second for a dark one.
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
    return environment.get_template("timeline.html.j2").render(
        timeline=timeline,
        colours=colours,
        speakers=[speaker_summary(timeline, name) for name in timeline.speakers],
        heard={segment.emotion for segment in timeline.segments},
        style=Markup((TEMPLATES / "timeline.css").read_text(encoding="utf-8")),
        script=Markup((TEMPLATES / "timeline.js").read_text(encoding="utf-8")),
        data=Markup(script_json(page_data(timeline, colours, track))),
        sound=Markup(base64.b64encode(track.data).decode()) if track.data else None,
        address=track.address,
    )


def page_data(timeline: Timeline, colours: dict[str, tuple[str, str]], track: Track) -> dict[str, Any]:
    """What the script draws from, short: classes by index, probabilities in percent, one cell where the turn has no chunk rows."""
    speakers = list(timeline.speakers)
    classes = list(timeline.classes)
    rows = []
    for segment in timeline.segments:
        cells = [[a, b, _top(p, classes), _percents(p, classes)] for a, b, p in cells_of(segment)]
        rows.append(
            {
                "who": speakers.index(segment.speaker),
                "from": segment.start_s,
                "to": segment.stop_s,
                "top": classes.index(segment.emotion) if segment.emotion in classes else -1,
                "p": _percents(segment.emotions, classes),
                "status": segment.status,
                "overlap": segment.overlap,
                "text": segment.text,
                "cells": cells,
            }
        )
    return {
        "duration": timeline.duration_s,
        "classes": classes,
        "colours": [colours[name] for name in classes],
        "speakers": speakers,
        "segments": rows,
        "peaks": base64.b64encode(track.peaks.tobytes()).decode(),
        "peaksPerS": PEAKS_PER_S,
    }


def cells_of(segment: Segment) -> list[tuple[float, float, dict[str, float]]]:
    """The chunks of a turn side by side, (start_s, stop_s, emotions): overlapping neighbours meet midway between their middles."""
    if not segment.chunks:
        return [(segment.start_s, segment.stop_s, segment.emotions)] if segment.emotions else []
    middles = [(chunk.start_s + chunk.stop_s) / 2 for chunk in segment.chunks]
    meets = [(a + b) / 2 for a, b in pairwise(middles)]
    edges = [
        round(float(t), 3)
        for t in np.maximum.accumulate(np.clip([segment.start_s, *meets, segment.stop_s], segment.start_s, segment.stop_s))
    ]
    return [(a, b, chunk.emotions) for (a, b), chunk in zip(pairwise(edges), segment.chunks, strict=True) if b > a]


def speaker_summary(timeline: Timeline, speaker: str) -> dict[str, Any]:
    """One speaker's seconds, share of all speech, and seconds by emotion, most first ("" where there is no answer)."""
    total = sum(segment.duration_s for segment in timeline.segments) or 1.0
    own = [segment for segment in timeline.segments if segment.speaker == speaker]
    spoken = sum(segment.duration_s for segment in own)
    by_emotion = {name: sum(s.duration_s for s in own if (s.emotion or "") == name) for name in {s.emotion or "" for s in own}}
    shares = sorted(((name, seconds / (spoken or 1.0)) for name, seconds in by_emotion.items()), key=lambda row: (row[0] == "", -row[1]))
    return {"name": speaker, "seconds": spoken, "share": spoken / total, "turns": len(own), "emotions": shares}


def colours_of(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A (light, dark) colour for each class: its own where it has one, else the next that no other class has, then further hues."""
    spare = iter([pair for name, pair in COLOURS.items() if name not in classes])
    colours = {}
    for index, name in enumerate(classes):
        colours[name] = COLOURS.get(name) or next(spare, None) or (_hue(index, 0.42), _hue(index, 0.62))
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
    """A share as whole percent, "" for None."""
    return "" if share is None else f"{round(100 * share)} %"


def shade(colour: tuple[str, str]) -> Markup:
    """A colour pair as CSS custom properties; the style sheet picks by light or dark."""
    return Markup("--light:{};--dark:{}").format(*colour)


def _top(emotions: dict[str, float], classes: Sequence[str]) -> int:
    return max(range(len(classes)), key=lambda k: emotions.get(classes[k], 0.0)) if emotions else -1


def _percents(emotions: dict[str, float], classes: Sequence[str]) -> list[float]:
    return [round(100 * emotions.get(name, 0.0), 1) for name in classes] if emotions else []


def _hue(index: int, lightness: float) -> str:
    rgb = colorsys.hls_to_rgb((index * 0.618) % 1.0, lightness, 0.55)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
