"""A codebook that two domains share: unit vectors that frames are replaced by, kept alive and kept shared.

Codes follow the frames that choose them by a moving average in which each domain weighs half (the larger corpus would own them otherwise),
and whatever an optimiser adds; they start by k-means of frames seen, and a code that hardly anybody chooses starts anew from frames of
both domains in turn (van den Oord et al. 2017, appendix; Zeghidour et al. 2021, section 3.2; that domains weigh the same is ours).
For comparison each domain may have a half of the codes to itself, every other one.

Shapes: n frames, d width, C codes, K classes, M remembered frames, B stretches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DOMAINS = 2


class Codebook(nn.Module):
    """Codes [C, d] of length 1, and what is remembered of who uses them.

    posteriors [C, K]: the classes of the frames of each code; usage [2, C]: the share of each domain's frames that chose it, a moving
    average; memory [2, M, d]: the latest frames of each domain, the first `remembered` of them real. together: whether domains share all
    codes; off, each has its own half.
    """

    posteriors: Tensor
    usage: Tensor
    memory: Tensor
    remembered: Tensor
    written: Tensor
    started: Tensor

    def __init__(self, num_codes: int, width: int, num_classes: int, size: int = 1024, together: bool = True) -> None:
        super().__init__()
        self.together = together
        self.codes = nn.Parameter(nn.functional.normalize(torch.randn(num_codes, width), dim=-1))
        self.register_buffer("posteriors", torch.full((num_codes, num_classes), 1.0 / num_classes))
        self.register_buffer("usage", torch.full((DOMAINS, num_codes), 1.0 / num_codes))
        self.register_buffer("memory", torch.zeros(DOMAINS, size, width))
        self.register_buffer("remembered", torch.zeros(DOMAINS, dtype=torch.int64))
        self.register_buffer("written", torch.zeros(DOMAINS, dtype=torch.int64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def own(self, domain: int) -> Tensor:
        """Which codes [C] the frames of a domain may be replaced by."""
        every = torch.arange(len(self.codes), device=self.codes.device)
        return torch.ones_like(every, dtype=torch.bool) if self.together else every % DOMAINS == domain

    def nearest(self, frames: Tensor, domain: int) -> Tensor:
        """The code of each unit vector [n, d] of a domain: of those it may have the one at the smallest angle, [n]."""
        return (frames @ self.codes.detach().T).masked_fill(~self.own(domain), -torch.inf).argmax(-1)

    def quantised(self, frames: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Frames [n, d] of a domain replaced by their codes, with the frames' own gradient (straight through); and the codes' numbers [n].

        Before the codes have started, frames stay as they are.
        """
        code = self.nearest(frames, domain)
        if not bool(self.started):
            return frames, code
        return frames + (self.codes.detach()[code] - frames).detach(), code

    @torch.no_grad()
    def remember(self, domain: int, frames: Tensor) -> None:
        """Keep frames [n, d] in place of the oldest; of many the last M."""
        size = self.memory.shape[1]
        frames = frames[-size:]
        places = (self.written[domain] + torch.arange(len(frames), device=frames.device)) % size
        self.memory[domain, places] = frames
        self.written[domain] = (self.written[domain] + len(frames)) % size
        self.remembered[domain] = (self.remembered[domain] + len(frames)).clamp_max(size)

    @torch.no_grad()
    def follow(self, totals: Tensor, counts: Tensor, decay: float) -> None:
        """Draw codes towards the frames that chose them: totals [2, C, d] and counts [2, C] of the two domains' frames."""
        share = counts / counts.sum(1, keepdim=True).clamp_min(1.0)
        self.usage.mul_(decay).add_((1 - decay) * share)
        each = totals / counts.sum(1).clamp_min(1.0)[:, None, None]  # every domain weighs the same
        weight = share.sum(0)
        middle = each.sum(0) / weight.clamp_min(1e-12)[:, None]
        moved = self.codes + (1 - decay) * (middle - self.codes)
        self.codes.copy_(torch.where((weight > 0)[:, None], moved, self.codes))
        self.normalise()

    @torch.no_grad()
    def normalise(self) -> None:
        """Codes of length 1 again."""
        self.codes.copy_(nn.functional.normalize(self.codes, dim=-1))

    @torch.no_grad()
    def learn(self, weights: Tensor, posteriors: Tensor, rate: float) -> None:
        """Move what a code tells of classes towards the posteriors P [n, K] of the frames that it serves by weights [n, C]."""
        self.toward(weights.T @ posteriors, weights.sum(0), rate)

    @torch.no_grad()
    def toward(self, mass: Tensor, weight: Tensor, rate: float) -> None:
        """The same from sums over frames: mass [C, K] and weight [C]."""
        seen = weight > 1e-6
        mean = mass / weight.clamp_min(1e-6)[:, None]
        self.posteriors.copy_(torch.where(seen[:, None], (1 - rate) * self.posteriors + rate * mean, self.posteriors))

    @torch.no_grad()
    def start(self, seed: int = 0) -> None:
        """Begin at the centres of k-means over the remembered frames, as many of each domain; where they are few, at the frames. A half
        begins at those of its own domain.
        """
        fewest = int(self.remembered.min())
        if fewest == 0:
            return
        kept = [self.memory[domain, :fewest] for domain in range(DOMAINS)]
        for domain, frames in enumerate([torch.cat(kept)] if self.together else kept):
            places = self.own(domain).nonzero()[:, 0]
            found = centres(frames, len(places), seed)
            self.codes[places[: len(found)]] = found.to(self.codes)
        self.normalise()
        self.posteriors.copy_(self.posteriors.mean(0).expand_as(self.posteriors))  # those of the codes before say nothing of these
        self.usage.copy_(self._even())
        self.started.fill_(True)

    @torch.no_grad()
    def revive(self, least: float, seed: int) -> int:
        """Codes that are chosen less than `least` (share, mean of both domains) begin anew at remembered frames, of each domain in turn
        or, in a half, of its own domain; how many.
        """
        dead = (self.usage.mean(0) < least).nonzero()[:, 0].tolist()
        generator = torch.Generator().manual_seed(seed)
        for turn, code in enumerate(dead):
            domain = (turn if self.together else code) % DOMAINS
            if (count := int(self.remembered[domain])) == 0:
                continue
            frame = self.memory[domain, int(torch.randint(count, (1,), generator=generator))]
            self.codes[code] = nn.functional.normalize(frame, dim=-1)
            self.posteriors[code] = self.posteriors.mean(0)
            self.usage[:, code] = self._even()[:, code]
        return len(dead)

    def _even(self) -> Tensor:
        """The usage [2, C] where each domain chooses all codes that it may have as often."""
        may = torch.stack([self.own(domain) for domain in range(DOMAINS)]).to(self.usage)
        return may / may.sum(1, keepdim=True)


def centres(frames: Tensor, count: int, seed: int) -> Tensor:
    """The centres of k-means of frames [n, d], at most `count`; where frames are no more than that, the frames."""
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]

    kept = frames[frames[:, 0].argsort()].double().cpu()  # whatever the order in which ranks gave them
    if len(kept) <= count:
        return kept
    return torch.from_numpy(KMeans(count, n_init=1, random_state=seed).fit(kept.numpy()).cluster_centers_)
