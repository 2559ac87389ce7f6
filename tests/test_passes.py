"""moodcast.passes: what a method says of all its data, and what its hooks may see and set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodcast.batch import Batch, Prediction
from moodcast.passes import TrainingView, predict
from tests.points import SPEC, Net, Points, net


def test_pieces_of_one_row_are_merged_by_duration() -> None:
    method, data = net(), Points(3)
    alone = predict(method, data, np.arange(3), np.ones(3), 8)[0]
    merged = predict(method, data, np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0]), 8)[0]
    assert np.allclose(merged[0], 0.75 * alone[0] + 0.25 * alone[1])
    assert np.allclose(merged[1], alone[2])


def test_looking_at_features_leaves_the_mode_of_training_alone() -> None:
    method = net(dropout=0.9)
    method.train()
    view = TrainingView(method, Points(), 8)
    fn = lambda batch: method(batch).emotion  # noqa: E731
    assert torch.equal(view.features(fn), view.features(fn))
    assert method.training


@pytest.mark.parametrize("bad", [[1.0] * 36, [-1.0] + [1.0] * 36, [0.0] * 37, [float("nan")] * 37])
def test_sampling_weights_that_cannot_be_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="37 finite numbers"):
        TrainingView(net(), Points(), 8).set_weights(torch.tensor(bad))


def test_a_method_that_answers_no_emotion_cannot_be_scored() -> None:
    class Mute(Net):
        def forward(self, batch: Batch) -> Prediction:
            return Prediction(embedding=self.first(batch.chunks[:, 0]))

    with pytest.raises(ValueError, match="Mute answers no emotion, which the dev score needs"):
        predict(Mute(Net.Config(), SPEC), Points(3), np.arange(3), np.ones(3), 8)
