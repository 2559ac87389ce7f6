"""From raw answers to final ones: centred on each speaker, smoothed, withheld."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast.refine import Refinement, adapted, refined, smoothed, withheld
from moodcast.study import speaker
from moodcast.timeline import ChunkRow, Segment, Timeline

CLASSES = ("angry", "happy", "neutral", "sad")


def answered(who: str, start_s: float, probabilities: list[float], chunks: list[list[float]] | None = None) -> Segment:
    emotions = dict(zip(CLASSES, probabilities, strict=True))
    best = max(emotions, key=lambda name: emotions[name])
    rows = [
        ChunkRow(start_s=start_s + i / 10, stop_s=start_s + (i + 1) / 10, emotions=dict(zip(CLASSES, row, strict=True)))
        for i, row in enumerate(chunks or [])
    ]
    return Segment(
        speaker=who, start_s=start_s, stop_s=start_s + 1, emotion=best, confidence=emotions[best], emotions=emotions, chunks=tuple(rows)
    )


def talk(*segments: Segment) -> Timeline:
    return Timeline(uri="talk", duration_s=100.0, classes=CLASSES, segments=segments, provenance={"bundle": "b"})


def mixed(who: str, seed: int = 0, turns: int = 16, bias: float = 1.5) -> list[Segment]:
    """Turns of one speaker whose voice sounds angry in all it says, of mixed emotions."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(turns):
        logs = rng.normal(0, 0.2, 4) + 3.0 * np.eye(4)[i % 4] + bias * np.eye(4)[0]
        rows.append(answered(who, float(i), (np.exp(logs) / np.exp(logs).sum()).tolist()))
    return rows


def test_each_speaker_is_centred_by_the_function_of_the_study() -> None:
    first, second = mixed("A"), mixed("B", seed=1, bias=0.0)
    found = adapted(talk(*first, *second))
    for who, own in (("A", first), ("B", second)):
        logs = np.log([[row.emotions[name] for name in CLASSES] for row in own])
        wanted, of = speaker.adapt(logs)
        got = np.array([[row.emotions[name] for name in CLASSES] for row in found.segments if row.speaker == who])
        np.testing.assert_allclose(got, np.exp(wanted), atol=2e-5)
        (told,) = [one for one in found.adaptation if one.speaker == who]
        assert (told.turns, told.mixed, told.why) == (16, pytest.approx(of.mixed), of.why)
        assert list(told.centre.values()) == pytest.approx(of.centre.tolist(), abs=1e-5)
    assert found.adaptation[0].mixed == 1.0
    assert found.adaptation[0].centre["angry"] > 0.5


def test_what_was_answered_before_is_kept_beside_it() -> None:
    rows = mixed("A")
    found = adapted(talk(*rows))
    assert [row.raw for row in found.segments] == [row.emotions for row in rows]
    assert all(row.confidence == max(row.emotions.values()) == row.emotions[row.emotion or ""] for row in found.segments)


def test_where_the_guard_says_no_nothing_is_changed_and_the_verdict_is_told() -> None:
    rows = [answered("A", float(i), [0.7, 0.1, 0.1, 0.1]) for i in range(8)]
    found = adapted(talk(*rows, answered("B", 50.0, [0.1, 0.7, 0.1, 0.1])))
    assert found.segments[:8] == tuple(rows)
    assert "too much alike" in found.adaptation[0].why
    assert found.adaptation[0].mixed == 0.0
    assert found.adaptation[1].why.startswith("one recording of this speaker says nothing")


def test_turns_without_an_answer_are_neither_learnt_from_nor_changed() -> None:
    silent = Segment(speaker="A", start_s=30.0, stop_s=30.1, status="too_short")
    rows = mixed("A")
    found = adapted(talk(*rows, silent, Segment(speaker="C", start_s=40.0, stop_s=41.0, status="non_speech")))
    assert found.segments[:-2] == adapted(talk(*rows)).segments
    assert found.segments[-2] == silent
    assert found.adaptation[1].turns == 0


def test_chunks_are_centred_with_their_turn() -> None:
    rows = [
        row.model_copy(update={"chunks": (ChunkRow(start_s=row.start_s, stop_s=row.stop_s, emotions=row.emotions),)}) for row in mixed("A")
    ]
    for before, after in zip(rows, adapted(talk(*rows)).segments, strict=True):
        assert after.chunks[0].emotions == after.emotions
        assert after.chunks[0].raw == before.emotions


def test_a_median_takes_a_single_outlier_away() -> None:
    calm, shout = [0.1, 0.1, 0.7, 0.1], [0.9, 0.0, 0.1, 0.0]
    rows = [answered("A", 2.0 * i, shout if i == 2 else calm, [calm, shout, calm]) for i in range(5)]
    other = answered("B", 5.0, shout)
    found = smoothed(talk(*rows, other), 3)
    assert [row.emotion for row in found.segments] == ["neutral"] * 5 + ["angry"]  # nobody is smoothed with somebody else
    assert found.segments[2].raw["angry"] == 0.9
    assert [max(chunk.emotions, key=chunk.emotions.__getitem__) for chunk in found.segments[0].chunks] == ["neutral"] * 3
    assert found.segments[5].emotions == other.emotions


@given(st.lists(st.lists(st.floats(0.01, 1.0), min_size=4, max_size=4), min_size=1, max_size=9), st.sampled_from([3, 5, 7]))
def test_smoothed_probabilities_are_probabilities_and_a_constant_stays(rows: list[list[float]], width: int) -> None:
    made = [answered("A", float(i), (np.array(row) / sum(row)).tolist()) for i, row in enumerate(rows)]
    for row in smoothed(talk(*made), width).segments:
        assert sum(row.emotions.values()) == pytest.approx(1.0, abs=1e-5)
    same = talk(*(answered("A", float(i), [0.1, 0.2, 0.3, 0.4]) for i in range(len(rows))))
    for before, after in zip(same.segments, smoothed(same, width).segments, strict=True):
        assert after.emotions == pytest.approx(before.emotions)


def test_what_is_not_sure_gets_a_status_and_keeps_its_probabilities() -> None:
    row = answered("A", 0.0, [0.4, 0.3, 0.2, 0.1])
    held = withheld(row, 0.5)
    assert (held.status, held.emotion, held.confidence, held.emotions) == ("low_confidence", None, 0.4, row.emotions)
    assert withheld(held, 0.3) == row
    silent = Segment(speaker="A", start_s=0.0, stop_s=1.0, status="silence")
    assert withheld(silent, 0.5) == silent


def test_the_guard_is_shown_answers_as_cool_as_it_knows_them() -> None:
    rows = mixed("A", bias=2.5)
    chunky = answered("A", 50.0, [0.4, 0.3, 0.2, 0.1], [[0.7, 0.1, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])

    def cooled(row: Segment) -> Segment:
        def cooler(values: dict[str, float]) -> dict[str, float]:
            found = np.array([values[name] for name in CLASSES]) ** (1 / 4)
            return dict(zip(CLASSES, (found / found.sum()).tolist(), strict=True))

        chunks = tuple(chunk.model_copy(update={"emotions": cooler(chunk.emotions)}) for chunk in row.chunks)
        return row.model_copy(update={"emotions": cooler(row.emotions), "chunks": chunks})

    plain = adapted(talk(*rows, chunky))
    cool = refined(talk(*map(cooled, (*rows, chunky))), Refinement(adapt=True, cooled=4.0))
    assert cool.adaptation[0].mixed == pytest.approx(plain.adaptation[0].mixed, abs=1e-3)
    assert adapted(talk(*map(cooled, rows))).adaptation[0].mixed < plain.adaptation[0].mixed == 1.0
    for wanted, got in zip(map(cooled, plain.segments), cool.segments, strict=True):
        assert got.emotions == pytest.approx(wanted.emotions, abs=1e-4)
        for one, other in zip(wanted.chunks, got.chunks, strict=True):
            assert other.emotions == pytest.approx(one.emotions, abs=1e-4)


def test_all_of_it_in_order_with_its_provenance() -> None:
    rows = mixed("A", bias=2.5)
    found = refined(talk(*rows), Refinement(adapt=True, smooth="", min_confidence=0.5))
    assert found.provenance == {"bundle": "b", "adapt": "speaker", "min_confidence": "0.5"}
    by_hand = [withheld(row, 0.5) for row in adapted(talk(*rows)).segments]
    assert list(found.segments) == by_hand
    plain = refined(talk(*rows), Refinement(adapt=False))
    assert plain == talk(*rows)
    assert refined(found, Refinement(adapt=False)) == plain  # all of it is undone
    again = Refinement(smooth="median:5", min_confidence=0.4)
    assert refined(refined(talk(*rows), Refinement(adapt=True, smooth="median:3", min_confidence=0.9)), again) == refined(plain, again)
    assert refined(talk(*rows), Refinement(adapt=False, smooth="median:5")).provenance["smooth"] == "median:5"


@pytest.mark.parametrize(
    "smooth",
    ["median", "median:2", "median:4", "median:1", "mean:3", "median:-3", "median:x", "median:101", "median:٣", "median:" + "3" * 5000],
)
def test_smoothing_that_is_not_known_is_refused(smooth: str) -> None:
    with pytest.raises(ValueError, match="wanted median:N"):
        Refinement(smooth=smooth)


def test_a_confidence_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Refinement(min_confidence=1.5)


def test_json_and_csv_hold_raw_and_final_values() -> None:
    found = refined(talk(*mixed("A", bias=2.5)), Refinement(adapt=True))
    assert Timeline.from_json(found.to_json()) == found
    row = next(csv.DictReader(io.StringIO(found.to_csv())))
    assert float(row["raw_angry"]) == found.segments[0].raw["angry"]
    assert float(row["p_angry"]) == found.segments[0].emotions["angry"]
    assert "raw_angry" not in talk(*mixed("A")).to_csv()
