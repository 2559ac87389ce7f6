"""Voiceprint: unit embeddings, a margin that grows with training, robustness in training only, and it tells voices apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.voiceprint import Voiceprint, at_speed, played
from moodcast.nn.corrupt import NO_DAMAGE
from moodcast.run import Run, build

RATE = 16_000
PLAN = ChunkPlan(length_s=3.0, hop_s=3.0)
SPEAKERS = tuple(f"toy/{name}" for name in "abcdef")
CALM = {"dropout": 0.0, "hide_bands": 0, "hide_s": 0.0, "min_s": 100.0, "damage": NO_DAMAGE}


def voice(speaker: int, seed: int, seconds: float = 1.5) -> np.ndarray:
    """A buzz with the speaker's two formants, at a pitch of its own that changes from one utterance to the next."""
    rng = np.random.default_rng(1000 * speaker + seed)
    time = np.arange(int(RATE * seconds)) / RATE
    pitch = rng.uniform(100, 220)
    hz = pitch * np.arange(1, int(7000 / pitch))
    first, second = 400 + 120 * speaker, 2600 - 250 * speaker
    gains = np.exp(-(((hz - first) / 200) ** 2)) + 0.5 * np.exp(-(((hz - second) / 300) ** 2)) + 0.01
    wave = (gains[:, None] * np.sin(2 * np.pi * hz[:, None] * time + rng.uniform(0, 6, len(hz))[:, None])).sum(0)
    return (0.02 * wave * (1 + 0.5 * np.sin(2 * np.pi * 4 * time)) + 1e-4 * rng.standard_normal(len(time))).astype(np.float32)


def batch_of(speakers: list[int], seed: int) -> Batch:
    rows = [Utterance(id=str(i), path="-", corpus="toy", speaker="abcdef"[s]) for i, s in enumerate(speakers)]
    labels = Labels(classes=SPEAKERS[:4], source="speaker")
    known = all(s < 4 for s in speakers)
    sounds = [voice(s, 50 * seed + i) for i, s in enumerate(speakers)]
    return collate(sounds, PLAN, RATE, labels if known else None, rows if known else None)


def made(**settings: object) -> Voiceprint:
    run = Run(method=Voiceprint.Config(**settings), labels=Labels(classes=SPEAKERS[:4], source="speaker"), chunks=PLAN)
    method = build(run)
    assert isinstance(method, Voiceprint)
    return method


def test_embeddings_have_length_one_and_ignore_loudness():
    method, batch = made().eval(), batch_of([0, 1, 2], 0)
    with torch.no_grad():
        found = method(batch).embedding
        quiet = method(dataclasses.replace(batch, chunks=0.01 * batch.chunks)).embedding
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(found, quiet, atol=1e-2, rtol=0)


def test_the_margin_grows_to_its_full_size_and_is_kept_with_the_weights():
    method = made(margin=0.3, margin_share=0.5, **CALM).train()
    batch, losses = batch_of([0, 1, 2, 3], 0), []
    for progress in (0.0, 0.25, 0.5, 1.0):
        method.after_step(progress)
        losses.append(method.losses({"labelled": batch})["classes"].item())
    assert losses[0] < losses[1] < losses[2]
    assert losses[3] == pytest.approx(losses[2])
    plain = torch.nn.functional.nll_loss(method(batch).emotion, torch.arange(4)).item()
    assert losses[0] == pytest.approx(plain, rel=1e-4)
    copy = made(margin=0.3, margin_share=0.5, **CALM)
    copy.load_state_dict(method.state_dict())
    assert copy.progress == 1.0


def test_damage_and_crops_happen_in_training_only():
    method, batch = made(dropout=0.0), batch_of([0, 1], 0)
    with torch.no_grad():
        assert torch.equal(method.eval()(batch).embedding, method(batch).embedding)
        assert not torch.equal(method.train()(batch).embedding, method(batch).embedding)


def test_voices_never_heard_in_training_are_told_apart():
    """Four voices are learned, two others are compared: same voice nearer than other voice, at pitches that say nothing."""
    torch.manual_seed(0)
    method = made(width=32, channels=8, hide_bands=2, hide_s=0.05, normalise="level")
    optimiser = torch.optim.AdamW(method.parameter_groups(), lr=3e-3)
    method.train()
    for step in range(25):
        optimiser.zero_grad()
        method.losses({"labelled": batch_of([0, 1, 2, 3] * 2, step)})["classes"].backward()
        optimiser.step()
        method.after_step((step + 1) / 25)
    with torch.no_grad():
        found = method.eval()(batch_of([4] * 5 + [5] * 5, 99)).embedding
    near = found @ found.T
    assert min(near[:5, :5].min(), near[5:, 5:].min()) > near[:5, 5:].max()


def test_a_stretch_played_faster_is_higher_and_shorter_and_another_speaker():
    time = torch.arange(RATE) / RATE
    tone = torch.cat([torch.sin(2 * torch.pi * 400 * time), torch.zeros(8000)])[None, None]
    fast, lengths = at_speed(tone, torch.tensor([[RATE]]), 1.25)
    assert abs(int(lengths) - 12800) < 64
    power = torch.fft.rfft(fast[0, 0, :12800]).abs()
    assert abs(float(power.argmax()) * RATE / 12800 - 500) < 3
    assert fast[0, 0, 12900:].abs().max() < 0.05
    batch = batch_of([0, 1, 2, 3] * 8, 0)
    torch.manual_seed(0)
    heard, target = played(batch, batch.target, (1.0, 0.8))
    slow = target[:, 4:].any(1)
    assert 4 < int(slow.sum()) < 28
    torch.testing.assert_close(target[:, :4] + target[:, 4:], batch.target)
    torch.testing.assert_close(heard.lengths[slow] / batch.lengths[slow], torch.full((int(slow.sum()), 1), 1.25), atol=0.01, rtol=0)
    torch.testing.assert_close(heard.chunks[~slow][..., :24000], batch.chunks[~slow][..., :24000])


def test_voices_at_other_speeds_are_learned_and_not_served():
    method = made(speeds=(1.0, 0.9, 1.1), **CALM)
    assert method.speakers.shape[0] == 12
    assert method.eval()(batch_of([0, 1], 0)).emotion.shape == (2, 4)
    method.train().losses({"labelled": batch_of([0, 1, 2, 3] * 8, 0)})["classes"].backward()
    assert (method.speakers.grad.abs().sum(1) > 0).all()
    with pytest.raises(ValueError, match="speeds begin with 1.0"):
        Voiceprint.Config(speeds=(0.9, 1.1))
