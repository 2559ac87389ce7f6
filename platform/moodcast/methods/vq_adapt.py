"""VQ-adapt: source and target share a quantised codebook whose codes keep what they tell of emotion.

Cross-lingual adaptation by vector quantisation with an information loss (Interspeech 2025; of the paper only the abstract was to be had,
so that everything below is our reading). Frames become unit vectors of few dimensions and are replaced by the nearest code of one book for
both domains (van den Oord et al., NeurIPS 2017: straight through, commitment). The information loss is that of Lazebnik & Raginsky (TPAMI
31(7), 2009, eqs. 4 and 8), made end to end: codes must keep, in the simplex of class posteriors, what their frames tell of the class; its
gradient moves encoder and codes. The domains' code histograms are drawn together, overall (with the source's classes weighed as the target
seems to have them) and class by class, with the classes that a moving-average teacher is sure of in the target; the target's answers
are kept unconfused (Jin et al., ECCV 2020) and diverse (Liang et al., ICML 2020).

Against collapse: codes of unit length and few dimensions, k-means after a warm-up without codes, moving averages in which each domain
weighs half, codes that nobody chooses begin anew in both domains, an entropy bonus. Logged with weight 0: the perplexity of codes in each
domain, what a code tells of the domain (0 bit shared, 1 bit a book each: the collapse that overall perplexity does not show), and the
information lost. Every corpus is heard through its own statistics (`moodcast.adapting`); the teacher is what is served.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from moodcast import method
from moodcast.adapting import SOURCE, TARGET, Adapting, Front, Heard, LogMelFront, Trunk
from moodcast.batch import Batch, Prediction
from moodcast.method import Spec, View
from moodcast.nn import ranges
from moodcast.nn.codebook import Codebook
from moodcast.nn.ranks import everybody, num_ranks, own_rows, shared
from moodcast.nn.teacher import Teacher
from moodcast.objectives import codes, domain
from moodcast.objectives.classes import cross_entropy

REMEMBERED = 8  # frames of a stretch that the codebook keeps
SMOOTH = 0.05  # of the labels that frames inherit
LEAST_SURE = 0.6  # a stretch below that is never learned from
FEWEST = 4.0  # stretches of a class, recently, before its histograms are compared


@dataclass(frozen=True)
class Weights(method.Weights):
    """commit: frames to their codes; overall and by_class: the histograms of both domains; confusion and diversity: of the answers to the
    target; information: what codes lose; spread: the entropy of codes in use. What is logged alone weighs nothing.
    """

    classes: float = 1.0
    commit: float = 0.25
    overall: float = 0.5
    by_class: float = 0.5
    confusion: float = 0.5
    diversity: float = 0.05
    information: float = 0.5
    spread: float = 0.01
    perplexity_source: float = 0.0
    perplexity_target: float = 0.0
    domain_bits: float = 0.0
    lost_nats: float = 0.0


class Frames(NamedTuple):
    """The frames of a batch: unit vectors z [n, d] and after quantising [n, d], code [n], the stretch of each [n]; answers of the stretches
    with codes and without, log-probabilities [B, K].
    """

    vectors: Tensor
    quantised: Tensor
    code: Tensor
    owner: Tensor
    coded: Heard
    plain: Tensor


class VqAdapt(Adapting):
    """B stretches, n frames of all of them, d width of a code, C codes, D width, K classes."""

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """num_codes, code_width: of the book; temperature: of soft assignments on the unit sphere. information: "codeword" as in the
        module; "distill" teaches coded answers by the uncoded ones instead; "none". warm: the share of training without codes. decay of
        codes and of the teacher, of histograms (memory), rate of what codes tell of classes. threshold: of the teacher's confidence,
        share: the surest stretches of a class that are learned from below it. least: codes with a smaller share than that over their
        number begin anew. together: one book for both domains; off, each has its own half of the codes (the control).
        """

        weights: Weights = Weights()
        num_codes: int = 64
        code_width: int = 32
        temperature: float = 0.1
        information: Literal["codeword", "distill", "none"] = "codeword"
        warm: float = 0.25
        decay: float = 0.99
        memory: float = 0.9
        rate: float = 0.05
        threshold: float = 0.8
        share: float = 0.2
        least: float = 0.05
        together: bool = True

        def __post_init__(self) -> None:
            super().__post_init__()
            ranges.check(self, "[0, 1]", "warm", "decay", "memory", "rate", "threshold", "share")
            ranges.check(self, "(0, inf)", "temperature")
            ranges.check(self, "[1, inf)", "code_width")
            ranges.check(self, "[0, inf)", "least")
            ranges.check(self, "[1, inf)" if self.together else "[2, inf)", "num_codes")

    config: Config
    trunk: Coded
    histograms: Tensor
    overall: Tensor
    mass: Tensor
    priors: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        if config.front.kind != "log_mel":
            raise ValueError("vq_adapt quantises frames: set method.front.kind=log_mel; a whole utterance as one code would be a lookup")
        super().__init__(config, spec)
        self.trunk = Coded(config, spec)
        self.teacher = Teacher(self.trunk)
        wide, number = len(spec.classes), config.num_codes
        self.register_buffer("histograms", torch.zeros(2, wide, number))  # of each domain, class and code, remembered
        self.register_buffer("overall", torch.zeros(number))  # of the target's codes, whatever the teacher is sure of, remembered
        self.register_buffer("mass", torch.zeros(wide))  # sure stretches of the target by class, recently
        self.register_buffer("priors", torch.full((2, wide), 1.0 / wide))  # of the classes, as each domain seems to have them
        self.register_load_state_dict_pre_hook(_with_overall)  # type: ignore[no-untyped-call]
        self._sums: tuple[Tensor, Tensor] | None = None  # of the step that is being made: [2, C, d] and [2, C]

    def forward(self, batch: Batch) -> Prediction:
        """The teacher's answer to the target, by codes."""
        return self.teacher.own.answer(batch, TARGET)

    def on_source(self, batch: Batch) -> Prediction:
        """The teacher's answer to the source."""
        return self.teacher.own.answer(batch, SOURCE)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """See the module; before the codes start only classes and, for the codes alone, information count."""
        config, book = self.config, self.trunk.book
        source, target = (self.trunk.frames(batches[name], at) for name, at in (("source", SOURCE), ("target", TARGET)))
        batch = batches["source"]
        with torch.no_grad():
            told = self.teacher.own(batches["target"], TARGET).log_probs
            sure = own_rows(domain.sure(everybody(told), config.threshold, config.share)) * (told.exp().amax(-1) >= LEAST_SURE)
        started, ramp = book.started.to(told.dtype), self.ramp()
        soft = [self.trunk.weights(part.vectors, at) for at, part in enumerate((source, target))]
        self._note(source, target)
        uncoded = cross_entropy(source.plain, self._target(batch), batch.weight, config.smoothing)
        found = self._histograms(batches, (source, target), soft, told.exp() * sure[:, None])
        rate = config.memory * (self.teacher.steps > 0).to(told.dtype)
        histograms, overall = (rate * old + (1 - rate) * now for old, now in zip((self.histograms, self.overall), found, strict=True))
        if self.training:
            self.histograms.copy_(histograms.detach())
            self.overall.copy_(overall.detach())
        answers = everybody(target.coded.log_probs)
        terms = {
            "classes": self.classes(batches, source.coded) + 0.5 * uncoded,
            "commit": started
            * sum((self._mean((p.vectors - p.quantised.detach()).square().sum(-1)) for p in (source, target)), start=ramp * 0),
            "overall": started * ramp * shared(self._overall(histograms[SOURCE], overall)),
            "by_class": started * ramp * shared(self._by_class(histograms)),
            "confusion": ramp * shared(domain.class_confusion(answers)),
            "diversity": ramp * shared(domain.information(answers)),
            "information": self._information(batch, (source, target), soft, told.exp(), sure),
            "spread": started * shared(self._spread(soft)),
        }
        return {**terms, **self._told(terms["information"])}

    def fit_once(self, view: View) -> None:
        """The statistics of both domains, which teacher and pupil share."""
        super().fit_once(view)
        self.teacher.begin_as(self.trunk)

    def take_statistics(self, view: View) -> bool:
        """The teacher hears through the same."""
        taken = super().take_statistics(view)
        self.teacher.hear_as(self.trunk)
        return taken

    def after_step(self, progress: float) -> None:
        """Codes follow their frames, begin where the warm-up ends, begin anew where nobody chooses them; the teacher follows the pupil."""
        super().after_step(progress)
        config, book = self.config, self.trunk.book
        if book.codes.requires_grad or config.information != "codeword":
            self._move(progress)
        self.teacher.follow(self.trunk, config.decay)
        self.teacher.own.book.normalise()

    def _move(self, progress: float) -> None:
        config, book = self.config, self.trunk.book
        book.normalise()  # after the optimiser
        if not bool(book.started):
            if progress >= config.warm:
                book.start(seed=int(self.teacher.steps))
                self.teacher.own.book.codes.data.copy_(book.codes.data)
        elif self._sums is not None:
            book.follow(*self._sums, config.decay)
            book.revive(config.least / config.num_codes, seed=int(self.teacher.steps))
        self._sums = None

    def _note(self, source: Frames, target: Frames) -> None:
        """Remember frames of both domains, and what the codes that were chosen sum up to, over all ranks."""
        if not self.training:
            return
        book, totals, counts = self.trunk.book, [], []
        with torch.no_grad():
            for at, part in enumerate((source, target)):
                some = everybody(evenly(part.vectors.detach(), part.owner, len(part.plain)))
                book.remember(at, some.flatten(0, 1))
                chosen = nn.functional.one_hot(part.code, self.config.num_codes).to(part.vectors.dtype)
                totals.append(everybody((chosen.T @ part.vectors.detach())[None]).sum(0))
                counts.append(everybody(chosen.sum(0)[None]).sum(0))
            before = self._sums or (0.0, 0.0)  # of the parts of this step that came before, where it is computed in parts
            self._sums = before[0] + torch.stack(totals), before[1] + torch.stack(counts)

    def _histograms(
        self, batches: Mapping[str, Batch], parts: tuple[Frames, Frames], soft: list[Tensor], told: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Soft counts of codes by domain and class, [2, K, C], a stretch's frames weighing one together, over all ranks; what classes
        are taken to be: labels of the source, sure answers of the teacher (told [B, K], 0 where he is not sure) in the target. And those of
        all stretches of the target, [C].
        """
        found, every = [], []
        for at, (part, weight, share) in enumerate(zip(parts, soft, (self._target(batches["source"]), told), strict=True)):
            each = averaged(weight, part.owner, len(share))  # [B, C]
            found.append(everybody((share.to(each.dtype).T @ each)[None]).sum(0))
            every.append(each.sum(0))
            if self.training:
                mean = everybody(part.coded.log_probs.detach().exp() if at == TARGET else share).mean(0)
                self.priors[at].mul_(self.config.memory).add_((1 - self.config.memory) * mean)
        if self.training:
            self.mass.mul_(self.config.memory).add_(everybody(told).sum(0))
        return torch.stack(found), everybody(every[TARGET][None]).sum(0)

    def _overall(self, source: Tensor, target: Tensor) -> Tensor:
        """How far the domains' codes [K, C] and [C] are apart, the source's classes weighing what the target's seem to, a half to twice
        as much.
        """
        ratio = (self.priors[TARGET] / self.priors[SOURCE].clamp_min(1e-6)).clamp(0.5, 2.0)
        return codes.divergence((ratio[:, None] * source).sum(0), target)

    def _by_class(self, histograms: Tensor) -> Tensor:
        """The same class by class, mean over those that the target has shown."""
        shown = (self.mass >= FEWEST).to(histograms.dtype)
        apart = codes.divergence(histograms[SOURCE], histograms[TARGET])
        return (shown * apart).sum() / shown.sum().clamp_min(1.0)

    def _information(self, batch: Batch, parts: tuple[Frames, Frames], soft: list[Tensor], told: Tensor, sure: Tensor) -> Tensor:
        """What codes lose of the posteriors of their frames; what each code tells is moved towards them first."""
        config, book = self.config, self.trunk.book
        source = parts[0]
        if config.information != "codeword":
            if config.information == "none":
                return source.plain.new_zeros(())
            pairs = [(part.coded.log_probs, part.plain.detach().exp()) for part in parts]
            return sum((codes.kl(plain, coded.exp()).mean() for coded, plain in pairs), start=told.new_zeros(())) / 2
        label = self._target(batch)
        smooth = (1 - SMOOTH) * label + SMOOTH / label.shape[-1]
        posteriors = [0.5 * smooth + 0.5 * source.plain.detach().exp(), told]
        counted = [torch.ones(len(label), device=label.device), sure]
        frames = [(weight, p[part.owner], use[part.owner]) for weight, p, use, part in zip(soft, posteriors, counted, parts, strict=True)]
        if self.training:
            with torch.no_grad():
                mass = sum(((weight * use[:, None]).T @ p for weight, p, use in frames), start=book.posteriors * 0)
                total = sum(((weight * use[:, None]).sum(0) for weight, _, use in frames), start=book.posteriors[:, 0] * 0)
                book.toward(everybody(mass[None]).sum(0), everybody(total[None]).sum(0), config.rate)
        if not bool(book.started):  # encoders do not follow codes that nobody uses yet
            frames = [
                (self.trunk.weights(part.vectors.detach(), at), p, use)
                for at, (part, (_, p, use)) in enumerate(zip(parts, frames, strict=True))
            ]
        lost = [self._mean(codes.information_loss(weight, p, book.posteriors), use) for weight, p, use in frames]
        return (lost[0] + lost[1]) / 2

    def _spread(self, soft: list[Tensor]) -> Tensor:
        """Minus the entropy of the mean soft assignment of both domains, in nats."""
        sums = sum((everybody(weight.mean(0)[None]).mean(0) for weight in soft), start=soft[0].new_zeros(()))
        return -codes.perplexity(sums).log()

    def _told(self, information: Tensor) -> dict[str, Tensor]:
        """What is logged and weighs nothing."""
        usage = self.trunk.book.usage
        source, target = codes.perplexity(usage)
        lost = information.detach() if self.config.information == "codeword" else usage.new_zeros(())
        bits = codes.divergence(usage[SOURCE], usage[TARGET])
        return {"perplexity_source": source, "perplexity_target": target, "domain_bits": bits, "lost_nats": lost}

    def _mean(self, values: Tensor, use: Tensor | None = None) -> Tensor:
        """The mean of values [n] of all ranks' frames, weighed by use [n], as a term of this rank."""
        use = torch.ones_like(values) if use is None else use.to(values.dtype)
        total = everybody(use.sum()[None]).sum().clamp_min(1e-6)
        return (use * values).sum() * num_ranks() / total

    @staticmethod
    def _target(batch: Batch) -> Tensor:
        if batch.target is None:
            raise ValueError("the source has no labels: collate it with labels and rows")
        return batch.target


class Coded(Trunk):
    """Log-mel frames, an encoder, unit vectors, codes, and back: pooled statistics of stretches and chunks under a small network."""

    def __init__(self, config: VqAdapt.Config, spec: Spec) -> None:
        front: Front = config.front
        super().__init__(front, spec)
        self.down = nn.Linear(front.width, config.code_width)
        self.up = nn.Linear(config.code_width, front.width)
        self.book = Codebook(config.num_codes, config.code_width, len(spec.classes), together=config.together)
        self.book.codes.requires_grad_(config.information == "codeword")
        self.temperature = config.temperature
        wide = self.hears.width
        self.head = nn.Sequential(
            nn.Dropout(front.dropout), nn.Linear(wide, 128), nn.GELU(), nn.Dropout(front.dropout), nn.Linear(128, len(spec.classes))
        )

    def forward(self, batch: Batch, domain: int) -> Heard:
        """A batch of one domain, by codes."""
        return self.frames(batch, domain, plain=False).coded

    def frames(self, batch: Batch, domain: int, plain: bool = True) -> Frames:
        """A batch of one domain frame by frame; without `plain` the uncoded answer is the coded one."""
        front = self._front()
        at = domain if self.front.standardise == "domain" else SOURCE
        heard, mask, exist = front.prepared(batch, self.centre[at], self.scale[at])
        encoded, mask = front.encoder(heard, mask)
        vectors = nn.functional.normalize(self.down(encoded[mask]), dim=-1)
        owner = exist.nonzero()[:, 0][:, None].expand_as(mask)[mask]
        quantised, code = self.book.quantised(vectors, domain)
        coded = self._answered(quantised, mask, exist)
        return Frames(vectors, quantised, code, owner, coded, self._answered(vectors, mask, exist).log_probs if plain else coded.log_probs)

    def weights(self, vectors: Tensor, domain: int) -> Tensor:
        """Soft assignments of vectors [n, d], [n, C]; where each domain has a half of the codes, to that half alone."""
        found = codes.soft_codes(vectors, self.book.codes, self.temperature)
        if self.book.together:
            return found
        half = found * self.book.own(domain)
        return half / half.sum(-1, keepdim=True).clamp_min(1e-12)

    def _front(self) -> LogMelFront:
        if not isinstance(self.hears, LogMelFront):
            raise ValueError(f"wanted log-mel frames, got {type(self.hears).__name__}")
        return self.hears

    def _answered(self, vectors: Tensor, mask: Tensor, exist: Tensor) -> Heard:
        """Pool vectors [n, d] of real frames and answer."""
        given = self.up(vectors)
        frames = given.new_zeros(*mask.shape, given.shape[-1])
        frames[mask] = given
        whole, parts = self._front().pool(frames, mask, exist)
        embedding = self.norm(whole)
        return Heard(embedding, self.head(embedding).log_softmax(-1), self.head(self.norm(parts)).log_softmax(-1))


def _with_overall(method: VqAdapt, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Weights of before the target's codes were remembered apart: what was remembered of the sure stretches stands in for all."""
    if prefix + "histograms" in state:
        state.setdefault(prefix + "overall", state[prefix + "histograms"][TARGET].sum(0))


def averaged(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """The mean of the frames' values [n, C] over each of `count` stretches, [B, C]."""
    total = values.new_zeros(count, values.shape[1]).index_add(0, owner, values)
    number = values.new_zeros(count).index_add(0, owner, torch.ones_like(values[:, 0]))
    return total / number.clamp_min(1.0)[:, None]


def evenly(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """REMEMBERED of each stretch's frames [n, d], evenly from its beginning to its end: [B, REMEMBERED, d]; owners are in order."""
    number = torch.bincount(owner, minlength=count)
    first = number.cumsum(0) - number
    steps = (torch.arange(REMEMBERED, device=values.device) + 0.5) / REMEMBERED
    at = first[:, None] + (steps * number[:, None]).long()
    return values[at.clamp_max(len(values) - 1)]
