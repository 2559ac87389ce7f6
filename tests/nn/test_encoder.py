"""Encoders: padding reaches no real frame, chunks do not meet, nothing is normalised over a batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moodcast.nn.encoder import CnnEncoder, ConvEncoder, FrameNorm, LstmEncoder

MELS = 16


def conv() -> ConvEncoder:
    torch.manual_seed(0)
    return ConvEncoder(MELS, width=12, channels=4, dropout=0.3).eval()


def vector_encoders() -> list[nn.Module]:
    torch.manual_seed(0)
    return [LstmEncoder(MELS, 12).eval(), CnnEncoder(MELS, 12).eval()]


def frames_of(counts: list[int], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.randn(len(counts), length, MELS, generator=torch.Generator().manual_seed(1))
    return frames, torch.arange(length) < torch.tensor(counts)[:, None]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17, 20])
def test_the_convolutions_see_no_padding(count: int):
    encoder = conv()
    frames, mask = frames_of([20, count], 29)
    found, real = encoder(frames * mask[..., None], mask)
    alone, _ = encoder(frames[1:, :count], mask[1:, :count])
    assert int(real[1].sum()) == alone.shape[1] == -(-count // 4)
    torch.testing.assert_close(found[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-5)
    assert (found[1, alone.shape[1] :] == 0).all()


@pytest.mark.parametrize("which", [0, 1], ids=["lstm", "cnn"])
@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_a_chunk_vector_sees_no_padding(which: int, count: int):
    encoder = vector_encoders()[which]
    frames, mask = frames_of([20, count], 29)
    found = encoder(frames * mask[..., None], mask)
    torch.testing.assert_close(found[1], encoder(frames[1:, :count], mask[1:, :count])[0], atol=1e-5, rtol=1e-5)


def test_the_lstm_answers_from_the_last_real_step_of_a_part_padded_chunk():
    encoder = vector_encoders()[0]
    frames, mask = frames_of([7], 20)
    steps = encoder.recurrence(frames[:, :7])[0]
    torch.testing.assert_close(encoder(frames, mask), encoder.norm(steps[:, -1]))
    changed = frames.clone()
    changed[0, 6] += 1.0
    assert (encoder(changed, mask) - encoder(frames, mask)).abs().max() > 1e-3


def test_frame_norm_is_zero_mean_and_unit_variance_within_each_frame():
    norm, values = FrameNorm(3), torch.randn(2, 3, 5, 4)
    normed = norm(values)
    torch.testing.assert_close(normed.mean((1, 3)), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var((1, 3), unbiased=False), torch.ones(2, 5), atol=1e-3, rtol=0)
    changed = values.clone()
    changed[:, :, 0] = 100.0
    torch.testing.assert_close(norm(changed)[:, :, 1:], normed[:, :, 1:])


def test_a_band_count_that_cannot_be_halved_three_times_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        ConvEncoder(20, 12)
