"""moodcast.chunks: the published test vectors, and what holds for every plan and every length."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast.chunks import ChunkPlan, counted_starts, hopped_starts, samples_of, split_evenly

# Lin & Busso's setting: 62 frames of 16 ms a chunk, 11 chunks. Frames of the utterance: floor's step, even's starts.
VECTORS = {
    172: (11, [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 110]),
    200: (13, [0, 14, 28, 41, 55, 69, 83, 97, 110, 124, 138]),
    310: (24, [0, 25, 50, 74, 99, 124, 149, 174, 198, 223, 248]),
    500: (43, [0, 44, 88, 131, 175, 219, 263, 307, 350, 394, 438]),
    682: (62, [0, 62, 124, 186, 248, 310, 372, 434, 496, 558, 620]),
    688: (62, [0, 63, 125, 188, 250, 313, 376, 438, 501, 563, 626]),
    62: (0, [0] * 11),
    71: (0, [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]),
}
LOST = {172: 0, 200: 8, 310: 8, 500: 8, 682: 0, 688: 6, 62: 0, 71: 9}


@pytest.mark.parametrize("frames", VECTORS)
def test_the_even_rule_gives_the_starts_of_the_specification(frames: int) -> None:
    assert counted_starts(frames, 62, 11, "even") == VECTORS[frames][1]


@pytest.mark.parametrize("frames", VECTORS)
def test_the_floor_rule_gives_the_published_step_and_loses_the_published_frames(frames: int) -> None:
    starts = counted_starts(frames, 62, 11, "floor")
    assert starts == [i * VECTORS[frames][0] for i in range(11)]
    assert frames - (starts[-1] + 62) == LOST[frames]


def test_the_floor_rule_of_the_published_example_with_fifteen_chunks() -> None:
    assert counted_starts(150, 50, 15, "floor") == list(range(0, 99, 7))
    assert counted_starts(749, 50, 15, "floor") == list(range(0, 687, 49))


@pytest.mark.parametrize(("seconds", "step"), [(2.75, 0.175), (5.0, 0.4), (11.0, 1.0)])
def test_the_step_in_seconds_is_that_of_the_paper(seconds: float, step: float) -> None:
    spans = ChunkPlan(length_s=1.0, count=11).spans(samples_of(seconds, 16_000), 16_000)
    assert {b.start - a.start for a, b in itertools.pairwise(spans)} == {round(step * 16_000)}


totals = st.integers(1, 50_000)
lengths = st.integers(1, 5_000)
counts = st.integers(1, 40)


@given(totals, lengths, counts)
def test_even_starts_reach_from_zero_to_the_last_sample_in_equal_steps(total: int, length: int, count: int) -> None:
    starts = counted_starts(total, length, count)
    slack = max(0, total - length)
    assert len(starts) == count
    if count == 1:
        assert starts == [slack // 2]
        return
    assert starts[0] == 0
    assert starts[-1] == slack
    gaps = [b - a for a, b in itertools.pairwise(starts)]
    assert min(gaps) >= 0
    assert max(gaps) - min(gaps) <= 1
    # the nearest integers to the real-valued starts (halves go up or down, but by the same rule everywhere)
    assert all(abs(start - i * slack / (count - 1)) <= 0.5 for i, start in enumerate(starts))


@given(totals, lengths, st.integers(2, 40))
def test_floor_starts_lose_at_most_count_minus_two_samples_and_only_from_the_end(total: int, length: int, count: int) -> None:
    starts = counted_starts(total, length, count, "floor")
    slack = max(0, total - length)
    assert starts[0] == 0
    assert slack - starts[-1] == slack % (count - 1) <= count - 2
    assert len({b - a for a, b in itertools.pairwise(starts)}) == 1


@st.composite
def plans(draw: st.DrawFn) -> ChunkPlan:
    length_s = draw(st.floats(0.02, 5.0))
    if draw(st.booleans()):
        return ChunkPlan(length_s=length_s, count=draw(st.integers(1, 40)))
    return ChunkPlan(length_s=length_s, hop_s=length_s * draw(st.floats(0.05, 1.0)))


@given(plan=plans(), share=st.floats(0, 1), rate=st.sampled_from([8_000, 16_000, 44_100]))
def test_every_plan_covers_every_sample_of_every_stretch_up_to_its_longest(plan: ChunkPlan, share: float, rate: int) -> None:
    total = max(1, int(share * samples_of(plan.max_s, rate)))
    spans = plan.spans(total, rate)
    length = max(1, samples_of(plan.length_s, rate))
    reach = 0
    for span in spans:
        assert 0 <= span.start < span.stop <= total
        assert span.stop - span.start <= length
        if plan.count != 1:
            assert span.start <= reach  # no gap before it
        reach = max(reach, span.stop)
    if plan.count != 1:
        assert reach == total
    if plan.count is not None:
        assert len(spans) == plan.count
        assert len({span.stop - span.start for span in spans}) == 1  # constant shapes


@given(plan=plans(), rate=st.sampled_from([8_000, 16_000, 44_100]))
def test_a_stretch_beyond_the_longest_is_refused_and_split_pieces_fit(plan: ChunkPlan, rate: int) -> None:
    longest = samples_of(plan.max_s, rate)
    total = 2 * longest + 1
    with pytest.raises(ValueError, match=r"longer than the .* that this plan covers; split it first"):
        plan.spans(total, rate)
    for piece in split_evenly(total, longest):
        assert plan.spans(piece.stop - piece.start, rate)


@given(totals, lengths)
def test_split_pieces_are_the_fewest_and_equal_to_a_sample(total: int, longest: int) -> None:
    pieces = split_evenly(total, longest)
    assert len(pieces) == math.ceil(total / longest)
    assert pieces[0].start == 0
    assert pieces[-1].stop == total
    assert all(a.stop == b.start for a, b in itertools.pairwise(pieces))
    sizes = {piece.stop - piece.start for piece in pieces}
    assert max(sizes) <= longest
    assert max(sizes) - min(sizes) <= 1


@given(totals, lengths, st.integers(1, 5_000))
def test_hopped_chunks_are_the_fewest_that_reach_the_end(total: int, length: int, hop: int) -> None:
    starts = hopped_starts(total, length, hop)
    assert starts == list(range(0, len(starts) * hop, hop))
    assert starts[-1] + length >= total
    assert len(starts) == 1 or starts[-2] + length < total


def test_a_short_stretch_is_one_part_of_every_chunk() -> None:
    assert ChunkPlan(length_s=1.0, count=3).spans(100, 16_000) == [(0, 100)] * 3
    assert ChunkPlan(length_s=1.0, hop_s=0.5).spans(100, 16_000) == [(0, 100)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 3, "hop_s": 0.5}, "exactly one of count and hop_s"),
        ({}, "exactly one of count and hop_s"),
        ({"length_s": 0.0, "count": 3}, "length_s must be positive"),
        ({"length_s": float("nan"), "count": 3}, "length_s must be positive"),
        ({"count": 0}, "count must be at least 1"),
        ({"hop_s": 0.0}, "hop_s must be in"),
        ({"hop_s": 1.5}, "so that no sample is lost"),
        ({"hop_s": 0.5, "rule": "floor"}, "published rule of a counted plan"),
    ],
)
def test_plans_that_cannot_be_kept_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChunkPlan(**settings)  # type: ignore[arg-type]


def test_nothing_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="empty stretch has no chunks"):
        ChunkPlan(count=3).spans(0, 16_000)
    with pytest.raises(ValueError, match="lengths must be positive"):
        split_evenly(0, 10)
