from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moodcast import audio, speech

Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector() -> speech.SpeechDetector:
    return speech.SpeechDetector()


def at_dbfs(wave: Wave, level: float) -> Wave:
    return (wave * 10 ** (level / 20) / np.sqrt(np.mean(wave.astype(float) ** 2))).astype(np.float32)


def test_nothing_silence_and_a_few_samples_hold_no_speech(detector: speech.SpeechDetector) -> None:
    assert len(detector.probabilities(np.zeros(0, dtype=np.float32))) == 0
    assert len(detector.probabilities(np.zeros(10, dtype=np.float32))) == 1
    silence = detector.probabilities(np.zeros(5 * speech.RATE, dtype=np.float32))
    assert silence.max() < 0.3
    assert speech.regions(silence, 5.0) == []
    assert speech.regions(np.zeros(0, dtype=np.float32), 0.0) == []


def test_noise_is_not_speech_even_when_raised(detector: speech.SpeechDetector) -> None:
    noise = np.random.default_rng(0).standard_normal(10 * speech.RATE).astype(np.float32)
    for level in (-20.0, -60.0):
        assert speech.regions(detector.probabilities(at_dbfs(noise, level)), 10.0) == []


def test_loading_it_leaves_torchs_threads_alone(detector: speech.SpeechDetector) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        speech.SpeechDetector().probabilities(np.zeros(speech.RATE, dtype=np.float32))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_quiet_recordings_are_raised_and_silence_is_not() -> None:
    wave = np.random.default_rng(0).standard_normal(speech.RATE).astype(np.float32)
    quiet = at_dbfs(wave, -50)
    raised = 20 * np.log10(np.sqrt(np.mean((quiet * speech.level_gain(quiet)) ** 2)))
    assert raised == pytest.approx(speech.TARGET_DBFS, abs=1.5)
    assert speech.level_gain(np.zeros(speech.RATE, dtype=np.float32)) == 1.0
    assert speech.level_gain(np.zeros(3, dtype=np.float32)) == 1.0
    assert 20 * np.log10(speech.level_gain(at_dbfs(wave, -84))) <= speech.MOST_GAIN_DB + 1e-6


def test_regions_bridge_short_pauses_drop_blips_and_stay_inside_the_recording() -> None:
    p = np.zeros(200, dtype=np.float32)
    p[0:30], p[33:60] = 0.9, 0.9  # a pause of 0.1 s
    p[100:102] = 0.9  # a blip of 0.06 s
    p[150:200] = 0.9
    found = speech.regions(p, 200 * speech.FRAME_S, min_pause_s=0.3, min_speech_s=0.15, pad_s=0.1)
    assert [(round(a, 2), round(b, 2)) for a, b in found] == [(0.0, 2.02), (4.7, 6.4)]


@pytest.mark.corpora
def test_speech_is_found_at_any_level_and_far_into_a_long_recording(detector: speech.SpeechDetector, corpora: Path) -> None:
    wave = audio.read(corpora / "conversations" / "audio" / "pyannote_sample.flac")
    loud = detector.probabilities(wave)
    assert 0.6 < np.mean(loud > 0.5) < 0.85  # 22.5 s of 30 s are speech
    assert loud[: int(6.0 / speech.FRAME_S)].max() < 0.5
    quiet = detector.probabilities((wave * 0.02).astype(np.float32))
    assert np.abs(quiet - loud).max() < 0.02
    # 17 blocks are more than run at once; the same 30 s far inside, with a run-up of other sound, are heard alike.
    long = np.concatenate([np.zeros(480 * speech.RATE, dtype=np.float32), wave, wave])
    late = detector.probabilities((long * speech.level_gain(wave) / speech.level_gain(long)).astype(np.float32))
    shift = 480 * speech.RATE // speech.FRAME
    agree = (late[shift : shift + len(loud) - 1] > 0.5) == (loud[:-1] > 0.5)
    assert np.mean(agree) > 0.98


@pytest.mark.corpora
def test_blocks_side_by_side_hear_what_one_long_pass_hears(detector: speech.SpeechDetector, corpora: Path) -> None:
    import silero_vad

    wave = np.tile(audio.read(corpora / "conversations" / "audio" / "pyannote_sample.flac"), 2)
    wave = wave[: len(wave) // speech.FRAME * speech.FRAME]
    model = silero_vad.load_silero_vad()
    raised = torch.from_numpy(np.clip(wave * speech.level_gain(wave), -1, 1))
    with torch.inference_mode(), speech.one_thread():
        whole = model.audio_forward(raised[None], speech.RATE)[0].numpy()
    ours = detector.probabilities(wave)
    assert np.mean(np.abs(ours - whole) < 0.1) > 0.98
    assert np.mean((ours > 0.5) == (whole > 0.5)) > 0.99


def test_many_threads_may_share_a_detector(detector: speech.SpeechDetector, speechlike: Callable[..., Wave]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    waves = [speechlike(3.0, seed=i) for i in range(4)]
    alone = [detector.probabilities(wave) for wave in waves]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.probabilities, waves))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
