"""`collate`, the one door from waveform to model input: what goes in comes out, padding is zero and known, targets fit their rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.batch import Batch, collate, word_times
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance

RATE = 100
HOPPED = ChunkPlan(length_s=1.0, hop_s=0.5)
COUNTED = ChunkPlan(length_s=1.0, count=5)


def ramp(count: int) -> np.ndarray:
    """Samples that tell where they come from, none of them zero."""
    return np.arange(1, count + 1, dtype=np.float32)


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 500), min_size=1, max_size=4), plan=st.sampled_from([HOPPED, COUNTED]))
def test_every_sample_arrives_where_the_plan_says_and_the_rest_is_zero(counts: list[int], plan: ChunkPlan) -> None:
    batch = collate([ramp(count) for count in counts], plan, RATE)
    assert batch.chunks.shape == (*batch.lengths.shape, 100)
    assert batch.chunks.dtype == torch.float32
    for b, count in enumerate(counts):
        spans = plan.spans(count, RATE)
        assert batch.lengths[b].tolist() == [stop - start for start, stop in spans] + [0] * (batch.lengths.shape[1] - len(spans))
        seen: set[float] = set()
        for c, (start, stop) in enumerate(spans):
            assert batch.chunks[b, c, : stop - start].tolist() == list(range(start + 1, stop + 1))
            assert not batch.chunks[b, c, stop - start :].any()
            seen.update(batch.chunks[b, c, : stop - start].tolist())
        assert seen == set(range(1, count + 1))
        assert not batch.chunks[b, len(spans) :].any()
        assert batch.seconds[b] == pytest.approx(count / RATE)


def test_a_stretch_looks_the_same_alone_and_beside_a_longer_one() -> None:
    alone, together = collate([ramp(120)], HOPPED, RATE), collate([ramp(120), ramp(480)], HOPPED, RATE)
    width = alone.chunks.shape[1]
    assert torch.equal(alone.chunks[0], together.chunks[0, :width])
    assert together.lengths[0, width:].tolist() == [0] * (together.lengths.shape[1] - width)


def test_targets_and_weights_follow_their_rows() -> None:
    rows = [Utterance("a", "a.wav", emotion="sad", weight=2.0), Utterance("b", "b.wav", emotion="angry")]
    batch = collate([ramp(50), ramp(90)], HOPPED, RATE, Labels(), rows)
    assert batch.target is not None
    assert batch.weight is not None
    assert batch.target.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert batch.weight.tolist() == [2, 1]


def test_a_batch_moves_as_a_whole() -> None:
    batch = collate([ramp(50)], HOPPED, RATE, Labels(), [Utterance("a", "a.wav", emotion="sad")]).to("meta")
    assert {
        value.device.type for value in (batch.chunks, batch.lengths, batch.seconds, batch.target, batch.weight) if value is not None
    } == {"meta"}
    assert batch.size == 1


@pytest.mark.parametrize(
    ("waves", "complaint"),
    [
        ([], "at least one stretch"),
        ([ramp(0)], "empty stretch"),
        ([ramp(501)], "split it first"),
        ([np.array([0.0, np.nan], dtype=np.float32)], "NaN or infinite"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(waves: list[np.ndarray], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        collate(waves, COUNTED, RATE)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one row a stretch"):
        collate([ramp(50)], HOPPED, RATE, Labels(), [])
    with pytest.raises(ValueError, match=r"a: emotion 'awe' is not among.*Labels\.keep"):
        collate([ramp(50)], HOPPED, RATE, Labels(), [Utterance("a", "a.wav", emotion="awe")])


@pytest.mark.parametrize(("count", "sizes"), [(1, [5]), (2, [3, 2]), (5, [1] * 5), (9, [1] * 5)])
def test_a_batch_in_parts_is_the_batch_again(count: int, sizes: list[int]) -> None:
    batch = Batch(torch.randn(5, 2, 3), torch.ones(5, 2, dtype=torch.int64), torch.arange(5.0), text=torch.arange(5)[:, None])
    parts = batch.parts(count)
    assert [part.size for part in parts] == sizes
    assert torch.equal(torch.cat([part.chunks for part in parts]), batch.chunks)
    assert torch.equal(torch.cat([part.text for part in parts]), batch.text)
    assert all(part.target is None for part in parts)


def test_words_are_timed_from_the_beginning_of_their_stretch() -> None:
    spoken = (("one", 2.1, 2.4), ("two", 2.5, 3.2), ("three", 3.5, 3.9))
    rows = [Utterance(id="a", path="-", start_s=2.0, words=spoken), Utterance(id="b", path="-")]
    times = word_times(rows, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(times, torch.tensor([[[0.1, 0.4], [0.5, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]))
