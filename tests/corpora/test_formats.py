"""Formats that hold any corpus: EmoBox, audformat, the Hugging Face hub, a plain table, a folder of recordings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodcast.config import parse_overrides
from moodcast.corpora import prepare, read
from tests.corpora.made import parquet, touch


def test_emobox_folds_and_label_maps_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "urdu"
    line = '{"key": "urdu-SM4_F1_A01", "dataset": "urdu", "wav": "downloads/urdu/Angry/SM4_F1_A01.wav", "length": 2.0, "emo": "A"}\n'
    for name in ("urdu.jsonl", "fold_1/urdu_train_fold_1.jsonl"):
        touch(folder / name)
        (folder / name).write_text(line)
    (folder / "fold_1" / "urdu_test_fold_1.jsonl").write_text(line.replace("SM4_F1_A01", "SM9_F1_A02"))
    (folder / "label_map.json").write_text('{"A": "Angry", "S": "Sad"}', encoding="utf-8-sig")
    first, second = read("emobox", folder, {"speaker": r"(S[MF]\d+)_", "language": "ur"})
    assert (first.id, first.emotion, first.speaker, first.split) == ("urdu-SM4_F1_A01", "angry", "SM4", "train")
    assert first.path == str(tmp_path / "downloads/urdu/Angry/SM4_F1_A01.wav")
    assert (second.speaker, second.split, second.language) == ("SM9", "test", "ur")
    (whole,) = read("emobox", folder, {"fold": "none", "audio": str(tmp_path / "elsewhere")})
    assert (whole.split, whole.speaker, whole.path) == (None, None, str(tmp_path / "elsewhere/downloads/urdu/Angry/SM4_F1_A01.wav"))
    (folder / "label_map.json").write_text('{"A": "pain, groan"}')
    with pytest.raises(ValueError, match=r"line 1 of .*the label 'A' means none of .*labels=A:CLASS"):
        read("emobox", folder)
    assert read("emobox", folder, {"labels": "A:frustration"})[0].emotion == "frustration"


def test_what_emobox_says_beside_the_label_is_kept_and_its_validation_part_is_dev(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "iemocap"
    record = {
        "key": "3",
        "dataset": "iemocap",
        "wav": "a.wav",
        "emo": "sad",
        "spk": 7,
        "gender": "F",
        "start_time": 1.5,
        "end_time": 4,
        "length": 9,
    }
    touch(folder / "fold_2" / "iemocap_valid_fold_2.jsonl")
    (folder / "label_map.json").write_text("{}")
    (folder / "fold_2" / "iemocap_valid_fold_2.jsonl").write_text(json.dumps([record], indent=1))  # some are arrays over many lines
    (row,) = read("emobox", folder, {"fold": "2"})
    assert (row.id, row.split, row.speaker, row.gender) == ("iemocap/3", "dev", "7", "female")
    assert (row.start_s, row.stop_s, row.duration_s) == (1.5, 4.0, None), "the length is that of the file, not of the span"


def database(root: Path, storage: str) -> Any:
    """A real database, written by the library: two speakers, segments, splits."""
    audformat = pytest.importorskip("audformat")
    db = audformat.Database("mydb", languages=["deu"])
    db.schemes["emotion"] = audformat.Scheme(labels=["anger", "joy", "n"])
    db.schemes["speaker"] = audformat.Scheme(labels={"a": {"gender": "female", "age": 30}, "b": {"gender": "male", "age": 40}})
    for name in ("train", "test"):
        db.splits[name] = audformat.Split(type=name)
        index = audformat.segmented_index([f"audio/{name}.wav"] * 2, ["0s", "1s"], ["1s", "2.5s"])
        table = db[name] = audformat.Table(index, split_id=name)
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set(["anger", "joy"])
    files = db["files"] = audformat.Table(audformat.filewise_index(["audio/train.wav", "audio/test.wav"]))
    files["speaker"] = audformat.Column(scheme_id="speaker")
    files["speaker"].set(["a", "b"])
    db.save(str(root), storage_format=storage)
    return db


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat_tables_are_read_as_the_library_writes_them(storage: str, tmp_path: Path) -> None:
    database(tmp_path, storage)
    rows = sorted(prepare("audformat", tmp_path), key=lambda row: (row.split == "test", row.start_s))
    assert [(row.emotion, row.start_s, row.stop_s, row.split) for row in rows] == [
        ("angry", 0.0, 1.0, "train"),
        ("happy", 1.0, 2.5, "train"),
        ("angry", 0.0, 1.0, "test"),
        ("happy", 1.0, 2.5, "test"),
    ]
    assert [(row.speaker, row.gender, row.age) for row in rows[1:3]] == [("a", "female", 30.0), ("b", "male", 40.0)]
    assert rows[0].corpus == "mydb"
    assert rows[0].path == str(tmp_path / "audio" / "train.wav")
    assert {row.language for row in rows} == {"deu"}
    assert len(read("audformat", tmp_path, {"tables": "test"})) == 2


def test_a_column_of_whole_days_is_one_of_times_as_pandas_writes_them(tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text("name: x\ntables:\n  t:\n    columns:\n      emotion: {}\n")
    (tmp_path / "db.t.csv").write_text("file,start,end,emotion\na.wav,0 days,0 days 00:00:01.500000,anger\nb.wav,0 days,1 days,joy\n")
    (tmp_path / "db.yaml").write_text((tmp_path / "db.yaml").read_text(), encoding="utf-8-sig")
    assert [(row.start_s, row.stop_s) for row in read("audformat", tmp_path)] == [(0.0, 1.5), (0.0, 86_400.0)]


def test_columns_and_labels_of_audformat_may_be_named_otherwise(tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text("name: x\ntables:\n  t:\n    columns:\n      mood: {}\n      who: {}\n")
    (tmp_path / "db.t.csv").write_text("file,mood,who,gender,age\na.wav,3,anna,f,31\n")
    (row,) = read("audformat", tmp_path, {"emotion": "mood", "speaker": "who", "labels": "3:joy", "corpus": "mine"})
    assert (row.id, row.emotion, row.speaker, row.gender, row.age) == ("mine/a.wav", "happy", "anna", "female", 31.0)


def test_an_audio_folder_of_the_hub_is_read_by_its_metadata_or_its_folders(tmp_path: Path) -> None:
    touch(*(tmp_path / "set" / split / name for split in ("train", "validation") for name in ("a.wav", "b.wav")))
    (tmp_path / "set" / "train" / "metadata.csv").write_text("file_name,emotion,speaker_id,text\na.wav,anger,s1,ja\nb.wav,,s2,\n")
    said = '{"file_name": "a.wav", "label": "sadness", "text": "ja\u2028nein"}\n'  # a break of a line inside of a text ends no row
    (tmp_path / "set" / "validation" / "metadata.jsonl").write_text(said, encoding="utf-8")
    rows = prepare("huggingface", tmp_path / "set")
    assert [(row.id, row.emotion, row.speaker, row.split) for row in rows] == [
        ("set/train/a.wav", "angry", "s1", "train"),
        ("set/train/b.wav", None, "s2", "train"),
        ("set/validation/a.wav", "sad", None, "dev"),
    ]
    touch(tmp_path / "bare" / "happy" / "1.flac", tmp_path / "bare" / "sad" / "2.flac")
    assert [(row.emotion, row.split) for row in prepare("huggingface", tmp_path / "bare")] == [("happy", None), ("sad", None)]


def test_a_data_set_of_the_hub_may_name_its_columns_and_labels_otherwise(tmp_path: Path) -> None:
    touch(tmp_path / "set" / "eval" / "a.wav")
    (tmp_path / "set" / "eval" / "metadata.tsv").write_text("file_name\tmood\twho\twords\ttongue\na.wav\t3\tanna\tja\tde\n")
    options = {"emotion": "mood", "speaker": "who", "text": "words", "language": "tongue", "labels": "3:joy", "corpus": "mine"}
    (row,) = read("huggingface", tmp_path / "set", options)
    assert (row.id, row.split) == ("mine/eval/a.wav", "test")
    assert (row.emotion, row.speaker, row.text, row.language) == ("happy", "anna", "ja", "de")


def test_a_data_set_of_the_hub_inside_parquet_files_is_unpacked(
    tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., Any]
) -> None:
    sounds = [write_wav(f"{n}.wav", tone(0.5, hz=200 + 100 * n)).read_bytes() for n in range(2)]
    records = [{"audio": {"bytes": sound, "path": f"{n}.wav"}, "label": n, "speaker_id": f"s{n}"} for n, sound in enumerate(sounds)]
    parquet(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", records)
    rows = read("huggingface", tmp_path / "hub", {"labels": "0:sad,1:joy"}, unpack=tmp_path / "out")
    assert [(row.id, row.emotion, row.speaker, row.split) for row in rows] == [
        ("hub/0.wav", "sad", "s0", "test"),
        ("hub/1.wav", "happy", "s1", "test"),
    ]
    assert [Path(row.path).read_bytes() for row in rows] == sounds


def test_the_split_of_a_parquet_file_is_in_its_name_or_in_the_nearest_folder_that_is_one(
    tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., Any]
) -> None:
    sound = write_wav("one.wav", tone(0.5)).read_bytes()
    root = tmp_path / "test" / "hub"  # what lies above the data set says nothing of it
    places = {
        "default/train/0000.parquet": "train",
        "default/test/0000.parquet": "test",
        "default/partial-train/0000.parquet": "train",
        "train/validation/0000.parquet": "dev",
        "train/dev-0000.parquet": "dev",
        "default/0001.parquet": None,
    }
    for number, place in enumerate(places):
        parquet(root / place, [{"audio": {"bytes": sound, "path": None}, "id": f"{number}", "speaker_id": f"s{number}"}])
    rows = read("huggingface", root, unpack=tmp_path / "out")
    assert {row.id: row.split for row in rows} == {f"hub/{number}": split for number, split in enumerate(places.values())}


def test_a_plain_table_is_read_by_the_columns_that_are_named(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("file;mood;who;from;to\nx.wav;0;anna;0.5;2\nx.wav;1;anna;2;3.5\ny.wav;;ben;;\n")
    options = {
        "path": "file",
        "emotion": "mood",
        "speaker": "who",
        "start_s": "from",
        "stop_s": "to",
        "labels": "0:angry,1:neutral",
        "language": "de",
    }
    rows = read("csv", table, options)
    assert [(row.id, row.emotion, row.speaker, row.start_s, row.stop_s) for row in rows] == [
        ("mine/x.wav#0.5-2", "angry", "anna", 0.5, 2.0),
        ("mine/x.wav#2-3.5", "neutral", "anna", 2.0, 3.5),
        ("mine/y.wav", None, "ben", 0.0, None),
    ]
    assert {(row.language, row.corpus, Path(row.path).parent) for row in rows} == {("de", "mine", tmp_path)}


def test_a_recording_has_one_path_however_a_table_names_it(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.csv").write_text("path,emotion,start_s,stop_s\na.wav,sad,0,1\n../set/a.wav,sad,1,2\n")
    assert {row.path for row in read("csv", tmp_path / "set" / "mine.csv")} == {str(tmp_path / "set" / "a.wav")}
    folder = tmp_path / "data" / "urdu"
    touch(folder / "label_map.json")
    (folder / "label_map.json").write_text("{}")
    lines = ({"key": wav, "dataset": "urdu", "wav": wav, "length": 2.0, "emo": "sad"} for wav in ("a.wav", "x/../a.wav"))
    (folder / "urdu.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {row.path for row in read("emobox", folder, {"fold": "none"})} == {str(tmp_path / "a.wav")}
    touch(tmp_path / "hub" / "a.wav")
    (tmp_path / "hub" / "metadata.csv").write_text("file_name,emotion\nx/../a.wav,sad\n")
    (row,) = read("huggingface", tmp_path / "hub", {})
    assert (row.id, row.path) == ("hub/a.wav", str(tmp_path / "hub" / "a.wav"))


def test_ratings_of_a_plain_table_are_taken_as_attributes_in_0_to_1(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,emotion,V,act\nx.wav,sad,1,7\ny.wav,sad,4,\nz.wav,sad,,NaN\n")
    rows = read("csv", tmp_path / "mine.csv", {"attributes": "valence:V,arousal:act", "scale": "1:7"})
    assert [row.attributes for row in rows] == [{"valence": 0.0, "arousal": 1.0}, {"valence": 0.5}, None]
    assert read("csv", tmp_path / "mine.csv", {})[0].attributes is None
    assert read("csv", tmp_path / "mine.csv", {"attributes": "arousal:V", "scale": "-4:4"})[0].attributes == {"arousal": 0.625}


@pytest.mark.parametrize("separator", [",", "\t", "|"])
def test_what_a_plain_table_does_not_say_may_be_said_for_all_its_rows(separator: str, tmp_path: Path) -> None:
    cells = (("path", "id", "group", "gender", "age", "split", "text"), ("x.wav", "7", "talk", "W", "31", "Validation", "ja"))
    (tmp_path / "mine.csv").write_text("".join(separator.join(line) + "\n" for line in cells))
    options = {"emotion": "joy", "language": "de", "corpus": "shows", "audio": str(tmp_path / "elsewhere")}
    (row,) = read("csv", tmp_path / "mine.csv", options)
    assert (row.id, row.path, row.corpus) == ("shows/7", str(tmp_path / "elsewhere" / "x.wav"), "shows")
    assert (row.emotion, row.language, row.split, row.text) == ("happy", "de", "dev", "ja")
    assert (row.group, row.gender, row.age) == ("talk", "female", 31.0)


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("path, emotion ,speaker\nx.wav, sad, anna\n", {}),
        ("Path;Emotion;SPEAKER\nx.wav;sad;anna;;\n;;\n", {}),
        ("\ufeffpath\temotion\tspeaker\r\nx.wav\tsad\tanna\r\n\t\t\r\n", {"separator": "\\t"}),
        ("path\temotion\tspeaker\nx.wav\tsad\tanna\n", parse_overrides(["separator=\t"])),  # a real tab is blank, so it is guessed
    ],
)
def test_a_plain_table_may_be_written_as_spreadsheets_and_people_write_it(table: str, options: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(table.encode())
    (row,) = read("csv", tmp_path / "mine.csv", options)
    assert (row.id, row.emotion, row.speaker) == ("mine/x.wav", "sad", "anna")


def test_a_folder_of_recordings_is_an_unlabelled_corpus(tmp_path: Path) -> None:
    touch(
        tmp_path / "pods" / "anna" / "1.mp3",
        tmp_path / "pods" / "2.wav",
        tmp_path / "pods" / "notes.txt",
        tmp_path / "pods" / ".hidden.wav",
    )
    rows = prepare("folder", tmp_path / "pods")
    assert [(row.id, row.corpus, row.emotion, row.speaker, row.split) for row in rows] == [
        ("pods/2.wav", "pods", None, None, "train"),
        ("pods/anna/1.mp3", "pods", None, None, "train"),
    ]
    named = read("folder", tmp_path / "pods", {"speaker": "folder", "corpus": "shows", "language": "de"})
    assert [(row.id, row.speaker, row.language) for row in named] == [("shows/2.wav", None, "de"), ("shows/anna/1.mp3", "anna", "de")]
    assert [row.speaker for row in read("folder", tmp_path / "pods", {"speaker": r"(\d)\.mp3"})] == [None, "1"]


def test_a_plain_table_calls_its_sides_as_others_do(tmp_path: Path) -> None:
    words = {"training": "train", "eval": "test", "Testing": "test", "development": "dev", "val": "dev", "test2": "test2"}
    lines = [f"{n}.wav,sad,s{n},{word}" for n, word in enumerate(words)]
    (tmp_path / "mine.csv").write_text("\n".join(["path,emotion,speaker,split", *lines]))
    assert [row.split for row in prepare("csv", tmp_path / "mine.csv")] == list(words.values())


def test_paths_and_numbers_of_a_spreadsheet_from_elsewhere_are_read(tmp_path: Path) -> None:
    touch(tmp_path / "clips" / "a b.wav", tmp_path / "clips" / "odd\\name.wav", tmp_path / "hub" / "clips" / "c.wav")
    table = "path;age;start_s;V\r\nclips\\a b.wav;34,5;0,25;5,5\r\nclips/odd\\name.wav;;;\r\nC:\\x\\b.wav;;;4\r\n"
    (tmp_path / "mine.csv").write_bytes(table.encode("utf-8-sig"))
    rows = read("csv", tmp_path / "mine.csv", {"attributes": "valence:V", "scale": "1:7"})
    assert (rows[0].path, rows[0].id) == (str(tmp_path / "clips" / "a b.wav"), "mine/clips/a b.wav#0.25-")
    assert (rows[0].age, rows[0].start_s, rows[0].attributes) == (34.5, 0.25, {"valence": 0.75})
    assert rows[1].path == str(tmp_path / "clips" / "odd\\name.wav"), "a name that is there is what it is"
    (tmp_path / "hub" / "metadata.csv").write_text("file_name,emotion\nclips\\c.wav,sad\n")
    assert [row.path for row in read("huggingface", tmp_path / "hub")] == [str(tmp_path / "hub" / "clips" / "c.wav")]


def test_columns_of_votes_become_the_votes_of_a_row(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text('path,A,S,N\nx.wav,3,1,0\ny.wav,,0,\nz.wav,nan,2,"0,5"\n')
    rows = read("csv", tmp_path / "mine.csv", {"votes": "anger:A,sad:S,neutral:N"})
    assert [row.votes for row in rows] == [{"angry": 3.0, "sad": 1.0}, None, {"sad": 2.0, "neutral": 0.5}]
    assert [row.emotion for row in rows] == ["angry", None, "sad"]
    two, mapped = {"votes": "anger:A,angry:S,neutral:N"}, {"votes": "wut:A", "labels": "wut:angry"}
    assert [row.votes for row in read("csv", tmp_path / "mine.csv", two)] == [{"angry": 4.0}, None, {"angry": 2.0, "neutral": 0.5}]
    assert read("csv", tmp_path / "mine.csv", mapped)[0].votes == {"angry": 3.0}
    (tmp_path / "mine.csv").write_text("path,emotion,A,S\nx.wav,neutral,3,1\ny.wav,,2,2\n")
    assert [row.emotion for row in read("csv", tmp_path / "mine.csv", {"votes": "anger:A,sad:S"})] == ["neutral", None], "a tie is none"


def test_times_of_a_clock_are_seconds_and_a_first_line_of_excel_is_no_header(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    lines = ["a.wav;sad;00:00:01.1;1:30", "a.wav;sad;0:01:02,5;01:00:00", "a.wav;sad;90:00.5;5401"]
    for first in ("", "sep=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"):
        table.write_text(first + "\n".join(["path;emotion;start_s;stop_s", *lines]), encoding="utf-8")
        rows = prepare("csv", table)
        assert [(row.start_s, row.stop_s) for row in rows] == [(1.1, 90.0), (62.5, 3600.0), (5400.5, 5401.0)]
    table.write_text('sep=\t\npath\temotion\na.wav\tsad\n"b.wav\tsad\n')
    with pytest.raises(ValueError, match="line 4: "):  # as an editor counts them
        prepare("csv", table)
