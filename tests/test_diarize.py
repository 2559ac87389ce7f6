from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast import diarize
from moodcast.diarize import Given, Turn

RATE = 16_000

RTTM = """\
;; a comment
SPKR-INFO talk 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER talk 1 2.500 1.000 <NA> <NA> ben <NA> <NA>
SPEAKER talk 1 0.250 1.500 <NA> <NA> ann <NA> <NA>

SPEAKER talk 1 3.000 1.000 <NA> <NA> ann <NA> <NA>
SPEAKER talk 1 5.000 0.000 <NA> <NA> ann <NA> <NA>
"""

turns = st.lists(
    st.builds(
        lambda who, start, length: Turn(who, start / 10, (start + length) / 10),
        st.sampled_from("abc"),
        st.integers(0, 80),
        st.integers(1, 20),
    ),
    max_size=8,
)


def test_rttm_is_read_by_start_time_with_overlap_marked(tmp_path: Path) -> None:
    (path := tmp_path / "talk.rttm").write_text(RTTM)
    assert diarize.read_rttm(path) == [
        Turn("ann", 0.25, 1.75),
        Turn("ben", 2.5, 3.5, overlap=True),
        Turn("ann", 3.0, 4.0, overlap=True),
    ]
    assert diarize.read_rttm(path, uri="talk") == diarize.read_rttm(path)


def test_of_several_recordings_the_likely_one_is_read_and_a_single_one_whatever_it_is_called(tmp_path: Path) -> None:
    lines = [f"SPEAKER {uri} 1 0 1 <NA> <NA> {uri}_anna <NA> <NA>\n" for uri in ("monday", "tuesday")]
    (one := tmp_path / "one.rttm").write_text(lines[0])
    (two := tmp_path / "two.rttm").write_text("".join(lines))
    assert [turn.speaker for turn in diarize.read_rttm(one, likely="talk")] == ["monday_anna"]
    assert [turn.speaker for turn in diarize.read_rttm(two, likely="tuesday")] == ["tuesday_anna"]
    with pytest.raises(ValueError, match="no turns of 'talk', only of monday, tuesday"):
        diarize.read_rttm(two, likely="talk")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SPEAKER talk 1 0.0", "line 1: wanted SPEAKER"),
        ("\nSPEAKER talk 1 zero 1.0 <NA> <NA> ann <NA> <NA>", "line 2"),
        ("SPEAKER talk 1 0.0 -1.0 <NA> <NA> ann <NA> <NA>", "at least 0"),
        ("SPEAKER talk 1 nan 1.0 <NA> <NA> ann <NA> <NA>", "at least 0"),
        ("SPEAKER talk 1 0.0 inf <NA> <NA> ann <NA> <NA>", "finite"),
    ],
)
def test_a_line_that_is_not_rttm_is_named(tmp_path: Path, text: str, words: str) -> None:
    (path := tmp_path / "bad.rttm").write_text(text)
    with pytest.raises(ValueError, match=words):
        diarize.read_rttm(path)


def test_the_recording_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    (path := tmp_path / "two.rttm").write_text(RTTM + "SPEAKER other 1 0.0 1.0 <NA> <NA> cy <NA> <NA>\n")
    with pytest.raises(ValueError, match=r"2 recordings \(talk, other\)"):
        diarize.read_rttm(path)
    assert [turn.speaker for turn in diarize.read_rttm(path, uri="other")] == ["cy"]
    with pytest.raises(ValueError, match="no turns of 'nobody', only of talk, other"):
        diarize.read_rttm(path, uri="nobody")


def test_an_empty_rttm_has_no_turns(tmp_path: Path) -> None:
    (path := tmp_path / "empty.rttm").write_text("")
    assert diarize.read_rttm(path) == []


@given(turns)
def test_overlap_is_marked_exactly_where_two_speakers_share_time(rows: list[Turn]) -> None:
    marked = diarize.mark_overlap(rows)
    for i, turn in enumerate(marked):
        others = [other for j, other in enumerate(marked) if j != i and other.speaker != turn.speaker]
        assert turn.overlap == any(min(turn.stop_s, other.stop_s) > max(turn.start_s, other.start_s) for other in others)


def test_given_turns_come_sorted_and_end_with_the_recording() -> None:
    found = Given((Turn("b", 1.0, 9.0), Turn("a", 0.0, 1.0))).diarize(np.zeros(2 * RATE, dtype=np.float32), RATE)
    assert found == [Turn("a", 0.0, 1.0), Turn("b", 1.0, 2.0)]


@given(turns, st.floats(0, 1))
def test_joined_turns_keep_all_speech_and_leave_gaps_only_as_asked(rows: list[Turn], join_s: float) -> None:
    apart: list[Turn] = []
    for turn in sorted(rows, key=lambda turn: turn.start_s):  # a diarizer's turns follow each other
        if not apart or turn.start_s >= apart[-1].stop_s:
            apart.append(turn)
    joined = diarize.join(apart, join_s)
    for turn in apart:
        assert any(j.speaker == turn.speaker and j.start_s <= turn.start_s and turn.stop_s <= j.stop_s for j in joined)
    for a, b in itertools.pairwise(joined):
        assert a.stop_s <= b.start_s
        assert a.speaker != b.speaker or b.start_s - a.stop_s >= join_s


def test_a_gap_as_long_as_asked_keeps_turns_apart() -> None:
    rows = [Turn("a", 0.0, 1.0), Turn("a", 1.4, 2.0), Turn("b", 2.0, 3.0), Turn("a", 3.1, 4.0), Turn("a", 4.5, 5.0)]
    assert diarize.join(rows, 0.5) == [Turn("a", 0.0, 2.0), Turn("b", 2.0, 3.0), Turn("a", 3.1, 4.0), Turn("a", 4.5, 5.0)]
