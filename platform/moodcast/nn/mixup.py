"""Mixing the sound, or the vectors, of two training utterances, and their targets with them.

Six kinds. "none". "mixup" (Zhang et al., ICLR 2018): the weighted sum of two waves, weights by a beta distribution. "length" (Kang et al.,
ICASSP 2023, length-aware mixup): half of both waves at equal peaks, the target shared by their durations. "energy" (Wang et al., arXiv
2512.04551, with the formulas of a preprint by the same first author, RRPO, Algorithm 1): a segment of another utterance is added at a
drawn signal-to-noise ratio, the target shared by duration and energy. "energy_hard": the same sound, the target left alone, as their
SeeNet had it. "manifold" (Verma et al., ICML 2019): as "mixup", but of vectors inside the network.

Shapes: B utterances, L samples, D width, K classes. `partner` [B] is the index of the other utterance, `share` [B] the part of the target
that is the other's. What is drawn comes from torch's global generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

SILENCE = 1e-10  # mean square; about the quantisation noise of 16 bits
Reference = Literal["segment", "utterance"]


@dataclass(frozen=True)
class Mix:
    """What is mixed in training.

    share: of the utterances that are mixed, in [0, 1]. alpha: of the beta distribution ("mixup", "manifold"). Of the energy kinds: the
    ratio is uniform within snr_spread_db of snr_db (decibel); segments are at most longest_share of the utterance, so that it stays the
    larger part of its target up to 0.5; reference: whose powers make the ratio, the two segments' or the two utterances'.
    """

    kind: Literal["none", "mixup", "length", "energy", "energy_hard", "manifold"] = "energy"
    share: float = 0.5
    alpha: float = 0.2
    snr_db: float = 0.0
    snr_spread_db: float = 5.0
    longest_share: float = 0.5
    reference: Reference = "segment"

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"mix.share is a share of the utterances and must be in [0, 1], got {self.share}")
        if not self.alpha > 0.0:
            raise ValueError(f"mix.alpha must be positive, got {self.alpha}")
        if not self.snr_spread_db >= 0.0:
            raise ValueError(f"mix.snr_spread_db must be at least 0, got {self.snr_spread_db}")
        if not 0.0 < self.longest_share <= 0.5:
            raise ValueError(f"mix.longest_share must be in (0, 0.5], or another's emotion might outweigh; got {self.longest_share}")

    @property
    def of_sound(self) -> bool:
        """Whether waves are mixed, so that nothing an encoder makes of them can be kept."""
        return self.share > 0.0 and self.kind not in ("none", "manifold")

    @property
    def of_vectors(self) -> bool:
        """Whether vectors inside the network are mixed."""
        return self.share > 0.0 and self.kind == "manifold"


@dataclass(frozen=True)
class Mixed:
    """Waves [B, L], zero behind their lengths [B], and how targets follow: `blended(target, partner, share)`."""

    waves: Tensor
    lengths: Tensor
    partner: Tensor
    share: Tensor


def mixed(waves: Tensor, lengths: Tensor, mix: Mix) -> Mixed:
    """Some of the waves [B, L] with `lengths` [B] samples mixed with others of the batch, as `mix` says; for the kinds of sound."""
    partner, chosen = partners(len(waves), mix.share, waves.device)
    if mix.kind in ("energy", "energy_hard"):
        size, start, partner_start = segments(lengths, partner, mix.longest_share)
        snr_db = mix.snr_db + mix.snr_spread_db * (2.0 * torch.rand(len(waves), device=waves.device) - 1.0)
        made, share = energy_mixed(waves, lengths, partner, size, start, partner_start, snr_db, mix.reference)
        reach = lengths
        share = torch.zeros_like(share) if mix.kind == "energy_hard" else share
    elif mix.kind == "length":
        made, reach, share = length_mixed(waves, lengths, partner)
    elif mix.kind == "mixup":
        share = beta_shares(len(waves), mix.alpha, waves.device)
        made, reach = blended(waves, partner, share), torch.maximum(lengths, lengths[partner])
    else:
        raise ValueError(f"mix.kind={mix.kind!r} mixes no sound")
    return Mixed(torch.where(chosen[:, None], made, waves), torch.where(chosen, reach, lengths), partner, torch.where(chosen, share, 0.0))


def energy_mixed(
    waves: Tensor,
    lengths: Tensor,
    partner: Tensor,
    size: Tensor,
    start: Tensor,
    partner_start: Tensor,
    snr_db: Tensor,
    reference: Reference = "segment",
) -> tuple[Tensor, Tensor]:
    """Add `size` samples of the partner, from its `partner_start` on, at `start` and at `snr_db`: waves [B, L] and share [B].

    The partner is scaled by sqrt(P_i / (10^(r/10) P_j)), P the mean square of the reference; share = (size / length) / (1 + 10^(r/10)),
    which is size over length times the partner's part of the energy (RRPO has the ratio the other way round, -r). Where one of them is
    silent nothing is mixed and share is 0. What exceeds full scale afterwards is made softer as a whole. All but waves are [B]; segments
    must lie inside their utterances.
    """
    here = torch.arange(waves.shape[1], device=waves.device) - start[:, None]
    inside = (here >= 0) & (here < size[:, None])
    ours = waves * inside
    theirs = waves[partner].gather(1, (here + partner_start[:, None]).clamp(0, waves.shape[1] - 1)) * inside
    powers = [_power(ours, size), _power(theirs, size)]
    heard = (powers[0] > SILENCE) & (powers[1] > SILENCE)
    if reference == "utterance":
        own = _power(waves, lengths)
        powers = [own, own[partner]]
    ratio = 10.0 ** (snr_db / 10.0)
    scale = torch.where(heard, powers[0] / (ratio * powers[1].clamp_min(SILENCE)), 0.0).sqrt()
    made = waves + scale[:, None] * theirs
    softer = torch.where(heard, made.abs().amax(1).clamp_min(1.0), 1.0)
    return made / softer[:, None], torch.where(heard, size / lengths / (1.0 + ratio), 0.0)


def length_mixed(waves: Tensor, lengths: Tensor, partner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Half of both at equal peaks, as long as the longer: waves [B, L], lengths [B], and share = l_j / (l_i + l_j), [B]."""
    peaks = waves.abs().amax(1, keepdim=True)
    level = waves / torch.where(peaks > 0.0, peaks, 1.0)
    theirs = lengths[partner]
    return 0.5 * (level + level[partner]), torch.maximum(lengths, theirs), theirs / (lengths + theirs)


def blended(values: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """(1 - share) of one's own value and share of the partner's: waves, vectors, targets or weights, [B, ...]."""
    part = share.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return (1.0 - part) * values + part * values[partner]


def partners(size: int, share: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each of `size` utterances another one, uniformly drawn, and whether they are mixed, [B] and [B]; one alone never is."""
    if size < 2:
        return torch.zeros(size, dtype=torch.long, device=device), torch.zeros(size, dtype=torch.bool, device=device)
    step = torch.randint(1, size, (size,), device=device)
    return (torch.arange(size, device=device) + step) % size, torch.rand(size, device=device) < share


def beta_shares(size: int, alpha: float, device: torch.device) -> Tensor:
    """Shares of the partner, [B], beta(alpha, alpha)."""
    return torch.distributions.Beta(alpha, alpha).sample((size,)).to(device)


def segments(lengths: Tensor, partner: Tensor, longest_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Size, start and the partner's start of a segment of each utterance, [B] samples.

    The size is uniform from 1 to longest_share of the utterance, and no more than the partner has; 0 where that is not one sample.
    """
    longest = (lengths * longest_share).floor().long()
    size = torch.minimum(1 + _uniform(longest - 1), longest)
    size = torch.minimum(size, lengths[partner])
    return size, _uniform(lengths - size), _uniform(lengths[partner] - size)


def _uniform(most: Tensor) -> Tensor:
    """An integer from 0 to `most`, drawn for each entry; 0 where it is negative."""
    most = most.clamp_min(0)
    return torch.minimum((torch.rand(most.shape, device=most.device, dtype=torch.float64) * (most + 1)).long(), most)


def _power(waves: Tensor, count: Tensor) -> Tensor:
    return waves.square().sum(1) / count.clamp_min(1)
