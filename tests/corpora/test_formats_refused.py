"""What the formats that hold any corpus refuse, and where they say it lies: nothing is guessed, nothing is lost, nothing foreign is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from moodcast.corpora import prepare, read
from tests.corpora.made import parquet, touch


def test_a_header_or_table_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "db.yaml").write_text("name: x\ntables:\n  train:\n    columns:\n      emotion: {}\n")
    (tmp_path / "db.train.pkl").write_bytes(pickle.dumps({"file": ["x"]}))
    with pytest.raises(ValueError, match="pickled ones are not opened"):
        read("audformat", tmp_path)
    (tmp_path / "db.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{ran}']\n")
    with pytest.raises(ValueError, match="is no plain YAML"):
        read("audformat", tmp_path)
    assert not ran.exists()


def test_a_data_set_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    touch(tmp_path / "private.wav", tmp_path / "set" / "train" / "a.wav")
    for name in ("../../private.wav", str(tmp_path / "private.wav")):
        (tmp_path / "set" / "train" / "metadata.csv").write_text(f"file_name,emotion\n{name},anger\n")
        with pytest.raises(ValueError, match="lies outside of it"):
            prepare("huggingface", tmp_path / "set")
    (tmp_path / "set" / "train" / "metadata.csv").write_text("file_name,emotion\n../train/a.wav,anger\n")
    assert len(prepare("huggingface", tmp_path / "set")) == 1
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "db.yaml").write_text("name: x\ntables:\n  t:\n    type: filewise\n    columns:\n      emotion: {}\n")
    (tmp_path / "db" / "db.t.csv").write_text("file,emotion\n../private.wav,anger\n")
    with pytest.raises(ValueError, match="lies outside of it"):
        prepare("audformat", tmp_path / "db")
    (tmp_path / "db" / "db.yaml").write_text("name: x\ntables:\n  a/../../t:\n    columns:\n      emotion: {}\n")
    with pytest.raises(ValueError, match="is no name of one"):
        prepare("audformat", tmp_path / "db")


def test_a_time_that_cannot_be_read_does_not_become_the_whole_recording(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    for time in ("half past", "1:75", "0:75:02", "1:2:3:4", "-0:01"):
        table.write_text(f"path,emotion,start_s,stop_s\nx.wav,sad,,1.5\nx.wav,sad,{time},99\n")
        with pytest.raises(ValueError, match=rf"row 2 of the table: '{time}' is no time; write 62\.5, 1:02\.5 or 0:01:02\.5"):
            prepare("csv", table)
    database = tmp_path / "db.yaml"
    database.write_text("name: x\ntables:\n  t:\n    columns:\n      emotion: {}\n")
    (tmp_path / "db.t.csv").write_text("file,start,end,emotion\na.wav,0 days 00:00:01,NaT,anger\n")
    assert [(row.start_s, row.stop_s) for row in prepare("audformat", tmp_path)] == [(1.0, None)]
    (tmp_path / "db.t.csv").write_text("file,start,end,emotion\na.wav,0,2,anger\na.wav,one second,2,anger\n")
    with pytest.raises(ValueError, match="row 2 of the table t: 'one second' is no time"):
        prepare("audformat", tmp_path)


def test_a_recording_that_a_table_names_twice_is_refused_and_not_lost(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion,speaker\n" + "".join(f"{name}.wav,sad,{name}\n" for name in "abcd") + "a.wav,angry,a\n")
    with pytest.raises(ValueError, match=r"rows 1 and 5 are both called 'mine/a.wav'; take one out, .*\(start_s=COLUMN stop_s=COLUMN\)"):
        prepare("csv", table)


@pytest.mark.parametrize("line", ["[1]", "3", '{"key": 1, "dataset": "c", "wav": 5, "emo": "sad"}'])
def test_lines_of_another_kind_are_refused_with_their_number(line: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "c"
    touch(folder / "fold_1" / "c_train_fold_1.jsonl", tmp_path / "hub" / "a.wav")
    (folder / "label_map.json").write_text("{}")
    (folder / "fold_1" / "c_train_fold_1.jsonl").write_text(line)
    with pytest.raises(ValueError, match="line 1 of"):
        prepare("emobox", folder)
    (tmp_path / "hub" / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match="line 1 of .* has no file_name"):
        prepare("huggingface", tmp_path / "hub")


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (
            "file,mood\nx.wav,sad\n",
            {"path": "file", "emotion": "feeling", "speaker": "who"},
            "no column for speaker=who; it has file, mood",
        ),
        ("path,emotion\nx.wav,0\n", {"labels": "1:neutral"}, "row 1 of the table: the label '0' means none of"),
        ("path,emotion\nx.wav,sad\n,sad\n", {}, "row 2 of the table has no path; every recording needs one"),
        ("path,emotion\nx.wav,sad\n", {"labels": "sad"}, "'sad' says no class; write labels=THEIRS:OURS"),
        ("path,emotion\nx.wav,1\n", {"labels": "1:glee"}, "the label '1' means none of .*nor does 'glee', to which it is mapped"),
        ("file,emotion\nx.wav,sad\n", {}, "has no column path; say which one it is, path=COLUMN: emotion, file"),
        ("path,emotion\n", {}, "holds no rows; wanted a header"),
        ("path,speaker,speaker\nx.wav,anna,ben\n", {}, "has the column speaker twice"),
        ("path,text,speaker\nx.wav,well, yes,anna\n", {}, "row 1 of the table has more cells than the header"),
        ('path,text\nx.wav,"ja\ny.wav,nein\n', {}, "line 3: unexpected end of data; a quote inside of a quoted text is written twice"),
        ("path,emotion\nx.wav,sad\n", {"separator": "tab"}, "separator='tab': wanted one character"),
        ("path,V\nx.wav,1\n", {"attributes": "valence"}, "attributes='valence': 'valence' says no column; write attributes=NAME:COLUMN"),
        ("path,V\nx.wav,1\n", {"attributes": "valence:val"}, "no column for attributes=valence:val; it has V, path"),
        ("path,V\nx.wav,3\n", {"attributes": "valence:V"}, "row 1 of the table: valence is '3', wanted a number from 0 to 1; say scale="),
        ("path,V\nx.wav,high\n", {"attributes": "valence:V"}, "valence is 'high', wanted a number"),
        ("path,V\nx.wav,3\n", {"attributes": "valence:V", "scale": "7:1"}, "scale=7:1: wanted the least and the most"),
        ("path,V\nx.wav,3\n", {"attributes": "valence:V", "scale": "7"}, "scale=7: wanted the least and the most"),
        ("path,V\nx.wav,3\n", {"attributes": "valence:V", "scale": "0:inf"}, "scale=0:inf: wanted the least and the most"),
        ("path,V\nx.wav,3\n", {"attributes": ":V"}, "'' is no name; write attributes=NAME:COLUMN"),
        ("path,V,W\nx.wav,3,4\n", {"attributes": "valence:V,valence:W"}, "'valence' is there twice"),
        ("path,A\nx.wav,3\n", {"votes": "angry:n"}, "no column for votes=angry:n; it has A, path"),
        ("path,A\nx.wav,-1\n", {"votes": "angry:A"}, "row 1 of the table: '-1' votes for angry, wanted how often it was chosen"),
        ("path,A\nx.wav,often\n", {"votes": "angry:A"}, "'often' votes for angry"),
        ("path,A\nx.wav,1\n", {"votes": "glee:A"}, "the label 'glee' means none of"),
        ('path,start_s\nx.wav,"1,234"\n', {}, "row 1 of the table: whether 1,234 s are thousands is not clear"),
    ],
)
def test_a_plain_table_that_does_not_fit_is_refused(table: str, options: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(table)
    with pytest.raises(ValueError, match=said):
        read("csv", tmp_path / "mine.csv", options)


def test_a_table_in_another_encoding_is_named(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "mine.csv").write_text("path,speaker\nx.wav,J\u00fcrgen\n", encoding=encoding)
        with pytest.raises(ValueError, match="mine.csv is not UTF-8 text .*; save it as UTF-8"):
            prepare("csv", tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("file", "content", "options", "said"),
    [
        ("fold_1/c_test_fold_1.jsonl", "{}", {"fold": "2"}, "holds no c_train_fold_2.jsonl; folds here: 1"),
        ("fold_1/c_test_fold_1.jsonl", "{}", {"fold": "none"}, "c.jsonl is missing"),
        ("fold_1/c_train_fold_1.jsonl", "{", {}, "c_train_fold_1.jsonl is not JSONL"),
        ("label_map.json", "A: Angry", {}, "label_map.json is no label map"),
        ("label_map.json", "5", {}, "label_map.json is no label map"),
    ],
)
def test_a_folder_of_emobox_that_lacks_a_part_is_refused(
    file: str, content: str, options: dict[str, str], said: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "c"
    touch(folder / "label_map.json", folder / file)
    (folder / "label_map.json").write_text("{}")
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=said):
        read("emobox", folder, options)


@pytest.mark.parametrize(
    ("metadata", "content", "said"),
    [
        ("metadata.csv", "file_name,emotion\ngone.wav,anger\n", "names gone.wav, which is not there"),
        ("metadata.csv", "path,emotion\na.wav,anger\n", "lacks the columns file_name"),
        ("metadata.jsonl", "{", "metadata.jsonl is not JSONL"),
    ],
)
def test_metadata_of_the_hub_that_does_not_fit_is_refused(metadata: str, content: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path / "set" / "a.wav")
    (tmp_path / "set" / metadata).write_text(content)
    with pytest.raises(ValueError, match=said):
        prepare("huggingface", tmp_path / "set")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": "no sound"}, "holds no audio: wanted a column with bytes and path, got text"),
        ({"audio": {"bytes": b"", "path": "a.wav"}}, "a row without audio"),
    ],
)
def test_a_parquet_file_without_sound_is_refused(record: dict[str, Any], said: str, tmp_path: Path) -> None:
    parquet(tmp_path / "hub" / "train.parquet", [record])
    with pytest.raises(ValueError, match=said):
        read("huggingface", tmp_path / "hub", unpack=tmp_path / "out")


@pytest.mark.parametrize(
    ("tables", "options", "said"),
    [
        ("[a]", {}, "no header of audformat"),
        ("{t: 3}", {}, "no header of audformat"),
        ("{t: {columns: [emotion]}}", {}, "no header of audformat"),
        ("{t: {columns: {emotion: {}}}}\nsplits: {s: train}", {}, "says of its splits what is no header of audformat"),
        ("{t: {columns: {emotion: {}}}}\nschemes: [1]", {}, "says of its schemes what is no header of audformat"),
        ("{t: {columns: {mood: {}}}}", {}, "has a column emotion or .* name it with emotion=COLUMN"),
        ("{t: {columns: {mood: {}}}}", {"tables": "dev"}, "has no table 'dev'; it has t"),
        ("{t: {columns: {emotion: {}}}, u: {columns: {emotion: {}}}}", {}, "x/a.wav stands twice in the tables t, u"),
    ],
)
def test_a_header_of_audformat_that_does_not_fit_is_refused(tables: str, options: dict[str, str], said: str, tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text(f"name: x\ntables: {tables}\n")
    for name in ("t", "u"):
        (tmp_path / f"db.{name}.csv").write_text("file,emotion\na.wav,anger\n")
    with pytest.raises(ValueError, match=said):
        read("audformat", tmp_path, options)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("(", "is no regular expression"),
        ("abc", "has no group; put parentheses"),
        (r"(\d)", r"speaker=\(\\d\) finds no speaker in any of 1 paths; the first is .*abc.wav"),
        ("folder", "speaker=folder finds no speaker"),
    ],
)
def test_a_speaker_s_pattern_that_names_nobody_is_refused(how: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path / "abc.wav")
    with pytest.raises(ValueError, match=said):
        read("folder", tmp_path, {"speaker": how})
