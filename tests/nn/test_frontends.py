"""What encoders are fed, against the processors of the transformers library; padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from moodcast.nn.frontends import HEARD, KaldiFilterbank, MaskedGroupNorm, WhisperLogMel, standardised

RATE = 16_000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def together(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(wave) for wave in waves])
    padded = [np.pad(wave, (0, int(lengths.max()) - len(wave))) for wave in waves]
    return torch.from_numpy(np.stack(padded)), lengths


WAVES = [noise(16_000), noise(9_999, 1), noise(5_000, 2)]


def test_standardised_samples_are_the_processors():
    waves, lengths = together(WAVES)
    given = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    wanted = given(WAVES, sampling_rate=RATE, padding=True, return_tensors="pt").input_values
    torch.testing.assert_close(standardised(waves, lengths), wanted, atol=1e-5, rtol=0)


def test_whispers_log_mel_is_the_processors_and_silence_lies_behind_it():
    waves, lengths = together(WAVES)
    given = transformers.WhisperFeatureExtractor()
    wanted = given(WAVES, sampling_rate=RATE, return_tensors="pt").input_features.transpose(1, 2)
    frames, count = WhisperLogMel(given.mel_filters)(waves, lengths)
    assert count.tolist() == [100, 63, 32]
    for row, real in enumerate(count.tolist()):
        torch.testing.assert_close(frames[row, :real], wanted[row, :real], atol=2e-4, rtol=0)
        torch.testing.assert_close(frames[row, real + 2 :], wanted[row, real + 2 : frames.shape[1]], atol=2e-4, rtol=0)


def test_the_filterbank_is_the_processors_row_by_row():
    waves, lengths = together(WAVES)
    given = transformers.SeamlessM4TFeatureExtractor()
    rows, count = KaldiFilterbank(given.mel_filters, given.window)(waves, lengths)
    for index, wave in enumerate(WAVES):
        wanted = given(wave, sampling_rate=RATE, return_tensors="pt")
        real = int(wanted.attention_mask.sum())
        assert real == int(count[index])
        torch.testing.assert_close(rows[index, :real], wanted.input_features[0, :real], atol=5e-3, rtol=0)


@pytest.mark.parametrize("length", [1, 399, 400, 560, 719, 720, 721])
def test_short_waves_have_at_least_one_frame(length: int):
    given = transformers.SeamlessM4TFeatureExtractor()
    bank, mel = KaldiFilterbank(given.mel_filters, given.window), WhisperLogMel(transformers.WhisperFeatureExtractor().mel_filters)
    waves, lengths = together([noise(length)])
    rows, count = bank(waves, lengths)
    assert int(count) == int(bank.num_frames(lengths)) >= 1
    assert rows.isfinite().all()
    assert int(mel(waves, lengths)[1]) == int(mel.num_frames(lengths)) == -(-length // 160)


def test_group_normalisation_counts_real_frames_only():
    plain = torch.nn.GroupNorm(4, 4)
    torch.nn.init.normal_(plain.weight)
    torch.nn.init.normal_(plain.bias)
    ours, frames = MaskedGroupNorm(plain), torch.randn(2, 4, 10)
    torch.testing.assert_close(ours(frames), plain(frames))
    frames[1, :, 6:] = 100.0
    before = HEARD.set(torch.tensor([10, 6]))
    torch.testing.assert_close(ours(frames)[1, :, :6], plain(frames[1:, :, :6])[0])
    HEARD.reset(before)
    with pytest.raises(ValueError, match="one group a channel"):
        MaskedGroupNorm(torch.nn.GroupNorm(2, 4))
