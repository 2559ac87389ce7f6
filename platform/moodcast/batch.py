"""Batch, Prediction and `collate`: the one door from waveform to model input, used by trainer, evaluator and server alike.

Shapes: B stretches, C chunks, L samples of a chunk, K classes, A attributes, T frames, D width, N bytes of text, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moodcast.chunks import ChunkPlan, samples_of
from moodcast.labels import Labels
from moodcast.manifest import Utterance

TEXT_BYTES = 1024  # of UTF-8: what is said in a minute; longer texts are cut there


@dataclass(frozen=True)
class Batch:
    """What a method sees. Made only by `collate`.

    chunks [B, C, L] float32, zero where padded; lengths [B, C] int64 samples that are real (0 = no chunk there);
    target [B, K] a distribution over classes, weight [B] how much each utterance counts, seconds [B] the stretch's duration.
    frozen [B, C, ...]: what the method's frozen part makes of it, where the feature cache has it; zero for chunks that are not there.
    text [B, N] int64: the UTF-8 bytes of what is said, each plus one, zero behind them; all zero where that is not known, and None where it
    is of none. words [B, W, 2] float32: when each word begins and ends, seconds from the stretch's start, zero behind them; None likewise.
    attributes [B, A] in [0, 1], NaN where one is not known; None where the labels name none.
    """

    chunks: Tensor
    lengths: Tensor
    seconds: Tensor
    target: Tensor | None = None
    weight: Tensor | None = None
    frozen: Tensor | None = None
    text: Tensor | None = None
    words: Tensor | None = None
    attributes: Tensor | None = None

    @property
    def size(self) -> int:
        """B, the number of stretches."""
        return self.chunks.shape[0]

    def weighted_targets(self) -> Tensor:
        """Target distribution and weight of each stretch, [B, K + 1]. Raises ValueError where the batch has none."""
        if self.target is None or self.weight is None:
            raise ValueError("this batch has no target: collate it with labels and rows")
        return torch.cat([self.target, self.weight[:, None]], dim=1)

    def parts(self, count: int) -> list[Batch]:
        """The stretches in `count` batches one after the other, of equal size where that is possible; fewer where there are fewer."""
        sizes = [len(part) for part in torch.arange(self.size).tensor_split(count)]
        tensors = {f.name: torch.split(value, sizes) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return [replace(self, **{name: part[i] for name, part in tensors.items()}) for i, size in enumerate(sizes) if size]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {f.name: value.to(device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Prediction:
    """What a method answers; whatever it does not model is None.

    emotion [B, K] and chunk_emotion [B, C, K] log-probabilities; attributes [B, A] in [0, 1]; trace [B, T, A] with trace_std of the same
    shape; embedding [B, D]; audio [B, C, L].
    """

    emotion: Tensor | None = None
    chunk_emotion: Tensor | None = None
    attributes: Tensor | None = None
    trace: Tensor | None = None
    trace_std: Tensor | None = None
    embedding: Tensor | None = None
    audio: Tensor | None = None


def collate(
    waves: Sequence[NDArray[np.float32]],
    plan: ChunkPlan,
    rate: int,
    labels: Labels | None = None,
    rows: Sequence[Utterance] | None = None,
    texts: Sequence[str | None] | None = None,
) -> Batch:
    """Cut stretches by the plan and pad them into one batch.

    waves: mono float32 at `rate` Hz, each at most `plan.max_s` long. With `labels` and `rows`, targets come along. texts: what is said in
    each, where that is known; of `rows` it is taken from them, as are the times of words.
    Raises ValueError for an empty list, an empty stretch, one that is too long, or one that is not finite.
    """
    if not waves:
        raise ValueError("a batch needs at least one stretch of audio, got none")
    length = max(1, samples_of(plan.length_s, rate))
    spans = [plan.spans(len(wave), rate) for wave in waves]
    width = max(len(found) for found in spans)
    chunks = np.zeros((len(waves), width, length), dtype=np.float32)
    lengths = np.zeros((len(waves), width), dtype=np.int64)
    for b, (wave, found) in enumerate(zip(waves, spans, strict=True)):
        if not np.isfinite(wave).all():
            raise ValueError(f"stretch {b} of the batch holds NaN or infinite samples; read audio with moodcast.audio.read")
        for c, (start, stop) in enumerate(found):
            chunks[b, c, : stop - start] = wave[start:stop]
            lengths[b, c] = stop - start
    seconds = torch.tensor([len(wave) / rate for wave in waves], dtype=torch.float32)
    if texts is None and rows is not None:
        texts = [row.text for row in rows]
    text = as_bytes(texts) if texts is not None and any(texts) else None
    words = None if rows is None or not any(row.words for row in rows) else word_times(rows, seconds)
    batch = Batch(torch.from_numpy(chunks), torch.from_numpy(lengths), seconds, text=text, words=words)
    return batch if labels is None or rows is None else _with_targets(batch, labels, rows)


def as_bytes(texts: Sequence[str | None]) -> Tensor:
    """Texts as `Batch.text`, [B, N]; what is longer than TEXT_BYTES is cut after a whole character."""
    rows = [(text or "").strip().encode()[:TEXT_BYTES].decode(errors="ignore").encode() for text in texts]
    out = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int64)
    for row, line in zip(rows, out, strict=True):
        line[: len(row)] = torch.tensor(list(row), dtype=torch.int64) + 1
    return out


def as_texts(text: Tensor) -> list[str]:
    """The texts of `Batch.text` [B, N]; "" where nothing is known."""
    return [bytes(int(byte) - 1 for byte in row if byte > 0).decode(errors="ignore") for row in text.tolist()]


def word_times(rows: Sequence[Utterance], seconds: Tensor) -> Tensor:
    """The words of rows as `Batch.words`, [B, W, 2]; what lies outside a stretch of so many `seconds` [B] is left out."""
    found = []
    for row, end in zip(rows, seconds.tolist(), strict=True):
        times = [(max(0.0, start - row.start_s), min(end, stop - row.start_s)) for _, start, stop in row.words or ()]
        found.append([(start, stop) for start, stop in times if stop > start])
    out = torch.zeros(len(rows), max(1, *map(len, found)), 2)
    for times, line in zip(found, out, strict=True):
        if times:
            line[: len(times)] = torch.tensor(times)
    return out


def _with_targets(batch: Batch, labels: Labels, rows: Sequence[Utterance]) -> Batch:
    if len(rows) != batch.size:
        raise ValueError(f"{batch.size} stretches came with {len(rows)} manifest rows; wanted one row a stretch")
    targets = []
    for row in rows:
        target = labels.target(row)
        if target is None:
            raise ValueError(f"{row.id}: emotion {row.emotion!r} is not among {labels.classes}; drop it first with Labels.keep")
        targets.append(target)
    weight = torch.tensor([row.weight for row in rows], dtype=torch.float32)
    values = torch.tensor([labels.values(row) for row in rows], dtype=torch.float32) if labels.attributes else None
    return replace(batch, target=torch.tensor(targets, dtype=torch.float32), weight=weight, attributes=values)
