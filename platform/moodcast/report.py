"""One self-contained HTML page of an evaluation: scores and baselines with intervals, recall by group, confusion, reliability.

Nothing is loaded from anywhere and nothing is executed: there is no script in it. Names come from manifests that others made; the
template escapes them.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from moodcast.metrics import HIGHER_IS_BETTER, Interval
from moodcast.page import TEMPLATES, colours_of, shade
from moodcast.scores import Answers, Report, Scores, number, signed
from moodcast.whole import write_whole

CURVE = 220  # side of a reliability plot, pixels


def render(report: Report) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"shade": shade, "score": score, "signed": signed, "number": number, "bar": bar, "spot": spot, "swing": swing}
    return environment.get_template("report.html.j2").render(
        report=report,
        colours=colours_of(report.classes),
        groups=[(part, confusion(part), reliability(part)) for part in report.slices if part.kind in ("all", "corpus")],
        side=CURVE,
        higher=HIGHER_IS_BETTER,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
    )


def write(report: Report, path: str | Path) -> Path:
    """The page as a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(report))
    return path


def table(answers: Answers) -> str:
    """What was scored as CSV, a row an utterance, from which every score can be computed anew: id, corpus, speaker, label, answer, the
    probability of each class, the share of the raters' votes that each class has (where somebody voted), then each attribute as it was
    labelled and as it was answered; what is unknown is empty.
    """
    names = answers.attribute_names if answers.attributes is not None else ()
    head = ["id", "corpus", "speaker", "label", "answer", *(f"p_{name}" for name in answers.classes)]
    voted = not np.isnan(answers.votes).all()
    head += [f"votes_{name}" for name in answers.classes] if voted else []
    head += [f"{name}{what}" for name in names for what in ("_label", "_answer")]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    for i, (row, truth, guess) in enumerate(zip(answers.rows, answers.truth, answers.guess, strict=True)):
        cells = [row.id, row.corpus, row.speaker, answers.classes[truth], answers.classes[guess], *answers.probabilities[i].tolist()]
        if voted:
            cells += [None if math.isnan(share) else float(share) for share in answers.votes[i]]
        if answers.attributes is not None and answers.attribute_truth is not None:
            pairs = zip(answers.attribute_truth[i], answers.attributes[i], strict=True)
            cells += [None if math.isnan(value) else float(value) for pair in pairs for value in pair]
        writer.writerow(cells)
    return out.getvalue()


def markdown(report: Report) -> list[str]:
    """The table of a model card, line by line: scores with intervals, what trivial baselines get, how far above the strongest, notes."""
    names = [beside.name for beside in report.slices[0].baselines]
    head = ["slice", "utterances", "speakers", "UAR %", *(f"{name} UAR %" for name in names), "above plain statistics", "accuracy %"]
    head += ["macro-F1 %", "calibration error %"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for part in report.slices:
        plain = part.beside("plain statistics")
        cells = [part.slice, str(part.num_utterances), str(part.num_speakers), score(part.uar)]
        cells += [f"{100 * beside.uar.value:.1f}" for beside in part.baselines]
        cells += [signed(plain.above) if plain else "–", score(part.accuracy), score(part.macro_f1), score(part.sureness.ece)]
        lines.append(f"| {' | '.join(cells)} |")
    flags = [f"- **{flag}**" for flag in report.flags]
    return [*lines, "", *flags, *(f"- {note}" for note in report.notes)]


def confusion(part: Scores) -> list[list[tuple[int, float]]]:
    """Cells of the confusion, each (count, share of its row); rows are labels."""
    return [[(count, count / max(sum(row), 1)) for count in row] for row in part.confusion]


def reliability(part: Scores) -> dict[str, Any]:
    """Points of the curve in pixels, the area of a point as its share of utterances, and the line through them."""
    points = []
    total = sum(count for _, _, count in part.sureness.curve)
    for confidence, right, count in part.sureness.curve:
        points.append(
            {
                "x": round(CURVE * confidence, 1),
                "y": round(CURVE * (1 - right), 1),
                "r": round(2.0 + 14 * math.sqrt(count / max(total, 1)), 1),
                "words": f"said {100 * confidence:.0f} %, right {100 * right:.0f} %, {count} utterances",
            }
        )
    return {"points": points, "line": " ".join(f"{p['x']},{p['y']}" for p in points)}


def score(interval: Interval) -> str:
    """In percent with its interval; a dash where it cannot be had."""
    return str(interval) if math.isfinite(interval.value) else "–"


def bar(interval: Interval) -> Markup:
    """Where an interval lies on a track from 0 to 1, as CSS."""
    low, high = _cut(interval.low), _cut(interval.high)
    return Markup("left:{:.2f}%;width:{:.2f}%").format(100 * low, 100 * max(0.0, high - low))


def spot(interval: Interval) -> Markup:
    """Where a value lies on a track from 0 to 1, as CSS."""
    return Markup("left:{:.2f}%").format(100 * _cut(interval.value))


def swing(interval: Interval, widest: float = 0.3) -> Interval:
    """A difference moved onto the track: -widest is 0, nothing is a half, +widest is 1."""
    return Interval(*(0.5 + value / (2 * widest) for value in (interval.value, interval.low, interval.high)))


def _cut(value: float) -> float:
    return min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0
