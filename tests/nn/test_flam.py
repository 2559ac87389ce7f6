"""Frame-level attention and the poolings it is compared with: the formula, padding, chunks and stretches, the ablation's limit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.nn.flam import FrameAttention, pooling

WIDTH = 8
SETTINGS = {
    "flam": ("flam", 4, 3, True),
    "without self-attention": ("flam", 0, 3, True),
    "without broadcasting": ("flam", 2, 1, False),
    "mean": ("mean", 4, 4, True),
    "max": ("max", 4, 4, True),
}
every_pooling = pytest.mark.parametrize("how", SETTINGS.values(), ids=SETTINGS.keys())


def made(how: tuple[str, int, int, bool]) -> torch.nn.Module:
    torch.manual_seed(0)
    kind, heads, vectors, broadcast = how
    return pooling(kind, WIDTH, heads, vectors, broadcast).double()


def frames_of(counts: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return torch.randn(len(counts), max(counts), WIDTH, dtype=torch.float64), mask


def test_frame_attention_is_the_formula():
    """In numpy: norm, two heads of four, projection and residual, half the mean, softmax of u . tanh(W h), one vector after the other."""
    pool = made(("flam", 2, 3, True))
    x, mask = frames_of([6])
    h = x[0].numpy()
    weights = {name: p.detach().numpy() for name, p in pool.named_parameters()}
    normed = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5) * weights["norm.weight"] + weights["norm.bias"]
    q, k, v = np.split(normed @ weights["project.weight"].T, 3, axis=1)
    seen = np.zeros_like(h)
    for head in (slice(0, 4), slice(4, 8)):
        score = np.exp(q[:, head] @ k[:, head].T / 2)
        seen[:, head] = score / score.sum(1, keepdims=True) @ v[:, head]
    h = h + seen @ weights["combine.weight"].T + weights["combine.bias"]
    h = (h + h.mean(0)) / 2
    alpha = np.exp(np.tanh(h @ weights["score.0.weight"].T + weights["score.0.bias"]) @ weights["score.2.weight"].T)
    wanted = (alpha / alpha.sum(0)).T @ h  # [V, D]
    whole, parts = pool(x, mask, torch.tensor([[True]]))
    np.testing.assert_allclose(whole[0].detach().numpy(), wanted.flatten(), atol=1e-9)
    np.testing.assert_allclose(parts[0, 0].detach().numpy(), wanted.flatten(), atol=1e-9)


def test_without_heads_and_broadcasting_one_vector_is_plain_soft_attention():
    pool = FrameAttention(WIDTH, heads=0, vectors=1, broadcast=False).double()
    x, mask = frames_of([5])
    whole, _ = pool(x, mask, torch.tensor([[True]]))
    alpha = pool.score(x)[0, :, 0].softmax(0)
    torch.testing.assert_close(whole[0], alpha @ x[0])
    assert {name.partition(".")[0] for name, _ in pool.named_parameters()} == {"score"}


@every_pooling
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_padding_rubbish_and_empty_chunks_move_nothing(how, counts: list[int], seed: int):
    pool = made(how)
    x, mask = frames_of(counts, seed)
    exist = torch.ones(1, len(counts), dtype=torch.bool)
    wanted_whole, wanted_parts = pool(x, mask, exist)
    longer = torch.cat([torch.where(mask[..., None], x, 99.0), torch.full((len(counts), 3, WIDTH), -99.0, dtype=x.dtype)], 1)
    whole, parts = pool(longer, torch.nn.functional.pad(mask, (0, 3)), torch.nn.functional.pad(exist, (0, 2)))
    torch.testing.assert_close(whole, wanted_whole)
    torch.testing.assert_close(parts[:, : len(counts)], wanted_parts)
    assert not parts[:, len(counts) :].any()


@every_pooling
def test_a_stretch_never_hears_another_and_a_single_chunk_is_its_stretch(how):
    pool = made(how)
    x, mask = frames_of([4, 6, 5])
    exist = torch.tensor([[True, True], [True, False]])
    whole, parts = pool(x, mask, exist)
    torch.testing.assert_close(whole[1], parts[1, 0])
    alone, _ = pool(x[2:, :5], mask[2:, :5], torch.tensor([[True]]))
    torch.testing.assert_close(alone[0], whole[1])
    for at, row in enumerate((0, 0)):
        single, _ = pool(x[at : at + 1], mask[at : at + 1], torch.tensor([[True]]))
        torch.testing.assert_close(single[0], parts[row, at])


def test_a_stretch_is_the_mixture_of_its_chunks_by_all_frames_scores():
    pool = made(("flam", 0, 2, False))
    x, mask = frames_of([4, 6])
    whole, _ = pool(x, mask, torch.tensor([[True, True]]))
    every = torch.cat([x[0, :4], x[1, :6]])
    alpha = pool.score(every).softmax(0)  # [T, V]
    torch.testing.assert_close(whole[0], (alpha.T @ every).flatten())


def test_mean_and_max_are_over_all_frames_of_all_chunks():
    x, mask = frames_of([4, 6])
    every, exist = torch.cat([x[0, :4], x[1, :6]]), torch.tensor([[True, True]])
    torch.testing.assert_close(made(SETTINGS["mean"])(x, mask, exist)[0][0], every.mean(0))
    torch.testing.assert_close(made(SETTINGS["max"])(x, mask, exist)[0][0], every.amax(0))


@every_pooling
def test_gradients_are_finite_and_reach_every_parameter_even_for_a_single_frame(how):
    pool = made(how)
    x, mask = frames_of([1, 5])
    x.requires_grad_()
    whole, parts = pool(x, mask, torch.tensor([[True, True]]))
    (whole.square().sum() + parts.square().sum()).backward()
    assert x.grad.isfinite().all()
    assert not x.grad[~mask].any()
    for name, parameter in pool.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_frames_further_apart_than_a_convolution_reaches_hear_each_other():
    """Self-attention, broadcasting, or both; without either a frame is what it was."""
    for heads, broadcast, heard in ((2, False, True), (0, True, True), (0, False, False)):
        pool = made(("flam", heads, 1, broadcast))
        x, mask = frames_of([9])
        x.requires_grad_()
        pool.attended(x, mask)[0, 0].sum().backward()
        assert bool(x.grad[0, 8].any()) == heard


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 heads cannot share 8 values"):
        FrameAttention(8, heads=3)
