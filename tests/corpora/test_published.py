"""The published corpora, each in our layout and in its owner's, as small made-up copies; MSP-Podcast has a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moodcast.corpora import prepare, read
from moodcast.manifest import Utterance
from tests.corpora.made import HEAD, parquet, touch

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


def test_cremad_can_be_labelled_by_its_listeners(cremad: Path) -> None:
    assert [row.emotion for row in read("cremad", cremad, {"labels": "voted"})] == ["angry", None]
    assert [row.emotion for row in read("cremad", cremad, {"labels": "voted", "votes": "face"})] == ["fear", "fear"]
    assert read("cremad", cremad, {"votes": "both"})[0].votes == {"sad": 9.0}
    with pytest.raises(ValueError, match="wanted labels=intended or voted"):
        read("cremad", cremad, {"labels": "heard"})


def test_cremad_has_attributes_made_of_its_votes_where_they_are_asked_for(cremad: Path) -> None:
    first, second = read("cremad", cremad, {"attributes": "votes"})
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["valence"] == pytest.approx(0.5 + (6 * -0.51 + 2 * -0.60) / 9 / 2)  # and a vote for neutral
    assert second.attributes["arousal"] == pytest.approx((0.5 + 0.51 / 2 + 0.5) / 2)
    assert set(first.attributes) == {"valence", "arousal", "dominance"}
    assert prepare("cremad", cremad)[0].attributes is None
    with pytest.raises(ValueError, match="attributes=rated; wanted .* attributes=none or votes"):
        read("cremad", cremad, {"attributes": "rated"})


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


def test_preparing_leaves_the_source_as_it_was(cremad: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (cremad, *cremad.rglob("*"))}
    prepare("cremad", cremad)
    assert {path: path.stat().st_mtime_ns for path in (cremad, *cremad.rglob("*"))} == before


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


def test_urdu_is_read_by_its_file_names(tmp_path: Path) -> None:
    touch(tmp_path / "Angry" / "SM1_F10_A010.wav", tmp_path / "Sad" / "SF10_F1_S0100.wav")
    first, second = prepare("urdu", tmp_path)
    assert (first.speaker, first.gender, first.emotion, first.language) == ("SM1", "male", "angry", "ur")
    assert (second.speaker, second.gender, second.emotion) == ("SF10", "female", "sad")


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("emodb", "wav/99a01Fa.wav", "99a01Fa.wav is no clip of EMO-DB"),
        ("ravdess", "Actor_01/speech.wav", "speech.wav is no clip of RAVDESS"),
        ("ravdess", "Actor_01/03-01-09-01-01-01-01.wav", "emotion 09 and statement 01 are none of RAVDESS"),
        ("ravdess", "Actor_01/03-02-01-01-01-01-01.wav", "holds no speech of RAVDESS"),
        ("urdu", "Angry/SM1_A010.wav", "SM1_A010.wav is no clip of the URDU-Dataset"),
    ],
)
def test_a_recording_that_is_none_of_the_corpus_is_refused_by_its_name(name: str, file: str, said: str, tmp_path: Path) -> None:
    touch(tmp_path / file)
    with pytest.raises(ValueError, match=said):
        prepare(name, tmp_path)


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


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "data.tsv is missing"),
        ("file_id\temotion\n", "lacks the columns speaker_id; it has file_id, emotion"),
        ("EB0_anger_1.wav\trage\t-\t-\tEB0\tfemale\t27\n", "EB0_anger_1.wav: the label 'rage' is not one of anger"),
        ("EB0_anger_2.wav\tanger\t-\t-\tEB0\tfemale\t27\n", "names EB0_anger_2, which is not among the 1 recordings"),
    ],
)
def test_a_table_of_nemo_that_does_not_fit_is_refused(table: str | None, said: str, tmp_path: Path) -> None:
    touch(tmp_path / "samples" / "EB0_anger_1.wav")
    if table is not None:
        (tmp_path / "data.tsv").write_text(table)
    with pytest.raises(ValueError, match=said):
        prepare("nemo", tmp_path)


def test_resd_groups_the_roles_of_a_dialogue(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEAD
        + "audio/test/01_h_a/01_h_a_a_010.opus,dlg01_a,,ru,anger,3.9,a\naudio/train/01_h_a/01_h_a_h_011.opus,dlg01_h,,ru,enthusiasm,3.9,b\n"
    )
    first, second = prepare("resd", tmp_path)
    assert (first.group, second.group) == ("dlg01", "dlg01")
    assert (first.speaker, first.gender, first.emotion, second.emotion) == ("dlg01_a", None, "angry", "enthusiasm")


def test_resd_is_read_from_its_tables_and_one_name_with_a_space(tmp_path: Path) -> None:
    names_ = ("01_happiness_anger_a_010", "04_fear_enthusiasm f_030")
    for name, table in zip(names_, ("train", "test"), strict=True):
        touch(tmp_path / table / "folder" / f"{name}.wav")
        emotion = "anger" if table == "train" else "fear"
        (tmp_path / f"{table}.csv").write_text(f"name,path,emotion,text\n{name},folder/{name}.wav,{emotion},да\n")
    first, second = prepare("resd", tmp_path)
    assert (first.id, first.speaker, first.group, first.split) == ("resd/01_happiness_anger_a_010", "dlg01_a", "dlg01", None)
    assert (second.id, second.speaker, second.group) == ("resd/04_fear_enthusiasm_f_030", "dlg04_f", "dlg04")


def test_a_turn_of_resd_that_is_missing_or_none_of_its_own_is_refused(tmp_path: Path) -> None:
    for name, said in (("01_happiness_anger_a_010", "which is not there; take the complete corpus"), ("hello", "is no turn of RESD")):
        (tmp_path / "train.csv").write_text(f"name,path,emotion,text\n{name},folder/{name}.wav,anger,да\n")
        with pytest.raises(ValueError, match=said):
            prepare("resd", tmp_path)
        touch(tmp_path / "train" / "folder" / "hello.wav")


@pytest.mark.parametrize(
    ("name", "clip", "record"),
    [
        ("resd", "resd/01_happiness_anger_a_010", {"name": "01_happiness_anger_a_010", "path": "x", "text": "да", "emotion": "anger"}),
        ("nemo", "nemo/EB0_anger_1", {"file_id": "EB0_anger_1.wav", "speaker_id": "EB0", "raw_text": "да", "emotion": "anger"}),
    ],
)
def test_recordings_inside_parquet_files_are_unpacked(
    name: str, clip: str, record: dict[str, str], tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., Any]
) -> None:
    sound = write_wav("one.wav", tone(0.5)).read_bytes()
    parquet(tmp_path / name / "train-00000-of-00001.parquet", [{**record, "speech": {"bytes": sound, "path": None}}])
    (row,) = read(name, tmp_path / name, unpack=tmp_path / "out")
    assert (row.id, row.emotion, row.text) == (clip, "angry", "да")
    assert Path(row.path).parent == tmp_path / "out"
    assert Path(row.path).read_bytes() == sound
    with pytest.raises(ValueError, match="say where to unpack them"):
        read(name, tmp_path / name)


def test_manifests_that_do_not_fit_are_refused_with_their_row(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,speaker\nx,1\n")
    with pytest.raises(ValueError, match="lacks the columns gender, language, emotion, duration_s, text; it has path, speaker"):
        prepare("resd", tmp_path)
    (tmp_path / "manifest.csv").write_text(HEAD + "a.opus,dlg01_a,,ru,anger,3.9,a\nb.opus,dlg01_a,,ru,rage,3.9,a\n")
    with pytest.raises(ValueError, match="row 2 of .*the label 'rage' is not one of anger, disgust"):
        prepare("resd", tmp_path)
    (tmp_path / "manifest.csv").write_text(HEAD + "x/a.opus,dlg01_a,,ru,anger,3.9,a\ny/a.opus,dlg01_a,,ru,anger,3.9,a\n")
    with pytest.raises(ValueError, match="names files of the same name twice"):
        prepare("resd", tmp_path)
