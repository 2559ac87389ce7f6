"""moodcast.corpora: small made-up copies of each layout, and the real recordings where they are."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from moodcast import audio
from moodcast.corpora import CLASSES, names, prepare, summary
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


def test_emodb_joins_the_phone_lines_that_only_say_how_a_phone_ends(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEAD + "audio/03a01Fa.opus,03,male,de,happiness,1.9,Der Lappen\naudio/08a01Ab.opus,08,female,de,fear,1,x\n"
    )
    (tmp_path / "labels" / "lablaut").mkdir(parents=True)
    (tmp_path / "labels" / "lablaut" / "03a01Faxx.lablaut").write_bytes(
        b"signal woch\xe4n\nnfields 1\n#\n    0.080109   -1 _t\n    0.698978   -1 i\n    0.768183   -1 \t+hoe\n\n    0.802292   -1 t +sth\n"
    )
    first, second = prepare("emodb", tmp_path)
    assert first.phones == (("_t", 0.0, 0.080109), ("i", 0.080109, 0.768183), ("t", 0.768183, 0.802292))
    assert (first.emotion, first.speaker, first.language) == ("happy", "03", "de")
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
    with pytest.raises(ValueError, match="is missing; wanted the folder of the corpus"):
        prepare(name, tmp_path)


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
    with pytest.raises(ValueError, match=r"there is no corpus 'crema-d'\. Did you mean 'cremad'\? Known: cremad, emodb, resd"):
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
    "cremad": (7442, 91, {"angry": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}),
    "emodb": (535, 10, {"happy": 71, "neutral": 79, "angry": 127, "sad": 62, "fear": 69, "boredom": 81, "disgust": 46}),
    "resd": (1116, 80, {"angry": 201, "happy": 170, "enthusiasm": 162, "fear": 212, "neutral": 106, "disgust": 132, "sad": 133}),
}


@pytest.mark.corpora
@pytest.mark.parametrize("name", COUNTS)
def test_a_real_corpus_has_what_its_source_says(name: str, corpora: Path) -> None:
    rows = prepare(name, corpora / name)
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
    rows = split_by_group([row for name in COUNTS for row in prepare(name, corpora / name)])
    assert leaks(rows) == {}
    for kind in ("parquet", "jsonl", "csv"):
        write_manifest(rows, tmp_path / f"m.{kind}")
        assert read_manifest(tmp_path / f"m.{kind}") == rows
    for name, (files, _speakers, classes) in COUNTS.items():
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
    rows = prepare("cremad", corpora / "cremad")
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
