"""Conversations scored by hand: what every second was, and what was answered."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Segment as Stretch
from pyannote.core import Timeline as Region

from moodcast.study import conversation
from moodcast.study.conversation import Errors, pooled, read_reference, score
from moodcast.timeline import Segment, Timeline


def talk(*rows: tuple[str, float, float, str | None], duration_s: float = 10.0, uri: str = "talk") -> Timeline:
    segments = tuple(
        Segment(speaker=who, start_s=start, stop_s=stop, emotion=felt, status="ok" if felt else "too_short")
        for who, start, stop, felt in rows
    )
    classes = tuple(sorted({felt for *_, felt in rows if felt}))
    return Timeline(uri=uri, duration_s=duration_s, classes=classes, segments=segments)


REFERENCE = talk(("a", 0, 4, "happy"), ("b", 4, 8, "angry"))


def test_a_perfect_answer_has_no_error_whatever_the_speakers_are_called():
    found = score(REFERENCE, talk(("S1", 0, 4, "happy"), ("S2", 4, 8, "angry")))
    assert {name: errors.array[:3].tolist() for name, errors in found.errors.items() if errors.array[:3].any()} == {}
    assert found.jaccard == (0.0, 2.0)
    assert (found.speakers, found.speakers_found) == (2, 2)
    assert found.errors["der"].total_s == 8.0
    assert found.errors["eder"].total_s == 10.0  # of all that is scored, silence too


def test_every_second_is_counted_once_in_its_place():
    # 0-3 right; 3-4 the other speaker, angry; 4-6 right; 6-8 b but happy; 8-9 nobody spoke
    found = score(REFERENCE, talk(("S1", 0, 3, "happy"), ("S2", 3, 6, "angry"), ("S2", 6, 9, "happy")))
    assert found.errors["der"] == Errors(0.0, 1.0, 1.0, 8.0)
    assert found.errors["teer"] == Errors(0.0, 1.0, 3.0, 8.0)
    assert found.errors["steer"] == Errors(0.0, 1.0, 3.0, 8.0)
    assert found.errors["eder"] == Errors(0.0, 1.0, 3.0, 10.0)
    swapped = score(REFERENCE, talk(("S1", 0, 2, "happy"), ("S2", 2, 4, "happy"), ("S2", 4, 8, "angry")))
    assert swapped.errors["teer"] == Errors(0.0, 0.0, 0.0, 8.0)  # felt right, by the wrong one
    assert swapped.errors["steer"] == Errors(0.0, 0.0, 2.0, 8.0)


def test_a_turn_without_an_answer_is_missed_and_neutral_does_not_count_for_eder():
    found = score(
        talk(("a", 0, 4, "neutral"), ("b", 4, 8, "angry")), talk(("S1", 0, 1, "angry"), ("S1", 1, 4, "neutral"), ("S2", 4, 8, None))
    )
    assert found.errors["der"] == Errors(0.0, 0.0, 0.0, 8.0)
    assert found.errors["teer"] == Errors(4.0, 0.0, 1.0, 8.0)
    assert found.errors["eder"] == Errors(4.0, 1.0, 0.0, 10.0)


def test_where_the_reference_knows_no_emotion_none_is_scored():
    reference = talk(("a", 0, 4, "happy"), ("b", 4, 8, None))
    found = score(reference, talk(("S1", 0, 4, "happy"), ("S2", 4, 8, "angry")))
    assert found.errors["teer"] == Errors(0.0, 0.0, 0.0, 4.0)
    assert set(score(talk(("a", 0, 4, None)), REFERENCE).errors) == {"der"}


def test_overlap_and_duration_are_told_apart():
    reference = talk(("a", 0, 4, "happy"), ("b", 3.5, 4, "angry"), ("b", 5, 7, "sad"))
    found = score(reference, talk(("S1", 0, 4, "happy"), ("S2", 5, 7, "angry")))
    assert found.errors["teer, overlapped speech"] == Errors(0.5, 0.0, 0.0, 1.0)
    assert found.errors["teer, other speech"] == Errors(0.0, 0.0, 2.0, 5.5)
    assert found.errors["teer, turns of 1 to 3 s"] == Errors(0.0, 0.0, 2.0, 2.0)
    assert found.errors["teer, turns from 3 s on"].total_s == 4.5
    assert score(reference, reference, overlap=False).errors["der"].total_s == 5.5


def test_the_collar_and_the_region_are_kept():
    late = talk(("S1", 0, 4.2, "happy"), ("S2", 4.2, 8, "angry"))
    assert score(REFERENCE, late).errors["der"].confusion_s == pytest.approx(0.2)
    assert score(REFERENCE, late, collar_s=0.5).errors["der"].confusion_s == pytest.approx(0.0)
    only = score(REFERENCE, late, region=Region([Stretch(4.0, 4.1)]))
    assert only.errors["der"].total_s == pytest.approx(0.1)
    assert only.errors["der"].confusion_s == pytest.approx(0.0)  # one against one: the mapping is by what is scored
    assert (only.speakers, only.speakers_found) == (1, 1)


def test_the_collar_counts_for_emotions_at_every_turn_and_for_what_they_are_a_share_of():
    told = talk(("a", 0, 5, "happy"), ("b", 5, 10, None), ("c", 10, 20, "neutral"), duration_s=20.0)
    wrong = talk(("a", 0, 5, "angry"), ("c", 10, 20, "angry"), duration_s=20.0)
    found = score(told, wrong, collar_s=4.0).errors  # leaves 2 to 3 and 12 to 18
    assert found["teer"] == found["steer"] == Errors(0.0, 0.0, 7.0, 7.0)
    assert found["eder"] == Errors(0.0, 6.0, 1.0, 7.0)


def test_without_overlap_nothing_that_overlaps_is_an_error_of_emotion():
    told = talk(("a", 0, 10, "neutral"), ("b", 5, 15, "angry"), duration_s=20.0)
    found = score(told, talk(("a", 0, 10, "neutral"), ("b", 10, 15, "angry"), duration_s=20.0), overlap=False)
    assert not [name for name, errors in found.errors.items() if errors.array[:3].any()]
    assert found.errors["eder"].total_s == 15.0  # silence after the turns too
    assert "teer, overlapped speech" not in found.errors


def test_answers_are_judged_where_it_is_scored_and_nowhere_else():
    found = talk(("S1", 0, 4, "happy"), ("S2", 4, 8, "happy"))
    assert [(one.truth, one.seconds) for one in score(REFERENCE, found).judged] == [("happy", 4.0), ("angry", 4.0)]
    overlapping = Region([Stretch(0.0, 2.0), Stretch(1.0, 3.0)])
    (first,) = score(REFERENCE, found, region=overlapping).judged
    assert (first.truth, first.seconds) == ("happy", 3.0)
    both = score(REFERENCE, found, region=Region([Stretch(3.0, 5.5)])).judged
    assert [(one.truth, one.seconds) for one in both] == [("happy", 1.0), ("angry", 1.5)]
    assert score(REFERENCE, found, region=Region([Stretch(0.0, 10.0)])).judged == score(REFERENCE, found).judged


def test_conversations_are_pooled_by_their_seconds():
    wrong = score(talk(("a", 0, 1, "happy"), uri="short"), talk(("S", 0, 1, "angry")))
    right = score(talk(("a", 0, 9, "happy"), uri="long"), talk(("S", 0, 9, "happy")))
    found = pooled([wrong, right])
    assert found["teer"].value == pytest.approx(0.1)
    assert (found["teer"].low, found["teer"].high) == (0.0, 1.0)
    assert found["der"].value == 0.0
    assert math.isnan(float(conversation.rate(np.zeros(4))))


def test_references_come_as_json_csv_and_rttm(tmp_path: Path):
    (tmp_path / "talk.json").write_text(REFERENCE.to_json())
    (tmp_path / "talk.csv").write_text(REFERENCE.to_csv())
    (tmp_path / "talk.rttm").write_text(REFERENCE.to_rttm())
    for name in ("talk.json", "talk.csv"):
        read = read_reference(tmp_path / name)
        assert [(s.speaker, s.start_s, s.stop_s, s.emotion) for s in read.segments] == [("a", 0, 4, "happy"), ("b", 4, 8, "angry")]
    turns = conversation.turns(read_reference(tmp_path / "talk.rttm", "talk"))
    assert [(t.speaker, t.start_s, t.stop_s) for t in turns] == [("a", 0, 4), ("b", 4, 8)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.csv", "start_s,stop_s\n0,1\n", "lacks the columns speaker"),
        ("x.csv", "start_s,stop_s,speaker\n2,1,a\n", "row 1 of .*x.csv: stop_s 1.0 lies before start_s 2.0"),
        ("x.csv", "start_s,stop_s,speaker\n0,1,a\n-1,1,a\n", "row 2 of .*: start_s: Input should be greater than or equal to 0"),
        ("x.csv", "start_s,stop_s,speaker\n0,1,a\n1\n", "row 2 of .* has no stop_s and no speaker"),
        ("x.csv", "start_s,stop_s,speaker\n0,one,a\n", "row 1 of .*: could not convert string to float: 'one'"),
        ("x.csv", 'start_s,stop_s,speaker\n0,1,"a\n1,2,b\n', "line 3: unexpected end of data"),
        ("x.txt", "words", "not .txt"),
        ("x.json", "{", "x.json: not a timeline: the text is not JSON"),
        ("missing.json", None, "no reference"),
    ],
)
def test_a_reference_that_cannot_be_read_is_explained(tmp_path: Path, name: str, text: str | None, said: str):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_reference(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), [("x.csv", "start_s,stop_s,speaker\n0,1,J\u00fcrgen\n"), ("x.rttm", "J\u00fcrgen")])
def test_a_reference_in_another_encoding_is_named(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=f"{name} is not UTF-8 text"):
        read_reference(tmp_path / name)


def test_an_rttm_file_of_a_whole_day_holds_the_reference_that_it_is_called_by(tmp_path: Path):
    lines = [f"SPEAKER {uri} 1 {start} 1 <NA> <NA> anna <NA> <NA>\n" for start, uri in enumerate(("monday", "tuesday"))]
    (tmp_path / "tuesday.rttm").write_text("".join(lines))
    (row,) = conversation.find_reference(tmp_path, "tuesday").segments
    assert (row.speaker, row.start_s) == ("anna", 1.0)


def test_an_rttm_file_of_one_recording_may_call_it_otherwise_and_names_have_underscores_there(tmp_path: Path):
    path = tmp_path / "all.rttm"
    path.write_text("SPEAKER my_talk 1 0 1 <NA> <NA> anna <NA> <NA>\n")
    assert len(conversation.find_reference(path, "my talk").segments) == 1
    assert len(conversation.find_reference(path, "other", alone=True).segments) == 1
    with pytest.raises(ValueError, match="no turns of 'other', only of my_talk"):
        conversation.find_reference(path, "other")
    path.write_text(path.read_text() + "SPEAKER second 1 0 1 <NA> <NA> ben <NA> <NA>\n")
    assert [row.speaker for row in conversation.find_reference(path, "my talk", alone=True).segments] == ["anna"]


def test_what_is_scored_is_read_with_comments_marks_and_spans_that_meet(tmp_path: Path):
    (tmp_path / "x.uem").write_bytes(b"\xef\xbb\xbftalk 1 0 3.5\r\n;; the rest is music\r\n\r\n007\t1  8  9\r\ntalk 1 3 4\r\n")
    regions = conversation.read_uem(tmp_path / "x.uem")
    assert {uri: [(part.start, part.end) for part in region] for uri, region in regions.items()} == {"talk": [(0, 4)], "007": [(8, 9)]}
    for line in ("talk 1 0", "talk 1 zero 4", "talk 1 4 3", "talk 1 0 nan", "talk 1 -1 3"):
        (tmp_path / "x.uem").write_text(f"talk 1 0 1\n{line}\n")
        with pytest.raises(ValueError, match=f"x.uem, line 2: wanted .*, got '{line}'"):
            conversation.read_uem(tmp_path / "x.uem")
    with pytest.raises(ValueError, match=r"scored of talk begins after the end of the recording \(10.00 s\)"):
        score(REFERENCE, REFERENCE, region=Region([Stretch(11, 12)]))


def test_emotions_that_no_answer_can_have_are_counted():
    strange = talk(("a", 0, 4, "happy"), ("b", 4, 8, "Sad"), ("a", 8, 9, None), ("a", 9, 9.5, "Sad"))
    known = ("happy", "sad", "angry")
    assert conversation.unanswerable([(REFERENCE, None), (strange, None)], known) == {"Sad": 4.5}
    assert conversation.unanswerable([(strange, Region([Stretch(0, 5)]))], known) == {"Sad": 1.0}, "what is not scored cannot be missed"
    assert conversation.unanswerable([(strange, Region([Stretch(0, 3)]))], known) == {}


def test_the_number_of_speakers_is_counted():
    merged = score(REFERENCE, talk(("S1", 0, 8, "happy")))
    split = score(REFERENCE, talk(("S1", 0, 2, "happy"), ("S2", 2, 4, "happy"), ("S3", 4, 6, "angry"), ("S4", 6, 8, "angry")))
    off, right = conversation.count_error([merged, split, score(REFERENCE, REFERENCE)])
    assert off.value == pytest.approx((1 + 2 + 0) / 3)
    assert right.value == pytest.approx(1 / 3)
    assert conversation.to_dict([merged, split])["speakers"]["off_by"]["rate"] == 1.5


def test_turns_are_judged_and_their_curve_goes_into_the_data():
    known = {"emotions": {"happy": 0.8, "angry": 0.2}, "confidence": 0.8}
    found = REFERENCE.model_copy(update={"segments": tuple(row.model_copy(update=known) for row in REFERENCE.segments)})
    (one,) = [score(REFERENCE, found)]
    assert [(row.truth, row.right) for row in one.judged] == [("happy", True), ("angry", False)]
    assert pooled([one])["uar"].value == 0.5
    data = conversation.to_dict([one])
    assert data["coverage"][0]["accuracy"]["value"] == 0.5
    assert "judged" not in data["conversations"][0]
    json.dumps(data, allow_nan=False)


def test_what_knows_nothing_is_one_speaker_in_the_usual_emotion():
    found = conversation.trivial(REFERENCE, {"happy": 30, "angry": 10, "sad": 60})
    assert found.speakers == ("anybody",)
    assert [(row.emotion, row.confidence) for row in found.segments] == [("happy", 0.3), ("happy", 0.3)]  # sad is no class here
    scored = score(REFERENCE, found)
    assert scored.errors["der"] == Errors(0.0, 0.0, 4.0, 8.0)
    assert scored.errors["teer"] == Errors(0.0, 0.0, 4.0, 8.0)


def test_rates_of_nothing_are_still_json():
    silent = score(talk(), talk())
    assert math.isnan(pooled([silent])["der"].value)
    data = conversation.to_dict([silent])
    assert data["rates"]["der"]["rate"] is None
    json.dumps(data, allow_nan=False)


def test_what_knows_nothing_is_one_speaker_where_found_turns_overlap_too():
    found = talk(("S1", 0, 10, "happy"), ("S2", 5, 15, "angry"), ("S1", 6, 8, "angry"), ("S2", 15, 18, "angry"), duration_s=20.0)
    rows = conversation.trivial(found, {"happy": 1}).segments
    assert [(row.speaker, row.start_s, row.stop_s) for row in rows] == [("anybody", 0, 15), ("anybody", 15, 18)]
