"""The real recordings, where they are: what their sources count, splits, rules, votes, phones. The counts are those of their SOURCE.md."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from moodcast import audio
from moodcast.corpora import clean, read
from moodcast.manifest import Utterance, folds, leaks, read_manifest, split_by_group, write_manifest

pytestmark = pytest.mark.corpora
Rows = Callable[[str], list[Utterance]]

COUNTS = {
    "nemo": (2251, 9, {"angry": 378, "fear": 373, "happy": 374, "neutral": 405, "sad": 385, "surprise": 336}),
    "ravdess": (1440, 24, {"neutral": 96, **dict.fromkeys(("calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 192)}),
    "urdu": (400, 29, dict.fromkeys(("angry", "happy", "neutral", "sad"), 100)),
    "cremad": (7442, 91, {"angry": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}),
    "emodb": (535, 10, {"happy": 71, "neutral": 79, "angry": 127, "sad": 62, "fear": 69, "boredom": 81, "disgust": 46}),
    "resd": (1116, 80, {"angry": 201, "happy": 170, "enthusiasm": 162, "fear": 212, "neutral": 106, "disgust": 132, "sad": 133}),
}


@pytest.fixture(scope="module")
def rows_of(corpora: Path) -> Rows:
    """All rows of a corpus, read once."""
    return cache(lambda name: read(name, corpora / name))


@pytest.mark.parametrize("name", COUNTS)
def test_a_real_corpus_has_what_its_source_says(name: str, rows_of: Rows) -> None:
    rows = rows_of(name)
    files, speakers, classes = COUNTS[name]
    assert len(rows) == files
    assert len({row.corpus_speaker for row in rows}) == speakers
    assert Counter(row.emotion for row in rows) == classes
    assert all(Path(row.path).is_file() for row in rows)
    for row in rows[:: len(rows) // 7]:
        assert row.duration_s is not None
        assert abs(len(audio.read(row.path)) / 16_000 - row.duration_s) < 0.01


@pytest.mark.parametrize("name", COUNTS)
def test_every_rule_of_a_corpus_meets_rows_that_exist(name: str, rows_of: Rows) -> None:
    module = importlib.import_module(f"moodcast.corpora.{name}")
    everything = rows_of(name)
    rows, met = clean(name, everything)
    named = {one for rule in module.RULES for one in rule.ids}
    absent = {f"nemo/EB0_surprised_{n}" for n in (42, 43, 46, 48)}  # of the half of the corpus that is not among these recordings
    assert named - {row.id for row in everything} <= absent
    assert [rule.name for rule in met] == [rule.name for rule in module.RULES]
    dropped = {one for rule in met if rule.change is None for one in rule.ids}
    assert {row.id for row in everything} - {row.id for row in rows} == dropped
    changed = {row.id for row, old in zip(rows, [row for row in everything if row.id not in dropped], strict=True) if row != old}
    assert changed == {one for rule in met if rule.change is not None for one in rule.ids}


def test_real_splits_are_disjoint_and_stratified(rows_of: Rows) -> None:
    rows = split_by_group([row for name in ("cremad", "emodb", "resd") for row in rows_of(name)])
    assert leaks(rows) == {}
    for name in ("cremad", "emodb", "resd"):
        files, _speakers, classes = COUNTS[name]
        for split, share in (("train", 0.7), ("dev", 0.15), ("test", 0.15)):
            counts = Counter(row.emotion for row in rows if row.corpus == name and row.split == split)
            assert set(counts) == set(classes)
            assert abs(counts.total() / files - share) < 0.05
    assert {row.split for row in rows if row.group == "dlg01"} in ({"train"}, {"dev"}, {"test"})
    numbers = folds(rows, 5)
    assert set(numbers) == set(range(5))
    assert leaks([replace(row, split=str(n)) for row, n in zip(rows, numbers, strict=True)]) == {}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_real_rows_survive_every_format(kind: str, rows_of: Rows, tmp_path: Path) -> None:
    rows = [row for name in COUNTS for row in rows_of(name)[::20]]
    write_manifest(rows, tmp_path / f"m.{kind}")
    assert read_manifest(tmp_path / f"m.{kind}") == rows


def test_voice_votes_agree_with_the_intended_label_as_often_as_published(rows_of: Rows) -> None:
    rows = rows_of("cremad")
    right = 0
    for row in rows:
        assert row.votes
        top = [name for name, count in row.votes.items() if count == max(row.votes.values())]
        right += top == [row.emotion]
    assert round(100 * right / len(rows), 1) == 41.6  # ties counted as wrong


def test_the_vowels_of_emodb_lie_where_it_is_loud(rows_of: Rows) -> None:
    louder = []
    for row in [row for row in rows_of("emodb") if row.phones][:20]:
        wave = audio.read(row.path, rate=16_000).astype(float)
        level = np.log(np.convolve(wave**2, np.ones(400) / 400, mode="same") + 1e-9)
        inside = np.zeros(len(wave), dtype=bool)
        for label, start_s, stop_s in row.phones or ():
            if label in ("a", "e", "i", "o", "u", "E", "I", "O", "U"):
                inside[round(start_s * 16_000) : round(stop_s * 16_000)] = True
        louder.append(level[inside].mean() - level[~inside].mean())
    assert np.mean(louder) > 1.5
