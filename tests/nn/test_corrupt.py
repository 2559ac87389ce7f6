"""Damage to log-mel power: what each harm does, and that a share of zero does nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from moodcast.features import band_edges
from moodcast.nn.corrupt import DECIBEL, NO_DAMAGE, Damage, damaged

PEAKS = torch.from_numpy(band_edges(64, 50.0, 8000.0)[1:-1]).float()


def speech(size: int = 200, length: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of mean power one, half of them pauses 40 dB down."""
    frames = torch.full((size, length, 64), 0.69)
    frames[:, length // 2 :] = -9.0
    mask = torch.ones(size, length, dtype=torch.bool)
    mask[:, -5:] = False
    return frames * mask[..., None], mask


def harmed(**shares: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    frames, mask = speech()
    return frames, damaged(frames, mask, PEAKS, dataclasses.replace(NO_DAMAGE, **shares)), mask


def test_no_share_no_damage():
    frames, found, _ = harmed()
    assert torch.equal(found, frames)


@pytest.mark.parametrize("share", ["colour_share", "noise_share", "echo_share", "band_share"])
def test_a_share_is_the_share_of_stretches_that_are_damaged_and_padding_stays_zero(share: str):
    frames, found, mask = harmed(**{share: 0.5})
    touched = (found != frames).flatten(1).any(-1).float().mean().item()
    assert 0.35 < touched < 0.65
    assert found.isfinite().all()
    assert (found[~mask] == 0).all()


def test_noise_has_the_signal_to_noise_ratio_asked_for():
    torch.manual_seed(0)
    frames, mask = speech()
    settings = dataclasses.replace(NO_DAMAGE, noise_share=1.0, min_snr_db=10.0, max_snr_db=10.0)
    found = damaged(frames, mask, PEAKS, settings)
    added = (found.exp() - frames.exp())[:, :55].mean((1, 2))
    ratio_db = -(added.log() / DECIBEL)
    assert ratio_db.mean().item() == pytest.approx(10.0 - 10 * 0.5 * 0.16 / 2.3026, abs=0.3)  # the jitter's own mean power, exp(0.4^2 / 2)
    assert ratio_db.std() < 0.3


def test_an_echo_fills_pauses_with_a_falling_tail_and_adds_little_to_speech():
    frames, found, _ = harmed(echo_share=1.0)
    tail = found[:, 30:55].mean((0, 2))
    assert tail[0] > -4.0
    assert (tail.diff() <= 1e-4).all()
    assert (found[:, :30] >= frames[:, :30]).all()
    assert (found[:, 5:30] - frames[:, 5:30]).max() < 0.75  # direct sound is never weaker than its whole tail: at most 3 dB
    assert torch.equal(found[:, 0], frames[:, 0])


def test_a_band_limit_cuts_low_and_high_and_never_the_middle():
    frames, found, _ = harmed(band_share=1.0)
    lost = (frames - found)[:, 0]
    assert (lost[:, PEAKS > 7000] > 10.0).all()
    assert (lost[:, (PEAKS > 400) & (PEAKS < 3000)] == 0).all()
    assert 0.1 < (lost[:, (PEAKS > 4500) & (PEAKS < 5500)] > 0).float().mean() < 0.9


def test_colour_is_constant_in_time_smooth_in_frequency_and_as_strong_as_asked():
    frames, found, _ = harmed(colour_share=1.0)
    curve = (found - frames)[:, :55]
    torch.testing.assert_close(curve, curve[:, :1].expand_as(curve), atol=1e-4, rtol=0)
    assert curve[:, 0].diff(dim=-1).abs().max() < 0.5
    assert (curve[:, 0].std() / DECIBEL).item() == pytest.approx(3.0, abs=0.6)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="echo_share"):
        Damage(echo_share=1.5)
    with pytest.raises(ValueError, match="above max_snr_db"):
        Damage(min_snr_db=30, max_snr_db=5)


def test_what_the_mask_leaves_out_is_silent_in_a_room_too():
    frames, mask = speech(20)
    mask[:, :20] = False
    settings = dataclasses.replace(NO_DAMAGE, echo_share=1.0)
    found = []
    for before in (0.0, -50.0):
        torch.manual_seed(0)
        found.append(damaged(torch.where(mask[..., None], frames, before), mask, PEAKS, settings))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    assert torch.equal(found[0][:, 20], frames[:, 20])  # the first frame that is heard has no echo
