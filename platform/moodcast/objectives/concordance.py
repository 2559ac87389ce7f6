"""The loss of attributes: one minus Lin's concordance correlation coefficient (CCC; Lin, Biometrics 45(1), 1989), population moments.

It compares utterances with each other: over several ranks it is that of all they answered (attributes.py). On few utterances it is biased
low and noisy: take 64 or more in a batch. Shapes: B stretches, A attributes.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8  # of a variance


def one_minus_ccc(answer: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Mean over attributes of 1 - 2 cov / (var + var' + (mean - mean')^2), utterances weighted by [B].

    answer [B, A]; wanted [B, A], NaN where it is not known. An attribute that is known of fewer than two utterances does not count, and
    where none counts the loss is 0.
    """
    known = wanted.isfinite()
    share = weight[:, None] * known
    share = share / share.sum(0).clamp_min(TINY)
    truth = torch.where(known, wanted, 0.0)
    mean, true_mean = (share * answer).sum(0), (share * truth).sum(0)
    ours, theirs = answer - mean, truth - true_mean
    spread = (share * (ours.square() + theirs.square())).sum(0) + (mean - true_mean).square()
    ccc = 2.0 * (share * ours * theirs).sum(0) / spread.clamp_min(TINY)
    counted = known.sum(0) >= 2
    return torch.where(counted, 1.0 - ccc, 0.0).sum() / counted.sum().clamp_min(1)
