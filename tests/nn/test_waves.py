"""Chunks to waves and back: as `collate` cuts them, under any plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.batch import collate
from moodcast.chunks import ChunkPlan
from moodcast.nn.waves import cut, joined, samples_in

RATE = 1000
PLANS = {
    "overlapping": ChunkPlan(length_s=1.0, hop_s=0.4),
    "side by side": ChunkPlan(length_s=0.5, hop_s=0.5),
    "counted": ChunkPlan(length_s=0.5, count=5),
    "one": ChunkPlan(length_s=3.0, hop_s=3.0),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@settings(max_examples=20, deadline=None)
@given(samples=st.lists(st.integers(1, 2400), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_waves_come_back_from_their_chunks_and_are_cut_as_collate_cuts_them(plan: ChunkPlan, samples: list[int], seed: int):
    rng = np.random.default_rng(seed)
    waves = [rng.standard_normal(size).astype(np.float32) for size in samples]
    batch = collate(waves, plan, RATE)
    assert samples_in(batch.lengths, batch.seconds, plan, RATE).tolist() == samples
    found = joined(batch.chunks, torch.tensor(samples), plan, RATE)
    assert found.shape == (len(samples), max(samples))
    for row, wave in zip(found, waves, strict=True):
        assert torch.equal(row[: len(wave)], torch.from_numpy(wave))
        assert not row[len(wave) :].any()
    chunks, lengths = cut(found, torch.tensor(samples), plan, RATE)
    assert torch.equal(chunks, batch.chunks)
    assert torch.equal(lengths, batch.lengths)


def test_what_lies_behind_a_chunk_s_length_or_in_chunks_that_are_not_there_is_no_part_of_a_wave():
    plan, samples = PLANS["overlapping"], torch.tensor([1100, 300])
    chunks = torch.full((2, 4, 1000), 9.0)  # one chunk more than the plan has
    batch = collate([np.ones(1100, np.float32), np.ones(300, np.float32)], plan, RATE)
    real = torch.arange(1000) < batch.lengths[..., None]
    chunks[:, :2] = torch.where(real, batch.chunks, 9.0)
    found = joined(chunks, samples, plan, RATE)
    assert (found[0] == 1).all()
    assert (found[1, :300] == 1).all()
    assert not found[1, 300:].any()


def test_a_wave_that_grew_is_cut_into_more_chunks():
    plan = PLANS["side by side"]
    waves = torch.arange(1.0, 1201.0)[None].repeat(2, 1)
    chunks, lengths = cut(waves, torch.tensor([400, 1200]), plan, RATE)
    assert lengths.tolist() == [[400, 0, 0], [500, 500, 200]]
    assert torch.equal(chunks[1, 2, :200], waves[1, 1000:])
    assert not chunks[0, 1:].any()


def test_the_samples_of_a_stretch_of_many_minutes_are_counted_although_its_seconds_are_rounded():
    plan, count = ChunkPlan(length_s=30.0, hop_s=30.0), 16_000 * 4000 + 1
    lengths = torch.tensor([[480_000] * 133 + [160_001]])
    assert round(float(torch.tensor(count / 16_000)) * 16_000) != count
    assert samples_in(lengths, torch.tensor([count / 16_000]), plan, 16_000).tolist() == [count]


def test_nor_of_a_wave_that_is_one_chunk():
    plan, samples = PLANS["one"], torch.tensor([1100, 300])
    found = joined(torch.full((2, 1, 3000), torch.nan).masked_fill(torch.arange(3000) < samples[:, None, None], 1.0), samples, plan, RATE)
    assert found.shape == (2, 1100)
    assert found.nansum(1).tolist() == [1100, 300]
    assert not found.isnan().any()
    chunks, lengths = cut(torch.full((2, 1100), torch.nan).masked_fill(torch.arange(1100) < samples[:, None], 1.0), samples, plan, RATE)
    assert chunks.shape == (2, 1, 3000)
    assert not chunks.isnan().any()
    assert lengths.tolist() == [[1100], [300]]
