"""Timelines that the tests of the page show, and their sound."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast.timeline import ChunkRow, Segment, Timeline

RATE = 16_000
CLASSES = ("angry", "happy", "neutral", "sad")
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'


def sure(name: str, p: float = 1.0) -> dict[str, float]:
    """Probabilities with `p` for one class and the rest shared by the others."""
    return {other: p if other == name else (1 - p) / (len(CLASSES) - 1) for other in CLASSES}


def turn(speaker: str, start_s: float, stop_s: float, emotion: str = "happy", p: float = 1.0, **more: Any) -> Segment:
    """A turn with an answer."""
    return Segment(speaker=speaker, start_s=start_s, stop_s=stop_s, emotion=emotion, emotions=sure(emotion, p), confidence=p, **more)


def conversation() -> Timeline:
    """Twenty seconds of two speakers: with and without chunks, overlapped, too short, and named by somebody who means harm."""
    chunks = (
        ChunkRow(start_s=10, stop_s=12, emotions=sure("sad")),
        ChunkRow(start_s=11, stop_s=13, emotions=sure("angry")),
        ChunkRow(start_s=12, stop_s=14, emotions=sure("angry")),
    )
    rows = (
        turn("Anna", 1, 5, "happy"),
        turn("Ben", 5, 9, "angry", 0.5, overlap=True),
        turn("Anna", 10, 14, "angry", chunks=chunks, text=HOSTILE),
        Segment(speaker="Ben", start_s=15, stop_s=15.2, status="too_short"),
        turn("Ben", 16, 20, "sad"),
    )
    return Timeline(uri=f"a talk {HOSTILE}", duration_s=20, classes=CLASSES, segments=rows, provenance={"bundle": HOSTILE})


def long_talk(turns: int = 2500, hours: float = 3.0) -> Timeline:
    """Hours of five speakers, four chunks a turn."""
    rows = []
    for i in range(turns):
        start_s = hours * 3600 / turns * i
        chunks = tuple(ChunkRow(start_s=start_s + k, stop_s=start_s + k + 1, emotions=sure(CLASSES[(i + k) % 4], 0.6)) for k in range(4))
        rows.append(turn(f"S{i % 5}", start_s, start_s + 4, CLASSES[i % 4], 0.6, chunks=chunks, text=f"sentence {i}"))
    return Timeline(uri="long", duration_s=hours * 3600, classes=CLASSES, segments=tuple(rows))


def hum(seconds: float = 20.0) -> NDArray[np.float32]:
    """Something to hear, at RATE."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * 180 * t) * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)
