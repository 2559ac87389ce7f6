"""The tables of docs/multi_loss.md: up to date, and what they say of what is not complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import multi_loss_table as table
from tests.test_sweep_page import made


def test_the_tables_of_multi_loss_are_up_to_date(root: Path) -> None:
    done = subprocess.run([sys.executable, "scripts/multi_loss_table.py", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def row(arm: str, seed: int, fold: int, right: int) -> dict[str, Any]:
    """Two speakers of a fold with ten utterances of each of two classes, of which so many are answered rightly."""
    counts = {f"s{fold}{i}": [[right + i, 10 - right - i], [10 - right, right]] for i in range(2)}
    return {"corpus": "emodb", "arm": arm, "seed": seed, "fold": fold, "counts": counts}


def test_a_comparison_has_the_seeds_that_are_whole_and_says_what_is_missing() -> None:
    arms = {"kl": 4, "kl + focal": 5, "kl + focal + centre": 5, "energy": 7}
    rows = [row(arm, seed, fold, right) for seed in (0, 1) for fold in range(5) for arm, right in arms.items()]
    told = "\n".join(table.ablation_tables(rows[:-1], ["emodb", "cremad"]))
    assert "emodb, losses (energy mixup, attention): 200 utterances of 10 unheard speakers, 2 classes, seeds [0]." in told
    assert "| kl + focal + centre + contrast | 72.5" in told
    assert "| 30.0 [30.0, 30.0] | 20.0 [20.0, 20.0] | 20.0 [20.0, 20.0] | 72.5 |" in told
    assert "Not complete: 1 of 5 seeds." in told
    assert "emodb, mixup (all losses, attention): 9 of 150 runs made, no seed whole yet." in told
    assert "Not run yet: cremad." in told


@pytest.mark.parametrize("rival", [True, False])
def test_a_report_is_kept_short_and_told_with_its_data_intervals_and_baselines(rival: bool) -> None:
    found = {**made(rival=rival), "classes": ["a", "b"]}
    kept = table.short(found)
    assert len(json.dumps(kept)) < len(json.dumps(found))
    told = "\n".join(table.sweep_tables(kept))
    assert "searched on 100 utterances of 8 speakers in 3 inner speaker folds, 2 classes, 12 epochs" in told
    assert "80 utterances of 6 speakers that nobody chose by, 2 fresh seeds" in told
    assert "| published settings (the job) | 55.0 [45.0, 65.0] | 54.0, 56.0 | +5.0 [+1.0, +9.0] |" in told
    assert "| majority | 25.0" in told
    assert "| the winner | 70.0 [60.0, 80.0] | 60.0 [50.0, 70.0] | +10.0 [+2.0, +20.0] |" in told
    assert ("is not reported yet" in told) == (not rival)
    assert "lr 60 ± 5 %" in told
    kinds = {str(trial["changes"].get("method.mix.kind")) for trial in found["trials"]}
    assert all(f"{kind} " in told.partition("Trials by mixup")[2] for kind in kinds)
