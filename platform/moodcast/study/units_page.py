"""The study of discrete units as one self-contained HTML page: heat maps of likeness, of emotions and of the units themselves.

Nothing is loaded and nothing runs. Names come from manifests that others made; the template escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

TEMPLATES = Path(__file__).parents[1] / "templates"
SURE = 0.05  # of adjusted p
WIDEST = (-1.5, 1.5)  # of the track on which S* is drawn


def render(found: Mapping[str, Any]) -> str:
    """The page, of what `phonetics.examine` found."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"signed": signed, "heat": heat, "place": place, "span": span, "plain": plain, "sure": sure}
    return environment.get_template("units.html.j2").render(
        found=found,
        names=[corpus["name"] for corpus in found["corpora"]],
        verdicts=verdicts(found),
        strips=strips(found),
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """What the study says, in sentences; each with its doubt."""
    valid, said = found["validation"], []
    if valid["separation"] is not None:
        p = valid["separation_p"]
        said.append(
            f"The same vowel of two corpora is more alike than two different vowels in {100 * valid['separation']:.0f} % of comparisons "
            f"(chance 50, p = {p:.4f} where vowels are renamed at random), and the nearest vowel of another corpus has the same name for "
            f"{valid['retrieved']} of {valid['asked']} (chance {100 * valid['chance']:.0f} %)."
        )
    if control := found["control"]:
        low, high = control["difference"][1:]
        words = (
            "Vowels of one language are more alike than vowels of two"
            if low > 0
            else "Vowels of two languages are more alike than vowels of one, which speaks of corpora and not of languages"
            if high < 0
            else "What two languages differ by cannot be told from what two corpora of one language differ by"
        )
        said.append(f"{words}: S* {plain(control['one_language'])} within, {plain(control['two_languages'])} across, difference ")
        said[-1] += f"{plain(control['difference'])}."
    elif len(found["corpora"]) > 1:
        said.append("No two corpora share a language, or all do: nothing here can be said of languages, only of corpora.")
    moved = [
        (value, corpus["name"], vowel)
        for corpus, values, qs in zip(found["corpora"], found["emotion_effect"]["effect"], found["emotion_effect"]["q"], strict=True)
        for vowel, value, q in zip(found["vowels"], values, qs, strict=True)
        if value is not None and q is not None and q < SURE
    ]
    tested = sum(value is not None for row in found["emotion_effect"]["effect"] for value in row)
    if tested:
        most = f", most [{max(moved)[2]}] in {max(moved)[1]} (+{max(moved)[0]:.3f} bits)" if moved else ""
        said.append(f"Emotion moves {len(moved)} of {tested} vowels beyond chance (false discovery rate 5 %){most}.")
    shared = [q for row in found["emotion_likeness"] for q in row["q"] if q is not None]
    if shared:
        said.append(
            f"An emotion makes vowels of two corpora more alike than utterances of the same speakers with emotions dealt out anew in "
            f"{sum(q < SURE for q in shared)} of {len(shared)} comparisons."
        )
    if any(corpus["vowels_by"] == "acoustic" for corpus in found["corpora"]):
        named = valid["acoustic_names"]
        check = f" Where labels are, formants alone name {100 * named['mean_recall']:.0f} % of vowels rightly (chance 20)." if named else ""
        said.append(
            "Acoustic vowels are named by their formants, so that the same name means a similar spectrum by construction in part; only "
            f"comparisons among them, not their level, say something.{check}"
        )
    return said


def strips(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One strip a cell: its distribution over units, those ordered by the vowel that they serve most; shares in [0, 1] of the largest."""
    cells = [cell for cell in found["cells"] if cell["reported"]]
    if not cells:
        return []
    table = np.array([cell["units"] for cell in cells])
    vowels = found["vowels"]
    by_vowel = np.stack([table[[cell["vowel"] == vowel for cell in cells]].sum(0) for vowel in vowels])
    order = np.lexsort((-by_vowel.max(0), by_vowel.argmax(0)))
    shown = sorted(zip(cells, table, strict=True), key=lambda pair: vowels.index(pair[0]["vowel"]))
    top = float(np.percentile(table, 99.5))
    return [
        {
            "corpus": cell["corpus"],
            "vowel": cell["vowel"],
            "first": i == 0 or shown[i - 1][0]["vowel"] != cell["vowel"],
            "entropy": cell["entropy"],
            "cells": [(x, round(min(1.0, float(p[k]) / top), 2)) for x, k in enumerate(order) if p[k] > 0.02 * top],
        }
        for i, (cell, p) in enumerate(shown)
    ]


def signed(value: float | None, digits: int = 2) -> str:
    """A value with its sign; a dash where it cannot be had."""
    return "–" if value is None else f"{value:+.{digits}f}"


def plain(interval: Sequence[float | None], digits: int = 2) -> str:
    """A value with its interval.

    >>> plain([0.5, 0.25, 0.75])
    '+0.50 [+0.25, +0.75]'
    """
    value, low, high = interval
    return "–" if value is None else f"{signed(value, digits)} [{signed(low, digits)}, {signed(high, digits)}]"


def heat(value: float | None, most: float) -> Markup:
    """How a cell of a heat map is filled: a class for its sign, its share of `most` as a variable."""
    if value is None:
        return Markup('class="none"')
    share = min(1.0, abs(value) / most)
    return Markup('class="{}" style="--share:{:.2f}"').format("up" if value >= 0 else "down", share)


def place(value: float) -> Markup:
    """Where S* lies on its track, as CSS."""
    return Markup("left:{:.2f}%").format(100 * _at(value))


def span(interval: Sequence[float]) -> Markup:
    """Where an interval of S* lies on its track, as CSS."""
    low, high = _at(interval[1]), _at(interval[2])
    return Markup("left:{:.2f}%;width:{:.2f}%").format(100 * low, 100 * (high - low))


def sure(q: float | None) -> str:
    """A mark for what is certain after adjustment."""
    return "*" if q is not None and q < SURE else ""


def _at(value: float) -> float:
    return min(1.0, max(0.0, (value - WIDEST[0]) / (WIDEST[1] - WIDEST[0])))
