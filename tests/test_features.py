"""Log-mel frames against a numpy formula; padding, level and channel leave real frames alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moodcast import features

RATE = 16_000


def noise(samples: int, seed: int = 0, gain: float = 0.1) -> torch.Tensor:
    return gain * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def reference_log_mel(wave: np.ndarray, num_mels: int) -> np.ndarray:
    """Frame by frame, straight from the definition, in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    to_mel, to_hz = (lambda hz: 2595 * np.log10(1 + hz / 700)), (lambda mel: 700 * (10 ** (mel / 2595) - 1))
    hz = [to_hz(to_mel(50) + i * (to_mel(8000) - to_mel(50)) / (num_mels + 1)) for i in range(num_mels + 2)]
    out = []
    for start in range(0, len(wave) - 399, 160):
        spectrum = np.fft.rfft(wave[start : start + 400] * window, 512)
        power = spectrum.real**2 + spectrum.imag**2
        row = []
        for low, peak, high in zip(hz, hz[1:], hz[2:], strict=False):
            total = 0.0
            for k, value in enumerate(power):
                at = k * RATE / 512
                total += value * max(0.0, min((at - low) / (peak - low), (high - at) / (high - peak)))
            row.append(np.log(total + 1e-12))
        out.append(row)
    return np.array(out)


def test_log_mel_is_the_formula():
    wave = noise(2000)
    frames, mask = features.LogMel(RATE, 40)(wave[None], torch.tensor([2000]))
    assert mask.all()
    np.testing.assert_allclose(frames[0].numpy(), reference_log_mel(wave.double().numpy(), 40), atol=2e-4)


def test_the_number_of_frames_counts_whole_windows_and_a_short_chunk_has_one():
    log_mel = features.LogMel(RATE)
    assert log_mel.num_frames(torch.tensor([0, 1, 399, 400, 559, 560, 16_000])).tolist() == [0, 1, 1, 1, 1, 2, 98]


@pytest.mark.parametrize("length", [0, 1, 250, 400, 401, 559, 560, 3999])
def test_padding_never_changes_a_real_frame(length: int):
    log_mel = features.LogMel(RATE)
    wave = noise(length)
    alone, its_mask = log_mel(wave[None], torch.tensor([length]))
    padded = torch.nn.functional.pad(wave, (0, 8000 - length))
    padded[length + 400 :] = 0.5  # what lies a window behind the end may be anything
    frames, mask = log_mel(padded[None], torch.tensor([length]))
    count = int(its_mask.sum())
    assert int(mask.sum()) == count == int(log_mel.num_frames(torch.tensor(length)))
    assert mask[0, :count].all()
    torch.testing.assert_close(frames[0, :count], alone[0, :count], atol=1e-5, rtol=0)
    assert (frames[0, count:] == 0).all()


def test_too_many_bands_for_the_spectrum_are_refused():
    with pytest.raises(ValueError, match="too many"):
        features.mel_filters(200, 512, RATE)


def test_the_bands_peak_where_they_say():
    log_mel = features.LogMel(RATE, 40)
    bins = torch.arange(257) * RATE / 512
    strongest = bins[log_mel.filters.argmax(0)]
    assert ((strongest - log_mel.peaks_hz).abs() <= RATE / 512).all()


ONE = torch.ones(1, 1, dtype=torch.bool)  # one stretch of one chunk


def log_mel_of(wave: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return *features.LogMel(RATE)(wave[None], torch.tensor([len(wave)])), ONE


@pytest.mark.parametrize("normalise", [features.level_normalised, features.band_normalised])
@pytest.mark.parametrize("gain_db", [-40, -12, 20])
def test_loudness_does_not_matter(normalise, gain_db: float):
    loud = noise(16_000) * (1 + torch.sin(torch.arange(16_000) / 900))
    wanted = normalise(*log_mel_of(loud))
    found = normalise(*log_mel_of(loud * 10 ** (gain_db / 20)))
    torch.testing.assert_close(found, wanted, atol=5e-3, rtol=0)


def test_level_normalised_speech_has_mean_power_one_and_keeps_its_colour():
    wave = noise(16_000)
    coloured = wave[1:] + 0.95 * wave[:-1]
    found = features.level_normalised(*log_mel_of(coloured))
    assert found.exp().mean().item() == pytest.approx(1.0, abs=1e-4)
    assert found[0, :, 5].mean() > found[0, :, -1].mean() + 2.0


def test_band_normalised_speech_has_lost_a_linear_channel():
    frames, mask, exist = log_mel_of(noise(16_000))
    wanted = features.band_normalised(frames, mask, exist)
    torch.testing.assert_close(features.band_normalised(frames + torch.linspace(-3, 3, 64), mask, exist), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalise", [features.level_normalised, features.band_normalised])
def test_normalisation_is_by_stretch_over_all_its_real_frames_and_no_others(normalise):
    exist = torch.tensor([[True, True], [True, False]])
    frames, mask = torch.randn(3, 30, 8), torch.ones(3, 30, dtype=torch.bool)
    mask[1, 20:] = False
    found = normalise(torch.where(mask[..., None], frames, 7.0), mask, exist)
    joined = torch.cat([frames[0], frames[1, :20]])[None]
    wanted = normalise(joined, torch.ones(1, 50, dtype=torch.bool), ONE)[0]
    torch.testing.assert_close(torch.cat([found[0], found[1, :20]]), wanted)
    torch.testing.assert_close(found[2:], normalise(frames[2:], mask[2:], ONE))
    assert (found[1, 20:] == 0).all()


@pytest.mark.parametrize("normalise", [features.level_normalised, features.band_normalised])
def test_silence_and_nothing_at_all_stay_finite(normalise):
    frames, mask = features.LogMel(RATE)(torch.zeros(1, 4000), torch.tensor([4000]))
    assert normalise(frames, mask, torch.tensor([[True], [False]])).isfinite().all()


def test_deltas_are_half_the_difference_of_the_neighbours_and_repeat_the_edges():
    frames = torch.tensor([[0.0, 1.0, 4.0, 9.0, 0.0, 0.0]])[..., None]
    mask = torch.tensor([[True, True, True, True, False, False]])
    assert features.deltas(frames, mask)[0, :, 0].tolist() == [0.5, 2.0, 4.0, 2.5, 0.0, 0.0]


def test_chunk_frames_are_those_of_each_chunk_that_exists_cut_to_the_longest():
    log_mel = features.LogMel(RATE)
    chunks = torch.stack([noise(8000, seed) for seed in range(6)]).view(2, 3, 8000)
    frames, mask, exist = features.chunk_frames(log_mel, chunks, torch.tensor([[4000, 4000, 0], [3000, 100, 0]]))
    assert exist.tolist() == [[True, True, False], [True, True, False]]
    assert frames.shape == (4, 23, 64)
    assert mask.sum(-1).tolist() == [23, 23, 17, 1]
    torch.testing.assert_close(frames[1], log_mel(chunks[0, 1:2, :4000], torch.tensor([4000]))[0][0])


def test_hiding_stays_within_its_limits_and_leaves_the_rest_alone():
    torch.manual_seed(0)
    frames, mask = torch.randn(64, 200, 40), torch.ones(64, 200, dtype=torch.bool)
    mask[:, 150:] = False
    hidden = features.band_and_time_masked(frames, mask, bands=8, seconds=0.2)
    changed = (hidden != frames) & mask[..., None]
    whole_bands, whole_times = changed[:, :150].all(1), changed[:, :150].all(2)
    assert whole_bands.sum(-1).max() <= 8
    assert whole_bands.sum(-1).float().mean() > 2
    assert whole_times.sum(-1).max() <= 40
    assert not (changed & ~whole_bands[:, None, :] & ~torch.nn.functional.pad(whole_times, (0, 50))[..., None]).any()
    assert (hidden[:, 150:] == 0).all()


def test_a_crop_is_one_run_of_real_frames_and_long_enough():
    torch.manual_seed(0)
    mask = torch.zeros(200, 300, dtype=torch.bool)
    mask[:, :120] = True
    mask[:, 150:250] = True  # a second chunk behind a part-padded first
    mask[0, 40:] = False
    cropped = features.cropped(mask, min_s=1.0)
    assert not (cropped & ~mask).any()
    kept = cropped.sum(-1)
    assert kept[0] == 40
    assert kept[1:].min() >= 100
    assert kept.max() > 200
    assert kept.min() < 120
    for row, real in zip(cropped, mask, strict=True):
        order = (real.cumsum(-1) - 1)[row]
        assert (order.diff() == 1).all()


def test_the_crops_of_a_chunk_reach_its_beginning_and_its_end_as_often():
    torch.manual_seed(0)
    found = features.cropped(torch.ones(4000, 20, dtype=torch.bool), min_s=0.15)
    kept = torch.bincount(found.sum(-1), minlength=21)
    assert kept[:15].sum() == 0
    assert ((kept[15:] - 4000 / 6).abs() < 120).all()  # 15 to 20 frames, all as often
    assert abs(float(found[:, 0].float().mean() - found[:, -1].float().mean())) < 0.03
    assert features.cropped(torch.ones(200, 5, dtype=torch.bool), min_s=0.0).any(-1).all()
