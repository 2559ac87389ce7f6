"""Fisher vectors of log-mel frames: how a recording moves the parameters of a mixture that describes all speech it was fitted on.

Perronnin, Sanchez and Mensink, "Improving the Fisher Kernel for Large-Scale Image Classification", ECCV 2010 (gradients to means and
deviations, signed square roots, unit length), as Kaya, Karpov and Salah, "Fisher Vectors with Cascaded Normalization for Paralinguistic
Analysis", Interspeech 2015, took it to speech. Here the frames are cosine coefficients of log-mel and their slopes, whitened, and the
vector is cut to its principal components.

Shapes: B stretches, C chunks, N chunks that exist, T frames, M bands, D descriptors of a frame, P whitened ones, G Gaussians, R components.
Sums over chunks add up to those of their stretch, and nothing depends on the batch.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct  # type: ignore[import-untyped]
from torch import Tensor, nn

from moodcast.nn.pool import placed

LOUD = 6.9  # nats of power, 30 dB: frames that far below a stretch's mean power are pauses
LAGS = (2, 8)  # frames before and behind between which a slope is taken
DRAWN = 24  # frames of each stretch that the mixture is fitted on
MOST = 150_000  # frames in all
ROWS = 6_000  # stretches that components are fitted on
ROUNDS = 25
FLOOR = 1e-3  # of a whitened direction's variance


class FisherVectors(nn.Module):
    """`forward` gives unit vectors of stretches and of chunks; `fit_mixture`, then `fit_components`, make them, without labels.

    Unfitted, all Gaussians are alike and the components are drawn at random.
    """

    def __init__(self, num_mels: int, coefficients: int, whitened: int, gaussians: int, components: int) -> None:
        super().__init__()
        size = coefficients * (1 + len(LAGS))
        if min(coefficients, whitened, gaussians, components) < 1:
            raise ValueError(f"sizes are 1 at least, got {coefficients=}, {whitened=}, {gaussians=}, {components=}")
        if coefficients > num_mels:
            raise ValueError(f"{num_mels} bands have no more than {num_mels} cosine coefficients, got {coefficients}")
        if whitened > size:
            raise ValueError(f"{coefficients} coefficients and their slopes have {size} dimensions, got whitened={whitened}")
        self.gaussians, self.components = gaussians, components
        cosines = dct(np.eye(num_mels), norm="ortho", axis=1)[:, :coefficients]
        self.register_buffer("cosines", torch.from_numpy(cosines).float(), persistent=False)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whiten", torch.eye(size)[:, :whitened].clone())
        self.register_buffer("shares", torch.full((gaussians,), 1.0 / gaussians))
        self.register_buffer("means", torch.zeros(gaussians, whitened))
        self.register_buffer("deviations", torch.ones(gaussians, whitened))
        self.register_buffer("middle", torch.zeros(2 * gaussians * whitened))
        basis = np.random.default_rng(0).standard_normal((2 * gaussians * whitened, components))
        self.register_buffer("basis", torch.from_numpy(basis).float())

    centre: Tensor
    cosines: Tensor
    whiten: Tensor
    shares: Tensor
    means: Tensor
    deviations: Tensor
    middle: Tensor
    basis: Tensor

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """Level-normalised frames [N, T, M], mask [N, T] and exist [B, C] of chunks -> of stretches [B, R], of chunks [B, C, R]."""
        whole, parts = self.gradients(frames, mask, exist)
        return self.cut(whole), self.cut(parts)

    def cut(self, gradients: Tensor) -> Tensor:
        """Gradients [..., 2 G P] -> principal components of unit length [..., R], zero where nothing was loud."""
        unit = nn.functional.normalize(gradients, dim=-1)
        heard = (unit != 0).any(-1, keepdim=True)
        return nn.functional.normalize((unit - self.middle) @ self.basis, dim=-1) * heard

    def gradients(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """Signed square roots of the gradients to means and deviations, of stretches [B, 2 G P], of chunks [B, C, 2 G P]."""
        found, loud = self.descriptors(frames, mask)
        white = (found - self.centre) @ self.whiten  # [N, T, P]
        precision = self.deviations.reciprocal()
        constant = self.shares.log() + precision.log().sum(-1) - (self.means * precision).square().sum(-1) / 2
        likely = white @ (self.means * precision.square()).T - white.square() @ precision.square().T / 2 + constant
        posterior = likely.softmax(-1) * loud[..., None]  # [N, T, G]
        turned = posterior.transpose(1, 2)
        count = posterior.sum(1)
        sums = placed(torch.cat([count, (turned @ white).flatten(1), (turned @ white.square()).flatten(1)], dim=-1), exist)
        return self._rooted(sums.sum(1)), self._rooted(sums)

    def _rooted(self, sums: Tensor) -> Tensor:
        """Sums [..., G + 2 G P] of posteriors and of what they weigh -> [..., 2 G P]."""
        count, first, second = torch.split(sums, [self.gaussians, self.means.numel(), self.means.numel()], dim=-1)
        total = count.sum(-1, keepdim=True).clamp_min(1.0)[..., None]
        first, second = (found.reshape(*found.shape[:-1], *self.means.shape) for found in (first, second))
        count = count[..., None]
        share = self.shares.sqrt()[:, None]
        to_means = (first - count * self.means) / (self.deviations * share * total)
        variance = self.deviations.square()
        moved = second - 2 * first * self.means + count * (self.means.square() - variance)
        to_deviations = moved / (variance * math.sqrt(2.0) * share * total)
        both = torch.cat([to_means.flatten(-2), to_deviations.flatten(-2)], dim=-1)
        return both.sign() * both.abs().sqrt()

    def descriptors(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine coefficients and their slopes [N, T, D]; which frames are loud [N, T], 0 or 1."""
        size, steps, bands = frames.shape
        level = frames.logsumexp(-1) - math.log(bands)
        loud = (mask & (level > -LOUD)).to(frames.dtype)
        found = frames @ self.cosines
        last = (mask.sum(-1) - 1).clamp_min(0)[:, None]
        at = torch.arange(steps, device=frames.device)
        slopes = []
        for lag in LAGS:
            after, before = torch.minimum(at + lag, last), (at - lag).clamp_min(0).expand(size, -1)
            here = [found.gather(1, place[..., None].expand(-1, -1, found.shape[-1])) for place in (after, before)]
            slopes.append((here[0] - here[1]) / 2)
        return torch.cat([found, *slopes], dim=-1), loud

    def drawn(self, frames: Tensor, mask: Tensor, exist: Tensor) -> Tensor:
        """For `fit_mixture`: frames of each stretch at even distances among the loud ones [B, DRAWN, D], NaN where there is none."""
        found, loud = self.descriptors(frames, mask)
        first = placed(torch.arange(1.0, 1.0 + len(frames), device=frames.device)[:, None], exist)[..., 0]  # [B, C]
        out = found.new_full((len(exist), DRAWN, found.shape[-1]), math.nan)
        for row, chunks in enumerate(first):
            own = (chunks[chunks > 0] - 1).long()
            heard = found[own][loud[own] > 0]
            if len(heard):
                out[row] = heard[torch.linspace(0, len(heard) - 1, DRAWN, device=frames.device).long()]
        return out

    @torch.no_grad()
    def fit_mixture(self, drawn: Tensor) -> None:
        """Whitening and mixture from what `drawn` gave of every training stretch, [S, DRAWN, D]."""
        found = drawn.flatten(0, 1).cpu().numpy()
        found = found[np.isfinite(found).all(1)]
        if len(found) < 2 * self.gaussians:
            raise ValueError(f"a mixture of {self.gaussians} wants {2 * self.gaussians} loud frames at least, got {len(found)}")
        found = some(found, MOST).astype(np.float64)
        self.centre.copy_(torch.from_numpy(found.mean(0)))
        scale = found.std(0).clip(1e-6)
        values, vectors = np.linalg.eigh(np.cov((found / scale).T))
        kept = (vectors / np.sqrt(values + FLOOR))[:, ::-1][:, : self.whiten.shape[1]]
        self.whiten.copy_(torch.from_numpy(kept / scale[:, None]))
        white = (found - found.mean(0)) @ (kept / scale[:, None])
        mixture = fitted(white, self.gaussians)
        self.shares.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.deviations.copy_(torch.from_numpy(np.sqrt(mixture.covariances_)))

    @torch.no_grad()
    def fit_components(self, gradients: Tensor) -> None:
        """Principal components from the gradients of every training stretch, [S, 2 G P]."""
        from sklearn.decomposition import PCA  # type: ignore[import-untyped]

        drawn = torch.from_numpy(some(gradients.cpu().numpy(), ROWS)).float()
        unit = nn.functional.normalize(drawn, dim=-1).numpy()
        found = PCA(min(self.components, *unit.shape), svd_solver="randomized", random_state=0).fit(unit)
        self.middle.copy_(torch.from_numpy(found.mean_))
        self.basis.zero_()
        self.basis[:, : found.n_components_] = torch.from_numpy(found.components_.T)


def some(rows: NDArray[Any], most: int) -> NDArray[Any]:
    """The rows, or as many as are wanted at most, drawn from them."""
    return rows if len(rows) <= most else rows[np.random.default_rng(0).choice(len(rows), most, replace=False)]


def fitted(white: NDArray[np.float64], gaussians: int) -> Any:
    """A mixture with diagonal covariances, after rounds enough: that it might still move by a little is no news."""
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.mixture import GaussianMixture  # type: ignore[import-untyped]

    mixture = GaussianMixture(gaussians, covariance_type="diag", max_iter=ROUNDS, tol=3e-3, random_state=0, init_params="k-means++")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(white)
