"""Kernel ridge regression of classes on unit vectors, in closed form.

Saunders, Gammerman and Vovk, "Ridge Regression Learning Algorithm in Dual Variables", ICML 1998; with fewer landmarks than rows it is the
subset of regressors of Smola and Bartlett, "Sparse Greedy Gaussian Process Regression", NIPS 2000. The kernel is Gaussian, exp(-|a - b|^2):
1 for equal vectors, 0.14 for orthogonal ones. Being far from all landmarks, it says less, not nothing.

Shapes: S rows, R components, L landmarks, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import solve  # type: ignore[import-untyped]
from torch import Tensor, nn

BLOCK = 2048  # rows whose kernel is held at a time
JITTER = 1e-6  # of the kernel's diagonal, 1
DRAWN = 0.01  # standard deviation of a weight before the fit


class KernelRidge(nn.Module):
    """`forward(vectors [..., R])` gives scores [..., K]: about 1 - 1 / K for a class that is certain, 0 for a vector of zeros.

    `fit` finds the weights of the landmarks, and nothing trains them after that. Unfitted, both are drawn at random.
    """

    landmarks: Tensor

    def __init__(self, components: int, num_classes: int, landmarks: int, strength: float) -> None:
        super().__init__()
        self.strength = strength
        drawn = np.random.default_rng(0)
        found = torch.from_numpy(drawn.standard_normal((landmarks, components)))
        self.register_buffer("landmarks", nn.functional.normalize(found, dim=-1).half())
        self.dual = nn.Parameter(torch.from_numpy(DRAWN * drawn.standard_normal((landmarks, num_classes))).float())

    def forward(self, vectors: Tensor) -> Tensor:
        """See the class."""
        return gaussian(vectors, self.landmarks) @ self.dual * (vectors != 0).any(-1, keepdim=True)

    @torch.no_grad()
    def fit(self, vectors: Tensor, weighted_targets: Tensor) -> None:
        """From vectors [S, R], target distributions and weights [S, K + 1]; classes count alike.

        Landmarks are all rows, or drawn from them where there are more.
        """
        vectors, given = vectors.double(), weighted_targets.to(vectors.device, torch.float64)
        target, weight = given[:, :-1], given[:, -1]
        mass = (target * weight[:, None]).sum(0).clamp_min(1e-12)
        weight = weight * (target / mass).sum(1)
        weight = weight / weight.mean()
        num = min(len(vectors), len(self.landmarks))
        chosen = np.sort(np.random.default_rng(0).choice(len(vectors), num, replace=False))
        self.landmarks.zero_()
        self.landmarks[:num] = vectors[torch.from_numpy(chosen).to(vectors.device)].half()
        kept = self.landmarks[:num]
        against = torch.zeros(num, num, dtype=torch.float64)
        wanted = torch.zeros(num, target.shape[1], dtype=torch.float64)
        for rows in torch.split(torch.arange(len(vectors), device=vectors.device), BLOCK):
            kernel = gaussian(vectors[rows], kept)
            weighed = weight[rows, None] * kernel
            against += (kernel.T @ weighed).cpu()
            wanted += (weighed.T @ (target[rows] - 1.0 / target.shape[1])).cpu()
        among = gaussian(kept.double(), kept).cpu()
        ridge = against + self.strength * among + JITTER * torch.eye(num, dtype=torch.float64)
        self.dual.zero_()
        self.dual[:num] = torch.from_numpy(solve(ridge.numpy(), wanted.numpy(), assume_a="pos")).float().to(self.dual.device)
        self.dual.requires_grad_(False)


def gaussian(vectors: Tensor, landmarks: Tensor) -> Tensor:
    """exp(-|a - b|^2) of vectors [..., R] and landmarks [L, R], [..., L]."""
    landmarks = landmarks.to(vectors.dtype)
    apart = vectors.square().sum(-1, keepdim=True) - 2.0 * vectors @ landmarks.T + landmarks.square().sum(-1)
    return (-apart).exp()
