"""moodcast.order: every rank sees its share of the same batches, and classes and corpora come equally often where that is asked for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.order import balance_weights, epoch_batches, num_steps, stream_batches


@given(st.integers(1, 60), st.integers(1, 6), st.sampled_from([1, 2, 3]), st.integers(0, 5), st.booleans())
def test_any_number_of_ranks_sees_the_same_global_batches(shares: int, each: int, world: int, epoch: int, weighted: bool) -> None:
    num, batch_size = shares * world, each * world
    weights = np.arange(1, num + 1, dtype=float) if weighted else None
    whole = epoch_batches(num, batch_size, 7, epoch, weights=weights)
    parts = [epoch_batches(num, batch_size, 7, epoch, world, rank, weights) for rank in range(world)]
    assert len(whole) == num_steps(num, batch_size)
    for g, batch in enumerate(whole):
        shards = [part[g] for part in parts]
        assert len({len(shard) for shard in shards}) == 1
        assert np.stack(shards, axis=1).ravel().tolist() == batch.tolist()
        assert np.stack([part.draws[g] for part in parts], axis=1).ravel().tolist() == whole.draws[g].tolist()
    seen: Counter[int] = Counter()
    for batch, draws in zip(whole, whole.draws, strict=True):
        for i, before in zip(batch.tolist(), draws.tolist(), strict=True):
            assert before == seen[i]
            seen[i] += 1


@given(st.integers(1, 80), st.integers(1, 20))
def test_an_epoch_shows_each_stretch_at_most_once_and_drops_less_than_a_batch(num: int, batch_size: int) -> None:
    seen = np.concatenate(epoch_batches(num, batch_size, 0, 0))
    assert len(set(seen.tolist())) == len(seen)
    assert len(seen) == (num if num < batch_size else num - num % batch_size)


def test_the_order_is_the_same_when_asked_again_and_another_in_the_next_epoch() -> None:
    first, again, other = (np.concatenate(epoch_batches(100, 10, 4, epoch)).tolist() for epoch in (2, 2, 3))
    assert first == again
    assert first != other


def test_a_single_small_batch_shrinks_to_what_the_workers_can_share() -> None:
    assert [[len(batch) for batch in epoch_batches(7, 32, 0, 0, world=2, rank=rank)] for rank in range(2)] == [[3], [3]]


@pytest.mark.parametrize(("num", "batch_size", "world", "wanted"), [(100, 9, 2, "multiple of 2"), (1, 8, 2, "too few for 2 workers")])
def test_what_cannot_be_shared_equally_is_refused(num: int, batch_size: int, world: int, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        epoch_batches(num, batch_size, 0, 0, world)
    with pytest.raises(ValueError, match=wanted):
        stream_batches(num, batch_size, 0, 0, 1, world)


@given(st.integers(1, 50), st.integers(1, 5), st.sampled_from([1, 2, 3]), st.integers(0, 4), st.integers(1, 6))
def test_any_number_of_ranks_sees_the_same_batches_of_a_target(shares: int, each: int, world: int, epoch: int, steps: int) -> None:
    num, size = shares * world, each * world
    whole = stream_batches(num, size, 7, epoch, steps)
    parts = [stream_batches(num, size, 7, epoch, steps, world, rank) for rank in range(world)]
    assert len(whole) == steps
    for g, batch in enumerate(whole):
        assert len(batch) == min(size, num)
        assert np.stack([part[g] for part in parts], axis=1).ravel().tolist() == batch.tolist()
        assert np.stack([part.draws[g] for part in parts], axis=1).ravel().tolist() == whole.draws[g].tolist()


def test_the_order_of_a_target_is_not_that_of_the_source() -> None:
    first, second = epoch_batches(40, 40, 0, 0)[0].tolist(), stream_batches(40, 40, 0, 0, 1)[0].tolist()
    assert sorted(first) == sorted(second)
    assert first != second


def rows(*pairs: tuple[str, str]) -> list[Utterance]:
    return [Utterance(id=str(i), path="", corpus=corpus, emotion=emotion) for i, (corpus, emotion) in enumerate(pairs)]


def test_balanced_classes_are_drawn_equally_often() -> None:
    labels = Labels(("angry", "sad"))
    table = rows(*[("x", "angry")] * 90, *[("x", "sad")] * 10)
    assert balance_weights(table, labels, "none") is None
    weights = balance_weights(table, labels, "class")
    drawn = np.concatenate([np.concatenate(epoch_batches(100, 10, 0, epoch, weights=weights)) for epoch in range(60)])
    assert abs((drawn >= 90).mean() - 0.5) < 0.03


def test_classes_within_corpora_are_balanced_where_asked() -> None:
    table = rows(*[("big", "angry")] * 60, *[("big", "sad")] * 20, *[("small", "angry")] * 5, *[("small", "sad")] * 15)
    weights = balance_weights(table, Labels(("angry", "sad")), "corpus_class")
    assert weights is not None
    groups = [weights[:60].sum(), weights[60:80].sum(), weights[80:85].sum(), weights[85:].sum()]
    assert np.allclose(groups, 1.0)


def test_corpora_alone_are_balanced_where_asked() -> None:
    table = rows(*[("big", "angry")] * 60, *[("small", "angry")] * 5, *[("small", "sad")] * 15)
    weights = balance_weights(table, Labels(("angry", "sad")), "corpus")
    assert weights is not None
    assert np.allclose([weights[:60].sum(), weights[60:].sum()], 1.0)
    assert np.allclose(weights[60:], weights[60])  # whatever the class


def test_votes_decide_the_class_that_is_balanced() -> None:
    row = Utterance(id="1", path="", emotion="sad", votes={"angry": 3.0, "sad": 1.0})
    other = Utterance(id="2", path="", emotion="sad")
    weights = balance_weights([row, other], Labels(("angry", "sad"), source="votes"), "class")
    assert weights is not None
    assert weights.tolist() == [1.0, 1.0]
