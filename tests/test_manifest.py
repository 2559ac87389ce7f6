"""moodcast.manifest: what is written is what is read, what is wrong is named with its row, and no split hears anybody twice."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moodcast.manifest import Utterance, fold_splits, folds, leaks, read_manifest, split_by_group, write_manifest

KINDS = ("parquet", "jsonl", "csv")
FULL = Utterance(
    id="a/1",
    path="/sounds/ü 1.wav",
    start_s=0.25,
    stop_s=1.5,
    corpus="a",
    language="pl",
    speaker="0007",
    group="dlg01",
    gender="female",
    age=31.5,
    split="dev",
    emotion="angry",
    votes={"angry": 3.0, "sad": 1.5},
    attributes={"arousal": 0.75},
    text='She said: "no, never",\nand left',
    words=(("She", 0.25, 0.5), ("said", 0.5, 0.9)),
    phones=(("S", 0.25, 0.3),),
    trace="/traces/1.csv",
    video="/video/1.mp4",
    clean="/clean/1.wav",
    weight=0.5,
    duration_s=1.25,
)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
seconds = st.floats(0, 1e5, allow_nan=False)
spans = st.lists(st.tuples(texts, seconds, seconds), max_size=3).map(tuple)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start_s = draw(seconds)
    maybe = lambda kind: draw(st.none() | kind)  # noqa: E731
    return Utterance(
        id=draw(texts),
        path="/sounds/" + draw(st.text("abcü ,;\"'", min_size=1, max_size=8)).strip() + "x.wav",
        start_s=start_s,
        stop_s=maybe(st.just(start_s + 1.5)),
        corpus=draw(texts),
        speaker=maybe(texts),
        group=maybe(texts),
        age=maybe(seconds),
        emotion=maybe(texts),
        votes=maybe(st.dictionaries(texts, seconds, min_size=1, max_size=3)),
        attributes=maybe(st.dictionaries(texts, seconds, min_size=1, max_size=3)),
        text=maybe(texts),
        words=maybe(spans),
        phones=maybe(spans),
        video=maybe(st.just("/video/1.mp4")),
        weight=draw(seconds),
    )


def test_the_example_fills_every_field() -> None:
    assert [field.name for field in fields(Utterance) if getattr(FULL, field.name) is None] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    rows = [FULL, Utterance(id="a/2", path="/sounds/2.wav", corpus="a")]
    write_manifest(rows, tmp_path / f"m.{kind}")
    assert read_manifest(tmp_path / f"m.{kind}") == rows


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(utterances(), min_size=1, max_size=5, unique_by=lambda row: row.id))
def test_any_row_comes_back_as_it_was(kind: str, rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / f"m.{kind}")
    assert read_manifest(tmp_path / f"m.{kind}") == rows


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_moves_with_its_manifest(kind: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    write_manifest([replace(FULL, path=str(old / "audio" / "1.wav"), clean=str(old / "clean.wav"))], old / f"m.{kind}")
    old.rename(tmp_path / "new")
    (row,) = read_manifest(tmp_path / "new" / f"m.{kind}")
    assert row.path == str(tmp_path / "new" / "audio" / "1.wav")
    assert row.clean == str(tmp_path / "new" / "clean.wav")
    assert row.video == "/video/1.mp4"  # outside the folder: as it was


def test_relative_paths_start_at_the_manifest_and_not_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.csv").write_text("id,path\n1,audio/1.wav\n")
    monkeypatch.chdir("/")
    assert read_manifest(tmp_path / "m.csv")[0].path == str(tmp_path / "audio" / "1.wav")
    monkeypatch.chdir(tmp_path)
    write_manifest([Utterance(id="1", path="audio/1.wav")], "again.jsonl")
    assert json.loads(Path("again.jsonl").read_text())["path"] == "audio/1.wav"
    assert read_manifest("again.jsonl")[0].path == str(tmp_path / "audio" / "1.wav")


def test_numbers_of_other_tools_become_text_and_their_empty_cells_unknown(tmp_path: Path) -> None:
    table = pa.table(
        {"id": [1, 2], "path": ["a.wav", "b.wav"], "speaker": [1001, 1002], "age": [float("nan"), 30.0], "emotion": ["sad", None]}
    )
    pq.write_table(table, tmp_path / "m.parquet")
    first, second = read_manifest(tmp_path / "m.parquet")
    assert (first.id, first.speaker, first.age, first.emotion) == ("1", "1001", None, "sad")
    assert (second.age, second.emotion) == (30.0, None)


def test_a_manifest_that_pandas_wrote_again_is_read_as_it_was(tmp_path: Path) -> None:
    write_manifest([FULL, Utterance(id="a/2", path="/sounds/2.wav")], tmp_path / "m.parquet")
    pd.read_parquet(tmp_path / "m.parquet").to_json(tmp_path / "m.jsonl", orient="records", lines=True)
    assert read_manifest(tmp_path / "m.jsonl") == read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_the_words_of_a_long_recording_come_back_as_they_were(kind: str, tmp_path: Path) -> None:
    row = replace(FULL, words=tuple((f"word{i}", float(i), i + 0.5) for i in range(6000)))
    write_manifest([row], tmp_path / f"m.{kind}")
    assert read_manifest(tmp_path / f"m.{kind}") == [row]


def test_a_csv_of_a_spreadsheet_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes("id,path,text\n1,a.wav,größer\n".encode("utf-8-sig"))
    assert read_manifest(tmp_path / "m.csv")[0].text == "größer"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,path,emotoin\n1,a.wav,sad\n", r"column 'emotoin' that no utterance knows\. Did you mean 'emotion'\?"),
        ("id;path;emotion\n1;a.wav;sad\n", "A manifest has commas between its cells; `moodcast prepare csv` reads other tables"),
        ("id,path,zzz\n1,a.wav,sad\n", "column 'zzz' .*Columns: id, path, start_s"),
        ("id,path\n1,a.wav\n,b.wav\n", "row 2 of .* has no id"),
        ("id,path\n1,a.wav\n2,\n", "row 2 of .* has no path"),
        ("id,path\n1,a.wav\n2,b.wav\n1,c.wav\n", "the id '1' comes twice, in rows 1 and 3"),
        ("id,path,start_s\n1,a.wav,soon\n", "row 1 of .*start_s: 'soon' does not fit"),
        ("id,path,start_s,stop_s\n1,a.wav,2,1\n", r"row 1 of .*the span 2\.0 to 1\.0 s is empty"),
        ("id,path,start_s\n1,a.wav,-1\n", r"row 1 of .*start_s: got -1\.0; wanted 0 or more"),
        ("id,path,weight\n1,a.wav,-1\n", "row 1 of .*weight"),
        ("id,path,weight\n1,a.wav,inf\n", "row 1 of .*weight: got inf; wanted 0 or more"),
        ("id,path,votes\n1,a.wav,{angry: 1}\n", "row 1 of .*votes: .* is not JSON"),
        ("id,path,votes\n1,a.wav,3\n", "row 1 of .*votes: 3 does not fit"),
        ('id,path,words\n1,a.wav,"[[""x"", 1]]"\n', "row 1 of .*words"),
        ("id,path,text\n1,a.wav,no, never\n", "row 1 of .* more cells than the header"),
        ('id,path,text\n1,a.wav,"no "never""\n', "line 2: .*; a quote inside of a quoted text is written twice"),
        ('id,path,text\n1,a.wav,"no\n2,b.wav,yes\n', "line 3: unexpected end of data"),  # else row 2 were lost without a word
        ("id,path\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_named_with_its_row(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / "m.csv")


def test_files_that_are_no_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no manifest .*moodcast prepare"):
        read_manifest(tmp_path / "none.csv")
    for name, content, message in (
        ("m.txt", b"x", r"ends in \.parquet, \.jsonl or \.csv, got '\.txt'"),
        ("m.parquet", b"PAR0 not parquet", "no Parquet file"),
        ("m.jsonl", b"{not json}", "row 1 of .* is not JSON"),
        ("n.jsonl", b'{"id": "1", "path": "a.wav"}\n[1]\n', "row 2 of .* is list; wanted an object"),
        ("o.jsonl", b'{"id": "1", "path": "a.wav", "votes": [1]}\n', r"row 1 of .*votes: \[1\] does not fit"),
        ("r.jsonl", b'{"id": "1", "path": "a.wav", "votes": [[1, 2]]}\n', "row 1 of .*votes: .* does not fit"),
        ("p.jsonl", b'{"id": "1", "path": "a.wav", "votes": ["sad"]}\n', "row 1 of .*votes: .* does not fit"),
        ("q.jsonl", b"[" * 100_000, "row 1 of .* is not JSON"),
        ("m.csv", b"\xff\xfe\x00bad", "is not UTF-8 text .* save it as UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_manifest(tmp_path / name)
    with pytest.raises(ValueError, match="got 'no suffix'"):
        write_manifest([FULL], tmp_path / "manifest")
    with pytest.raises(ValueError, match="comes twice"):
        write_manifest([FULL, FULL], tmp_path / "m.csv")


def test_a_manifest_is_replaced_at_once_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest([FULL], tmp_path / "m.jsonl")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_manifest([replace(FULL, id="other")], tmp_path / "m.jsonl")
    assert read_manifest(tmp_path / "m.jsonl") == [FULL]
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


# Splits


@st.composite
def corpora_of_rows(draw: st.DrawFn) -> list[Utterance]:
    """Corpora with speakers in several sessions, sessions with several speakers, unknown speakers, and files with several rows."""
    rows = []
    for corpus in draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)):
        for number in range(draw(st.integers(20, 50))):
            rows.append(
                Utterance(
                    id=f"{corpus}{number}",
                    path=f"/{corpus}/{draw(st.integers(0, 40))}.wav",
                    corpus=corpus,
                    speaker=draw(st.none() | st.sampled_from([f"s{k}" for k in range(15)])),
                    group=draw(st.none() | st.sampled_from([f"g{k}" for k in range(30)])),
                    emotion=draw(st.sampled_from([None, "angry", "sad"])),
                )
            )
    return rows


def shared(rows: list[Utterance], sides: list[object]) -> set[str]:
    """Speakers, groups and files that are on two sides."""
    seen: dict[str, set[object]] = {}
    for row, side in zip(rows, sides, strict=True):
        for name in (f"speaker {row.corpus_speaker}", f"group {row.corpus_group}", f"file {row.path}"):
            seen.setdefault(name, set()).add(side)
    return {name for name, found in seen.items() if len(found) > 1}


@settings(max_examples=150, deadline=None)
@given(rows=corpora_of_rows(), seed=st.integers(0, 1000))
def test_no_speaker_group_or_file_is_ever_on_two_sides(rows: list[Utterance], seed: int) -> None:
    try:
        split = split_by_group(rows, seed=seed)
    except ValueError as error:
        if "groups that may not be cut" not in str(error):
            raise
        return  # everything hangs together
    assert shared(rows, [row.split for row in split]) == set()
    assert leaks(split) == {}
    assert [replace(row, split=None) for row in split] == rows
    assert all({row.split for row in split if row.corpus == name} == {"train", "dev", "test"} for name in {row.corpus for row in rows})


@settings(max_examples=80, deadline=None)
@given(rows=corpora_of_rows(), seed=st.integers(0, 1000), k=st.integers(2, 6))
def test_no_speaker_group_or_file_is_ever_in_two_folds(rows: list[Utterance], seed: int, k: int) -> None:
    try:
        numbers = folds(rows, k, seed)
    except ValueError as error:
        if "groups that may not be cut" not in str(error):
            raise
        return
    assert shared(rows, list(numbers)) == set()
    assert all(
        {n for n, row in zip(numbers, rows, strict=True) if row.corpus == name} == set(range(k)) for name in {row.corpus for row in rows}
    )


def speakers(count: int = 40, each: int = 12, corpus: str = "a") -> list[Utterance]:
    """Speakers with all of four classes, one class rarer."""
    names = ("angry", "happy", "neutral", "sad", "angry", "happy", "neutral")
    return [
        Utterance(id=f"{corpus}{s}-{n}", path=f"/{corpus}/{s}-{n}.wav", corpus=corpus, speaker=f"{s}", emotion=names[(n + s) % len(names)])
        for s in range(count)
        for n in range(each)
    ]


def test_each_fold_tests_once_and_is_dev_once_before_that() -> None:
    rows = [Utterance(id=str(i), path=f"/{i}.wav", corpus="a", speaker=f"s{i % 8}", emotion="sad") for i in range(32)]
    where, splits = folds(rows, 4, seed=1), list(fold_splits(rows, 4, seed=1))
    assert [{row.split for row, fold in zip(split, where, strict=True) if fold == k} for k, split in enumerate(splits)] == [{"test"}] * 4
    for sides in zip(*([row.split for row in split] for split in splits), strict=True):
        assert Counter(sides) == {"test": 1, "dev": 1, "train": 2}
        assert sides[sides.index("test") - 1] == "dev"
    with pytest.raises(ValueError, match="2 folds are too few: wanted 3 or more"):
        fold_splits(rows, 2)


def test_shares_hold_for_every_class_and_corpus() -> None:
    rows = split_by_group(speakers() + speakers(20, 30, "b"))
    for corpus in "ab":
        for emotion in ("angry", "happy", "neutral", "sad"):
            counts = Counter(row.split for row in rows if row.corpus == corpus and row.emotion == emotion)
            for name, share in (("train", 0.7), ("dev", 0.15), ("test", 0.15)):
                assert abs(counts[name] / counts.total() - share) < 0.04


def test_a_split_depends_on_its_seed_and_not_on_the_order_of_the_rows() -> None:
    rows = speakers()
    again = {row.id: row.split for row in split_by_group(rows[::-1], seed=3)}
    assert {row.id: row.split for row in split_by_group(rows, seed=3)} == again
    assert {row.id: row.split for row in split_by_group(rows, seed=4)} != again
    assert dict(zip((row.id for row in rows), folds(rows, 5), strict=True)) == dict(
        zip((row.id for row in rows[::-1]), folds(rows[::-1], 5), strict=True)
    )


def test_another_corpus_does_not_change_the_split_of_the_first() -> None:
    alone = {row.id: row.split for row in split_by_group(speakers())}
    together = {row.id: row.split for row in split_by_group(speakers(12, 5, "0") + speakers())}
    assert {name: together[name] for name in alone} == alone


def test_twelve_speakers_leave_two_to_the_test_as_the_readme_says() -> None:
    assert len({row.speaker for row in split_by_group(speakers(12, 28)) if row.split == "test"}) == 2


def test_splits_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ValueError, match="corpus 'a' has 2 groups that may not be cut .* was to be split into 3"):
        split_by_group(speakers(2))
    with pytest.raises(ValueError, match="positive and sum to 1"):
        split_by_group(speakers(), {"train": 0.7, "dev": 0.7})
    with pytest.raises(ValueError, match="positive and sum to 1"):
        split_by_group(speakers(), {"train": 1.2, "dev": -0.2})
    with pytest.raises(ValueError, match="positive and sum to 1"):
        split_by_group(speakers(), {})
    with pytest.raises(ValueError, match="at least 2 folds"):
        folds(speakers(), 1)
    assert split_by_group([]) == []


def test_leaks_name_who_is_heard_on_two_sides() -> None:
    row = Utterance(id="1", path="1.wav", corpus="a", speaker="s", group="g", split="train")
    assert leaks([row, replace(row, id="2", split="test")]) == {"a/s": {"train", "test"}, "a/g": {"train", "test"}}
    assert leaks([row, replace(row, id="2", group="h", split="test")]) == {"a/s": {"train", "test"}}
    assert leaks([row, replace(row, id="2", speaker="t", split="dev")]) == {"a/g": {"train", "dev"}}
    assert leaks([row, replace(row, id="2", corpus="b", split="test")]) == {}
    assert leaks([row, replace(row, id="2", split=None)]) == {}
    # a speaker and a dialogue that happen to have one name are two things
    assert leaks([replace(row, speaker="x", group="1"), replace(row, speaker="1", group="y", split="test")]) == {}


def test_a_column_that_is_there_twice_is_refused_and_not_half_lost(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("id,path,emotion,emotion\na,a.wav,sad,happy\n")
    with pytest.raises(ValueError, match="m.csv has the column emotion twice; rename one of them"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("count", ["-3", "NaN", "Infinity"])
def test_votes_that_are_no_counts_are_refused(count: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"id": "a", "path": "a.wav", "votes": {"sad": 1, "angry": ' + count + "}}\n")
    with pytest.raises(ValueError, match=r"row 1 of .*m.jsonl, votes: angry has (-3.0|nan|inf); wanted how often it was chosen, 0 or more"):
        read_manifest(tmp_path / "m.jsonl")


def test_row_numbers_that_pandas_wrote_are_no_column(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    write_manifest([FULL, replace(FULL, id="a/2")], tmp_path / "m.parquet")
    table = pq.read_table(tmp_path / "m.parquet").slice(1)
    pq.write_table(table.append_column("__index_level_0__", [[1]]), tmp_path / "few.parquet")
    assert read_manifest(tmp_path / "few.parquet") == [replace(FULL, id="a/2")]
