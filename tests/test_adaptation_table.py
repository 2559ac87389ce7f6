"""The tables of docs/adaptation.md: up to date, and their arithmetic."""

from __future__ import annotations

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
