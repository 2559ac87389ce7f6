"""One self-contained HTML page of what came of a sweep: the verdict on unseen speakers, then how it was found.

Nothing is loaded from anywhere. A few lines of script light up one trial in every picture at once; without them the page says the same.
Names come from manifests and runs that others made; the template escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from moodcast.metrics import Interval
from moodcast.page import TEMPLATES, script_json

FEW_PEOPLE = 5  # speakers below which the verdict warns
FEW = 6  # whole numbers that are shown as choices
LETTERS = 26  # of marks below a slice, all together: more stand in two rows
FIRST = 9  # fields that are shown at once, the most important ones; the others unfold
WIDE, HIGH = 1000, 300  # of the wide pictures, in units of their own
SLICE = 220, 130  # of one slice
NEVER = "off"  # where a trial was not asked for a field


@dataclass(frozen=True)
class Axis:
    """One field of the search: where a value lies between 0 and 1, and a few marks (place, words)."""

    name: str
    kind: str  # "linear", "log", "choice"
    low: float
    high: float
    choices: tuple[str, ...]
    marks: tuple[tuple[float, str], ...]
    has_off: bool

    def place(self, value: Any) -> float | None:
        """Where a value lies; None where it has no place."""
        if value is None:
            return None
        if self.kind == "choice":
            return (self.choices.index(words(value)) + 0.5) / len(self.choices) if words(value) in self.choices else None
        number = float(value)
        first = 0.1 if self.has_off else 0.0
        if self.has_off and number == 0.0:
            return 0.0
        if self.kind == "log" and number <= 0.0:
            return None
        low, high, at = (math.log(x) for x in (self.low, self.high, number)) if self.kind == "log" else (self.low, self.high, number)
        return first + (1 - first) * (0.5 if high <= low else min(1.0, max(0.0, (at - low) / (high - low))))


def render(found: Mapping[str, Any]) -> str:
    """The page as HTML, of the data that `moodcast.cluster.verdict.report` makes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"score": score, "signed": signed, "bar": bar, "spot": spot, "words": words, "field": field_name}
    epoch = found["common_epoch"]
    trials = [trial | {"at": at(trial, epoch)} for trial in found["trials"]]
    axes = {name: axis_of(name, [trial["changes"][name] for trial in trials if name in trial["changes"]]) for name in fields(trials)}
    order = [row["name"] for row in found["importance"]]
    names = sorted(axes, key=lambda name: order.index(name) if name in order else len(order))
    values = [trial["at"] for trial in trials if trial["at"] is not None]
    span = (min(values), max(values)) if values else (0.0, 1.0)
    return environment.get_template("sweep.html.j2").render(
        found=found,
        verdict=verdict(found),
        trials=trials,
        winner=next((trial for trial in trials if trial["number"] == found["winner"]), None),
        settings=settings(found, trials, axes),
        importance=found["importance"],
        parallel=parallel(trials, {name: axes[name] for name in names[:FIRST]}, span),
        first=FIRST,
        population=any(trial["parent"] is not None for trial in trials),
        slices=[slice_of(axes[name], trials, span) for name in names],
        curves=curves(found, trials),
        span=span,
        widest=widest(found),
        wide=WIDE,
        high=HIGH,
        slice=SLICE,
        told=Markup(script_json({trial["number"]: told(trial) for trial in trials})),
        style=Markup("\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "sweep.css"))),
        script=Markup((TEMPLATES / "sweep.js").read_text(encoding="utf-8")),
    )


def write(found: Mapping[str, Any], path: str | Path) -> Path:
    """The page as a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(found), encoding="utf-8")
    return path


def verdict(found: Mapping[str, Any]) -> list[str]:
    """What came out, in sentences: each comparison says better, worse, or not certain."""
    arms = {arm["name"]: arm for arm in found["test"]["arms"]}
    leaks = [leak.partition(":") for leak in found["sweep"].get("leaks", ())]
    lines = [f"{what.upper()}:{names}. NOT ALL OF THESE SPEAKERS ARE UNSEEN." for what, _, names in leaks]
    for row in found["test"]["differences"]:
        value, low, high = row["uar"]
        against = {"published": "the published settings", "rival": f"the rival sweep ({arms[row['minus']]['what']})"}[row["minus"]]
        if arms["winner"]["uar"] == arms[row["minus"]]["uar"] and value == 0:
            lines.append(f"The winner and {against} are the same, or answer the same.")
        elif low is not None and low > 0:
            lines.append(f"On speakers that nobody chose by, the winner is better than {against} by {signed(row['uar'])} points of UAR.")
        elif high is not None and high < 0:
            lines.append(f"On speakers that nobody chose by, the winner is worse than {against}: {signed(row['uar'])} points of UAR.")
        else:
            lines.append(f"Against {against} the difference on unseen speakers is not certain: {signed(row['uar'])} points of UAR.")
    for row in found["optimism"]:
        if row["arm"] == "winner":
            inside = f"Inside the search its UAR was {100 * row['inner'][0]:.1f} %"
            how = "the search was too hopeful by" if row["gap"][0] > 0 else "the search was not too hopeful:"
            where = "on unseen speakers"
            if "target_rows" in found["sweep"]:
                inside, where = f"{inside} on speakers of the source", "on unseen speakers of the target"
                how = "of that gap the other corpus is a part:"
            lines.append(f"{inside}, {where} {100 * row['test'][0]:.1f} %; {how} {signed(row['gap'])} points.")
    for beside in found["test"]["baselines"]:
        if beside["name"] == "plain statistics":
            low = beside["above"][1]
            clear = "" if low is not None and low > 0 else ", which is not certain"
            lines.append(f"Beside plain statistics with a logistic regression: {signed(beside['above'])} points{clear}.")
    if found["test"]["speakers"] < FEW_PEOPLE:
        lines.append(f"Only {found['test']['speakers']} speakers answer for this: intervals drawn from so few are too narrow.")
    return lines


def widest(found: Mapping[str, Any]) -> float:
    """How far the track of differences reaches to either side, a round number: all that is shown on it has a place."""
    edges = [abs(edge) for row in found["test"]["differences"] for edge in row["uar"] if edge is not None]
    edges += [
        abs(edge) for row in found["test"]["baselines"] if row["name"] == "plain statistics" for edge in row["above"] if edge is not None
    ]
    return next(step for step in (0.05, 0.1, 0.2, 0.4, 1.0) if step >= min(1.0, max(edges, default=0.0)))


# ---------------------------------------------------------------------------------------------------- pictures


def fields(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that differ between trials, in the order in which they were asked for."""
    seen: dict[str, set[str]] = {}
    for trial in trials:
        for name, value in trial["changes"].items():
            seen.setdefault(name, set()).add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1]


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """An axis on which all values of a field have a place: logarithmic where they span more than a factor of 30, with zero apart.

    A few whole numbers are choices, in their order.
    """
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    distinct = {words(value): value for value in values}
    whole = all(isinstance(value, int) for value in values) and len(distinct) <= FEW
    if len(numbers) < len(values) or not numbers or whole:
        choices = tuple(sorted(distinct, key=distinct.__getitem__) if len(numbers) == len(values) else sorted(distinct))
        return Axis(name, "choice", 0, 1, choices, tuple(((i + 0.5) / len(choices), choice) for i, choice in enumerate(choices)), False)
    positive = [number for number in numbers if number > 0]
    log = bool(positive) and min(numbers) >= 0 and max(positive) > 30 * min(positive)
    low, high = (min(positive), max(positive)) if log else (min(numbers), max(numbers))
    off = log and 0.0 in numbers
    axis = Axis(name, "log" if log else "linear", low, high, (), (), off)
    middle = math.sqrt(low * high) if log else (low + high) / 2
    marks = [(axis.place(value) or 0.0, words(value)) for value in ((0.0, middle, high) if off else (low, middle, high))]
    return Axis(name, axis.kind, low, high, (), tuple(marks), off)


def parallel(trials: Sequence[Mapping[str, Any]], axes: Mapping[str, Axis], span: tuple[float, float]) -> dict[str, Any]:
    """A line a trial across the axes, the score last; a field that was not asked for is passed below the axis."""
    count = len(axes) + 1
    xs = [round(WIDE * (i + 0.5) / count, 1) for i in range(count)]
    lines = []
    for trial in trials:
        if trial["at"] is None:
            continue
        places = [axis.place(trial["changes"].get(name)) for name, axis in axes.items()]
        ys = [HIGH + 14.0 if place is None else round(HIGH * (1 - place), 1) for place in places]
        ys.append(round(HIGH * (1 - share(trial["at"], span)), 1))
        path = f"M{xs[0]} {ys[0]}" + "".join(
            f"C{(a + b) / 2:.1f} {y} {(a + b) / 2:.1f} {z} {b} {z}" for a, b, y, z in zip(xs, xs[1:], ys, ys[1:], strict=False)
        )
        lines.append({"trial": trial, "path": path, "share": share(trial["at"], span)})
    return {"xs": xs, "axes": list(axes.values()), "lines": sorted(lines, key=lambda line: line["share"])}


def slice_of(axis: Axis, trials: Sequence[Mapping[str, Any]], span: tuple[float, float]) -> dict[str, Any]:
    """One field against the score: a point a trial."""
    wide, high = SLICE
    points = []
    for trial in trials:
        place = axis.place(trial["changes"].get(axis.name))
        if place is None or trial["at"] is None:
            continue
        beside = (trial["number"] * 7 % 11 - 5) / 5 * 0.25 / len(axis.choices) if axis.choices else 0.0  # equal choices lie side by side
        points.append({"trial": trial, "x": round(wide * (place + beside), 1), "y": round(high * (1 - share(trial["at"], span)), 1)})
    rows = 1 + (axis.kind == "choice" and sum(len(label) for _, label in axis.marks) > LETTERS)
    return {"axis": axis, "points": points, "rows": rows, "missing": sum(trial["at"] is not None for trial in trials) - len(points)}


def curves(found: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Scores by epoch, a line a trial; that of a member of a population begins where the one whose weights it took had come to."""
    before = {trial["number"]: trial["epochs"][-1:] for trial in trials}
    epochs = max(int(found["sweep"]["epochs"]), 2)
    told = [line[1] for trial in trials for line in trial["epochs"]]
    span = (min(told), max(told)) if told else (0.0, 1.0)

    def x(epoch: float) -> float:
        return round(WIDE * (epoch - 1) / (epochs - 1), 1)

    last = sorted(trials, key=lambda trial: (trial["number"] == found["winner"], trial["origin"] == "published"))  # drawn over the others
    lines = [
        {
            "trial": trial,
            "points": " ".join(
                f"{x(epoch)},{HIGH * (1 - share(value, span)):.1f}"
                for epoch, value, _ in (*before.get(trial["parent"], ()), *trial["epochs"])
            ),
            "end": (x(trial["epochs"][-1][0]), round(HIGH * (1 - share(trial["epochs"][-1][1], span)), 1)),
        }
        for trial in last
        if trial["epochs"]
    ]
    ticks = sorted({1, epochs, *(round(1 + (epochs - 1) * part) for part in (0.25, 0.5, 0.75))})
    marks = [span[0] + (span[1] - span[0]) * part for part in (0, 0.5, 1)]
    return {
        "lines": lines,
        "ticks": [(x(tick), tick) for tick in ticks],
        "marks": [(round(HIGH * (1 - share(mark, span)), 1), f"{100 * mark:.0f}") for mark in marks],
        "judged": x(found["common_epoch"]) if found["common_epoch"] else None,
    }


def settings(found: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
    """Field by field: what was published, what won, what the five best of the search had."""
    flat = _flat(found["run"])
    winner = next((trial for trial in trials if trial["number"] == found["winner"]), None)
    best = sorted((t for t in trials if t["state"] == "finished" and t["value"] is not None), key=lambda t: -t["value"])[:5]
    rows = []
    for name in axes:
        tried = [trial["changes"][name] for trial in trials if name in trial["changes"]]
        numbers = [value for value in tried if isinstance(value, (int, float)) and not isinstance(value, bool)]
        scope = f"{words(min(numbers))} to {words(max(numbers))}" if numbers else ", ".join(sorted({words(value) for value in tried}))
        won = winner["changes"].get(name, NEVER) if winner else None
        rows.append(
            {
                "name": name,
                "published": flat.get(name),
                "winner": won,
                "best": [trial["changes"].get(name, NEVER) for trial in best],
                "tried": scope,
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------------- words


def told(trial: Mapping[str, Any]) -> str:
    """A trial in a line: what is shown while the pointer is on it."""
    name = (
        "published settings"
        if trial["origin"] == "published"
        else ", ".join(f"{field_name(path)} {words(value)}" for path, value in trial["changes"].items())
    )
    value = "" if trial["value"] is None else f"{100 * trial['value']:.1f} %, "
    last = trial["epochs"][-1][0] if trial["epochs"] else 0
    return f"trial {trial['number']}: {value}{trial['state']} after epoch {last}; {name}"


def at(trial: Mapping[str, Any], epoch: int) -> float | None:
    """The score of a trial at an epoch."""
    return next((float(line[1]) for line in trial["epochs"] if line[0] == epoch), None)


def share(value: float, span: tuple[float, float]) -> float:
    """Where a value lies in a span, 0 to 1."""
    return 0.5 if span[1] <= span[0] else min(1.0, max(0.0, (value - span[0]) / (span[1] - span[0])))


def words(value: Any) -> str:
    """A value of a field, in a few characters.

    >>> words(0.000123456), words(True), words(0.5), words(32)
    ('0.000123', 'on', '0.5', '32')
    """
    if isinstance(value, bool):
        return "on" if value else NEVER
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def field_name(path: str) -> str:
    """A dotted path without what all share.

    >>> field_name("method.mix.kind"), field_name("method.weights.focal.on")
    ('mix.kind', 'weights.focal, on or off')
    """
    name = path.removeprefix("method.").removeprefix("train.")
    return f"{name.removesuffix('.on')}, on or off" if name.endswith(".on") else name


def score(interval: Sequence[float | None]) -> str:
    """[value, low, high] in percent."""
    value, low, high = interval
    return "–" if value is None or low is None or high is None else str(Interval(value, low, high))


def signed(interval: Sequence[float | None]) -> str:
    """A difference [value, low, high] in points with its signs."""
    value, low, high = interval
    return "–" if value is None or low is None or high is None else f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def bar(interval: Sequence[float | None], low: float = 0.0, high: float = 1.0) -> Markup:
    """Where an interval lies on a track from `low` to `high`, as CSS."""
    first, last = (share(edge if edge is not None else low, (low, high)) for edge in interval[1:])
    return Markup("left:{:.2f}%;width:{:.2f}%").format(100 * first, 100 * max(0.0, last - first))


def spot(value: float | None, low: float = 0.0, high: float = 1.0) -> Markup:
    """Where a value lies on a track, as CSS."""
    return Markup("left:{:.2f}%").format(100 * share(value if value is not None else low, (low, high)))


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found
