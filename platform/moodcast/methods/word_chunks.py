"""WordChunks: what is said and how, with audio cut into as many pieces as there are words, wherever the words are.

Lin, Goncalves & Busso, "Enhancing Resilience to Missing Data in Audio-Text Emotion Recognition with Multi-Scale Chunk Regularization",
ICMI 2023. A stretch of T frames and W words becomes W pieces of m frames, piece i from (i (T - m)) / (W - 1) on, and in training a random
crop of each (a share of 0.2 to 1, anew each epoch); seven means over a crop (whole, halves, quarters) are a token of audio. Both sequences
begin with a summary, attend to themselves and then to each other; the two summaries answer. Words' boundaries are not used: the paper's
point is that exact ones do not help and make a model fragile where a modality is missing.

`align` and the shares of dropped modalities are the arms to compare: "exact" takes the true boundaries (`Utterance.words`) where a row has
them, "centred" pieces of m frames around them, "fixed" the pieces above uncropped. Where we leave the paper: classes instead of attributes;
log-mel from scratch instead of wav2vec 2.0 frames, and characters from scratch or any Hugging Face text encoder; layers are normalised
first; attention between modalities keeps the residual of the sequence that asks, where theirs adds the other's at the same place; a text
that is missing leaves its beginning alone, and the count of words is guessed from the duration; so it is for scripts that put no spaces
between words (below a word a second, nn/words.py). Reported there: no figures in the abstract. Reached here: docs/log.md.

Where words are timed in the dev split, too, dev scores of align=exact and align=centred rest on times that nobody has in serving, where
pieces are as under align=fixed: compare arms by `moodcast evaluate`, not by dev scores.

B stretches, C chunks of the plan (put together again first), T frames, F features, W words, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from moodcast import features
from moodcast.batch import Batch, Prediction, as_texts
from moodcast.method import Method, Spec
from moodcast.nn import ranges, words
from moodcast.nn.text import FOLDER, TextEncoder, open_text, text_encoder
from moodcast.nn.waves import joined, samples_in
from moodcast.objectives import classes

SCALE = 3.0  # nats, as in the other log-mel methods


class WordChunks(Method):
    """The audio-text system; see the module docstring. Text is welcome and never needed."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Widths, how audio is aligned with words, and what training leaves out.

        piece_s: seconds of a piece. words_per_s: how many pieces a second of audio has where there is no text, or too few words for its
        duration. drop_text and drop_audio: the share of stretches that training gives without the one or the other. text: a Hugging Face
        text encoder by folder or id (text_revision), "" for characters from scratch; tune_text trains it, too, at encoder_lr_scale times
        the learning rate.
        """

        align: Literal["random", "fixed", "centred", "exact"] = "random"
        piece_s: float = 0.5
        words_per_s: float = 2.5
        num_mels: int = 40
        width: int = 64
        layers: int = 2
        cross_layers: int = 1
        heads: int = 4
        dropout: float = 0.2
        drop_text: float = 0.3
        drop_audio: float = 0.0
        smoothing: float = 0.0
        text: str = ""
        text_revision: str = "main"
        tune_text: bool = False
        encoder_lr_scale: float = 0.02

        def __post_init__(self) -> None:
            ranges.check(self, "[0, 1]", "drop_text", "drop_audio")
            ranges.check(self, "[0, 1)", "smoothing")
            ranges.check(self, "[1, inf)", "width", "heads")
            ranges.check(self, "[0, inf)", "layers", "cross_layers")
            if self.width % self.heads or self.width % 2:
                raise ValueError(f"method.width={self.width} must be an even multiple of method.heads={self.heads}")

    config: Config
    inputs = ("waves", "text")

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        width = config.width
        self.log_mel = features.LogMel(spec.rate, config.num_mels)
        self.piece = max(1, round(config.piece_s / features.HOP_S))
        self.heard = nn.Linear(words.PARTS * 2 * config.num_mels, width)
        self.summary = nn.Parameter(0.02 * torch.randn(width))
        if config.text:
            self.reader: TextEncoder | words.CharacterEncoder = text_encoder(config.text, config.text_revision, spec.files)
            self.reader.requires_grad_(config.tune_text)
            for name, part in self.reader.named_parameters():
                part.requires_grad_(config.tune_text and "pooler" not in name)
        else:
            self.reader = words.CharacterEncoder(width)
        self.read = nn.Linear(self.reader.width, width)

        def attention(count: int) -> nn.ModuleList:
            return nn.ModuleList(words.Attend(width, config.heads, config.dropout) for _ in range(count))

        self.audio_layers, self.text_layers = attention(config.layers), attention(config.layers)
        self.audio_asks, self.text_asks = attention(config.cross_layers), attention(config.cross_layers)
        self.head = nn.Sequential(nn.LayerNorm(2 * width), nn.Dropout(config.dropout), nn.Linear(2 * width, len(spec.classes)))

    @classmethod
    def make_ready(cls, config: Any, spec: Spec) -> None:
        """Find the text encoder, or fetch it, once for all workers."""
        if config.text:
            open_text(config.text, config.text_revision)

    def forward(self, batch: Batch) -> Prediction:
        """emotion [B, K]; a stretch without text, or without any sample of audio, is answered from the other alone."""
        text = batch.lengths.new_zeros(batch.size, 1) if batch.text is None else batch.text
        sounding = (batch.lengths > 0).any(1)
        if self.training:
            text = text * (torch.rand(len(text), 1, device=text.device) >= self.config.drop_text)
            sounding = sounding & (torch.rand(len(text), device=text.device) >= self.config.drop_audio)
        audio, audio_mask = self._audio(batch, text, sounding)
        said, said_mask = self._said(text)
        for audio_layer, text_layer in zip(self.audio_layers, self.text_layers, strict=True):
            audio, said = audio_layer(audio, audio, audio_mask), text_layer(said, said, said_mask)
        for audio_asks, text_asks in zip(self.audio_asks, self.text_asks, strict=True):
            audio, said = audio_asks(audio, said, said_mask), text_asks(said, audio, audio_mask)
        both = torch.cat([audio[:, 0], said[:, 0]], dim=-1)
        return Prediction(emotion=self.head(both).log_softmax(-1), embedding=both)

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """classes: cross-entropy against the target distribution, weighted by utterance."""
        batch = batches["labelled"]
        return {"classes": classes.labelled(self(batch).emotion, batch.target, batch.weight, self.config.smoothing)}

    def files(self) -> dict[str, str]:
        """The text encoder's config and tokenizer."""
        if isinstance(self.reader, TextEncoder):
            return {FOLDER + name: text for name, text in self.reader.files.items()}
        return {}

    def terms(self) -> str:
        """The text encoder's own licence holds for a bundle that has it inside."""
        name = self.config.text
        if not name:
            return ""
        shown = Path(name).name if Path(name).is_absolute() else name
        return f"It holds the text encoder {shown} ({self.config.text_revision}), whose own licence applies."

    def parameter_groups(self) -> list[dict[str, Any]]:
        """A text encoder that trains has a learning rate of its own."""
        slow = [p for p in self.reader.parameters() if p.requires_grad] if self.config.text else []
        theirs = {id(p) for p in slow}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in theirs]
        return [group for group in ({"params": slow, "lr_scale": self.config.encoder_lr_scale}, {"params": rest}) if group["params"]]

    def train(self, mode: bool = True) -> WordChunks:
        """As usual, but a text encoder that is frozen keeps its dropout off."""
        super().train(mode)
        if self.config.text and not self.config.tune_text:
            self.reader.eval()
        return self

    def _audio(self, batch: Batch, text: Tensor, sounding: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of audio [B, 1 + W, D], the summary first, and their mask."""
        rate, plan = self.spec.rate, self.spec.plan
        lengths = batch.lengths.clone()
        lengths[:, 0] = lengths[:, 0].clamp_min(1)  # silence stands in where there is no audio, and is not attended to
        samples = samples_in(lengths, batch.seconds, plan, rate).clamp_min(1)
        frames, mask = self.log_mel(joined(batch.chunks, samples, plan, rate), samples)
        frames = features.level_normalised(frames, mask, samples[:, None] > 0) / SCALE
        frames = torch.cat([frames, features.deltas(frames, mask)], dim=-1)
        count = words.num_pieces(text, batch.seconds, self.config.words_per_s)
        starts, widths = self._pieces(batch, mask.sum(-1), count)
        tokens = self.heard(words.pyramid(frames, starts, widths))
        tokens = tokens + words.positions(tokens.shape[1], tokens.shape[2], tokens.device)
        there = (widths > 0) & sounding[:, None]
        first = self.summary.expand(len(tokens), 1, -1)
        return torch.cat([first, tokens * there[..., None]], dim=1), nn.functional.pad(there, (1, 0), value=True)

    def _pieces(self, batch: Batch, frames: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Where the pieces of audio begin and how wide they are, frames [B, W]; width 0 is none."""
        starts, widths = words.pieces(frames, count, self.piece)
        if self.config.align == "random" and self.training:
            return words.cropped(starts, widths)
        if self.config.align not in ("centred", "exact") or batch.words is None:
            return starts, widths
        edges = (batch.words[:, : words.MAX_WORDS] / features.HOP_S).round().long()
        first, last = torch.minimum(edges, frames[:, None, None] - 1).unbind(-1)
        there = batch.words[:, : words.MAX_WORDS, 1] > 0
        wide = (last - first).clamp_min(1)
        if self.config.align == "centred":
            wide = frames.clamp_max(self.piece)[:, None].expand_as(first)
            first = ((first + last - wide) // 2).clamp_min(0).minimum(frames[:, None] - wide)
        size = max(starts.shape[1], first.shape[1])
        known = there.any(1, keepdim=True)

        def chosen(true: Tensor, guessed: Tensor) -> Tensor:
            first, other = (nn.functional.pad(value, (0, size - value.shape[1])) for value in (true * there, guessed))
            return torch.where(known, first, other)

        return chosen(first, starts), chosen(wide, widths)

    def _said(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of text [B, N, D], its beginning first, and their mask."""
        states, mask = self.reader(as_texts(text)) if isinstance(self.reader, TextEncoder) else self.reader(text)
        tokens = self.read(states)
        place = words.positions(tokens.shape[1], tokens.shape[2], tokens.device)
        return (tokens + place) * mask[..., None], mask
