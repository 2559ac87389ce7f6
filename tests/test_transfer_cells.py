"""The grids behind docs/adaptation.md tell who repeats them what they did not compute, and refuse what is no pair."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GRIDS = ("transfer_grid", "transfer_frames")


def asked(root: Path, grid: str, pair: str, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"benchmarks/{grid}.py", "run", "--seeds", "0", "--methods", "mcc", "--pairs", pair, "--out", str(out)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


@pytest.mark.parametrize("grid", GRIDS)
def test_cells_that_are_there_are_told_and_left_as_they_are(root: Path, grid: str, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    out.write_text(json.dumps({"task": "cremad->emodb", "method": "mcc", "seed": 0}) + "\n")
    before = out.read_text()
    done = asked(root, grid, "cremad->emodb", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 cells to make, 1 of 1 made"), done.stdout
    assert out.read_text() == before


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("pair", ["cremad-", "cremad->emodbb"])
def test_what_is_no_pair_of_corpora_is_refused_in_words(root: Path, grid: str, pair: str, tmp_path: Path) -> None:
    done = asked(root, grid, pair, tmp_path / "rows.jsonl")
    assert done.returncode == 2
    assert f"'{pair}' is no pair of cremad, " in done.stderr, done.stderr
