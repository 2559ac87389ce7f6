"""Speaker-adaptive answers: what is usual for a speaker is taken away before a class is named.

Most errors on somebody new are a bias of that person: a harsh voice sounds angry in all it says. Given some unlabelled recordings of the
same speaker, the mean of their log-probabilities is taken from every answer, the less of it the fewer they are. This assumes that the
recordings are of mixed emotions: whoever was angry all along would be called anything but. So it is checked, by how much the recordings
differ: the mutual information between recording and class after centring, which is small where all recordings are answered alike. Below
LOW nothing is taken away, above HIGH all that the number of recordings allows; in between a part of it. Whoever knows that the emotions are
mixed says so, and the guard is not asked.

Ours, not from a paper; the idea is the speaker normalisation of features that is usual in the field (e.g. Busso et al., "Iterative
feature normalization scheme for automatic emotion detection from speech", 2013), on answers instead. FEW, LOW and HIGH were chosen on
CREMA-D, EMO-DB and RESD alone: on what bundles answered to speakers, and to whole corpora, that they had not heard (docs/log.md). They keep
two thirds of what plain centring gains on mixed emotions, and lose half a point to two points instead of nine to twenty where all given
recordings are of one emotion.

What it cannot do. Whoever has two emotions only is not told apart from one who has four, and loses one to four points. A bundle that
hardly hears emotion in a voice, as in a language it has not learnt, finds everybody alike; then the guard stays shut although centring
would have helped most: there it pays to know (`known_mixed`).

Shapes: N recordings of one speaker, M recordings to be answered, C chunks, K classes. Everything here is a function of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moodcast.answer import Answer

Floats = NDArray[np.float64]

FEW = 4.0  # recordings: so many count as half a centre; with fewer the mean of a speaker is mostly chance
LOW, HIGH = 0.25, 0.35  # nats of mutual information: below, recordings are of one emotion; above, they are mixed
TINY = 1e-12


@dataclass(frozen=True)
class Usual:
    """What is usual for a speaker, and how far it is believed.

    centre [K] of log-probabilities, sum zero, shrunk for the num recordings it is made of; information in nats, the guard's measure;
    mixed in [0, 1], its verdict: 0 leaves answers as they are; known_mixed: it was not asked. `why` says it in words.
    """

    centre: Floats
    num: int
    information: float
    mixed: float
    known_mixed: bool = False

    @property
    def why(self) -> str:
        """The verdict in words."""
        if self.num < 2:
            given = "one recording of this speaker says" if self.num else "no recordings of this speaker say"
            return f"{given} nothing of what is usual: answers are as they were"
        told = f"{self.num} recordings that differ by {self.information:.2f} nats"
        if self.known_mixed:
            return f"{told} and are known to be of mixed emotions: answers are centred on this speaker"
        if self.mixed <= 0:
            return f"{told} are too much alike to be of mixed emotions: answers are as they were"
        return f"{told}: answers are centred on this speaker" + ("" if self.mixed >= 1 else f", by a weight of {self.mixed:.2f}")


def usual(log_probs: ArrayLike, known_mixed: bool = False) -> Usual:
    """What is usual for the speaker of unlabelled recordings, log-probabilities [N, K]; any N, but it takes two to say something.

    known_mixed: they are known to be of mixed emotions, so the guard is not asked. Raises ValueError for another shape, or what is not
    finite or not below zero.
    """
    logs = _checked(log_probs)
    num, classes = logs.shape
    if num < 2:
        return Usual(np.zeros(classes), num, 0.0, 0.0)
    logs = logs - logs.mean(1, keepdims=True)
    mean = logs.mean(0)
    information = _information(logs - mean) * num / (num - 1)
    mixed = 1.0 if known_mixed else float(np.clip((information - LOW) / (HIGH - LOW), 0.0, 1.0))
    return Usual(num / (num + FEW) * mean, num, float(information), mixed, known_mixed)


def adapted(log_probs: ArrayLike, of: Usual) -> Floats:
    """Log-probabilities [M, K] of the same speaker, centred on what is usual as far as the guard believes it."""
    logs = _checked(log_probs)
    if of.mixed <= 0:
        return logs
    moved = logs - of.mixed * of.centre
    return np.asarray(moved - np.logaddexp.reduce(moved, axis=1, keepdims=True))


def adapt(log_probs: ArrayLike, known_mixed: bool = False) -> tuple[Floats, Usual]:
    """All recordings of one speaker, [N, K], each answered in the light of all of them; with the guard's verdict."""
    of = usual(log_probs, known_mixed)
    return adapted(log_probs, of), of


def adapt_answers(
    answers: Sequence[Answer], given: Sequence[Answer] | None = None, known_mixed: bool = False
) -> tuple[list[Answer], Usual]:
    """A bundle's answers to recordings (or turns) of one speaker, with their chunks, in the light of all of them; and the verdict.

    given: other answers of the same speaker to learn from instead. known_mixed: as in `usual`. Raises ValueError where an answer names no
    classes.
    """
    of = usual(_logs([_classes(answer) for answer in (answers if given is None else given)]), known_mixed)
    found = []
    for answer in answers:
        chunks = answer.chunk_emotion
        moved = np.exp(adapted(_logs([_classes(answer)]), of))[0].astype(np.float32)
        inside = None if chunks is None else np.exp(adapted(_logs(chunks), of)).astype(np.float32)
        found.append(replace(answer, emotion=moved, chunk_emotion=inside) if of.mixed > 0 else answer)
    return found, of


def _classes(answer: Answer) -> NDArray[np.float32]:
    if answer.emotion is None:
        raise ValueError("this bundle answers no classes; there is nothing to centre on a speaker")
    return answer.emotion


def _logs(probabilities: ArrayLike) -> Floats:
    """Log-probabilities [N, K] of probabilities, of which none stays zero."""
    return np.asarray(np.log(np.clip(np.asarray(probabilities, dtype=np.float64), TINY, 1.0)))


def _information(logs: Floats) -> float:
    """Mutual information of recording and class, nats: the entropy of the mean answer minus the mean entropy of the answers, [N, K]."""
    given = np.exp(logs - np.logaddexp.reduce(logs, axis=1, keepdims=True))
    return float(_entropy(given.mean(0)) - _entropy(given).mean())


def _entropy(given: Floats) -> Floats:
    return np.asarray(-(given * np.log(given + TINY)).sum(-1))


def _checked(log_probs: ArrayLike) -> Floats:
    """Copy as float64; probabilities of zero are lifted, for nothing can be centred on minus infinity."""
    logs = np.array(log_probs, dtype=np.float64)
    if logs.ndim != 2 or logs.shape[1] < 2:
        raise ValueError(f"log-probabilities of one speaker have shape [N, K] with K at least 2, got {logs.shape}")
    if np.isnan(logs).any() or (logs > 1e-3).any():
        raise ValueError("log-probabilities are at most 0 and not NaN; give the logarithm of probabilities")
    return np.maximum(logs, np.log(TINY))
