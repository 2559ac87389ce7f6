"""What stands on an opened page, and where."""

from __future__ import annotations

import time
from typing import Any

import pytest

FOOT = 22 + 66 - 3  # pixels from the top of the lanes to the coloured foot of the first; the second lies LANE lower
LANE = 100


def wait_until(tab: Any, expression: str, timeout_s: float = 10.0) -> None:
    """playwright's own wait_for_function evaluates text, which the page's security policy forbids."""
    end = time.monotonic() + timeout_s
    while not tab.evaluate(expression):
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s} s in vain for {expression}")
        tab.wait_for_timeout(20)


def lane_point(tab: Any, t: float, lane: int, duration: float = 20.0) -> tuple[float, float]:
    """Where to point at a moment of a lane, of a page that shows all of the recording."""
    box = tab.locator("#lanes").bounding_box()
    return box["x"] + box["width"] * t / duration, box["y"] + lane * LANE + 60


def pixel(tab: Any, t: float, y: float, duration: float = 20.0) -> str:
    """The colour painted at a moment, `y` pixels below the top of the lanes."""
    found = tab.evaluate(
        """([share, y]) => { const shown = document.getElementById('lanes'), scale = shown.width / shown.clientWidth;
        const c = new OffscreenCanvas(shown.width, shown.height), pen = c.getContext('2d', { willReadFrequently: true });
        pen.drawImage(shown, 0, 0);
        return [...pen.getImageData(Math.round(share * c.width), Math.round(y * scale), 1, 1).data]; }""",
        [t / duration, y],
    )
    return "#" + "".join(f"{part:02X}" for part in found[:3])


def rows_of(tab: Any) -> list[int]:
    """The turns in the table, in its order."""
    found = tab.evaluate("[...document.querySelectorAll('tr[data-turn]')].map(row => Number(row.dataset.turn))")
    return [int(turn) for turn in found]


def heard_at(tab: Any) -> float:
    """How far the sound has played, in seconds."""
    return float(tab.evaluate("document.getElementById('audio').currentTime"))


def least_contrast(tab: Any, cell: str) -> float:
    """The least contrast (WCAG) of the text in a coloured cell, over all shares from 0 to 1."""
    found = tab.evaluate(
        """(cell) => { const of = document.querySelector(cell);
        const pen = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
        const linear = (v) => v > 10 ? ((v / 255 + 0.055) / 1.055) ** 2.4 : v / 255 / 12.92;
        const light = (colour) => { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
          const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map(linear);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; };
        return Array.from({ length: 51 }, (_, i) => { of.style.setProperty('--share', i / 50);
          const { color, backgroundColor } = getComputedStyle(of), a = light(color), b = light(backgroundColor);
          return Math.max(a, b) / Math.min(a, b); }); }""",
        cell,
    )
    assert found[0] > 1.5 * found[-1], "the share colours the cell"
    return float(min(found))


def axis_error(tab: Any, section: str, least: float, most: float) -> float:
    """How far the numbers below the tracks of a section stand from their values at most, as a share of the track."""
    found = tab.evaluate(
        """(section) => { const track = document.querySelector(`${section} .row .track`).getBoundingClientRect();
        return [...document.querySelectorAll(`${section} .axis span`)].map((span) => { const range = document.createRange();
          range.selectNodeContents(span); const box = range.getBoundingClientRect();
          return [span.textContent, (box.x + box.width / 2 - track.x) / track.width]; }); }""",
        section,
    )
    return max(abs(place - (float(text.replace("\u2212", "-")) - least) / (most - least)) for text, place in found)


def part(tab: Any) -> str:
    """Which part of the recording the lanes say they show."""
    tab.wait_for_timeout(80)
    return str(tab.locator("#part").inner_text())
