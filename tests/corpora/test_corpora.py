"""moodcast.corpora: names, options, rules, and what every corpus says of itself."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from moodcast.corpora import CLASSES, clean, names, options_of, prepare, read, summary
from moodcast.manifest import Utterance


def test_a_corpus_that_nobody_knows_gets_a_suggestion() -> None:
    with pytest.raises(
        ValueError, match=r"there is no corpus 'crema-d'\. Did you mean 'cremad'\? Known: audformat, cremad, csv, emobox, emodb, folder"
    ):
        prepare("crema-d", ".")
    with pytest.raises(ValueError, match="there is no corpus '_table'"):
        prepare("_table", ".")


def test_an_option_that_does_not_exist_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cremad has no option 'label'\. Did you mean 'labels'\? Options: labels, votes"):
        read("cremad", tmp_path, {"label": "voted"})
    assert options_of("resd") == ()


@pytest.mark.parametrize("name", names())
def test_a_folder_that_does_not_hold_the_corpus_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted the folder of the corpus"):
        prepare(name, tmp_path)
    with pytest.raises(ValueError, match="wanted"):
        prepare(name, tmp_path / "nowhere")


def test_every_corpus_speaks_the_common_class_names() -> None:
    for name in names():
        module = importlib.import_module(f"moodcast.corpora.{name}")
        assert set(module.EMOTIONS.values()) <= set(CLASSES)


def test_every_corpus_states_its_source_terms_labels_and_splits() -> None:
    for name in names():
        module = importlib.import_module(f"moodcast.corpora.{name}")
        about = " ".join(module.__doc__.split())
        for word in ("Source: ", "Terms: ", "Layout: ", "Labels: ", "Splits: "):
            assert word in about, f"{name} lacks {word}"
        assert module.LABELS in ("intended", "voted", "none") or module.LABELS.startswith("as the ")


def test_the_page_of_corpora_is_not_stale(root: Path) -> None:
    done = subprocess.run([sys.executable, "scripts/corpora_table.py", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_says_what_it_does() -> None:
    rows = [Utterance(id=f"urdu/SF1_F{n}_H0{n}", path="x", corpus="urdu", speaker="SF1") for n in (1, 2)]
    mended, (rule,) = clean("urdu", rows)
    assert {row.group for row in mended} == {"SF1+SF4"}
    assert rule.ids == ("urdu/SF1_F1_H01", "urdu/SF1_F2_H02")
    assert rule.does == "sets group=SF1+SF4"
    _, (emptying,) = clean("nemo", [Utterance(id="nemo/EB0_surprised_41", path="x", corpus="nemo", text="of another")])
    assert emptying.does == "empties text"
    kept, (dropping,) = clean("ravdess", [Utterance(id="ravdess/03-01-03-01-02-02-07", path="x")])
    assert (kept, dropping.does) == ([], "drops")
    assert clean("emodb", rows) == (rows, [])


def test_rows_that_share_an_id_all_stay_when_a_rule_mends_them() -> None:
    row = Utterance(id="urdu/SF1_F1_H01", path="x", corpus="urdu", speaker="SF1")
    mended, _ = clean("urdu", [row, replace(row, path="y")])
    assert [(row.path, row.group) for row in mended] == [("x", "SF1+SF4"), ("y", "SF1+SF4")]


def test_a_summary_is_one_line() -> None:
    rows = [Utterance(id=str(n), path="x", corpus="a", speaker="s", emotion="sad" if n else None, duration_s=1800.0) for n in range(3)]
    assert summary(rows) == "3 utterances, 1.50 h, 1 speakers: sad 2, unlabelled 1"
    assert summary([]) == "no utterances"
