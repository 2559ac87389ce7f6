"""moodcast.corpora: small made-up copies of each layout, and the real recordings where they are."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moodcast import audio
from moodcast.corpora import CLASSES, clean, names, options_of, prepare, read, summary
from moodcast.manifest import Utterance, folds, leaks, read_manifest, split_by_group, write_manifest

HEAD = "path,speaker,gender,language,emotion,duration_s,text\n"
VOTES_HEAD = ",A,D,F,H,N,S,fileName,numResponses\n"


@pytest.fixture
def cremad(tmp_path: Path) -> Path:
    (tmp_path / "manifest.csv").write_text(
        HEAD + "audio/1001/1001_DFA_ANG_XX.opus,1001,male,en,anger,2.3,Don't forget a jacket\n"
        "audio/1002/1002_IEO_HAP_LO.opus,1002,female,en,happy,2.5,It's eleven o'clock\n"
    )
    (tmp_path / "VideoDemographics.csv").write_text('"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,Male,x,y\n1002,21,Female,x,y\n')
    (tmp_path / "tabulatedVotes.csv").write_text(
        VOTES_HEAD + "100001,6,2,0,0,1,0,1001_DFA_ANG_XX,9\n100002,0,0,0,4,4,0,1002_IEO_HAP_LO,8\n"
        "200001,0,0,9,0,0,0,1001_DFA_ANG_XX,9\n200002,0,0,9,0,0,0,1002_IEO_HAP_LO,9\n"
        "300001,0,0,0,0,0,9,1001_DFA_ANG_XX,9\n300002,0,0,0,0,0,9,1002_IEO_HAP_LO,9\n"
    )
    return tmp_path


def test_cremad_keeps_the_intended_emotion_and_the_votes_on_the_voice(cremad: Path) -> None:
    first, second = prepare("cremad", cremad)
    assert first == Utterance(
        id="cremad/1001_DFA_ANG_XX",
        path=str(cremad / "audio/1001/1001_DFA_ANG_XX.opus"),
        corpus="cremad",
        language="en",
        speaker="1001",
        gender="male",
        age=51.0,
        emotion="angry",
        votes={"angry": 6.0, "disgust": 2.0, "neutral": 1.0},
        text="Don't forget a jacket",
        duration_s=2.3,
    )
    assert (second.emotion, second.votes, second.age) == ("happy", {"happy": 4.0, "neutral": 4.0}, 21.0)


def test_a_cremad_clip_without_votes_is_refused(cremad: Path) -> None:
    (cremad / "tabulatedVotes.csv").write_text(VOTES_HEAD + "100001,6,2,0,0,1,0,1001_DFA_ANG_XX,9\n200002,0,0,9,0,0,0,1002_IEO_HAP_LO,9\n")
    with pytest.raises(ValueError, match="1002_IEO_HAP_LO by actor 1002 has no voice votes"):
        prepare("cremad", cremad)


def test_the_phones_of_emodb_start_at_their_marks_and_modifiers_are_no_phones(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEAD + "audio/03a01Fa.opus,03,male,de,happiness,1.9,Der Lappen\naudio/08a01Ab.opus,08,female,de,fear,1,x\n"
    )
    (tmp_path / "labels" / "lablaut").mkdir(parents=True)
    (tmp_path / "labels" / "lablaut" / "03a01Faxx.lablaut").write_bytes(
        b"signal woch\xe4n\nnfields 1\n#\n    0.080109   -1 _t\n    0.698978   -1 i\n    0.768183   -1 \t+hoe\n\n"
        b"    0.802292   -1 t +sth\n    0.9   -1 .\n"
    )
    first, second = prepare("emodb", tmp_path)
    assert first.phones == (("_t", 0.080109, 0.698978), ("i", 0.698978, 0.802292), ("t", 0.802292, 0.9))
    assert (first.emotion, first.speaker, first.language, first.age) == ("happy", "03", "de", 31)
    assert second.phones is None


def test_resd_groups_the_roles_of_a_dialogue(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEAD
        + "audio/test/01_h_a/01_h_a_a_010.opus,dlg01_a,,ru,anger,3.9,a\naudio/train/01_h_a/01_h_a_h_011.opus,dlg01_h,,ru,enthusiasm,3.9,b\n"
    )
    first, second = prepare("resd", tmp_path)
    assert (first.group, second.group) == ("dlg01", "dlg01")
    assert (first.speaker, first.gender, first.emotion, second.emotion) == ("dlg01_a", None, "angry", "enthusiasm")


@pytest.mark.parametrize("name", names())
def test_a_folder_that_does_not_hold_the_corpus_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wanted the folder of the corpus"):
        prepare(name, tmp_path)
    with pytest.raises(ValueError, match="wanted"):
        prepare(name, tmp_path / "nowhere")


def test_tables_that_do_not_fit_are_refused_with_their_row(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,speaker\nx,1\n")
    with pytest.raises(ValueError, match="lacks the columns gender, language, emotion, duration_s, text; it has path, speaker"):
        prepare("resd", tmp_path)
    (tmp_path / "manifest.csv").write_text(HEAD + "a.opus,dlg01_a,,ru,anger,3.9,a\nb.opus,dlg01_a,,ru,rage,3.9,a\n")
    with pytest.raises(ValueError, match="row 2 of .*the label 'rage' is not one of anger, disgust"):
        prepare("resd", tmp_path)
    (tmp_path / "manifest.csv").write_text(HEAD + "x/a.opus,dlg01_a,,ru,anger,3.9,a\ny/a.opus,dlg01_a,,ru,anger,3.9,a\n")
    with pytest.raises(ValueError, match="names files of the same name twice"):
        prepare("resd", tmp_path)


def test_a_corpus_that_nobody_knows_gets_a_suggestion() -> None:
    with pytest.raises(
        ValueError, match=r"there is no corpus 'crema-d'\. Did you mean 'cremad'\? Known: audformat, cremad, csv, emobox, emodb, folder"
    ):
        prepare("crema-d", ".")
    with pytest.raises(ValueError, match="there is no corpus '_table'"):
        prepare("_table", ".")


def test_every_corpus_speaks_the_common_class_names() -> None:
    for name in names():
        module = __import__(f"moodcast.corpora.{name}", fromlist=["EMOTIONS"])
        assert set(module.EMOTIONS.values()) <= set(CLASSES)


def test_a_summary_is_one_line() -> None:
    rows = [Utterance(id=str(n), path="x", corpus="a", speaker="s", emotion="sad" if n else None, duration_s=1800.0) for n in range(3)]
    assert summary(rows) == "3 utterances, 1.50 h, 1 speakers: sad 2, unlabelled 1"
    assert summary([]) == "no utterances"


# The real recordings. The counts are those of their SOURCE.md.

COUNTS = {
    "nemo": (2251, 9, {"angry": 378, "fear": 373, "happy": 374, "neutral": 405, "sad": 385, "surprise": 336}),
    "ravdess": (1440, 24, {"neutral": 96, **dict.fromkeys(("calm", "happy", "sad", "angry", "fear", "disgust", "surprise"), 192)}),
    "urdu": (400, 29, dict.fromkeys(("angry", "happy", "neutral", "sad"), 100)),
    "cremad": (7442, 91, {"angry": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}),
    "emodb": (535, 10, {"happy": 71, "neutral": 79, "angry": 127, "sad": 62, "fear": 69, "boredom": 81, "disgust": 46}),
    "resd": (1116, 80, {"angry": 201, "happy": 170, "enthusiasm": 162, "fear": 212, "neutral": 106, "disgust": 132, "sad": 133}),
}


@pytest.mark.corpora
@pytest.mark.parametrize("name", COUNTS)
def test_a_real_corpus_has_what_its_source_says(name: str, corpora: Path) -> None:
    rows = read(name, corpora / name)
    files, speakers, classes = COUNTS[name]
    assert len(rows) == files
    assert len({row.corpus_speaker for row in rows}) == speakers
    assert Counter(row.emotion for row in rows) == classes
    assert all(Path(row.path).is_file() for row in rows)
    for row in rows[:: len(rows) // 7]:
        assert row.duration_s is not None
        assert abs(len(audio.read(row.path)) / 16_000 - row.duration_s) < 0.01


@pytest.mark.corpora
def test_real_splits_are_disjoint_stratified_and_survive_every_format(corpora: Path, tmp_path: Path) -> None:
    rows = split_by_group([row for name in ("cremad", "emodb", "resd") for row in read(name, corpora / name)])
    assert leaks(rows) == {}
    for kind in ("parquet", "jsonl", "csv"):
        write_manifest(rows, tmp_path / f"m.{kind}")
        assert read_manifest(tmp_path / f"m.{kind}") == rows
    for name in ("cremad", "emodb", "resd"):
        files, _speakers, classes = COUNTS[name]
        for split, share in (("train", 0.7), ("dev", 0.15), ("test", 0.15)):
            counts = Counter(row.emotion for row in rows if row.corpus == name and row.split == split)
            assert set(counts) == set(classes)
            assert abs(counts.total() / files - share) < 0.05
    assert {row.split for row in rows if row.group == "dlg01"} in ({"train"}, {"dev"}, {"test"})
    numbers = folds(rows, 5)
    assert Counter(numbers).total() == len(rows)
    assert leaks([Utterance(**{**vars(row), "split": str(n)}) for row, n in zip(rows, numbers, strict=True)]) == {}


@pytest.mark.corpora
def test_voice_votes_agree_with_the_intended_label_as_often_as_published(corpora: Path) -> None:
    rows = read("cremad", corpora / "cremad")
    right = 0
    for row in rows:
        assert row.votes
        top = [name for name, count in row.votes.items() if count == max(row.votes.values())]
        right += top == [row.emotion]
    assert round(100 * right / len(rows), 1) == 41.6  # ties counted as wrong


def test_preparing_leaves_the_source_as_it_was(cremad: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("copy") / "cremad"
    shutil.copytree(cremad, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    prepare("cremad", str(copy))
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


# Rules: what prepare drops and mends.


@pytest.mark.corpora
@pytest.mark.parametrize("name", COUNTS)
def test_every_rule_of_a_corpus_meets_rows_that_exist(name: str, corpora: Path) -> None:
    module = __import__(f"moodcast.corpora.{name}", fromlist=["RULES"])
    everything = read(name, corpora / name)
    rows, met = clean(name, everything)
    named = {one for rule in module.RULES for one in rule.ids}
    absent = {f"nemo/EB0_surprised_{n}" for n in (42, 43, 46, 48)}  # of the half of the corpus that is not among these recordings
    assert named - {row.id for row in everything} <= absent
    assert [rule.name for rule in met] == [rule.name for rule in module.RULES]
    dropped = {one for rule in met if rule.change is None for one in rule.ids}
    assert {row.id for row in everything} - {row.id for row in rows} == dropped
    changed = {row.id for row, old in zip(rows, [row for row in everything if row.id not in dropped], strict=True) if row != old}
    assert changed == {one for rule in met if rule.change is not None for one in rule.ids}


def test_a_rule_says_what_it_does() -> None:
    rows = [Utterance(id=f"urdu/SF1_F{n}_H0{n}", path="x", corpus="urdu", speaker="SF1") for n in (1, 2)]
    mended, (rule,) = clean("urdu", rows)
    assert {row.group for row in mended} == {"SF1+SF4"}
    assert rule.ids == ("urdu/SF1_F1_H01", "urdu/SF1_F2_H02")
    assert rule.does == "sets group=SF1+SF4"
    kept, (dropping,) = clean("ravdess", [Utterance(id="ravdess/03-01-03-01-02-02-07", path="x")])
    assert (kept, dropping.does) == ([], "drops")
    assert clean("emodb", rows) == (rows, [])


def test_an_option_that_does_not_exist_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cremad has no option 'label'\. Did you mean 'labels'\? Options: labels, votes"):
        read("cremad", tmp_path, {"label": "voted"})
    assert options_of("resd") == ()


# The owners' layouts, in small made-up copies.


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_cremad_is_read_as_its_owner_publishes_it(cremad: Path) -> None:
    ours = prepare("cremad", cremad)
    (cremad / "manifest.csv").unlink()
    (cremad / "processedResults").mkdir()
    (cremad / "tabulatedVotes.csv").rename(cremad / "processedResults" / "tabulatedVotes.csv")
    touch(cremad / "AudioWAV" / "1001_DFA_ANG_XX.wav", cremad / "AudioWAV" / "1002_IEO_HAP_LO.wav")
    owners = prepare("cremad", cremad)
    assert [replace(row, path="", duration_s=None) for row in owners] == [replace(row, path="", duration_s=None) for row in ours]
    touch(cremad / "AudioWAV" / "notes.wav")
    with pytest.raises(ValueError, match="notes.wav is no clip of CREMA-D"):
        prepare("cremad", cremad)


def test_cremad_can_be_labelled_by_its_listeners(cremad: Path) -> None:
    assert [row.emotion for row in read("cremad", cremad, {"labels": "voted"})] == ["angry", None]
    assert [row.emotion for row in read("cremad", cremad, {"labels": "voted", "votes": "face"})] == ["fear", "fear"]
    assert read("cremad", cremad, {"votes": "both"})[0].votes == {"sad": 9.0}
    with pytest.raises(ValueError, match="wanted labels=intended or voted"):
        read("cremad", cremad, {"labels": "heard"})


def test_emodb_is_read_as_its_owner_publishes_it(tmp_path: Path) -> None:
    touch(tmp_path / "wav" / "03a01Fa.wav", tmp_path / "wav" / "16b10Td.wav")
    (tmp_path / "lablaut").mkdir()
    (tmp_path / "lablaut" / "03a01Fa.lablaut").write_text("signal x\n#\n    0.2   -1 a\n    0.5   -1 .\n")
    first, second = prepare("emodb", tmp_path)
    assert (first.speaker, first.gender, first.age, first.emotion, first.phones) == ("03", "male", 31, "happy", (("a", 0.2, 0.5),))
    assert (second.speaker, second.gender, second.emotion, second.phones) == ("16", "female", "sad", None)
    assert second.text == "Die wird auf dem Platz sein, wo wir sie immer hinlegen."


def test_ravdess_is_read_by_its_file_names_once_and_without_song(tmp_path: Path) -> None:
    names_ = ("03-01-06-02-02-01-07", "03-01-01-01-01-01-08", "03-02-03-01-01-01-08", "01-01-03-01-01-01-08")
    touch(*(tmp_path / f"Actor_{name[-2:]}" / f"{name}.wav" for name in names_))
    touch(tmp_path / "audio_speech_actors_01-24" / "Actor_07" / f"{names_[0]}.wav")
    first, second = prepare("ravdess", tmp_path)
    assert (first.id, first.speaker, first.gender, first.emotion) == ("ravdess/03-01-06-02-02-01-07", "Actor_07", "male", "fear")
    assert (second.gender, second.emotion, second.text) == ("female", "neutral", "Kids are talking by the door")


def test_nemo_is_read_with_and_without_a_header(tmp_path: Path) -> None:
    line = "EB0_anger_1.wav\tanger\tLubię czytać przed snem.\tlubię czytać\t        EB0\tfemale\t27\n"
    touch(tmp_path / "samples" / "EB0_anger_1.wav")
    (tmp_path / "data.tsv").write_text(line)
    bare = prepare("nemo", tmp_path)
    (tmp_path / "data.tsv").write_text("file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n" + line)
    assert prepare("nemo", tmp_path) == bare
    (row,) = bare
    assert (row.id, row.speaker, row.gender, row.age, row.emotion) == ("nemo/EB0_anger_1", "EB0", "female", 27.0, "angry")
    assert row.text == "Lubię czytać przed snem."
    (tmp_path / "samples" / "EB0_anger_1.wav").rename(tmp_path / "samples" / "EB0_anger_2.wav")
    with pytest.raises(ValueError, match="names EB0_anger_1, which is not among the 1 recordings"):
        prepare("nemo", tmp_path)


def test_urdu_is_read_by_its_file_names(tmp_path: Path) -> None:
    touch(tmp_path / "Angry" / "SM1_F10_A010.wav", tmp_path / "Sad" / "SF10_F1_S0100.wav")
    first, second = prepare("urdu", tmp_path)
    assert (first.speaker, first.gender, first.emotion, first.language) == ("SM1", "male", "angry", "ur")
    assert (second.speaker, second.gender, second.emotion) == ("SF10", "female", "sad")


def test_resd_is_read_from_its_tables_and_one_name_with_a_space(tmp_path: Path) -> None:
    names_ = ("01_happiness_anger_a_010", "04_fear_enthusiasm f_030")
    for name, table in zip(names_, ("train", "test"), strict=True):
        touch(tmp_path / table / "folder" / f"{name}.wav")
        emotion = "anger" if table == "train" else "fear"
        (tmp_path / f"{table}.csv").write_text(f"name,path,emotion,text\n{name},folder/{name}.wav,{emotion},да\n")
    first, second = prepare("resd", tmp_path)
    assert (first.id, first.speaker, first.group, first.split) == ("resd/01_happiness_anger_a_010", "dlg01_a", "dlg01", None)
    assert (second.id, second.speaker, second.group) == ("resd/04_fear_enthusiasm_f_030", "dlg04_f", "dlg04")


def parquet(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


def test_recordings_inside_parquet_files_are_unpacked(tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., Any]) -> None:
    sounds = [write_wav(f"{n}.wav", tone(0.5, hz=200 + 100 * n)).read_bytes() for n in range(2)]
    name = "01_happiness_anger_a_010"
    speech = {"bytes": sounds[0], "path": None}
    parquet(
        tmp_path / "resd" / "train-00000-of-00001.parquet",
        [{"name": name, "path": "x", "speech": speech, "text": "да", "emotion": "anger"}],
    )
    (row,) = read("resd", tmp_path / "resd", unpack=tmp_path / "out")
    assert (row.id, row.emotion, row.text) == (f"resd/{name}", "angry", "да")
    assert Path(row.path).parent == tmp_path / "out"
    assert Path(row.path).read_bytes() == sounds[0]
    parquet(
        tmp_path / "hub" / "data" / "test-00000-of-00001.parquet",
        [{"audio": {"bytes": sound, "path": f"{n}.wav"}, "label": n, "speaker_id": f"s{n}"} for n, sound in enumerate(sounds)],
    )
    rows = read("huggingface", tmp_path / "hub", {"labels": "0:sad,1:joy"}, unpack=tmp_path / "out")
    assert [(row.id, row.emotion, row.speaker, row.split) for row in rows] == [
        ("hub/0.wav", "sad", "s0", "test"),
        ("hub/1.wav", "happy", "s1", "test"),
    ]
    with pytest.raises(ValueError, match="say where to unpack them"):
        read("huggingface", tmp_path / "hub")
    parquet(tmp_path / "text" / "train.parquet", [{"text": "no sound"}])
    with pytest.raises(ValueError, match="holds no audio"):
        read("huggingface", tmp_path / "text", unpack=tmp_path / "out")


# MSP-Podcast: the layouts of its releases.

CONSENSUS = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
LONG = "FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoDom,EmoVal\n"


@pytest.fixture
def msp(tmp_path: Path) -> Path:
    """Three turns: one labelled, one without agreement by an unknown speaker, one whose labels are withheld."""
    root = tmp_path / "msp"
    touch(*(root / "Audios" / f"MSP-PODCAST_000{n}_0001.wav" for n in (1, 2, 3)))
    (root / "Labels").mkdir()
    (root / "Transcripts").mkdir()
    (root / "Transcripts" / "MSP-PODCAST_0001_0001.txt").write_text("well, yes\n")
    (root / "Partitions.txt").write_text(
        "Train; MSP-PODCAST_0001_0001.wav\nTest1; MSP-PODCAST_0002_0001.wav\nTest3; MSP-PODCAST_0003_0001.wav\n"
    )
    (root / "Labels" / "labels_consensus.csv").write_text(
        CONSENSUS + "MSP-PODCAST_0001_0001.wav,H,4.0,7.0,1.0,12,Female,Train\nMSP-PODCAST_0002_0001.wav,X,4.6,2.0,5.0,Unknown,Male,Test1\n"
    )
    (root / "Labels" / "labels_detailed.csv").write_text(
        LONG + 'MSP-PODCAST_0001_0001.wav,W1,Happy,"Happy,Amused",5,4,6\nMSP-PODCAST_0001_0001.wav,W2,Other-Teasing,Happy,5,4,6\n'
        "MSP-PODCAST_0002_0001.wav,W1,Sad,Sad,5,4,2\nMSP-PODCAST_0002_0001.wav,W2,Dissapointed,Sad,5,4,2\n"
    )
    return root


def test_msp_podcast_has_consensus_votes_attributes_and_text(msp: Path) -> None:
    first, second, third = prepare("msp_podcast", msp)
    assert (first.id, first.emotion, first.speaker, first.gender, first.split) == (
        "msp_podcast/MSP-PODCAST_0001_0001",
        "happy",
        "Speaker_12",
        "female",
        "train",
    )
    assert first.attributes == {"arousal": 0.5, "valence": 1.0, "dominance": 0.0}
    assert (first.votes, first.text) == ({"happy": 1.0, "other": 1.0}, "well, yes")
    assert (second.emotion, second.speaker, second.split, second.votes) == (None, None, "test1", {"sad": 1.0, "other": 1.0})
    assert (third.emotion, third.attributes, third.split) == (None, None, "test3")
    assert all(Path(row.path).is_file() for row in (first, second, third))


def test_packed_detailed_labels_say_the_same_as_long_ones(msp: Path) -> None:
    long = prepare("msp_podcast", msp)
    lines = (
        ("0001", "WORKER00000001; Happy; Happy,Amused; A:5.000000; V:6.000000; D:4.000000;"),
        ("0001", "WORKER00000002; Other-Teasing; A:5.000000; V:6.000000; D:4.000000;"),
        ("0002", "WORKER00000001; Sad; Sad; A:5.000000; V:2.000000; D:4.000000;"),
        ("0002", "WORKER00000002; Dissapointed; Sad; A:5.000000; V:2.000000; D:4.000000;"),
    )
    packed = "".join(f'MSP-PODCAST_{n}_0001.wav,"{detail}"\n' for n, detail in lines)
    (msp / "Labels" / "labels_detailed.csv").write_text("FileName,EmoDetail\n" + packed)
    assert prepare("msp_podcast", msp) == long
    (msp / "Labels" / "labels_detailed.csv").write_text("FileName,EmoDetail\nMSP-PODCAST_0001_0001.wav,A:5.0; V:2.0\n")
    with pytest.raises(ValueError, match="is no rater's line"):
        prepare("msp_podcast", msp)


def test_the_json_twins_say_the_same_as_the_tables(msp: Path) -> None:
    tables = prepare("msp_podcast", msp)
    labels = msp / "Labels"
    consensus = {row["FileName"]: [row] for row in csv.DictReader((labels / "labels_consensus.csv").read_text().splitlines())}
    detailed: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader((labels / "labels_detailed.csv").read_text().splitlines()):
        detailed.setdefault(row["FileName"], {})[row["Worker"]] = {"EmoClass_Major": row["EmoClass_Major"]}
    (labels / "labels_consensus.json").write_text(json.dumps(consensus))
    (labels / "labels_detailed.json").write_text(json.dumps(detailed))
    for name in ("labels_consensus.csv", "labels_detailed.csv"):
        (labels / name).unlink()
    assert prepare("msp_podcast", msp) == tables


def test_labels_and_speakers_of_old_releases_are_read_from_text(msp: Path) -> None:
    for name in ("labels_consensus.csv", "labels_detailed.csv"):
        (msp / "Labels" / name).unlink()
    (msp / "Labels" / "Labels.txt").write_text(
        "MSP-PODCAST_0001_0001.wav; H; A:4.000000; V:7.000000; D:1.000000;\n"
        "WORKER00000001; Happy; Happy,Amused; A:5.0; V:6.0; D:4.0;\nWORKER00000002; Other-Teasing; Happy; A:5.0; V:6.0; D:4.0;\n\n"
        "MSP-PODCAST_0002_0001.wav; X; A:4.6; V:2.0; D:5.0;\nWORKER00000003; Sad; A:5.0; V:6.0; D:4.0;\n"
    )
    (msp / "Speaker_ids.txt").write_text("MSP-PODCAST_0001_0001.wav; Speaker_12\nMSP-PODCAST_0002_0001.wav; Unknown\n")
    first, second, _ = prepare("msp_podcast", msp)
    assert (first.emotion, first.speaker, first.split, first.votes) == ("happy", "Speaker_12", "train", {"happy": 1.0, "other": 1.0})
    assert first.attributes == {"arousal": 0.5, "valence": 1.0, "dominance": 0.0}
    assert (second.emotion, second.speaker, second.votes) == (None, None, {"sad": 1.0})


def test_forced_alignments_become_words_and_phones(msp: Path) -> None:
    grid = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1.5\ntiers? <exists>\nsize = 2\nitem []:\n'
        '    item [1]:\n        class = "IntervalTier"\n        name = "words"\n        xmin = 0\n        xmax = 1.5\n'
        '        intervals: size = 2\n        intervals [1]:\n            xmin = 0\n            xmax = 0.5\n            text = ""\n'
        '        intervals [2]:\n            xmin = 0.5\n            xmax = 1.5\n            text = "so ""so"""\n'
        '    item [2]:\n        class = "IntervalTier"\n        name = "phones"\n        xmin = 0\n        xmax = 1.5\n'
        '        intervals: size = 1\n        intervals [1]:\n            xmin = 0.5\n            xmax = 1.5\n            text = "S"\n'
    )
    (msp / "ForceAligned").mkdir()
    (msp / "ForceAligned" / "MSP-PODCAST_0001_0001.TextGrid").write_text(grid)
    first = prepare("msp_podcast", msp)[0]
    assert (first.words, first.phones) == ((('so "so"', 0.5, 1.5),), (("S", 0.5, 1.5),))
    short = 'File type = "ooTextFile"\n"TextGrid"\n\n0\n1.5\n<exists>\n1\n"IntervalTier"\n"words"\n0\n1.5\n1\n0.5\n1.5\n"so"\n'
    (msp / "ForceAligned" / "MSP-PODCAST_0001_0001.TextGrid").write_text(short, encoding="utf-16")
    assert prepare("msp_podcast", msp)[0].words == (("so", 0.5, 1.5),)


def test_sides_that_contradict_each_other_are_refused(msp: Path) -> None:
    (msp / "Partitions.txt").write_text("Development; MSP-PODCAST_0001_0001.wav\n")
    with pytest.raises(ValueError, match="Split_Set says Train, Partitions.txt Development"):
        prepare("msp_podcast", msp)
    (msp / "Partitions.txt").write_text("Holdout; MSP-PODCAST_0003_0001.wav\n")
    with pytest.raises(ValueError, match="the side 'Holdout' is none of"):
        prepare("msp_podcast", msp)


# Formats that hold any corpus.


def test_emobox_folds_and_label_maps_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "urdu"
    line = '{"key": "urdu-SM4_F1_A01", "dataset": "urdu", "wav": "downloads/urdu/Angry/SM4_F1_A01.wav", "length": 2.0, "emo": "A"}\n'
    for name in ("urdu.jsonl", "fold_1/urdu_train_fold_1.jsonl"):
        touch(folder / name)
        (folder / name).write_text(line)
    (folder / "fold_1" / "urdu_test_fold_1.jsonl").write_text(line.replace("SM4_F1_A01", "SM9_F1_A02"))
    (folder / "label_map.json").write_text('{"A": "Angry", "S": "Sad"}')
    first, second = read("emobox", folder, {"speaker": r"(S[MF]\d+)_", "language": "ur"})
    assert (first.id, first.emotion, first.speaker, first.split) == ("urdu-SM4_F1_A01", "angry", "SM4", "train")
    assert first.path == str(tmp_path / "downloads/urdu/Angry/SM4_F1_A01.wav")
    assert (second.speaker, second.split, second.language) == ("SM9", "test", "ur")
    (whole,) = read("emobox", folder, {"fold": "none", "audio": str(tmp_path / "elsewhere")})
    assert (whole.split, whole.speaker, whole.path) == (None, None, str(tmp_path / "elsewhere/downloads/urdu/Angry/SM4_F1_A01.wav"))
    with pytest.raises(ValueError, match="folds here: 1"):
        read("emobox", folder, {"fold": "2"})
    (folder / "label_map.json").write_text('{"A": "pain, groan"}')
    with pytest.raises(ValueError, match=r"line 1 of .*the label 'A' means none of .*labels=A:CLASS"):
        read("emobox", folder)
    assert read("emobox", folder, {"labels": "A:frustration"})[0].emotion == "frustration"


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
    assert len(read("audformat", tmp_path, {"tables": "test"})) == 2
    with pytest.raises(ValueError, match="has no table 'dev'; it has files, test, train"):
        read("audformat", tmp_path, {"tables": "dev"})


def test_a_header_or_table_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    database(tmp_path, "csv")
    ran = tmp_path / "ran"
    (tmp_path / "db.train.csv").unlink()
    (tmp_path / "db.train.pkl").write_bytes(pickle.dumps({"file": ["x"]}))
    with pytest.raises(ValueError, match="pickled ones are not opened"):
        read("audformat", tmp_path)
    (tmp_path / "db.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{ran}']\n")
    with pytest.raises(ValueError, match="is no plain YAML"):
        read("audformat", tmp_path)
    assert not ran.exists()


def test_an_audio_folder_of_the_hub_is_read_by_its_metadata_or_its_folders(tmp_path: Path) -> None:
    touch(*(tmp_path / "set" / split / name for split in ("train", "validation") for name in ("a.wav", "b.wav")))
    (tmp_path / "set" / "train" / "metadata.csv").write_text("file_name,emotion,speaker_id,text\na.wav,anger,s1,ja\nb.wav,,s2,\n")
    (tmp_path / "set" / "validation" / "metadata.jsonl").write_text('{"file_name": "a.wav", "label": "sadness"}\n')
    rows = prepare("huggingface", tmp_path / "set")
    assert [(row.id, row.emotion, row.speaker, row.split) for row in rows] == [
        ("set/train/a.wav", "angry", "s1", "train"),
        ("set/train/b.wav", None, "s2", "train"),
        ("set/validation/a.wav", "sad", None, "dev"),
    ]
    touch(tmp_path / "bare" / "happy" / "1.flac", tmp_path / "bare" / "sad" / "2.flac")
    assert [(row.emotion, row.split) for row in prepare("huggingface", tmp_path / "bare")] == [("happy", None), ("sad", None)]
    (tmp_path / "set" / "train" / "metadata.csv").write_text("file_name,emotion\ngone.wav,anger\n")
    with pytest.raises(ValueError, match="names gone.wav, which is not there"):
        prepare("huggingface", tmp_path / "set")


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
    with pytest.raises(ValueError, match="has no column for speaker=whom; it has file, from, mood, to, who"):
        read("csv", table, {**options, "speaker": "whom"})
    with pytest.raises(ValueError, match="row 1 of the table: the label '0' means none of"):
        read("csv", table, {**options, "labels": "1:neutral"})


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
    for wrong, said in (
        ("(", "is no regular expression"),
        ("abc", "has no group"),
    ):
        touch(tmp_path / "pods" / "abc.wav")
        with pytest.raises(ValueError, match=said):
            read("folder", tmp_path / "pods", {"speaker": wrong})


def test_every_corpus_states_its_source_terms_labels_and_splits() -> None:
    for name in names():
        module = __import__(f"moodcast.corpora.{name}", fromlist=["EMOTIONS"])
        about = " ".join(module.__doc__.split())
        for word in ("Source: ", "Terms: ", "Layout: ", "Labels: ", "Splits: "):
            assert word in about, f"{name} lacks {word}"
        assert module.LABELS in ("intended", "voted", "none") or module.LABELS.startswith("as the ")


def test_the_page_of_corpora_is_not_stale(root: Path) -> None:
    done = subprocess.run([sys.executable, "scripts/corpora_table.py", "--check"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.corpora
def test_prepare_prints_what_it_dropped_and_keeps_everything_as_is(corpora: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "moodcast.cli", "prepare", "resd", str(corpora / "resd"), "--out", str(tmp_path / "m.parquet")]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "resd: one word cut off: drops resd/17_neutral_disgust_n_010 (0.37 s" in said.stdout
    rows = {row.id: row for row in read_manifest(tmp_path / "m.parquet")}
    assert len(rows) == 1113
    assert (rows["resd/11_anger_disgust_a_150"].stop_s, rows["resd/11_anger_disgust_d_150"].start_s) == (None, 2.0)
    said = subprocess.run([*words, "--as-is"], capture_output=True, text=True, check=True)
    assert "drops" not in said.stdout
    assert len(read_manifest(tmp_path / "m.parquet")) == 1116


def test_prepare_keeps_the_owner_s_split_warns_where_it_leaks_and_splits_anew_when_asked(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion,speaker,split\n" + "".join(f"{n}.wav,sad,s{n % 5},{'test' if n > 7 else 'train'}\n" for n in range(10)))
    words = [sys.executable, "-m", "moodcast.cli", "prepare", "csv", str(table), "--out", str(tmp_path / "m.csv")]
    said = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "the owner's split leaks: mine/s3: 1 in test, 1 in train" in said.stderr
    assert sum(row.split == "test" for row in read_manifest(tmp_path / "m.csv")) == 2
    said = subprocess.run([*words, "--resplit"], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert leaks(read_manifest(tmp_path / "m.csv")) == {}


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
    table.write_text("path,emotion,start_s,stop_s\nx.wav,sad,,1.5\nx.wav,sad,1:30,1:35\n")
    with pytest.raises(ValueError, match=r"row 2 of the table: '1:30' is no time in seconds"):
        prepare("csv", table)
    database = tmp_path / "db.yaml"
    database.write_text("name: x\ntables:\n  t:\n    columns:\n      emotion: {}\n")
    (tmp_path / "db.t.csv").write_text("file,start,end,emotion\na.wav,0 days 00:00:01,NaT,anger\n")
    assert [(row.start_s, row.stop_s) for row in prepare("audformat", tmp_path)] == [(1.0, None)]
    (tmp_path / "db.t.csv").write_text("file,start,end,emotion\na.wav,one second,2,anger\n")
    with pytest.raises(ValueError, match="'one second' is no time"):
        prepare("audformat", tmp_path)


def test_a_recording_that_a_table_names_twice_is_refused_and_not_lost(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion,speaker\n" + "".join(f"{name}.wav,sad,{name}\n" for name in "abcd") + "a.wav,angry,a\n")
    rows = prepare("csv", table)
    assert [row.emotion for row in rows if row.id == "mine/a.wav"] == ["sad", "angry"]
    with pytest.raises(ValueError, match="the id 'mine/a.wav' comes twice"):
        write_manifest(rows, tmp_path / "mine.parquet")


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


@pytest.mark.parametrize("tables", ["[a]", "{t: 3}", "{t: {columns: [emotion]}}"])
def test_a_header_of_another_kind_is_refused(tables: str, tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text(f"name: x\ntables: {tables}\n")
    with pytest.raises(ValueError, match="no header of audformat"):
        prepare("audformat", tmp_path)


@pytest.mark.corpora
def test_the_vowels_of_emodb_lie_where_it_is_loud(corpora: Path) -> None:
    louder = []
    for row in [row for row in prepare("emodb", corpora / "emodb") if row.phones][:20]:
        wave = audio.read(row.path, rate=16_000).astype(float)
        level = np.log(np.convolve(wave**2, np.ones(400) / 400, mode="same") + 1e-9)
        inside = np.zeros(len(wave), dtype=bool)
        for label, start_s, stop_s in row.phones or ():
            if label in ("a", "e", "i", "o", "u", "E", "I", "O", "U"):
                inside[round(start_s * 16_000) : round(stop_s * 16_000)] = True
        louder.append(level[inside].mean() - level[~inside].mean())
    assert np.mean(louder) > 1.5
