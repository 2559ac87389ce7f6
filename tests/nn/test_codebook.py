"""The shared codebook: domains weigh the same, dead codes come back in both, the gradient goes straight through."""

from __future__ import annotations

import torch

from moodcast.nn.codebook import Codebook


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def book_of(frames: torch.Tensor, others: torch.Tensor, num_codes: int = 8) -> Codebook:
    torch.manual_seed(0)
    book = Codebook(num_codes, frames.shape[1], 3, size=64)
    book.remember(0, frames)
    book.remember(1, others)
    return book


def test_before_it_starts_frames_stay_and_after_that_they_are_codes_with_the_frames_gradient() -> None:
    frames = unit(20, 4).requires_grad_(True)
    book = book_of(frames.detach(), unit(20, 4, seed=1))
    same, _ = book.quantised(frames, 0)
    assert torch.equal(same, frames)
    book.start()
    coded, code = book.quantised(frames, 0)
    assert torch.allclose(coded, book.codes[code], atol=1e-6)
    assert torch.equal(code, torch.cdist(frames, book.codes).argmin(1))
    (3 * coded).sum().backward()
    assert torch.equal(frames.grad, torch.full_like(frames, 3.0))
    assert book.codes.grad is None


def test_it_starts_at_centres_of_both_domains_and_the_same_whatever_the_order() -> None:
    left, right = unit(30, 4), -unit(30, 4)
    first, second = book_of(left, right), book_of(left.flip(0), right.flip(0))
    first.start()
    second.start()
    assert torch.allclose(first.codes, second.codes, atol=1e-6)
    assert torch.allclose(first.codes.norm(dim=-1), torch.ones(8))
    few = book_of(unit(2, 4), unit(2, 4, seed=1))
    few.start()  # fewer frames than codes
    assert torch.cdist(few.codes[:4], torch.cat([few.memory[0, :2], few.memory[1, :2]])).amin(1).max() < 1e-3
    empty = Codebook(8, 4, 3)
    empty.start()
    assert not empty.started


def test_memory_keeps_the_latest() -> None:
    book = Codebook(4, 2, 3, size=6)
    for part in torch.arange(10.0)[:, None].expand(10, 2).split(2):
        book.remember(1, part)
    assert sorted(book.memory[1, :, 0].tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert book.remembered.tolist() == [0, 6]


def test_codes_go_to_the_middle_of_the_domains_however_unequal_they_are() -> None:
    book = Codebook(2, 2, 3)
    with torch.no_grad():
        book.codes.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    down, up = torch.tensor([0.6, -0.8]), torch.tensor([0.6, 0.8])
    totals = torch.stack([torch.stack([1000 * down, 0 * down]), torch.stack([2 * up, 0 * up])])
    book.follow(totals, torch.tensor([[1000.0, 0.0], [2.0, 0.0]]), decay=0.0)
    assert torch.allclose(book.codes[0], torch.tensor([1.0, 0.0]), atol=1e-6)  # halfway between the two, not with the thousand
    assert torch.equal(book.codes[1], torch.tensor([-1.0, 0.0]))
    assert torch.equal(book.usage, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_dead_codes_begin_anew_in_both_domains() -> None:
    book = book_of(torch.tensor([[1.0, 0.0]]).expand(9, 2), torch.tensor([[0.0, 1.0]]).expand(9, 2))
    book.usage.copy_(torch.tensor([[0.25] * 4 + [0.0] * 4] * 2))
    kept = book.codes[:4].clone()
    assert book.revive(0.01, seed=3) == 4
    assert torch.equal(book.codes[:4], kept)
    assert book.codes[4:].tolist() == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert book.revive(0.01, seed=4) == 0


def test_codes_learn_the_classes_of_their_frames() -> None:
    book = Codebook(2, 2, 3)
    weights, posteriors = torch.tensor([[1.0, 0.0], [0.5, 0.0]]), torch.eye(3)[:2]
    book.learn(weights, posteriors, rate=1.0)
    assert torch.allclose(book.posteriors, torch.tensor([[2 / 3, 1 / 3, 0.0], [1 / 3, 1 / 3, 1 / 3]]))


def test_what_codes_told_of_classes_before_they_started_is_forgotten() -> None:
    book = book_of(unit(30, 4), -unit(30, 4))
    book.posteriors.copy_(torch.eye(3)[torch.arange(8) % 3])
    mean = book.posteriors.mean(0)
    book.start()
    assert book.started
    torch.testing.assert_close(book.posteriors, mean.expand(8, 3))


def test_halves_start_at_and_come_back_as_frames_of_their_own_domain() -> None:
    left, right = torch.tensor([1.0, 0.0, 0.0]) + 0.1 * unit(30, 3), torch.tensor([0.0, 1.0, 0.0]) + 0.1 * unit(30, 3, seed=1)
    book = Codebook(7, 3, 3, size=64, together=False)
    book.remember(0, torch.nn.functional.normalize(left, dim=-1))
    book.remember(1, torch.nn.functional.normalize(right, dim=-1))
    book.start()
    assert (book.codes[::2, 0] > 0.8).all()
    assert (book.codes[1::2, 1] > 0.8).all()
    torch.testing.assert_close(book.usage, torch.tensor([[1 / 4, 0.0] * 3 + [1 / 4], [0.0, 1 / 3] * 3 + [0.0]]))
    assert (book.nearest(unit(20, 3), 1) % 2 == 1).all()
    book.usage[:, ::2] = 0.0
    with torch.no_grad():
        book.codes[::2] = torch.tensor([0.0, 0.0, 1.0])
    assert book.revive(0.01, seed=0) == 4
    assert (book.codes[::2, 0] > 0.8).all()
    assert book.usage[0].sum() == 1
