"""Attentive pooling against the formula, over frames of all chunks at once."""

from __future__ import annotations

import numpy as np
import torch

from moodcast.nn.pool import AttentivePool, at_last, masked_mean, placed


def example() -> tuple[AttentivePool, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.zeros(2, 3, 5, dtype=torch.bool)
    mask[0, 0, :5] = mask[0, 1, :2] = mask[1, 0, :1] = True
    return AttentivePool(6, hidden=4), torch.randn(2, 3, 5, 6), mask


def reference(frames: np.ndarray, scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    weights /= weights.sum()
    mean = (weights[:, None] * frames).sum(0)
    variance = (weights[:, None] * (frames - mean) ** 2).sum(0)
    return np.concatenate([mean, np.sqrt(np.maximum(variance, 1e-4))])


def pooled(pool: AttentivePool, frames: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    exist = mask.any(-1)
    return pool(frames[exist], mask[exist], exist)


def test_a_stretch_is_the_weighted_mean_and_deviation_of_all_its_real_frames_and_a_chunk_of_its_own():
    pool, frames, mask = example()
    scores = pool.score(frames)[..., 0].detach().numpy()
    whole, parts = (value.detach().numpy() for value in pooled(pool, frames, mask))
    for b in range(2):
        real = mask[b].numpy()
        np.testing.assert_allclose(whole[b], reference(frames[b].numpy()[real], scores[b][real]), atol=1e-5)
        for c in range(3):
            if real[c].any():
                np.testing.assert_allclose(parts[b, c], reference(frames[b, c].numpy()[real[c]], scores[b, c][real[c]]), atol=1e-5)
            else:
                assert (parts[b, c, :6] == 0).all()


def test_masked_frames_change_nothing_and_get_no_gradient():
    pool, frames, mask = example()
    wanted = pooled(pool, frames, mask)
    changed = torch.where(mask[..., None], frames, 50.0).requires_grad_()
    found = pooled(pool, changed, mask)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    (found[0].sum() + found[1].sum()).backward()
    assert changed.grad is not None
    assert changed.grad.isfinite().all()
    assert (changed.grad[~mask] == 0).all()


def test_a_stretch_without_chunks_pools_to_mean_zero():
    pool, frames, mask = example()
    mask[0] = False
    whole, parts = pooled(pool, frames, mask)
    assert (whole[0, :6] == 0).all()
    assert (parts[0, :, :6] == 0).all()


def test_chunks_go_to_their_places():
    exist = torch.tensor([[True, False], [True, True]])
    assert placed(torch.tensor([1.0, 2.0, 3.0]), exist).tolist() == [[1.0, 0.0], [2.0, 3.0]]


def test_the_masked_mean_and_the_last_step_look_at_real_steps_only():
    steps = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert masked_mean(steps, mask).tolist() == [[1.0, 2.0], [8.0, 9.0]]
    assert at_last(steps, mask).tolist() == [[2.0, 3.0], [10.0, 11.0]]
