"""Moments of log-mel frames against NumPy over the loud frames of a stretch, all its chunks put together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodcast.nn.moments import LOUD, moments, num_moments

BANDS = 5


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two stretches: one of a whole chunk of seven frames and one of four, one of three frames alone; some frames are pauses."""
    torch.manual_seed(0)
    exist = torch.tensor([[True, True], [True, False]])
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 3])[:, None]
    frames = torch.randn(3, 7, BANDS)
    frames[0, 2] = frames[1, 0] = -9.0
    return frames * mask[..., None], mask, exist


def reference(pieces: list[np.ndarray]) -> np.ndarray:
    """Pieces [T_i, M] of one stretch; steps are taken within a piece."""
    loud = [np.log(np.exp(piece).mean(1)) > -LOUD for piece in pieces]
    heard = np.concatenate([piece[where] for piece, where in zip(pieces, loud, strict=True)])
    steps = np.concatenate(
        [np.abs(np.diff(piece, axis=0))[where[1:] & where[:-1]] for piece, where in zip(pieces, loud, strict=True)], axis=0
    )
    level = heard.mean(1)
    total = sum(map(len, pieces))
    shape = (heard - level[:, None]).mean(0)
    return np.concatenate([shape, heard.std(0), steps.mean(0), [level.std(), len(heard) / total, np.log(total)]])


def test_they_are_those_of_the_loud_frames_of_a_stretch_and_of_each_chunk():
    frames, mask, exist = example()
    whole, parts = moments(frames, mask, exist)
    assert whole.shape == (2, num_moments(BANDS))
    assert parts.shape == (2, 2, num_moments(BANDS))
    given = [frames[n, : mask[n].sum()].double().numpy() for n in range(3)]
    np.testing.assert_allclose(whole[0], reference(given[:2]), atol=1e-4)
    np.testing.assert_allclose(whole[1], reference(given[2:]), atol=1e-4)
    np.testing.assert_allclose(parts[0, 0], reference(given[:1]), atol=1e-4)
    np.testing.assert_allclose(parts[0, 1], reference(given[1:2]), atol=1e-4)


def test_pauses_thirty_decibels_down_move_nothing_but_the_share_of_loud_frames_and_the_duration():
    torch.manual_seed(1)
    one = torch.ones(1, 1, dtype=torch.bool)
    speech = torch.randn(1, 6, BANDS)
    paused = torch.cat([speech, torch.full((1, 3, BANDS), -7.0)], dim=1)
    alone, behind = (moments(frames, torch.ones(1, frames.shape[1], dtype=torch.bool), one)[0][0] for frames in (speech, paused))
    torch.testing.assert_close(behind[:-2], alone[:-2])
    assert behind[-2].item() == pytest.approx(6 / 9)


def test_more_padding_moves_nothing():
    frames, mask, exist = example()
    wider = torch.nn.functional.pad(frames, (0, 0, 0, 4)), torch.nn.functional.pad(mask, (0, 4))
    torch.testing.assert_close(moments(*wider, exist)[0], moments(frames, mask, exist)[0])


def test_a_stretch_of_nothing_but_pauses_is_finite_and_has_a_gradient():
    frames = torch.full((1, 3, BANDS), -11.0, requires_grad=True)
    whole, parts = moments(frames, torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool))
    (whole.sum() + parts.sum()).backward()
    assert torch.isfinite(whole).all()
    assert frames.grad is not None
    assert torch.isfinite(frames.grad).all()
