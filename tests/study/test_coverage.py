"""Turns judged one by one: how much is answered, how much of that is right, and what a bound on confidence buys."""

from __future__ import annotations

import json

import numpy as np
import pytest

from moodcast.study import coverage
from moodcast.study.coverage import Judged, bound_of, curve, judge, measures
from moodcast.timeline import Segment, Timeline

CLASSES = ("angry", "happy")


def turn(start_s: float, stop_s: float, emotion: str | None, p_happy: float | None = None) -> Segment:
    emotions = {} if p_happy is None else {"angry": 1 - p_happy, "happy": p_happy}
    return Segment(
        speaker="a", start_s=start_s, stop_s=stop_s, emotion=emotion, emotions=emotions, confidence=max(emotions.values(), default=None)
    )


def talk(*segments: Segment) -> Timeline:
    return Timeline(uri="talk", duration_s=20.0, classes=CLASSES, segments=segments)


def row(truth: str, p_happy: float, seconds: float = 1.0, given: bool = True) -> Judged:
    return Judged(truth, {"angry": 1 - p_happy, "happy": p_happy}, seconds, given)


def test_a_found_turn_is_judged_by_what_is_felt_in_most_of_it() -> None:
    reference = talk(turn(0, 4, "happy"), turn(4, 5, "angry"), turn(10, 12, None), turn(13, 14, "angry"))
    found = talk(
        turn(1, 4.5, "happy", 0.9), turn(4.2, 5, "happy", 0.7), turn(10, 12, "happy", 0.8), turn(13.5, 16, "angry", 0.1), turn(13, 14, None)
    )
    rows = judge(reference, found)
    assert [(one.truth, one.seconds, one.given, one.right) for one in rows] == [
        ("happy", 3.5, True, True),
        ("angry", 0.8, True, False),
        ("angry", 1.0, False, False),  # the last found turn: a status, which is no answer
    ]
    assert rows[0].confidence == 0.9


def test_two_who_feel_the_same_at_once_feel_it_for_as_long_as_one() -> None:
    turns = [turn(0, 10, "happy", 0.9)]
    both = [turn(0, 3, "angry"), turn(0, 3, "angry").model_copy(update={"speaker": "b"})]
    assert judge(talk(*both), talk(*turns)) == ()  # three seconds of ten
    assert [one.truth for one in judge(talk(*both, turn(3, 8, "happy")), talk(*turns))] == ["happy"]


def test_seconds_outside_of_what_is_scored_do_not_count() -> None:
    reference = talk(turn(0, 4, "happy"), turn(4, 9, "angry"))
    found = talk(turn(0, 2, "happy", 0.9), turn(2, 8, "happy", 0.8), turn(12, 14, "happy", 0.7))
    assert [(one.truth, one.seconds) for one in judge(reference, found)] == [("happy", 2.0), ("angry", 6.0)]
    (only,) = judge(reference, found, [(2.5, 3.5), (3.75, 4.25)])  # of the second turn 1.25 s happy and 0.25 s angry; the first not at all
    assert (only.truth, only.seconds, only.right) == ("happy", 1.5, True)
    assert judge(reference, found, [(9.0, 20.0)]) == ()  # nobody is known to feel anything there
    assert judge(reference, found, [(0.0, 20.0)]) == judge(reference, found)


def test_the_curve_counts_seconds_by_hand() -> None:
    rows = [row("happy", 0.95, 2.0), row("happy", 0.3, 1.0), row("angry", 0.45, 3.0), Judged("angry", {}, 4.0, False)]
    points = curve([rows], (0.0, 0.6, 0.9, 0.99))
    assert [point.coverage.value for point in points] == pytest.approx([0.6, 0.3, 0.2, 0.0])
    assert [point.accuracy.value for point in points[:3]] == pytest.approx([5 / 6, 2 / 3, 1.0])
    assert np.isnan(points[3].accuracy.value)
    data = coverage.to_dict(points)
    assert data[3]["accuracy"]["value"] is None
    json.dumps(data, allow_nan=False)


def test_more_confidence_never_covers_more() -> None:
    rng = np.random.default_rng(0)
    talks = [[row(str(rng.choice(CLASSES)), float(p)) for p in rng.uniform(0, 1, 30)] for _ in range(4)]
    covered = [point.coverage.value for point in curve(talks)]
    assert covered == sorted(covered, reverse=True)
    assert covered[0] == 1.0
    assert all(point.coverage.low <= point.coverage.value <= point.coverage.high for point in curve(talks))


def test_the_lowest_bound_that_buys_an_accuracy_is_found() -> None:
    rows = [row("happy", 0.95), row("happy", 0.85), row("angry", 0.75), row("angry", 0.65)]
    assert bound_of(rows, 0.5) == 0.0
    assert bound_of(rows, 0.6) == 0.66
    assert bound_of(rows, 1.0) == 0.76
    with pytest.raises(ValueError, match="no bound on confidence"):
        bound_of([row("angry", 0.9)], 0.5)
    with pytest.raises(ValueError, match="no bound on confidence"):
        bound_of([], 0.5)


def test_measures_are_of_what_was_answered_and_of_what_was_given() -> None:
    rows = [row("happy", 0.9, 1.0), row("angry", 0.8, 2.0, given=False), row("angry", 0.1, 1.0), Judged("happy", {}, 4.0, False)]
    found = measures([rows], CLASSES)
    assert found["uar"].value == pytest.approx(0.75)  # happy 1 of 1, angry 1 of 2, sure or not
    assert found["coverage"].value == pytest.approx(2 / 8)
    assert found["accuracy"].value == 1.0
    assert found["ece"].value == pytest.approx((0.1 + 0.8 + 0.1) / 3)
    assert measures([[Judged("happy", {}, 1.0, False)]], CLASSES) == {}
    assert measures([], CLASSES) == {}
