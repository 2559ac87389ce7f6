"""MultiLoss: four losses, energy-adaptive mixup, frame-level attention.

Wang et al., "Multi-Loss Learning for Speech Emotion Recognition with Energy-Adaptive Mixup and Frame-Level Attention", arXiv 2512.04551
(2025). A segment of another utterance is added to the sound at a drawn signal-to-noise ratio and the target is shared by duration and
energy (nn/mixup.py); frames look at each other and learned vectors gather them (nn/flam.py) into a latent f of 64 values, from which one
dense layer answers. The loss is a_kl KL(y || p) + a_f focal(y, p) + a_c centre(f) + a_s contrast(f / |f|): objectives/classes.py,
focal.py and contrast.py name the equations. Centres are parameters with a learning rate of their own.

The paper was read at second hand, and its code is not public: formulas of the mixup are those of a preprint by the same first author
(RRPO, Algorithm 1); the weights 1, 0.5, 0.002, 0.1, the range of -5 to 5 dB (their SeeNet's) and mixing half of the utterances are ours,
and so is the wiring of the attention. Where we leave the paper: an encoder of log-mel trained from scratch unless another is named
(theirs is WavLM-Large); attention within a chunk, so that a chunk has an answer of its own; utterances whose target is more than 0.3
another's are left out of the contrast, where they would draw classes together; utterances of all ranks are contrasted with each other.
Reported there, split unknown: RAVDESS, 8 classes, 92.3 % UAR; IEMOCAP, 4 classes, 79.1 %. Reached here: not measured yet;
benchmarks/multi_loss.py compares mixups and losses, speakers apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moodcast import features
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Spec
from moodcast.nn import ranges
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.flam import pooling
from moodcast.nn.identity import identity
from moodcast.nn.mixup import Mix, beta_shares, blended, mixed, partners
from moodcast.nn.pool import placed
from moodcast.nn.pretrained import FOLDER, RANDOM, encoder_of, open_encoder
from moodcast.nn.ranks import everybody, num_ranks, shared
from moodcast.nn.waves import cut, joined, samples_in
from moodcast.objectives import classes, contrast
from moodcast.objectives.focal import focal

LOG_MEL = "log_mel"
SCALE = 3.0  # nats, as in the other log-mel methods


@dataclass(frozen=True)
class Weights:
    """How much each loss counts; only their ratios matter under Adam, so kl may stay 1."""

    kl: float = 1.0
    focal: float = 0.5
    centre: float = 0.002
    contrast: float = 0.1


class MultiLoss(Method):
    """B stretches, C chunks, N chunks that exist, S states, T frames, D width, F pooled values, W latent width, K classes."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """The losses, the mixup, the attention, the encoder.

        gamma: of the focal loss (0 makes it cross-entropy). temperature: of the contrast. pure_share: how much of a target may be
        another's for the contrast to count it. centre_lr_scale multiplies the learning rate for the centres. smoothing mixes targets with
        the uniform one. mix: nn/mixup.py. pool: "flam" or, to compare, "mean" or "max"; heads (0: no self-attention; the paper's 16 are
        for a width of 1024), vectors and broadcast are of "flam". latent: width of f. encoder: "log_mel" (num_mels, width, channels,
        layers, hide_bands, hide_s as in Erm), or a folder in the Hugging Face layout, a hub id, random/FAMILY (revision, tune, lora_rank,
        lora_alpha and encoder_lr_scale as in Pretrained; layer: which hidden state, 0 is the embedding, None a learned mixture of all).
        """

        weights: Weights = Weights()  # type: ignore[assignment]
        gamma: float = 2.0
        temperature: float = 0.1
        pure_share: float = 0.3
        centre_lr_scale: float = 1.0
        smoothing: float = 0.0
        mix: Mix = Mix()
        pool: Literal["flam", "mean", "max"] = "flam"
        heads: int = 4
        vectors: int = 4
        broadcast: bool = True
        latent: int = 64
        dropout: float = 0.1
        encoder: str = LOG_MEL
        num_mels: int = 64
        width: int = 160
        channels: int = 16
        layers: int = 2
        hide_bands: int = 0
        hide_s: float = 0.0
        revision: str = "main"
        tune: Literal["none", "lora", "full"] = "none"
        encoder_lr_scale: float = 0.1
        lora_rank: int = 8
        lora_alpha: int = 16
        layer: int | None = None

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1)", "smoothing")
            ranges.check(self, "(0, inf)", "temperature")
            ranges.check(self, "[0, inf)", "gamma", "centre_lr_scale", "layers")
            ranges.check(self, "[1, inf)", "width", "channels", "latent")

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.frames: LogMelFrames | NamedFrames = LogMelFrames(config, spec) if config.encoder == LOG_MEL else NamedFrames(config, spec)
        self.pool = pooling(config.pool, self.frames.width, config.heads, config.vectors, config.broadcast)
        self.latent = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(self.pool.out, config.latent))
        self.head = nn.Linear(config.latent, len(spec.classes))
        self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(spec.classes), config.latent)))

    @classmethod
    def make_ready(cls, config: Any, spec: Spec) -> None:
        """Find a named encoder, or fetch it, once for all workers."""
        if config.encoder != LOG_MEL:
            open_encoder(config.encoder, config.revision)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K] and chunk_emotion [B, C, K]: the same head on what is pooled of all frames and of each chunk's; embedding f."""
        whole, parts = self._pooled(batch)
        latent = self.latent(whole)
        return Prediction(self.head(latent).log_softmax(-1), self.head(self.latent(parts)).log_softmax(-1), embedding=latent)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """kl, focal, centre and contrast, each weighted by utterance; all four are computed, whatever they weigh."""
        config, (batch, share) = self.config, self._mixed(batches["labelled"])
        target, weight = batch.target, batch.weight
        if target is None:
            raise ValueError("this batch has no target: collate it with labels and rows")
        weight = torch.ones_like(target[:, 0]) if weight is None else weight
        pooled, _ = self._pooled(batch)
        if self.training and config.mix.of_vectors:
            partner, chosen = partners(batch.size, config.mix.share, pooled.device)
            share = torch.where(chosen, beta_shares(batch.size, config.mix.alpha, pooled.device), 0.0)
            pooled, target, weight = (blended(value, partner, share) for value in (pooled, target, weight))
        latent = self.latent(pooled)
        log_probs = self.head(latent).log_softmax(-1)
        kind, pure = target.argmax(-1), torch.minimum(share, 1.0 - share) <= config.pure_share
        smooth = (1.0 - config.smoothing) * target + config.smoothing / target.shape[-1]
        return {
            "kl": classes.divergence(log_probs, smooth, weight),
            "focal": focal(log_probs, smooth, config.gamma, weight),
            "centre": contrast.centre(latent, kind, self.centres, weight),
            "contrast": self._contrast(latent, kind, weight, pure),
        }

    def _contrast(self, latent: Tensor, kind: Tensor, weight: Tensor, pure: Tensor) -> Tensor:
        """Among the utterances of all ranks while they train, so that any number of them learns the same."""
        if not self.training or num_ranks() == 1:
            return contrast.supervised(latent, kind, self.config.temperature, weight, pure)
        every = [everybody(value) for value in (latent, kind, weight, pure.long())]
        return shared(contrast.supervised(every[0], every[1], self.config.temperature, every[2], every[3].bool()))

    def _mixed(self, batch: Batch) -> tuple[Batch, Tensor]:
        """In training, a batch of mixed sound with its targets, and which part of each target is another's, [B]."""
        if not self.training or not self.config.mix.of_sound or batch.target is None:
            return batch, batch.seconds.new_zeros(batch.size)
        plan, rate = self.spec.plan, self.spec.rate
        samples = samples_in(batch.lengths, batch.seconds, plan, rate)
        made = mixed(joined(batch.chunks, samples, plan, rate), samples, self.config.mix)
        chunks, lengths = cut(made.waves, made.lengths, plan, rate)
        target = blended(batch.target, made.partner, made.share)
        weight = None if batch.weight is None else blended(batch.weight, made.partner, made.share)
        return replace(batch, chunks=chunks, lengths=lengths, seconds=made.lengths / rate, target=target, weight=weight), made.share

    def _pooled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is pooled of stretches, [B, F], and of their chunks, [B, C, F]."""
        whole, parts = self.pool(*self.frames(batch), batch.lengths > 0)
        return whole, parts

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A named encoder and the centres with learning rates of their own, centres without weight decay, and the rest."""
        slow = [p for p in self.frames.slow() if p.requires_grad]
        apart = {id(p) for p in (*slow, self.centres)}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in apart]
        centres = [self.centres] if self.centres.requires_grad else []
        groups: list[dict[str, Any]] = [
            {"params": slow, "lr_scale": 1.0 if self.config.tune == "lora" else self.config.encoder_lr_scale},
            {"params": centres, "lr_scale": self.config.centre_lr_scale, "weight_decay": 0.0},
            {"params": rest},
        ]
        return [group for group in groups if group["params"]]

    @torch.no_grad()
    def frozen(self, batch: Batch) -> Tensor:
        """One hidden state of a named encoder, [B, C, T, D] with the T of a full chunk."""
        return self.frames.kept(batch)

    def frozen_name(self) -> str:
        """The encoder's weights, files, layer and code, where it stays frozen, a single state is used and no sound is mixed."""
        config, part = self.config, self.frames
        if not isinstance(part, NamedFrames) or config.tune != "none" or config.layer is None or config.mix.of_sound:
            return ""
        return identity(part.encoder, *part.encoder.files.values(), str(config.layer), code=(MultiLoss, placed))

    def files(self) -> dict[str, str]:
        """A named encoder's config and feature extractor."""
        part = self.frames
        return {FOLDER + name: text for name, text in part.encoder.files.items()} if isinstance(part, NamedFrames) else {}

    def terms(self) -> str:
        """A named encoder's own licence holds for a bundle that has it inside."""
        name, revision = self.config.encoder, self.config.revision
        if name == LOG_MEL:
            return ""
        if name.startswith(RANDOM):
            return "Its encoder was never pre-trained: a control."
        return f"It holds the encoder {Path(name).name if Path(name).is_absolute() else name} ({revision}), whose own licence applies."

    def train(self, mode: bool = True) -> MultiLoss:
        """As usual, but a named encoder that is frozen keeps its dropout off."""
        super().train(mode)
        if isinstance(self.frames, NamedFrames) and self.config.tune == "none":
            self.frames.encoder.eval()
        return self


class LogMelFrames(nn.Module):
    """Frames of the convolutional encoder over level-normalised log-mel: a batch to [N, T, D] and mask [N, T]."""

    def __init__(self, config: MultiLoss.Config, spec: Spec) -> None:
        super().__init__()
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.encoder = ConvEncoder(config.num_mels, config.width, config.channels, config.layers, config.dropout)
        self.width, self.hide_bands, self.hide_s = config.width, config.hide_bands, config.hide_s

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See the class."""
        frames, mask, exist = features.chunk_frames(self.log_mel, batch.chunks, batch.lengths)
        frames = features.level_normalised(frames, mask, exist) / SCALE
        if self.training:
            frames = features.band_and_time_masked(frames, mask, self.hide_bands, self.hide_s)
        found, mask = self.encoder(frames, mask)
        return found, mask

    def slow(self) -> list[nn.Parameter]:
        """Nothing of it has a learning rate of its own."""
        return []

    def kept(self, batch: Batch) -> Tensor:
        """Nothing of it is frozen."""
        raise TypeError("the log-mel encoder trains, so that nothing it makes can be kept")


class NamedFrames(nn.Module):
    """Frames of a pre-trained encoder, one of its hidden states or their learned mixture: a batch to [N, T, D] and mask [N, T]."""

    def __init__(self, config: MultiLoss.Config, spec: Spec) -> None:
        super().__init__()
        self.encoder = encoder_of(config.encoder, config.revision, spec.files, spec.rate, spec.plan.length_s)
        self.layer, count = config.layer, self.encoder.num_layers
        if self.layer is not None and not 0 <= self.layer <= count:
            raise ValueError(f"method.layer must be 0 (the embedding) to {count} (the last layer) for this encoder, got {self.layer}")
        if self.layer is not None and config.tune != "none":
            raise ValueError(
                f"above method.layer={self.layer} nothing would learn; with method.tune={config.tune} leave method.layer at none"
            )
        if config.tune == "lora":
            self.encoder.adapt(config.lora_rank, config.lora_alpha, dropout=0.0)
        elif config.tune == "full":
            self.encoder.thaw()
        self.mixture = nn.Parameter(torch.zeros(count + 1)) if self.layer is None else None
        self.norm = nn.LayerNorm(self.encoder.width)  # states differ in scale from encoder to encoder
        self.width = self.encoder.width

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See the class; of kept features where the batch brings them."""
        exist = batch.lengths > 0
        lengths = batch.lengths[exist]
        if batch.frozen is not None:
            count = self.encoder.num_frames(lengths)
            longest = int(count.max())
            return self.norm(batch.frozen[exist][:, :longest]), torch.arange(longest, device=count.device) < count[:, None]
        states, mask = self.encoder(batch.chunks[exist][:, : int(lengths.max())], lengths)
        chosen = states[:, self.layer] if self.mixture is None else torch.einsum("s,nstd->ntd", self.mixture.softmax(0), states)
        return self.norm(chosen), mask

    def slow(self) -> list[nn.Parameter]:
        """The encoder's own."""
        return list(self.encoder.parameters())

    def kept(self, batch: Batch) -> Tensor:
        """`layer` of every chunk, [B, C, T, D], as many frames as a full chunk has."""
        exist = batch.lengths > 0
        lengths = batch.lengths[exist]
        states, _ = self.encoder(batch.chunks[exist][:, : int(lengths.max())], lengths)
        full = int(self.encoder.num_frames(torch.tensor(batch.chunks.shape[-1])))
        return placed(nn.functional.pad(states[:, self.layer][:, :full], (0, 0, 0, max(0, full - states.shape[2]))), exist)
