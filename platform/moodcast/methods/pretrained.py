"""Pretrained: a speech encoder from the Hugging Face hub, probed, adapted by LoRA, or fine-tuned.

No single paper: the hidden states of all layers are weighted by a learned softmax (Yang et al., "SUPERB", Interspeech 2021), summarised by
mean and standard deviation over real frames, and answered by two dense layers. `tune` says what of the encoder trains: "none" (a probe;
what the encoder gives is then computed once and kept, `train.cache_features`), "lora" (Hu et al., ICLR 2022, by the peft library) or
"full", at once or layer by layer from the top, `thaw_per_epoch` of them each epoch (Howard & Ruder, "ULMFiT", ACL 2018).

WavLM, HuBERT, DistilHuBERT, wav2vec 2.0, UniSpeech-SAT, Wav2Vec2-BERT and the encoder of Whisper; nn/pretrained.py says how each is fed.
Its licence is the encoder's own. The default encoder is small with random weights: a control. jobs/pretrained.py names a real one.
Statistics are taken of layers instead of the weighted sum of layers, so that they can be kept; means are the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moodcast import attributes
from moodcast.attributes import AttributeHead, AttributeWeights
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec, View
from moodcast.nn import ranges
from moodcast.nn.identity import identity
from moodcast.nn.pool import placed
from moodcast.nn.pretrained import EXTRACTOR, FOLDER, RANDOM, SAMPLES, encoder_of, open_encoder
from moodcast.objectives import classes

FLOOR = 1e-6  # smallest variance: keeps the gradient of its root finite


class Pretrained(Method):
    """B stretches, C chunks, N chunks that exist, S states (embedding and layers), T frames, D width of the encoder, K classes."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Which encoder, and how it is used.

        encoder: a folder in the Hugging Face layout, a hub id, or random/FAMILY; revision: of the hub id. tune, thaw_per_epoch (0: all
        layers from the first epoch): see the module; tune_front also trains the convolutions of the input. encoder_lr_scale multiplies
        the learning rate for the encoder (LoRA's matrices take the full rate). recompute: layers of the encoder are computed again for
        their gradients instead of kept, which takes less memory and more time. width and dropout are of the dense layers.
        """

        weights: AttributeWeights = AttributeWeights()
        encoder: str = "random/wavlm"
        revision: str = "main"
        tune: Literal["none", "lora", "full"] = "none"
        thaw_per_epoch: int = 0
        tune_front: bool = False
        encoder_lr_scale: float = 0.02
        recompute: bool = False
        lora_rank: int = 8
        lora_alpha: int = 16
        lora_dropout: float = 0.0
        width: int = 256
        dropout: float = 0.1
        smoothing: float = 0.0

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing", "dropout", "lora_dropout")
            ranges.check(self, "[1, inf)", "width", "lora_rank", "lora_alpha")
            ranges.check(self, "[0, inf)", "thaw_per_epoch", "encoder_lr_scale")

    config: Config
    answers_attributes = True

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.encoder = encoder_of(config.encoder, config.revision, spec.files, spec.rate, spec.plan.length_s)
        if config.tune == "lora":
            self.encoder.adapt(config.lora_rank, config.lora_alpha, config.lora_dropout)
        elif config.tune == "full":
            self._thaw(0)
        if config.recompute and config.tune != "none":
            self.encoder.recompute()
        self.mix = nn.Parameter(torch.zeros(self.encoder.num_layers + 1))
        wide, width = 2 * self.encoder.width, config.width
        self.head = nn.Sequential(nn.Linear(wide, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, len(spec.classes)))
        self.rating = AttributeHead(wide, len(spec.attributes), config.dropout)

    @classmethod
    def make_ready(cls, config: Any, spec: Spec) -> None:
        """Find the encoder, or fetch it, once for all workers."""
        open_encoder(config.encoder, config.revision)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K] and chunk_emotion [B, C, K]: the same head on the statistics of all frames and of each chunk's frames."""
        moments = self.moments(batch) if batch.frozen is None else batch.frozen  # [B, C, S, 2 D]
        share = self.encoder.num_frames(batch.lengths).to(moments.dtype)
        share = share / share.sum(1, keepdim=True).clamp_min(1.0)
        whole = self._mixed((share[..., None, None] * moments).sum(1))
        parts = self._mixed(moments)
        emotion, chunk_emotion = (self.head(found).log_softmax(-1) for found in (whole, parts))
        return Prediction(emotion, chunk_emotion, attributes=self.rating(whole), embedding=whole)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy against the target distribution, weighted by utterance; attributes, where the run names some: 1 - CCC."""
        batch = batches["labelled"]
        found = self(batch)
        loss = classes.labelled(found.emotion, batch.target, batch.weight, self.config.smoothing)
        return {"classes": loss, **attributes.losses(found.attributes, batch)}

    def moments(self, batch: Batch) -> Tensor:
        """Mean and mean square of every state over the real frames of each chunk, [B, C, S, 2 D]; zero where no chunk is."""
        exist = batch.lengths > 0
        lengths = batch.lengths[exist]
        states, mask = self.encoder(batch.chunks[exist][:, : int(lengths.max())], lengths)
        count = mask.sum(-1)[:, None, None]
        return placed(torch.cat([states.sum(2), states.square().sum(2)], dim=-1) / count, exist)

    @torch.no_grad()
    def frozen(self, batch: Batch) -> Tensor:
        """What a frozen encoder gives: `moments`."""
        return self.moments(batch)

    def frozen_name(self) -> str:
        """The encoder's weights, files and code, where it stays frozen throughout."""
        return identity(self.encoder, *self.encoder.files.values(), code=(Pretrained, placed)) if self.config.tune == "none" else ""

    def files(self) -> dict[str, str]:
        """The encoder's config and feature extractor."""
        return {FOLDER + name: text for name, text in self.encoder.files.items()}

    def terms(self) -> str:
        """The encoder's own licence holds for a bundle that has it inside."""
        name, revision = self.config.encoder, self.config.revision
        if name.startswith(RANDOM):
            return "Its encoder was never pre-trained: a control."
        guessed = self.encoder.family in SAMPLES and EXTRACTOR not in self.encoder.files
        how = f" It came without {EXTRACTOR}, so samples are standardised, as most such encoders want it." if guessed else ""
        known_as = Path(name).name if Path(os.path.expanduser(name)).is_absolute() else name
        return f"It holds the encoder {known_as} ({revision}), whose own licence applies.{how}"

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The encoder with a learning rate of its own, and the rest."""
        scale = 1.0 if self.config.tune == "lora" else self.config.encoder_lr_scale
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        rest = [p for p in (self.mix, *self.head.parameters(), *self.rating.parameters()) if p.requires_grad]
        return [group for group in ({"params": encoder, "lr_scale": scale}, {"params": rest}) if group["params"]]

    def large_parts(self) -> list[nn.Module]:
        """The layers of an encoder that trains."""
        return [] if self.config.tune == "none" else list(self.encoder.layers)

    def start_epoch(self, epoch: int, view: View) -> None:
        """Gradual unfreezing: from the top, `thaw_per_epoch` layers more each epoch, none in the first."""
        if self.config.tune == "full":
            self._thaw(epoch)

    def train(self, mode: bool = True) -> Pretrained:
        """As usual, but an encoder that is frozen keeps its dropout off."""
        super().train(mode)
        if not any(p.requires_grad for p in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def _thaw(self, epoch: int) -> None:
        each, front = self.config.thaw_per_epoch, self.config.tune_front
        layers = each * epoch if each else None
        self.encoder.thaw(layers, front and (layers is None or layers >= self.encoder.num_layers))

    def _mixed(self, moments: Tensor) -> Tensor:
        """[..., S, 2 D] moments to the weighted layers' mean and standard deviation, [..., 2 D], each normalised over its D values."""
        mean, square = moments.chunk(2, dim=-1)
        deviation = (square - mean.square()).clamp_min(FLOOR).sqrt()
        normed = torch.cat([nn.functional.layer_norm(x, x.shape[-1:]) for x in (mean, deviation)], dim=-1)
        return (self.mix.softmax(-1)[:, None] * normed).sum(-2)
