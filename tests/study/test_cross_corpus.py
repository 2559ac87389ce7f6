"""Cross-corpus validation: leakage and shift are found where they were put, and nothing of an answered corpus is looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import urdu_cross_corpus as job
from moodcast import lines
from moodcast.manifest import Utterance
from moodcast.study import cross_corpus
from moodcast.study.cross_corpus import Cell, Table, answers, cells, folds, measure


def made(name: str, leak: float = 0.0, shift: float = 0.0, speakers: int = 12, each: int = 16, seed: int = 0, width: int = 8) -> Table:
    """Features that hold the class faintly, the speaker's habit (which goes with a class, as in the Urdu corpus) and an offset."""
    rng = np.random.default_rng(seed)
    features, truth, who = [], [], []
    for speaker in range(speakers):
        voice = rng.normal(size=width)
        for i in range(each):
            label = speaker % 4 if i % 8 else int(rng.integers(4))
            clue = np.zeros(width)
            clue[label] = 1.2
            features.append(clue + leak * voice + shift * np.arange(width) + rng.normal(size=width))
            truth.append(label)
            who.append(f"{name}/{speaker}")
    return Table(name, np.array(features), np.array(truth, dtype=np.int64), tuple(who))


def uar(cell: Cell, tables: dict[str, Table], seeds: int = 1) -> float:
    return float(measure(cell, tables, 4, range(seeds))["uar"][0])


def test_every_cell_is_there_once() -> None:
    found = list(cells(("a", "b", "c"), ("plain",), ("logistic", "mlp")))
    assert len(found) == len({cell.key for cell in found}) == 2 * 3 * (2 + 2 + 2 * 2)
    assert all(cell.trained != cell.answered for cell in found if cell.protocol == "cross")


def test_folds_cover_every_row_once_and_groups_stand_on_one_side() -> None:
    table = made("a")
    for grouped in (True, False):
        seen = np.concatenate([test for _, test in folds(table, grouped, seed=0)])
        assert sorted(seen) == list(range(len(table.truth)))
    for rest, test in folds(table, True, seed=0):
        assert not set(table.groups[rest]) & set(table.groups[test])


def test_leakage_and_shift_are_found_where_they_are() -> None:
    tables = {"leaky": made("leaky", leak=4.0), "far": made("far", shift=2.0, seed=1), "near": made("near", seed=2)}
    rows = [measure(cell, tables, 4, range(1), {}) for cell in cells(tuple(tables), ("plain",), ("logistic",))]
    gaps = {gap["answered"]: gap for gap in cross_corpus.gaps(rows)}
    assert gaps["leaky"]["leakage"][0] > 0.05 + gaps["near"]["leakage"][0]
    assert abs(gaps["near"]["leakage"][0]) < 0.12
    assert gaps["far"]["shift"][0] > 0.1
    for gap in gaps.values():
        assert gap["total"][0] == pytest.approx(gap["leakage"][0] + gap["shift"][0], abs=1e-4)
    assert gaps["far"]["regained"][1] > 0.1
    by_key = {(row["trained"], row["answered"], row["normalise"]): row["uar"][0] for row in rows if row["protocol"] == "cross"}
    assert by_key["near", "far", "corpus"] > by_key["near", "far", "source"] + 0.1  # its own statistics take the offset away


def test_a_network_learns_what_there_is() -> None:
    tables = {"a": made("a"), "b": made("b", seed=1)}
    for cell in (Cell("group", "a", "a", "plain", "mlp", "source"), Cell("cross", "a", "b", "plain", "mlp", "source")):
        assert uar(cell, tables) > 0.35
    row = measure(cell, tables, 4, range(2), {})
    assert (row["seeds"], np.sum(row["counts"])) == (2, 2 * 192)


def test_labels_of_the_answered_corpus_change_no_answer() -> None:
    tables = {"a": made("a"), "b": made("b", seed=1), "c": made("c", seed=2)}
    other = replace(tables["b"], truth=np.roll(tables["b"].truth, 7))
    for cell in cells(tuple(tables), ("plain",), ("logistic",)):
        if cell.answered == "b" and cell.protocol in ("cross", "others"):
            np.testing.assert_array_equal(answers(cell, tables, 4, 0, {}), answers(cell, {**tables, "b": other}, 4, 0, {}))


def test_an_answer_does_not_hang_on_others_where_it_is_standardised_by_the_source() -> None:
    tables = {"a": made("a"), "b": made("b", seed=1)}
    cell = Cell("cross", "a", "b", "plain", "logistic", "source")
    part = replace(tables["b"], features=tables["b"].features[:40], truth=tables["b"].truth[:40], speakers=tables["b"].speakers[:40])
    np.testing.assert_array_equal(answers(cell, tables, 4, 0, {})[:40], answers(cell, {**tables, "b": part}, 4, 0, {}))


def test_kept_models_are_those_that_would_be_fitted() -> None:
    tables = {"a": made("a"), "b": made("b", seed=1), "c": made("c", seed=2)}
    models: dict[str, cross_corpus.Model] = {}
    for cell in cells(tuple(tables), ("plain",), ("mlp",)):
        if cell.protocol in ("cross", "others"):
            np.testing.assert_array_equal(answers(cell, tables, 4, 3, models), answers(cell, tables, 4, 3, {}))
    assert len(models) == 3 + 2 * 3  # each corpus, and all others of each with and without statistics of their own


def test_many_features_become_components_and_constant_ones_nothing() -> None:
    rng = np.random.default_rng(0)
    wide = made("a", width=8)
    features = np.concatenate([wide.features, np.ones((len(wide.truth), 3)), rng.normal(size=(len(wide.truth), 400)) * 1e-3], axis=1)
    tables = {"a": replace(wide, features=features), "b": replace(wide, name="b", features=features)}
    model = cross_corpus.Model("logistic", 4, 0)
    model.fit([features], [wide.truth], [wide.groups], apart=False)
    assert model.components.components_.shape[0] <= cross_corpus.COMPONENTS
    assert model.components.components_.shape[1] == 408
    assert uar(Cell("cross", "a", "b", "plain", "logistic", "source"), tables) > 0.5


def test_a_name_alone_knows_the_label_where_speakers_keep_it() -> None:
    assert cross_corpus.name_alone(made("a"), 4) > 0.8
    rng = np.random.default_rng(0)
    assert cross_corpus.name_alone(replace(made("a"), truth=rng.integers(0, 4, 192)), 4) < 0.4


def test_a_study_goes_on_where_it_stopped_and_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        Utterance(f"{corpus}-{i}", "-", corpus=corpus, speaker=str(i % 8), emotion=("angry", "happy", "neutral", "sad")[(i // 8) % 4])
        for corpus in ("a", "b")
        for i in range(96)
    ]
    asked = []

    def features(own: list[Utterance], kind: str) -> Any:
        asked.append((own[0].corpus, kind))
        labels = np.array([("angry", "happy", "neutral", "sad").index(str(row.emotion)) for row in own])
        return np.eye(4)[labels] + 0.5 * np.random.default_rng(len(own[0].corpus)).normal(size=(len(own), 4))

    monkeypatch.setattr(job, "statistics_of", features)
    run, into = job.Run(features=("plain",), classifiers=("logistic",), seeds=1), tmp_path / "rows.jsonl"
    job.study(run, rows, into, [])
    whole = lines.read(into)
    assert len(whole) == 2 + 2 * (2 + 2)
    assert all("urdu_cross_corpus" in row["command"] for row in whole)
    into.write_text("\n".join(into.read_text().splitlines()[:5]) + "\n")
    job.study(run, rows, into, lines.read(into))
    assert [row["uar"] for row in lines.read(into)] == [row["uar"] for row in whole]
    asked.clear()
    job.study(run, rows, into, lines.read(into))
    assert asked == []
    for other, theirs, differs in ((replace(run, most=700), rows, "most"), (run, [replace(row, text="x") for row in rows], "rows_sha256")):
        with pytest.raises(ValueError, match=rf"rows of another recipe \({differs} differ.*choose another --into"):
            job.study(other, theirs, into, lines.read(into))
    with pytest.raises(ValueError, match="labels, most, rows_sha256, seeds differ, or are not noted there"):
        job.study(run, rows, into, [{key: value for key, value in row.items() if key != "recipe"} for row in whole])
    job.study(run, [replace(row, split="test") for row in rows], into, lines.read(into))
    assert asked == []
    page = cross_corpus.page(whole, job.head(whole, into))
    assert "| a | 8 | plain | logistic |" in page
    assert page.count("| itself, whole speakers |") == 1
    assert "The rows in rows.jsonl were made by" in page
    assert str(tmp_path) not in page
    assert "4 classes (angry, happy, neutral, sad)." in " ".join(page.split())
    assert "At most 600 utterances of a corpus." in " ".join(page.split())
    assert page.endswith("Chance is 25.\n")
    assert "resd" not in page
    with pytest.raises(ValueError, match="two corpora or more, got a"):
        job.study(run, rows[:96], into, [])


def test_a_file_without_rows_replaces_no_page(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("of before")
    with pytest.raises(ValueError, match=r"nothing\.jsonl holds no rows to write .*page\.md from"):
        job.command(tmp_path / "nothing.jsonl", page=tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == "of before"


def test_the_tables_of_the_docs_are_those_of_the_rows(root: Path) -> None:
    rows = lines.read(root / "results" / "urdu_cross_corpus.jsonl")
    assert len(rows) > 100
    head = job.head(rows, Path("results/urdu_cross_corpus.jsonl"))
    assert (root / "docs" / "cross_corpus.md").read_text(encoding="utf-8") == cross_corpus.page(rows, head)


def test_the_words_of_a_page_are_those_of_its_rows() -> None:
    two = {"labels": {"classes": ["calm", "loud"]}, "most": 90, "seeds": 1, "rows_sha256": "x"}
    rows = [
        measure(cell, {"a": made("a"), "b": made("b", seed=1)}, 4, range(1))
        for cell in [Cell("group", "a", "a", "plain", "logistic", "source")]
    ]
    noted = [{**row, "counts": np.array(row["counts"])[:, :2, :2].tolist(), "recipe": two, "command": "python -m x"} for row in rows]
    noted += [{"protocol": "name", "answered": name, "uar": 0.5, "recipe": two, "command": "python -m x"} for name in ("a", "resd")]
    page = " ".join(cross_corpus.page(noted, job.head(noted, Path("cells.jsonl"))).split())
    for words in (
        "made by `python -m x`, the",
        "2 classes (calm, loud).",
        "(dialogues for resd)",
        "At most 90 utterances",
        "Chance is 50.",
    ):
        assert words in page
    assert "What the gap is made of" not in page  # nothing was asked across corpora
    assert "a 50.0, resd 50.0" in page
    by_command = [{**rows[0], "command": "python -m jobs.urdu_cross_corpus a.parquet --set most=7 --set labels.classes=a,b,c"}]
    page = job.head(by_command, Path("cells.jsonl"))
    assert "3 classes (a, b, c)." in page
    assert "At most 7 utterances" in page
    page = job.head(rows, Path("cells.jsonl"))  # neither recipe nor command
    assert "commands that they do not note" in page
    assert "classes" not in page
    assert "At most" not in page
