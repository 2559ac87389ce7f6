"""Fisher vectors of log-mel frames, against the gradient that autograd gives of a mixture's likelihood."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from moodcast.nn.fisher import DRAWN, LAGS, LOUD, FisherVectors

BANDS, COEFFICIENTS, WHITENED, GAUSSIANS = 8, 3, 5, 4


def made() -> FisherVectors:
    """With a mixture of random numbers."""
    torch.manual_seed(0)
    vectors = FisherVectors(BANDS, COEFFICIENTS, WHITENED, GAUSSIANS, components=6)
    vectors.centre.normal_()
    vectors.whiten.normal_()
    vectors.shares.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    vectors.means.normal_()
    vectors.deviations.uniform_(0.5, 2.0)
    vectors.basis.normal_()
    return vectors


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Two stretches: one of a whole chunk of thirty frames and one of twenty, one of twelve frames alone; some frames are pauses."""
    torch.manual_seed(1)
    exist = torch.tensor([[True, True], [True, False]])
    mask = torch.arange(30)[None] < torch.tensor([30, 20, 12])[:, None]
    frames = torch.randn(3, 30, BANDS)
    frames[0, 5:8] = frames[1, 0] = -LOUD - 4.0
    return frames * mask[..., None], mask, exist


def gradient(vectors: FisherVectors, heard: Tensor) -> Tensor:
    """By autograd, of the mean log-likelihood of whitened frames [T, P], in units of the mixture's deviations and shares."""
    means, deviations = (value.clone().requires_grad_() for value in (vectors.means, vectors.deviations))
    parts = distributions.Independent(distributions.Normal(means, deviations), 1)
    mixture = distributions.MixtureSameFamily(distributions.Categorical(vectors.shares), parts)
    mixture.log_prob(heard).mean().backward()
    assert means.grad is not None
    assert deviations.grad is not None
    share = vectors.shares.sqrt()[:, None]
    moved = (vectors.deviations * means.grad / share, vectors.deviations * deviations.grad / (math.sqrt(2.0) * share))
    return torch.cat([found.flatten() for found in moved])


def test_they_are_the_roots_of_the_likelihoods_gradient_over_the_loud_frames_of_a_stretch_and_of_each_chunk():
    vectors, (frames, mask, exist) = made(), example()
    found, loud = vectors.descriptors(frames, mask)
    white = (found - vectors.centre) @ vectors.whiten
    heard = [white[n][loud[n] > 0] for n in range(3)]
    assert [len(one) for one in heard] == [27, 19, 12]
    whole, parts = vectors.gradients(frames, mask, exist)
    for given, frames_of in ((whole[0], torch.cat(heard[:2])), (whole[1], heard[2]), (parts[0, 0], heard[0]), (parts[0, 1], heard[1])):
        wanted = gradient(vectors, frames_of)
        torch.testing.assert_close(given, wanted.sign() * wanted.abs().sqrt(), atol=1e-3, rtol=1e-3)


def test_a_frame_is_described_by_its_cosine_coefficients_and_their_slopes():
    vectors = made()
    steady = torch.arange(40.0)[None, :, None] * torch.tensor([[0.1]]) + torch.zeros(1, 40, BANDS)  # all bands rise by 0.1 a frame
    found, _ = vectors.descriptors(steady, torch.ones(1, 40, dtype=torch.bool))
    assert found.shape == (1, 40, COEFFICIENTS * (1 + len(LAGS)))
    root = math.sqrt(BANDS)  # of an orthonormal cosine transform, the first coefficient is the sum over the root
    torch.testing.assert_close(found[0, :, 0], steady[0, :, 0] * root)
    for place, lag in enumerate(LAGS, start=1):
        torch.testing.assert_close(found[0, 20, place * COEFFICIENTS], torch.tensor(0.1 * lag * root))
    torch.testing.assert_close(found[0, :, 1], torch.zeros(40), atol=1e-5, rtol=0)


def test_padding_moves_nothing_and_what_is_silent_has_no_vector():
    vectors, (frames, mask, exist) = made(), example()
    padded = [torch.nn.functional.pad(frames, (0, 0, 0, 9)), torch.nn.functional.pad(mask, (0, 9)), exist]
    for given, wanted in zip(vectors.gradients(*padded), vectors.gradients(frames, mask, exist), strict=True):
        torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-4)
    silent, one = torch.full((1, 10, BANDS), -20.0), torch.ones(1, 1, dtype=torch.bool)
    whole, _ = vectors.gradients(silent, torch.ones(1, 10, dtype=torch.bool), one)
    assert not whole.any()
    assert not vectors(silent, torch.ones(1, 10, dtype=torch.bool), one)[0].any()
    assert vectors(frames, mask, exist)[0].norm(dim=-1).tolist() == pytest.approx([1.0, 1.0])


def test_the_mixture_is_fitted_on_whitened_loud_frames():
    vectors = FisherVectors(BANDS, COEFFICIENTS, 2, 2, components=4)
    torch.manual_seed(2)
    two = torch.randn(200, DRAWN, 3 * COEFFICIENTS)
    two[..., 0] += 8.0 * (torch.rand(200, DRAWN) < 0.25)  # a quarter of the frames lies apart
    two[..., 2] = two[..., 0]  # so that this is the direction in which scaled frames differ most
    two[..., 1] *= 100.0
    two[::7] = math.nan  # silent stretches
    vectors.fit_mixture(two)
    heard = two[~two.isnan().any(-1)]
    white = (heard - vectors.centre) @ vectors.whiten
    torch.testing.assert_close(white.mean(0), torch.zeros(2), atol=1e-2, rtol=0)
    torch.testing.assert_close(white.std(0), torch.ones(2), atol=2e-2, rtol=0)
    assert sorted(vectors.shares.tolist()) == pytest.approx([0.25, 0.75], abs=0.02)
    with pytest.raises(ValueError, match="wants 4 loud frames at least, got 0"):
        vectors.fit_mixture(torch.full((3, DRAWN, 3 * COEFFICIENTS), math.nan))


def test_frames_are_drawn_evenly_from_what_is_loud():
    vectors, (frames, mask, exist) = made(), example()
    found, loud = vectors.descriptors(frames, mask)
    drawn = vectors.drawn(frames, mask, exist)
    heard = torch.cat([found[0][loud[0] > 0], found[1][loud[1] > 0]])
    assert drawn.shape == (2, DRAWN, 3 * COEFFICIENTS)
    assert torch.equal(drawn[0, 0], heard[0])
    assert torch.equal(drawn[0, -1], heard[-1])
    assert all((heard == row).all(1).any() for row in drawn[0])
    silent = vectors.drawn(torch.full_like(frames, -20.0), mask, exist)
    assert silent.isnan().all()


def test_components_are_the_directions_in_which_unit_vectors_differ_most():
    vectors = FisherVectors(BANDS, COEFFICIENTS, WHITENED, GAUSSIANS, components=2)
    torch.manual_seed(3)
    given = 0.01 * torch.randn(50, 2 * GAUSSIANS * WHITENED)
    given[:, 7] += 1.0
    given[:, 3] += torch.linspace(-1.0, 1.0, 50)
    vectors.fit_components(given)
    assert vectors.basis[3, 0].abs() > 0.99
    cut = vectors.cut(given)
    torch.testing.assert_close(cut.norm(dim=-1), torch.ones(50))
    assert (cut[0, 0] * cut[-1, 0]) < -0.9


def test_components_that_there_are_not_stay_empty():
    vectors = FisherVectors(BANDS, COEFFICIENTS, 2, 1, components=30)
    vectors.fit_components(torch.randn(50, 4))
    assert vectors.basis[:, :4].any(0).all()
    assert not vectors.basis[:, 4:].any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((COEFFICIENTS, 10, GAUSSIANS, 2), "9 dimensions, got whitened=10"),
        ((BANDS + 1, WHITENED, GAUSSIANS, 2), "8 bands have no more than 8 cosine coefficients, got 9"),
        ((COEFFICIENTS, WHITENED, -1, 2), "sizes are 1 at least, got .* gaussians=-1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, int, int, int], message: str):
    with pytest.raises(ValueError, match=message):
        FisherVectors(BANDS, *sizes)
