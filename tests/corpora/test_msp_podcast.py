"""MSP-Podcast: made-up copies of the layouts of its releases, which say the same."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from moodcast.corpora import prepare
from tests.corpora.made import touch

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


def words_of(msp: Path, *tokens: str) -> tuple[tuple[str, float, float], ...] | None:
    """The words of the first turn by an alignment of one tier, whose head after its name and whose intervals are `tokens`."""
    (msp / "ForceAligned").mkdir(exist_ok=True)
    head = ('File type = "ooTextFile"', '"TextGrid"', "0", "1.5", "<exists>", "1", '"IntervalTier"', '"words"')
    (msp / "ForceAligned" / "MSP-PODCAST_0001_0001.TextGrid").write_text("\n".join((*head, *tokens)) + "\n")
    return prepare("msp_podcast", msp)[0].words


def test_times_of_an_alignment_may_have_exponents(msp: Path) -> None:
    spans = ("xmin = 1.2e-05", "xmax = 5E-1", 'text = "so"', "0.5", "1.5e+0", '"be it"')
    assert words_of(msp, "0", "1.5", "2", *spans) == (("so", 1.2e-05, 0.5), ("be it", 0.5, 1.5))


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (("0", "1.5", "2", "0", "0.5", '"so"', "0.5", '"be"', '"it"'), "interval 2 of the tier 'words' is 0.5, 'be', 'it'; wanted a start"),
        (("0", "1.5", "1", "0", "1.2e", '"so"'), "interval 1 of the tier 'words' is 0, 'so'; wanted"),
        (("0", "1.5", "1", "0", "0,5", '"so"'), "interval 1 of the tier 'words' is 0, 0, 5; wanted"),
        (("0", "1.5", "2", "0", "0.5", '"so"'), "interval 2 of the tier 'words' is the end of the file; wanted"),
        (("0", "1.5"), "a tier begins with 'words', 0, 1.5; wanted a name, a start, a stop and how many intervals"),
        (("0", "1.5", "0.5", "0", "0.5", '"so"'), "a tier begins with 'words', 0, 1.5, 0.5; wanted"),
    ],
)
def test_an_alignment_in_which_something_is_out_of_place_is_refused_with_the_place(tokens: tuple[str, ...], said: str, msp: Path) -> None:
    with pytest.raises(ValueError, match=f"MSP-PODCAST_0001_0001.TextGrid: {said}"):
        words_of(msp, *tokens)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (
            "Labels/labels_consensus.csv",
            CONSENSUS + "MSP-PODCAST_0001_0001.wav,Q,4,7,1,12,Female,Train\n",
            "the class 'Q' is none of A, S, H",
        ),
        ("Labels/labels_detailed.csv", "FileName,Worker\nMSP-PODCAST_0001_0001.wav,W1\n", "wanted EmoClass_Major .* or EmoDetail"),
        ("Labels/labels_detailed.csv", "FileName,EmoDetail\nMSP-PODCAST_0001_0001.wav,A:5.0; V:2.0\n", "is no rater's line"),
        ("ForceAligned/MSP-PODCAST_0001_0001.TextGrid", "words 0 1.5", "is no TextGrid; take it away, or align it again"),
        ("Partitions.txt", "Development; MSP-PODCAST_0001_0001.wav\n", "Split_Set says Train, Partitions.txt Development"),
        ("Partitions.txt", "Holdout; MSP-PODCAST_0003_0001.wav\n", "the side 'Holdout' is none of"),
    ],
)
def test_a_file_of_a_release_that_cannot_be_right_is_refused(file: str, content: str, said: str, msp: Path) -> None:
    (msp / file).parent.mkdir(exist_ok=True)
    (msp / file).write_text(content)
    with pytest.raises(ValueError, match=said):
        prepare("msp_podcast", msp)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("labels_consensus.json", "{", "labels_consensus.json is not JSON"),
        ("labels_consensus.json", "[]", "holds a list; wanted an object by file name"),
        ("Labels.txt", "WORKER00000001; Happy; A:5.0; V:6.0; D:4.0;\n", "comes before any file"),
    ],
)
def test_labels_of_another_form_are_refused(file: str, content: str, said: str, msp: Path) -> None:
    (msp / "Labels" / "labels_consensus.csv").unlink()
    (msp / "Labels" / file).write_text(content)
    with pytest.raises(ValueError, match=said):
        prepare("msp_podcast", msp)


def test_text_files_of_a_release_may_begin_with_a_byte_order_mark_and_another_encoding_is_named(msp: Path) -> None:
    before = prepare("msp_podcast", msp)
    for path in (msp / "Partitions.txt", msp / "Transcripts" / "MSP-PODCAST_0001_0001.txt"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert prepare("msp_podcast", msp) == before
    (msp / "Transcripts" / "MSP-PODCAST_0001_0001.txt").write_text("caf\u00e9", encoding="latin-1")
    with pytest.raises(ValueError, match=r"MSP-PODCAST_0001_0001.txt is not UTF-8 text .*; save it as UTF-8"):
        prepare("msp_podcast", msp)
