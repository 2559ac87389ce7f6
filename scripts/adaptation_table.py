"""Writes the tables of docs/adaptation.md from the rows that benchmarks left in results/.

`python scripts/adaptation_table.py` writes; `--check` only says whether they are up to date (exit code 1 if not).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast import metrics
from moodcast.lines import read
from scripts.pages import ROOT, filled, settle

PAGE = ROOT / "docs" / "adaptation.md"
GRID, FIVE, FRAMES, BUNDLE = (
    ROOT / "results" / f"{name}.jsonl" for name in ("transfer_grid", "transfer_five", "transfer_frames", "adapt_bundle")
)
BASE = "target_norm"
FRESH = (2, 3, 4)  # seeds that were run after what the first two say had been written down
DRAWS = 4000
WORDS = {
    "source_only": "source only, the target heard as the source was",
    "target_norm": "source only, the target heard through its own statistics",
    "coral": "CORAL",
    "mk_mmd": "MK-MMD",
    "dann": "DANN",
    "mcc": "minimum class confusion",
    "mean_teacher": "mean teacher",
    "shot": "SHOT, from `target_norm`, without the source",
    "vq_adapt": "shared quantised codebook with information loss",
    "vq_apart": "control: a codebook for each domain",
    "anchor_none": "source only, its own network, the target heard through its own statistics",
    "anchor_last": "the last layer",
    "anchor_group": "the chosen group",
    "anchor_random": "a random group, another one for every seed",
    "anchor_all": "all layers",
    "linear_mcc": "idea: minimum class confusion on a linear model",
    "rank_mcc": "idea: normal quantiles of ranks by domain, then minimum class confusion",
    "white_mcc": "idea: statistics whitened by domain, then minimum class confusion",
    "five_norm": "control: five networks of `target_norm`, averaged",
    "five_mcc": "idea: five networks of minimum class confusion, averaged",
    "joint": "upper bound: source and labelled target together",
    "target_supervised": "upper bound: labelled target alone",
}
PUBLISHED = ("target_norm", "coral", "mk_mmd", "dann", "mcc", "mean_teacher", "shot")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """UAR of a method on a pair, mean over seeds, in percent: its value, and that of every draw of speakers [D]."""

    value: float
    draws: Floats


class Grid:
    """The rows of the grid by pair, method and seed, and the method that all are compared with. Draws of a target's speakers are the same
    for all methods and sources.
    """

    def __init__(self, rows: list[dict[str, Any]], base: str = BASE) -> None:
        self.base = base
        self.rows = {(row["task"], row["method"], row["seed"]): row for row in rows}
        self.pairs = list(dict.fromkeys(row["task"] for row in rows))
        self.languages = {row["task"]: row["languages"] for row in rows}
        self.methods = [name for name in WORDS if any(row["method"] == name for row in rows)]
        self._weights: dict[str, Floats] = {}

    def seeds(self, method: str, base: str | None = None) -> list[int]:
        """The seeds that a method and the baseline have on every pair."""
        base = base or self.base
        known = sorted({seed for _, name, seed in self.rows if name == method})
        return [s for s in known if all((pair, name, s) in self.rows for pair in self.pairs for name in (method, base))]

    def uar(self, pair: str, method: str, seeds: list[int]) -> Drawn:
        """The mean over seeds."""
        values, draws = [], []
        for seed in seeds:
            counts = self.rows[pair, method, seed]["counts"]
            sums = np.array([counts[who] for who in sorted(counts)], dtype=float)
            target = pair.partition("->")[2]
            if target not in self._weights:
                self._weights[target] = metrics.resamples(
                    len(sums), DRAWS, seed=sorted({p.partition("->")[2] for p in self.pairs}).index(target)
                )
            values.append(float(metrics.uar(sums.sum(0))))
            draws.append(metrics.uar(np.tensordot(self._weights[target], sums, axes=1)))
        return Drawn(100 * float(np.mean(values)), 100 * np.mean(draws, axis=0))

    def above(self, pair: str, method: str, base: str | None = None) -> Drawn:
        """How far a method is above the baseline on a pair, on the seeds that both have."""
        base = base or self.base
        seeds = self.seeds(method, base)
        one, other = self.uar(pair, method, seeds), self.uar(pair, base, seeds)
        return Drawn(one.value - other.value, one.draws - other.draws)

    def mean(self, method: str, base: str | None = None) -> Drawn:
        """The mean over pairs of UAR, or of how far it is above a baseline."""
        found = [self.uar(p, method, self.seeds(method)) if base is None else self.above(p, method, base) for p in self.pairs]
        return Drawn(float(np.mean([one.value for one in found])), np.asarray(np.mean([one.draws for one in found], axis=0)))


def told(found: Drawn, sign: bool = False) -> str:
    """A value with its 95 % interval."""
    low, high = np.percentile(found.draws[~np.isnan(found.draws)], [2.5, 97.5])
    return f"{found.value:{'+' if sign else ''}.1f} [{low:.1f}, {high:.1f}]"


def chance_of(found: Drawn) -> float:
    """Two-sided: how often a draw lies on the other side of zero, never below one draw."""
    return float(min(1.0, 2 * max(1 / DRAWS, min((found.draws <= 0).mean(), (found.draws >= 0).mean()))))


def holm(chances: list[float]) -> list[float]:
    """Adjusted by Holm's step-down procedure.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(chances)
    adjusted, highest = [0.0] * len(chances), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(chances) - place) * chances[i]))
        adjusted[i] = round(highest, 12)
    return adjusted


def means_table(grid: Grid) -> str:
    """One line a method: mean UAR over pairs, mean gain over the baseline and whether that is chance, on how many pairs it is certain."""
    names = [name for name in grid.methods if grid.seeds(name)]
    tried = [name for name in names if name not in (grid.base, "source_only") and not WORDS[name].startswith(("idea", "upper", "control"))]
    chances = dict(zip(tried, holm([chance_of(grid.mean(name, grid.base)) for name in tried]), strict=True))
    lines = [f"| method | what | seeds | UAR | above `{grid.base}` | p, Holm | certain on pairs |", "|---|---|---|---|---|---|---|"]
    for name in names:
        each = [grid.above(pair, name) for pair in grid.pairs]
        certain = [one.value for one, p in zip(each, holm([chance_of(one) for one in each]), strict=True) if p < 0.05]
        better, worse = sum(value > 0 for value in certain), sum(value < 0 for value in certain)
        gain = "-" if name == grid.base else told(grid.mean(name, grid.base), sign=True)
        on = "-" if name == grid.base else f"{better} better, {worse} worse"
        p = f"{chances[name]:.3f}" if name in chances else "-"
        lines.append(f"| `{name}` | {WORDS[name]} | {len(grid.seeds(name))} | {told(grid.mean(name))} | {gain} | {p} | {on} |")
    return "\n".join(lines)


def anchors_table(grid: Grid) -> str:
    """How far the chosen group of layers is above its controls, pair by pair and in the mean."""
    others = [name for name in ("anchor_none", "anchor_last", "anchor_random", "anchor_all") if grid.seeds(name, "anchor_group")]
    pairs = [pair.replace("->", " → ") for pair in grid.pairs]
    lines = ["| the chosen group above | seeds | mean | " + " | ".join(pairs) + " |", "|---|---|---|" + "---|" * len(pairs)]
    for name in others:
        each = [grid.above(pair, "anchor_group", name) for pair in grid.pairs]
        certain = holm([chance_of(one) for one in each])
        cells = [told(one, sign=True) + ("\\*" if p < 0.05 else "") for one, p in zip(each, certain, strict=True)]
        mean = told(grid.mean("anchor_group", name), sign=True)
        lines.append(f"| {WORDS[name].partition(',')[0]} | {len(grid.seeds('anchor_group', name))} | {mean} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ideas_table(grid: Grid) -> str:
    """One line an idea: mean gain over minimum class confusion, the method that it builds on, and pair by pair."""
    pairs = [pair.replace("->", " → ") for pair in grid.pairs]
    lines = ["| idea | seeds | above `mcc` | " + " | ".join(pairs) + " |", "|---|---|---|" + "---|" * len(pairs)]
    for name in [name for name in grid.methods if WORDS[name].startswith("idea") and grid.seeds(name, "mcc")]:
        each = " | ".join(f"{grid.above(pair, name, 'mcc').value:+.1f}" for pair in grid.pairs)
        lines.append(f"| `{name}` | {len(grid.seeds(name, 'mcc'))} | {told(grid.mean(name, 'mcc'), sign=True)} | {each} |")
    return "\n".join(lines)


def five_table(grid: Grid, before: Grid) -> str:
    """What five networks are worth above one, with minimum class confusion and without: means over pairs. before: earlier seeds of one."""
    lines = ["| difference | seeds | mean over pairs |", "|---|---|---|"]
    differences = [("mcc", BASE), ("five_norm", BASE), ("five_mcc", "mcc"), ("five_mcc", "five_norm"), ("five_mcc", BASE)]
    together = Grid([row for which in (before, grid) for row in which.rows.values() if row["method"] in (BASE, "mcc")])
    for which, one, other in [(together, "mcc", BASE), *((grid, *pair) for pair in differences)]:
        if seeds := which.seeds(one, other):
            lines.append(f"| `{one}` above `{other}` | {ranges(seeds)} | {told(which.mean(one, other), sign=True)} |")
    if seeds := together.seeds("mcc", BASE):
        alone = [Grid([row for row in together.rows.values() if row["seed"] == seed]) for seed in seeds]
        each = ", ".join(f"{one.mean('mcc', BASE).value:+.1f}" for one in alone)
        lines.append(f"| `mcc` above `{BASE}`, seed by seed | {ranges(seeds)} | {each} |")
    return "\n".join(lines)


def ranges(seeds: list[int]) -> str:
    """Seeds as words.

    >>> ranges([0, 1, 2]), ranges([5]), ranges([1, 4])
    ('0 to 2', '5', '1, 4')
    """
    whole = len(seeds) > 1 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))


def pairs_table(grid: Grid) -> str:
    """One line a pair: UAR of the baseline, and how far each method is above it; * where that is certain after Holm's correction."""
    names = [name for name in grid.methods if name != grid.base and grid.seeds(name)]
    certain = {name: dict(zip(grid.pairs, holm([chance_of(grid.above(pair, name)) for pair in grid.pairs]), strict=True)) for name in names}
    lines = ["| pair | " + " | ".join([f"`{grid.base}`", *(f"`{name}`" for name in names)]) + " |", "|---|" + "---|" * (len(names) + 1)]
    for pair in grid.pairs:
        cells = [told(grid.uar(pair, grid.base, grid.seeds(grid.base)))]
        cells += [told(grid.above(pair, name), sign=True) + ("\\*" if certain[name][pair] < 0.05 else "") for name in names]
        lines.append(f"| {pair.replace('->', ' → ')} ({grid.languages[pair].replace('->', ' → ')}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bundle_table(rows: list[dict[str, Any]]) -> str:
    """One line a corpus and way: what `moodcast adapt` does to the default bundle, the last one that was measured.

    Of lines that were repeated the last counts; other splits of the speakers and settings of one's own are not of this table.
    """
    plain = [row for row in rows if row["seed"] == 0 and row["settings"].keys() <= {"how"}]
    rows = list({(row["corpus"], row["way"]): row for row in plain if row["bundle"] == plain[-1]["bundle"]}.values())
    lines = ["| corpus | way | UAR | above the bundle as it was | refused |", "|---|---|---|---|---|"]
    for row in rows:
        uar, above = ("{:.1f} [{:.1f}, {:.1f}]".format(*row[name]) for name in ("uar", "above"))
        above = "-" if row["way"] == "as it was" else f"{'+' if row['above'][0] > 0 else ''}{above}"
        lines.append(f"| {row['corpus']} | {row['way']} | {uar} | {above} | {'yes' if row['refused'] else 'no'} |")
    return "\n".join(lines)


def wanted() -> str:
    """What the page should hold."""
    grid, five = Grid(read(GRID)), Grid(read(FIVE))
    frames = Grid([row for row in read(FRAMES) if not row["method"].startswith("anchor_")])
    anchors = Grid([row for row in read(FRAMES) if row["method"].startswith("anchor_")], "anchor_none")
    tables = {
        "means": means_table(grid),
        "fresh": means_table(Grid([row for row in read(GRID) if row["seed"] in FRESH and row["method"] in PUBLISHED])),
        "ideas": ideas_table(grid),
        "pairs": pairs_table(grid),
        "five": five_table(five, grid),
        "frames": means_table(frames),
        "frames_pairs": pairs_table(frames),
        "anchors": means_table(anchors) + "\n\n" + anchors_table(anchors) if anchors.rows else "Not run on the grid yet.",
        "bundle": bundle_table(read(BUNDLE)),
    }
    return filled(PAGE, "adaptation_table", tables)


if __name__ == "__main__":
    sys.exit(settle({PAGE: wanted()}, "adaptation_table", sys.argv[1:]))
