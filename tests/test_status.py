"""When a turn is answered by a status instead of an emotion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast.diarize import Turn
from moodcast.status import overlap_shares, status_of

RATE = 16_000
LOUD = np.full(RATE, 0.1, dtype=np.float32)


@pytest.mark.parametrize(
    ("piece", "speech", "overlap", "status"),
    [
        (LOUD[: RATE // 4], None, 0.0, "too_short"),
        (LOUD[: RATE // 4], 0.0, 1.0, "too_short"),
        (LOUD * 1e-4, None, 0.0, "silence"),
        (LOUD * 0.01, None, 0.0, "ok"),  # a far, quiet microphone, RMS of -60 dBFS
        (LOUD, 0.05, 1.0, "non_speech"),
        (LOUD, 0.15, 0.0, "ok"),
        (LOUD, None, 0.6, "overlap"),
        (LOUD, 0.9, 0.5, "ok"),
        (LOUD, None, 0.0, "ok"),
    ],
)
def test_the_first_reason_that_holds_is_said(piece: np.ndarray, speech: float | None, overlap: float, status: str) -> None:
    assert status_of(piece, RATE, speech, overlap) == status


def test_overlap_is_the_share_of_a_turn_in_which_others_speak() -> None:
    turns = [Turn("A", 0.0, 4.0), Turn("B", 1.0, 2.0), Turn("C", 1.5, 3.0), Turn("A", 3.5, 5.0), Turn("D", 6.0, 6.0)]
    assert overlap_shares(turns) == [0.5, 1.0, 1.0, 0.0, 0.0]  # one's own turns are no overlap
    assert overlap_shares([]) == []


spans = st.tuples(st.sampled_from("AB"), st.integers(0, 20), st.integers(1, 8)).map(lambda t: Turn(t[0], t[1] / 10, (t[1] + t[2]) / 10))


@given(st.lists(spans, max_size=8))
def test_it_is_what_counting_tenths_of_a_second_gives(turns: list[Turn]) -> None:
    turns.sort(key=lambda turn: turn.start_s)
    for turn, share in zip(turns, overlap_shares(turns), strict=True):
        tenths = np.arange(round(10 * turn.start_s), round(10 * turn.stop_s)) + 0.5
        others = [other for other in turns if other.speaker != turn.speaker]
        counted = np.mean([any(10 * other.start_s < t < 10 * other.stop_s for other in others) for t in tenths])
        assert share == pytest.approx(counted, abs=1e-6)
