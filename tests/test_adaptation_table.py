"""The tables of docs/adaptation.md: up to date, and their arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import adaptation_table as table


def test_the_tables_of_adaptation_are_up_to_date(root: Path) -> None:
    done = subprocess.run([sys.executable, "scripts/adaptation_table.py", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def row(method: str, seed: int, right: int, pair: str = "a->b") -> dict[str, Any]:
    """Four speakers with ten utterances of each of two classes, of which so many are answered rightly."""
    counts = {f"s{i}": [[right + i, 10 - right - i], [10 - right, right]] for i in range(4)}
    return {"task": pair, "languages": "x->y", "method": method, "seed": seed, "counts": counts}


def test_a_difference_is_the_mean_over_the_seeds_that_both_have() -> None:
    rows = [row("target_norm", 0, 3), row("target_norm", 1, 3), row("mcc", 0, 5), row("mcc", 1, 6), row("mcc", 2, 1)]
    grid = table.Grid(rows)
    assert grid.seeds("mcc") == [0, 1]
    assert grid.above("a->b", "mcc").value == pytest.approx(25.0)
    assert np.allclose(grid.above("a->b", "mcc").draws, 25.0)  # the same speakers are drawn for both
    assert table.told(grid.mean("mcc", table.BASE), sign=True) == "+25.0 [25.0, 25.0]"
    assert "1 better, 0 worse" in table.means_table(grid)


def test_a_seed_that_some_pair_lacks_does_not_count() -> None:
    grid = table.Grid([row("target_norm", 0, 3), row("mcc", 0, 5), row("target_norm", 0, 3, "c->b"), row("mcc", 1, 5, "c->b")])
    assert grid.seeds("mcc") == []
    assert "`mcc`" not in table.means_table(grid)


def test_holm_multiplies_the_smallest_chance_by_all_and_never_goes_down() -> None:
    assert table.holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert table.holm([0.5, 0.6]) == [1.0, 1.0]


def test_the_chosen_group_is_compared_with_every_control_that_ran() -> None:
    rows = [row("anchor_none", 0, 3), row("anchor_group", 0, 5), row("anchor_last", 0, 6), row("anchor_random", 1, 4)]
    lines = table.anchors_table(table.Grid(rows, "anchor_none")).splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| source only", "1", "+20.0 [20.0, 20.0]"],
        ["| the last layer", "1", "-10.0 [-10.0, -10.0]"],
    ]
    assert "above `anchor_none`" in table.means_table(table.Grid(rows, "anchor_none"))


def test_five_networks_are_compared_with_one_on_the_seeds_that_both_have() -> None:
    rows = [
        row(name, seed, right) for name, right in (("target_norm", 3), ("mcc", 5), ("five_norm", 4), ("five_mcc", 6)) for seed in (5, 6)
    ]
    before = [row("target_norm", 0, 3), row("mcc", 0, 8)]
    found = table.five_table(table.Grid([*rows, row("five_mcc", 7, 1)]), table.Grid(before))
    assert "| `mcc` above `target_norm` | 0, 5, 6 | +30.0" in found
    assert "| `five_mcc` above `mcc` | 5 to 6 | +10.0 [10.0, 10.0] |" in found
    assert "| `five_mcc` above `five_norm` | 5 to 6 | +20.0 [20.0, 20.0] |" in found


def test_chances_of_methods_are_corrected_and_bounds_and_ideas_are_not_counted() -> None:
    rows = [row("target_norm", 0, 3), row("mcc", 0, 5), row("dann", 0, 3), row("joint", 0, 6), row("linear_mcc", 0, 6)]
    cells = {line.split(" | ")[0]: line.split(" | ")[5] for line in table.means_table(table.Grid(rows)).splitlines()[2:]}
    assert cells == {"| `target_norm`": "-", "| `mcc`": "0.001", "| `dann`": "1.000", "| `joint`": "-", "| `linear_mcc`": "-"}


def test_the_tables_of_word_chunks_are_up_to_date(root: Path) -> None:
    command = [sys.executable, "benchmarks/word_chunks.py", "report", "--folds", "2", "--page", "docs/word_chunks.md", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": f"{root}"})
    assert done.returncode == 0, done.stdout + done.stderr


def heard(corpus: str, way: str, uar: float, bundle: str = "new", seed: int = 0, **settings: Any) -> dict[str, Any]:
    told = {"corpus": corpus, "way": way, "bundle": bundle, "seed": seed, "uar": [uar] * 3, "above": [0.0] * 3, "refused": []}
    return {**told, "settings": ({} if way == "as it was" else {"how": way}) | settings}


def test_of_a_bundle_that_was_measured_again_each_line_stands_once() -> None:
    rows = [heard("nemo", "as it was", 30.0, bundle="old"), heard("nemo", "as it was", 40.0), heard("nemo", "sharpen", 50.0)]
    again = [heard("nemo", "as it was", 40.5), heard("nemo", "sharpen", 51.0)]
    others = [heard("nemo", "as it was", 60.0, seed=1), heard("nemo", "sharpen", 70.0, epochs=3)]
    lines = table.bundle_table([*rows, *again, *others]).splitlines()[2:]
    assert [line.split(" | ")[1:3] for line in lines] == [["as it was", "40.5 [40.5, 40.5]"], ["sharpen", "51.0 [51.0, 51.0]"]]


def test_rows_of_another_bundle_do_not_go_where_those_of_the_default_one_are(root: Path) -> None:
    before = (root / "results" / "adapt_bundle.jsonl").read_bytes()
    command = [sys.executable, "benchmarks/adapt_bundle.py", "nemo", "--bundle", "mine"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "adapt_bundle.jsonl is of the default bundle; for mine name another file with --out" in done.stderr
    assert (root / "results" / "adapt_bundle.jsonl").read_bytes() == before
