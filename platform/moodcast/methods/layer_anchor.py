"""Layer anchor: the layers of an encoder that carry over to the target anyhow are held together, and all layers answer.

Upadhyay, Busso, Lee, "A Layer-Anchoring Strategy for Enhancing Cross-Lingual Speech Emotion Recognition", Interspeech 2024, arXiv
2407.04966: of the layers of an encoder some represent emotion alike in two languages; aligning a group of them (CORAL) helps more than
the last one. The text was not to be had, so that how layers are chosen is our reading: without any label of the target, by how alike
the covariances of both corpora are, set against two halves of the source, times how well a linear probe tells the source's classes
(nn/anchors.py). The group of neighbours with the highest mean is the anchor; `anchors` has the controls: the best single layer, the last,
all, a random group, none.

Layers are those of a small convolutional encoder that is trained, or of any Hugging Face encoder, frozen. Each goes through an adapter of
its own; a learned mixture of all is answered. Covariances come from moving averages, because a batch is too small for them; every corpus
is heard through its own statistics (`moodcast.adapting`). A method does not know who speaks, so that halves and the probe's folds are of
stretches, not of speakers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from moodcast import method
from moodcast.adapting import SOURCE, TARGET, Adapting, Heard, LogMelFront, Trunk
from moodcast.batch import Batch
from moodcast.method import Spec, View
from moodcast.nn import anchors, ranges
from moodcast.nn.identity import identity
from moodcast.nn.pool import masked_mean, placed
from moodcast.nn.pretrained import FOLDER, RANDOM, encoder_of, open_encoder
from moodcast.nn.ranks import everybody, shared
from moodcast.objectives import domain

HIDDEN = 128  # of the classifier
MEANS = 0.1  # what the distance of means counts beside that of covariances


@dataclass(frozen=True)
class Weights(method.Weights):
    """anchor: the distance of the anchored layers in both domains."""

    classes: float = 1.0
    anchor: float = 10.0


class LayerAnchor(Adapting):
    """B stretches, C chunks, S layers, W width of an adapter, K classes."""

    streams: ClassVar[tuple[str, ...]] = ("source", "target")

    @dataclass(frozen=True)
    class Config(Adapting.Config):
        """encoder: "" for the small one of `front`, which is trained; else a folder in the Hugging Face layout, a hub id or random/FAMILY,
        frozen; revision: of the hub id. anchors: how layers are chosen; group: how many neighbours; draw: of the random group. warm: the
        share of training after which they are chosen, where an epoch begins and before the last of several at the latest (with one epoch
        only by warm=0; a frozen encoder: before it). width: of adapters. memory: decay of covariances.
        """

        weights: Weights = Weights()
        encoder: str = ""
        revision: str = "main"
        anchors: Literal["group", "single", "last", "all", "random", "none"] = "group"
        group: int = 2
        draw: int = 0
        warm: float = 0.2
        width: int = 64
        memory: float = 0.9

        def __post_init__(self) -> None:
            super().__post_init__()
            ranges.check(self, "[0, 1]", "warm", "memory")
            ranges.check(self, "[1, inf)", "group", "width")

    config: Config
    trunk: Layered
    anchored: Tensor
    chosen: Tensor
    likeness: Tensor
    probe: Tensor
    centres: Tensor
    covariances: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(self, config: Config, spec: Spec) -> None:
        if config.front.kind != "log_mel":
            raise ValueError("layer_anchor needs layers of an encoder: set method.front.kind=log_mel, or name one in method.encoder")
        super().__init__(config, spec)
        self.trunk = Layered(config, spec)
        count, width = self.trunk.num_layers, config.width
        self.register_buffer("anchored", torch.zeros(count))  # 1 for the layers that are held together
        self.register_buffer("chosen", torch.zeros((), dtype=torch.bool))
        self.register_buffer("likeness", torch.zeros(count))  # what the choice rests on
        self.register_buffer("probe", torch.zeros(count))
        self.register_buffer("centres", torch.zeros(2, count, width))  # of both domains, remembered
        self.register_buffer("covariances", torch.zeros(2, count, width, width))
        self.register_buffer("spread", torch.ones(count, width))
        self.register_buffer("seen", torch.zeros(()))

    @classmethod
    def make_ready(cls, config: Any, spec: Spec) -> None:
        """Find the encoder, or fetch it, once for all workers."""
        if config.encoder:
            open_encoder(config.encoder, config.revision)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy on the source; anchor: of the layers chosen, mean distance of both domains (0 until they are chosen)."""
        (source, source_layers), (_, target_layers) = (
            self.trunk.both(batches[name], at) for name, at in (("source", SOURCE), ("target", TARGET))
        )
        apart = self._apart(everybody(source_layers), everybody(target_layers))
        anchor = (self.anchored * apart).sum() / self.anchored.sum().clamp_min(1.0)
        return {"classes": self.classes(batches, source), "anchor": self.ramp() * shared(anchor)}

    def fit_once(self, view: View) -> None:
        """The statistics of both domains; the choice, where the encoder is frozen. What an earlier training chose is forgotten."""
        super().fit_once(view)
        for kept in (self.chosen, self.anchored, self.seen):
            kept.zero_()
        if self.config.encoder:
            self._choose(view)

    def start_epoch(self, epoch: int, view: View) -> None:
        """The choice, once a small encoder has learned something."""
        done = float(self.progress)
        last = done > 0 and epoch + 1 >= round(epoch / done)  # of as many epochs
        if not bool(self.chosen) and (done >= self.config.warm or last):
            self._choose(view)

    def frozen(self, batch: Batch) -> Tensor:
        """The mean of every layer of a frozen encoder over each chunk, [B, C, S, D]."""
        if not isinstance(self.trunk.hears, StatesFront):
            return super().frozen(batch)
        return self.trunk.hears.found(batch)

    def frozen_name(self) -> str:
        """The encoder's weights, files and code; nothing stays frozen of the small one."""
        if not isinstance(self.trunk.hears, StatesFront):
            return ""
        encoder = self.trunk.hears.encoder
        return identity(encoder, "means", *encoder.files.values(), code=(LayerAnchor, placed))

    def files(self) -> dict[str, str]:
        """The encoder's config and feature extractor, where it is one of the hub."""
        hears = self.trunk.hears
        return {FOLDER + name: text for name, text in hears.encoder.files.items()} if isinstance(hears, StatesFront) else {}

    def terms(self) -> str:
        """The encoder's own licence holds for a bundle that has it inside."""
        name = self.config.encoder
        if not name:
            return ""
        if name.startswith(RANDOM):
            return "Its encoder was never pre-trained: a control."
        return f"It holds the encoder {Path(name).name if Path(name).is_absolute() else name}, whose own licence applies."

    def _choose(self, view: View) -> None:
        """Fill `likeness`, `probe` and `anchored`, from sounds of both domains and labels of the source."""
        config, count = self.config, self.trunk.num_layers
        size = self.trunk.sizes
        source = view.features(lambda batch: self.trunk.vectors(batch, SOURCE), "source").double().cpu()
        target = view.features(lambda batch: self.trunk.vectors(batch, TARGET), "target").double().cpu()
        truth = view.features(_classes_of, "source").cpu().numpy()
        for layer, (a, b) in enumerate(zip(torch.split(source, size, dim=1), torch.split(target, size, dim=1), strict=True)):
            self.likeness[layer] = anchors.likeness(a.numpy(), b.numpy())
            self.probe[layer] = anchors.probe(a.numpy(), truth)
        scores = (self.likeness * self.probe).tolist()
        found = {
            "group": anchors.best_group(scores, config.group),
            "single": anchors.best_group(scores, 1),
            "last": [count - 1],
            "all": list(range(count)),
            "random": anchors.random_group(count, config.group, config.draw),
            "none": [],
        }[config.anchors]
        self.anchored.zero_()
        self.anchored[found] = 1.0
        self.chosen.fill_(True)

    def _apart(self, source: Tensor, target: Tensor) -> Tensor:
        """CORAL and a share of the distance of means of [B, S, W] and [B, S, W], layer by layer, [S], after moving averages."""
        both = (source, target)
        if self.training:
            with torch.no_grad():
                now = torch.cat(both).var(0, unbiased=False).clamp_min(1e-6).sqrt()
                self.spread.copy_(torch.where(self.seen > 0, self.config.memory * self.spread + (1 - self.config.memory) * now, now))
        rate = torch.where(self.seen > 0, torch.as_tensor(self.config.memory, device=source.device), torch.zeros_like(self.seen))
        standard = [values / self.spread for values in both]
        centres = torch.stack([rate * old + (1 - rate) * each.mean(0) for old, each in zip(self.centres, standard, strict=True)])
        now_apart = torch.stack([torch.stack([domain.covariance(each[:, layer]) for layer in range(each.shape[1])]) for each in standard])
        covariances = rate * self.covariances + (1 - rate) * now_apart
        if self.training:
            self.centres.copy_(centres.detach())
            self.covariances.copy_(covariances.detach())
            self.seen.fill_(1.0)
        width = source.shape[-1]
        coral = (covariances[SOURCE] - covariances[TARGET]).square().sum((1, 2)) / (4.0 * width**2)
        return coral + MEANS * (centres[SOURCE] - centres[TARGET]).square().mean(-1)


class StatesFront(nn.Module):
    """The layers of a frozen Hugging Face encoder, each as its mean over a stretch's real frames."""

    usual_scale, least_scale = 1.0, 1e-6

    def __init__(self, config: LayerAnchor.Config, spec: Spec) -> None:
        super().__init__()
        self.encoder = encoder_of(config.encoder, config.revision, spec.files, spec.rate, spec.plan.length_s)
        self.widths = (self.encoder.width,) * (self.encoder.num_layers + 1)
        self.size = self.width = sum(self.widths)

    def train(self, mode: bool = True) -> StatesFront:
        """A frozen encoder keeps its dropout off."""
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def found(self, batch: Batch) -> Tensor:
        """The mean of every state over the real frames of each chunk, [B, C, S, D]; zero where no chunk is."""
        exist = batch.lengths > 0
        lengths = batch.lengths[exist]
        states, mask = self.encoder(batch.chunks[exist][:, : int(lengths.max())], lengths)
        return placed(states.sum(2) / mask.sum(-1)[:, None, None], exist)

    def chunk_means(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """All layers in a row of each chunk [B, C, S D], and its share of the stretch's frames [B, C]."""
        given = self.found(batch) if batch.frozen is None else batch.frozen
        frames = self.encoder.num_frames(batch.lengths).to(given.dtype)
        return given.flatten(2), frames / frames.sum(1, keepdim=True).clamp_min(1.0)

    def sums(self, batch: Batch) -> Tensor:
        """Of each stretch the layers, their squares, and one: [B, 2 S D + 1]."""
        parts, share = self.chunk_means(batch)
        whole = (share[..., None] * parts).sum(1).double()
        return torch.cat([whole, whole.square(), whole.new_ones(len(whole), 1)], dim=-1)


class Layered(Trunk):
    """Layers of an encoder, an adapter each, a learned mixture of them, and a small network."""

    def __init__(self, config: LayerAnchor.Config, spec: Spec) -> None:
        super().__init__(config.front, spec)
        if config.encoder:
            hears = StatesFront(config, spec)
            self.hears = hears  # type: ignore[assignment]
            self.sizes = list(hears.widths)
            self.register_buffer("centre", torch.zeros(2, hears.size))
            self.register_buffer("scale", torch.ones(2, hears.size))
        else:
            self.sizes = list(self._log_mel().encoder.widths)
            self._log_mel().pool = nn.Identity()  # type: ignore[assignment]
        self.num_layers = len(self.sizes)
        self.adapters = nn.ModuleList(nn.Sequential(nn.Linear(size, config.width), nn.GELU()) for size in self.sizes)
        self.mix = nn.Parameter(torch.zeros(self.num_layers))
        self.norm = nn.LayerNorm(config.width)
        dropout, wide = nn.Dropout(config.front.dropout), len(spec.classes)
        self.head = nn.Sequential(nn.Linear(config.width, HIDDEN), nn.GELU(), dropout, nn.Linear(HIDDEN, wide))

    def forward(self, batch: Batch, domain: int) -> Heard:
        """A batch of one domain."""
        return self.both(batch, domain)[0]

    def both(self, batch: Batch, domain: int) -> tuple[Heard, Tensor]:
        """The same, and its adapted layers [B, S, W]."""
        parts, share = self._chunks(batch, domain)  # [B, C, sum of D], [B, C]
        layers = self._adapted((share[..., None] * parts).sum(1))
        embedding = self._mixed(layers)
        chunks = self.head(self._mixed(self._adapted(parts))).log_softmax(-1)
        return Heard(embedding, self.head(embedding).log_softmax(-1), chunks), layers

    def vectors(self, batch: Batch, domain: int) -> Tensor:
        """The layers of stretches before their adapters, all in a row [B, sum of D]."""
        parts, share = self._chunks(batch, domain)
        return (share[..., None] * parts).sum(1)

    def _chunks(self, batch: Batch, domain: int) -> tuple[Tensor, Tensor]:
        """Means of all layers of each chunk, and the chunks' shares of their stretch."""
        at = domain if self.front.standardise == "domain" else SOURCE
        if isinstance(self.hears, StatesFront):
            parts, share = self.hears.chunk_means(batch)
            return ((parts - self.centre[at]) / self.scale[at]).clamp(-10.0, 10.0), share
        front = self._log_mel()
        frames, mask, exist = front.prepared(batch, self.centre[at], self.scale[at])
        states = front.encoder.states(frames, mask)
        means = torch.cat([masked_mean(values, real) for values, real in states], dim=-1)
        count = placed(mask.sum(-1).to(means.dtype), exist)
        return placed(means, exist), count / count.sum(1, keepdim=True).clamp_min(1.0)

    def _adapted(self, values: Tensor) -> Tensor:
        """[..., sum of D] to [..., S, W]."""
        return torch.stack(
            [adapter(part) for adapter, part in zip(self.adapters, torch.split(values, self.sizes, dim=-1), strict=True)], dim=-2
        )

    def _mixed(self, layers: Tensor) -> Tensor:
        mixed: Tensor = self.norm((self.mix.softmax(-1)[:, None] * layers).sum(-2))
        return mixed

    def _log_mel(self) -> LogMelFront:
        if not isinstance(self.hears, LogMelFront):
            raise ValueError(f"wanted log-mel frames, got {type(self.hears).__name__}")
        return self.hears


def _classes_of(batch: Batch) -> Tensor:
    if batch.target is None:
        raise ValueError("the source has no labels: collate it with labels and rows")
    return batch.target.argmax(-1)
