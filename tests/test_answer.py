"""moodcast.answer: pieces of one stretch as one answer, and a row of a batch without its padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodcast.answer import Answer, answer_of, merged
from moodcast.batch import Prediction

CLASSES = ("calm", "angry")


def piece(seconds: float, angry: float, start_s: float, **more: object) -> Answer:
    emotion = np.array([1 - angry, angry], np.float32)
    return Answer(CLASSES, seconds, emotion, ((start_s, start_s + seconds),), emotion[None], **more)  # type: ignore[arg-type]


def test_pieces_count_for_as_long_as_they_last_and_their_chunks_stand_one_after_the_other() -> None:
    whole = merged([piece(3.0, 0.2, 0.0), piece(1.0, 0.8, 3.0)])
    assert (whole.classes, whole.seconds, whole.label) == (CLASSES, 4.0, "calm")
    assert whole.emotions["angry"] == pytest.approx(0.35)
    assert whole.spans == ((0.0, 3.0), (3.0, 4.0))
    assert whole.chunk_emotion is not None
    np.testing.assert_allclose(whole.chunk_emotion[:, 1], [0.2, 0.8], rtol=1e-6)
    assert whole.embedding is None


def test_what_one_piece_lacks_is_not_made_of_the_others() -> None:
    known = np.ones(3, np.float32)
    both = merged([piece(3.0, 0.2, 0.0, embedding=known), piece(1.0, 0.8, 3.0, embedding=5 * known)])
    assert both.embedding is not None
    np.testing.assert_allclose(both.embedding, 2 * known)
    assert merged([piece(3.0, 0.2, 0.0, embedding=known), piece(1.0, 0.8, 3.0)]).embedding is None


def test_a_row_of_a_batch_is_answered_without_the_chunks_that_only_pad_it() -> None:
    chunks = torch.tensor([[[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]], [[0.3, 0.7], [0.4, 0.6], [0.5, 0.5]]])
    prediction = Prediction(emotion=chunks.mean(1).log(), chunk_emotion=chunks.log())
    answer = answer_of(prediction, 1, CLASSES, 1.5, ((0.0, 1.0), (1.0, 1.5)))
    assert (answer.label, answer.seconds, answer.attributes) == ("angry", 1.5, None)
    assert answer.chunk_emotion is not None
    np.testing.assert_allclose(answer.chunk_emotion, chunks[1, :2], rtol=1e-6)
