"""The records that default_bundle.py keeps, as tables: UAR by corpus with intervals, beside plain statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shared import figure
from moodcast import metrics

HEARD, UNHEARD = ("cremad", "emodb", "resd"), ("ravdess", "nemo", "urdu")
FOLDS = 5
REFIT = "refit"


def table(known: list[dict[str, Any]]) -> list[str]:
    """A line a corpus, and one for the mean of those never heard: counts of all seeds together, so that a speaker's are drawn together."""
    seeds = sorted({r["seed"] for r in known if r["seed"] is not None})
    told = next((f"{r['together']} together" for r in known if r.get("together")), str(seeds))
    lines = [f"Four classes, UAR in %, chance and majority 25.0, 95 % by bootstrap over speakers (resd: dialogues); seeds {told}.", ""]
    lines += [
        "| corpus | heard in training | speakers | plain statistics | this recipe | difference | by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    for corpora_ in ([c] for c in (*HEARD, *UNHEARD)):
        lines.append(line(known, corpora_, corpora_[0], "other speakers of it" if corpora_[0] in HEARD else "no"))
    return [*lines, line(known, list(UNHEARD), "mean of the three", "no")]


def line(known: list[dict[str, Any]], named: list[str], title: str, heard: str) -> str:
    ours, theirs, difference = compared(known, named)
    if ours is None:
        return f"| {title} | {heard} | not finished | | | | |"
    speakers = sum(len(gathered(known, corpus, None)) for corpus in named)
    seeds = finished(known, named)
    each = [f"{100 * np.mean([metrics.uar(np.sum(list(gathered(known, c, s).values()), axis=0)) for c in named]):.1f}" for s in seeds]
    return f"| {title} | {heard} | {speakers} | {theirs} | {ours} | {difference} | {', '.join(each)} |"


def finished(known: list[dict[str, Any]], named: list[str]) -> list[int]:
    """The seeds of which everything is there."""
    return [seed for seed in sorted({r["seed"] for r in known if r["seed"] is not None}) if all(gathered(known, c, seed) for c in named)]


def compared(known: list[dict[str, Any]], named: list[str]) -> tuple[Any, Any, Any]:
    """UAR of the recipe, of plain statistics, and the paired difference: the mean over the named corpora; None where runs are missing."""
    seeds = finished(known, named)
    if not seeds:
        return None, None, None
    base = {corpus: gathered(known, corpus, None) for corpus in named}
    ours = {c: {name: np.sum([gathered(known, c, seed)[name] for seed in seeds], axis=0) for name in base[c]} for c in named}
    first, second = stacked(ours), stacked(base) * len(seeds)
    return (
        metrics.speaker_bootstrap(mean_uar, first),
        metrics.speaker_bootstrap(mean_uar, second),
        metrics.paired_bootstrap(mean_uar, first, second),
    )


def mean_uar(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., corpora, K, K] -> [...]."""
    return np.asarray(metrics.uar(counts).mean(-1))


def tell_goals(known: list[dict[str, Any]]) -> None:
    """The figures: how far the goals are."""
    means = {corpus: interval.value for corpus in (*HEARD, *UNHEARD) if (interval := compared(known, [corpus])[0]) is not None}
    for corpus, goal in (("cremad", 74), ("emodb", 87)):
        if corpus in means:
            figure(f"default_bundle_{corpus}_uar_percent", f"{100 * means[corpus]:.1f}", goal)
    if all(corpus in means for corpus in UNHEARD):
        figure("default_bundle_unheard_uar_percent", f"{100 * float(np.mean([means[corpus] for corpus in UNHEARD])):.1f}", 46)


def members(known: list[dict[str, Any]]) -> list[str]:
    """Each network alone with the statistics, on the folds."""
    rows = [r for r in known if r.get("alone") and r["task"] != REFIT]
    names = sorted({(r["seed"], name) for r in rows for name in r["alone"] if name.startswith("network")})
    if all(name == "network 0" for _, name in names):
        return []  # there is only one
    lines = [
        "One network with the statistics, other speakers, UAR in %:",
        "",
        f"| seed, network | {' | '.join(HEARD)} |",
        "|---|---|---|---|",
    ]
    for seed, name in names:
        part = [{**r, "counts": r["alone"][name]} for r in rows if r["seed"] == seed]
        cells = [gathered(part, corpus, seed) for corpus in HEARD]
        if all(cells):
            scored_ = (str(metrics.speaker_bootstrap(metrics.uar, np.array([c[k] for k in sorted(c)]))) for c in cells)
            lines.append(f"| {seed}, {name} | {' | '.join(scored_)} |")
    return lines


def gathered(known: list[dict[str, Any]], corpus: str, seed: int | None) -> dict[str, NDArray[np.float64]]:
    """Counts by speaker over all folds (or the refit) of one seed; nothing where a fold is missing."""
    tasks = [REFIT] if corpus in UNHEARD else [str(fold) for fold in range(FOLDS)]
    found = {r["task"]: r["counts"] for r in known if r["seed"] == seed and r["task"] in tasks and corpus in r.get("counts", {})}
    if len(found) < len(tasks):
        return {}
    return {name: np.array(count, dtype=float) for counts in found.values() for name, count in counts[corpus].items()}


def stacked(found: dict[str, dict[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Counts by corpus and speaker as [speakers of all, corpora, K, K]: zero where a speaker is of another corpus."""
    rows = []
    for place, by_speaker in enumerate(found.values()):
        for name in sorted(by_speaker):
            row = np.zeros((len(found), *by_speaker[name].shape))
            row[place] = by_speaker[name]
            rows.append(row)
    return np.array(rows)
