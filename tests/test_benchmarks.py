"""The benchmarks: told as they are, and rows, figures and mistakes the same way everywhere."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import default_bundle, layer_anchor, shared, transfer_grid
from moodcast import lines
from moodcast.metrics import Interval
from scripts import benchmarks_table as table

ROOT = Path(__file__).resolve().parents[1]
DOCS = table.scripts()
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "log.md")]
CALL = re.compile(r"python benchmarks/(\w+)\.py([^`\n]*)")


def source(name: str) -> str:
    return (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")


def test_the_page_of_benchmarks_is_up_to_date() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page()


@pytest.mark.parametrize("name", DOCS)
def test_a_benchmark_says_how_it_is_called_how_long_it_takes_and_what_its_figures_are(name: str) -> None:
    assert f"python benchmarks/{name}.py" in DOCS[name]
    assert "Figure" in DOCS[name]
    assert table.takes(DOCS[name])
    assert "options_of(__doc__" in source(name) or "encoder_options(__doc__" in source(name)
    assert "begin(" in source(name)


@pytest.mark.parametrize("name", DOCS)
def test_rows_and_figures_go_the_one_way_that_all_share(name: str) -> None:
    text = source(name)
    assert not re.search(r'"a"|json\.loads\(line\)|["\']figure |MOODCAST_CORPORA"', text)
    assert re.search(r"\b(figures?|tell_gains|tell_goals)\(", text)


@pytest.mark.parametrize("place", [*DOCS, *PAGES], ids=lambda place: place if isinstance(place, str) else place.stem)
def test_commands_that_are_told_name_benchmarks_and_options_that_exist(place: str | Path) -> None:
    for name, words in CALL.findall(DOCS[place] if isinstance(place, str) else place.read_text(encoding="utf-8")):
        if name in DOCS:
            known = source(name) + (source("sweep_cache") if name == "feature_cache" else "")
            assert [word for word in re.findall(r"--[a-z-]+", words) if f'"{word}"' not in known] == []
        else:
            assert name == "NAME"


def test_what_a_benchmark_printed_is_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FIGURES", tmp_path / "figures.jsonl")
    monkeypatch.setattr(table, "PAGE", ROOT / "docs" / "none.md")
    monkeypatch.setattr(table, "settle", lambda wanted, script, words: 0)
    for value in ("3.0", "4.0"):
        monkeypatch.setattr(sys, "stdin", ["trial 1\n", f"figure sweep_cache_speedup {value} goal 5\n", "figure x 1 goal < 2\n"])
        assert table.main(["--take", "sweep_cache", "a run"]) == 0
    row = next(line for line in table.page().splitlines() if line.startswith("| `sweep_cache`"))
    assert "| speedup 4.0 (goal 5)<br>x 1 (goal < 2) | " in row
    assert row.endswith(": a run |")
    monkeypatch.setattr(sys, "stdin", ["nothing\n"])
    with pytest.raises(SystemExit, match="no line that begins with figure"):
        table.main(["--take", "sweep_cache", "a run"])
    with pytest.raises(SystemExit, match="nobody is no benchmark"):
        table.main(["--take", "nobody", "a run"])


def test_a_figure_is_a_line_with_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    shared.figure("speedup", "2.0", "> 1")
    shared.figures({"gain": -0.26}, 0)
    shared.figures({"uar": 1.0})
    assert capsys.readouterr().out.splitlines() == ["figure speedup 2.0 goal > 1", "figure gain -0.3 goal 0", "figure uar 1.0 goal -"]
    assert shared.percent(Interval(0.5, 0.25, 0.75)) == [50.0, 25.0, 75.0]
    assert shared.signed(Interval(0.5, -0.25, 0.75)) == "+50.0 [-25.0, +75.0]"


def test_gains_are_means_over_the_cells_that_have_the_baseline_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {("base", "a", 0): 10, ("base", "b", 0): 20, ("mcc", "a", 0): 12, ("mcc", "b", 0): 26, ("mcc", "b", 1): 90, ("dann", "b", 1): 5}
    rows = [{"method": name, "task": pair, "seed": seed, "uar": [value, 0, 0]} for (name, pair, seed), value in cells.items()]
    asked = {(pair, name, seed) for name, pair, seed in cells}
    shared.tell_gains("grid", rows, asked, "base")
    assert capsys.readouterr().out.splitlines() == [
        "mcc: 2 of 3 cells have base beside them",
        "figure grid_mcc_minus_base_points 4.0 goal 0",
    ]
    shared.tell_gains("grid", rows, {("a", "mcc", 0)}, "base")
    assert "figure grid_mcc_minus_base_points 2.0" in capsys.readouterr().out
    shared.tell_gains("grid", rows, asked, "none")
    assert capsys.readouterr().out == "no cell has none beside it; run it, too, to know what a method is worth\n"


def test_the_figures_of_the_grid_are_those_of_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = ["->".join(pair) for pair in transfer_grid.PAIRS]
    transfer_grid.report(argparse.Namespace(out=transfer_grid.GRID, pairs=pairs, methods=["mcc"], seeds=range(5)))
    value = re.search(r"figure transfer_grid_mcc_minus_target_norm_points (\S+) goal 0", capsys.readouterr().out)[1]
    assert re.search(
        rf"\| `mcc` \| minimum class confusion \| 5 \| [^|]+\| \+{re.escape(value)} \[", (ROOT / "docs/adaptation.md").read_text()
    )


def test_rows_of_another_recipe_a_corpus_that_is_absent_and_odd_numbers_are_refused_in_a_sentence(tmp_path: Path) -> None:
    shared.refuse_others(tmp_path, ["a"], "a")
    with pytest.raises(ValueError, match=r"holds rows of another recipe \(b, asked for: a\); name another file with --out"):
        shared.refuse_others(tmp_path, ["a", "b"], "a")
    with pytest.raises(ValueError, match="holds no cremad; recordings are not part of this repository: MOODCAST_CORPORA=FOLDER"):
        shared.corpus_in("cremad", tmp_path)
    assert shared.some("3") == 3
    for text in ("0", "-1", "x", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no whole number of at least 1"):
            shared.some(text)


def test_a_mistake_ends_a_benchmark_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/transfer_grid.py", "run", "--methods", "mcc", "--seeds", "0", "--out", str(tmp_path / "rows")]
    given = {**os.environ, "MOODCAST_CORPORA": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: {tmp_path} holds no cremad; ")


def test_processes_run_a_few_at_once_and_none_begins_after_its_time(tmp_path: Path) -> None:
    def touch(name: str, code: int) -> list[str]:
        return [sys.executable, "-c", f"import pathlib, sys; pathlib.Path(sys.argv[1]).touch(); sys.exit({code})", str(tmp_path / name)]

    assert shared.in_processes([touch("a", 0), touch("b", 3), touch("c", 0)], 2) == (2, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert shared.in_processes([touch("d", 0)], 1, minutes=-1.0) == (0, 0)
    assert not (tmp_path / "d").exists()


def test_runs_on_other_folds_are_made_on_them_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sequence[str]] = []
    monkeypatch.setattr(default_bundle, "in_processes", lambda commands, jobs: (made.extend(commands), (0, 0))[1])
    monkeypatch.setattr(default_bundle, "rows_of", lambda names, run: [])
    monkeypatch.setattr(default_bundle, "CachedStretches", lambda rows, run: [])
    given: dict[str, Any] = {"out": tmp_path / "rows", "set": [], "teacher": None, "answers": None, "bundles": None, "jobs": 1}
    options = argparse.Namespace(**given, seeds=[0], tasks=["0"], split_seed=3)
    default_bundle.run_all(options)
    assert made[0][made[0].index("--split-seed") + 1] == "3"
    assert default_bundle.command_of(options) == "python benchmarks/default_bundle.py run --split-seed 3"
    lines.add(options.out, {"seed": 0, "task": "1", "command": "python benchmarks/default_bundle.py run", "recipe": "x"})
    with pytest.raises(ValueError, match="rows of another recipe"):
        default_bundle.run_all(options)


def test_layers_of_other_settings_are_not_taken_for_done(tmp_path: Path) -> None:
    settings = {"epochs": 1, "width": 8, "channels": 4, "group": 2, "most": 60, "halves": 1}
    row = {"source": "urdu", "target": "emodb", "arm": "none", "seed": 0, "encoder": "", **settings, "uar": [30.0, 0.0, 0.0]}
    row["counts"] = {"a": [[3, 1], [2, 2]], "b": [[1, 3], [2, 2]]}
    lines.add(tmp_path / "rows", row)
    asked = {"out": tmp_path / "rows", "seeds": [0], "pairs": ["urdu:emodb"], "arms": ["none"], "encoder": ""}
    layer_anchor.measure(argparse.Namespace(**asked, **settings))
    assert len(lines.read(tmp_path / "rows")) == 1
    with pytest.raises(ValueError, match="width 8, .*asked for: epochs 1, width 16"):
        layer_anchor.measure(argparse.Namespace(**asked, **{**settings, "width": 16}))
