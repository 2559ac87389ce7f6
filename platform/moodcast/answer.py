"""Answer: what a bundle says of one stretch, as probabilities; out of a batch's prediction, and merged from pieces.

Shapes: C chunks, K classes, A attributes, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from moodcast.batch import Prediction


@dataclass(frozen=True)
class Answer:
    """What a bundle says of one stretch: probabilities emotion [K], chunk_emotion [C, K] over spans (start_s, stop_s), attributes [A],
    embedding [D].

    modalities: what it rests on, "audio" and, where a bundle that reads was told what is said, "text".
    """

    classes: tuple[str, ...]
    seconds: float
    emotion: NDArray[np.float32] | None = None
    spans: tuple[tuple[float, float], ...] = ()
    chunk_emotion: NDArray[np.float32] | None = None
    attributes: NDArray[np.float32] | None = None
    embedding: NDArray[np.float32] | None = None
    modalities: tuple[str, ...] = ("audio",)

    @property
    def label(self) -> str | None:
        """The most probable class."""
        return None if self.emotion is None else self.classes[int(self.emotion.argmax())]

    @property
    def confidence(self) -> float | None:
        """The probability of `label`."""
        return None if self.emotion is None else float(self.emotion.max())

    @property
    def emotions(self) -> dict[str, float]:
        """Probability by class name."""
        return {} if self.emotion is None else {name: float(p) for name, p in zip(self.classes, self.emotion, strict=True)}


def tempered(prediction: Prediction, temperature: float) -> Prediction:
    """The prediction with its log-probabilities, of stretches and of chunks, divided by `temperature` and normalised again."""
    if temperature == 1.0:
        return prediction
    given = {"emotion": prediction.emotion, "chunk_emotion": prediction.chunk_emotion}
    return replace(prediction, **{name: (logs / temperature).log_softmax(-1) for name, logs in given.items() if logs is not None})


def answer_of(prediction: Prediction, row: int, classes: tuple[str, ...], seconds: float, spans: tuple[tuple[float, float], ...]) -> Answer:
    """What a prediction says of the stretch in its row, which is so long and whose chunks lie there; padding chunks are left out."""
    chunk_emotion = _row(prediction.chunk_emotion, row)
    return Answer(
        classes=classes,
        seconds=seconds,
        emotion=_probabilities(_row(prediction.emotion, row)),
        spans=spans,
        chunk_emotion=None if chunk_emotion is None else _probabilities(chunk_emotion[: len(spans)]),
        attributes=_row(prediction.attributes, row),
        embedding=_row(prediction.embedding, row),
    )


def merged(parts: list[Answer]) -> Answer:
    """Pieces of one stretch as one answer: values averaged by duration, chunks one after the other."""
    if len(parts) == 1:
        return parts[0]
    share = [part.seconds for part in parts]

    def mean(values: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
        known = [value for value in values if value is not None]
        return np.average(known, axis=0, weights=share).astype(np.float32) if len(known) == len(parts) else None

    chunks = [part.chunk_emotion for part in parts if part.chunk_emotion is not None]
    return Answer(
        classes=parts[0].classes,
        seconds=sum(share),
        emotion=mean([part.emotion for part in parts]),
        spans=tuple(span for part in parts for span in part.spans),
        chunk_emotion=np.concatenate(chunks) if len(chunks) == len(parts) else None,
        attributes=mean([part.attributes for part in parts]),
        embedding=mean([part.embedding for part in parts]),
        modalities=parts[0].modalities,
    )


def _row(values: torch.Tensor | None, row: int) -> NDArray[np.float32] | None:
    return None if values is None else values[row].float().cpu().numpy()


def _probabilities(logs: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return None if logs is None else np.exp(logs)
