"""Trivial baselines: what they know, what they must not know, and the plain statistics against a second computation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from numpy.typing import NDArray

from moodcast import audio, baselines, cache
from moodcast.cache import open_waves
from moodcast.manifest import Utterance

Wave = NDArray[np.float32]


def test_the_majority_is_that_of_training_where_it_is_known() -> None:
    truth = np.array([0, 1, 1, 1])
    assert baselines.majority(("a", "b"), {"a": 9, "b": 2}, truth).guess.tolist() == [0] * 4
    assert baselines.majority(("a", "b"), {}, truth).guess.tolist() == [1] * 4


def test_a_name_tells_all_where_speakers_keep_one_class() -> None:
    truth = np.repeat([0, 1, 2, 0], 20)
    found = baselines.speaker_name(truth, np.repeat(["w", "x", "y", "z"], 20).tolist(), 3)
    assert found is not None
    assert (found.guess == truth).all()


def test_a_name_tells_nothing_where_every_speaker_says_everything() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 800)
    found = baselines.speaker_name(truth, [f"s{i % 10}" for i in range(800)], 4)
    assert found is not None
    assert abs((found.guess == truth).mean() - 0.25) < 0.06


def test_no_name_recurs_no_baseline() -> None:
    assert baselines.speaker_name(np.arange(8) % 2, [f"s{i}" for i in range(8)], 2) is None


def test_a_name_is_never_scored_by_its_own_recording() -> None:
    """Two recordings a speaker of different classes: whoever peeks at the one that is scored would be right."""
    truth = np.tile([0, 1], 50)
    found = baselines.speaker_name(truth, np.repeat([f"s{i}" for i in range(50)], 2).tolist(), 2)
    assert found is not None
    assert (found.guess == truth).mean() < 0.4


def test_plain_statistics_have_the_moments_of_log_mel_as_torchaudio_makes_it(speechlike: Callable[..., Wave]) -> None:
    wave = np.concatenate([speechlike(1.0, seed=3), np.zeros(8_000, np.float32)])  # half a second of silence does not count
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, win_length=400, hop_length=160, n_mels=40, f_min=60, f_max=7600)
    bands = torch.log(mel(torch.from_numpy(wave)) + 1e-7).numpy()
    energy = bands.mean(0)
    loud = energy > np.percentile(energy, 95) - 6.9
    bands = bands[:, loud]
    found = baselines.statistics(wave)
    assert found.shape == (baselines.STATISTICS,) == (132,)
    assert loud.mean() < 0.8
    np.testing.assert_allclose(found[:40], (bands - bands.mean(0)).mean(1), atol=1e-3)
    np.testing.assert_allclose(found[40:80], bands.std(1), atol=1e-3)
    np.testing.assert_allclose(found[80:120], np.abs(np.diff(bands, axis=1)).mean(1), atol=1e-3)
    assert found[125] == pytest.approx(loud.mean())
    assert found[126] == pytest.approx(np.log(1.5))


def test_plain_statistics_know_the_pitch(tone: Callable[..., Wave]) -> None:
    swelling = tone(1.0, hz=200.0) * np.linspace(0.1, 1, 16_000, dtype=np.float32)  # F0 is taken in the louder half
    assert 2 ** baselines.statistics(swelling)[127] == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize("num", [1, 7, 300, 700, 16_000])
def test_plain_statistics_of_anything_are_finite(num: int) -> None:
    assert np.isfinite(baselines.statistics(np.zeros(num, np.float32))).all()


def test_statistics_are_computed_once(tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., Wave]) -> None:
    rows = [Utterance(id=str(i), path=str(write_wav(f"{i}.wav", speechlike(0.5, seed=i)))) for i in range(3)]
    store = open_waves(rows, 16_000, root=tmp_path / "cache")
    told: list[int] = []
    first = baselines.statistics_of(store, lambda done, of: told.append(done))
    again = baselines.statistics_of(store, lambda done, of: told.append(done))
    assert told == [1, 2, 3]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[1], baselines.statistics(np.asarray(store[1])))


def test_statistics_of_many_shards_are_not_those_of_the_first(
    tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., Wave], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Utterance(id=str(i), path=str(write_wav(f"{i}.wav", speechlike(0.5, seed=i)))) for i in range(4)]
    monkeypatch.setattr(cache, "SHARD_ROWS", 2)
    for some in (rows, rows[:2], [*rows[:2], rows[3]]):  # all begin with the same shard
        for _ in range(2):  # computed, and then as they are kept
            values = baselines.statistics_of(open_waves(some, 16_000, root=tmp_path / "cache"))
            assert len(values) == len(some)
            np.testing.assert_array_equal(values[-1], baselines.statistics(speech_of(some[-1])))


def speech_of(row: Utterance) -> Wave:
    return audio.read(row.path, rate=16_000)


@pytest.mark.corpora
def test_plain_statistics_tell_emotions_apart_on_real_speech(corpora: Path, tmp_path: Path) -> None:
    """German acted speech, one man and one woman held out of four speakers: far above chance, as the published baseline is."""
    from moodcast.corpora import prepare

    labels = ("angry", "happy", "neutral", "sad")
    rows = [row for row in prepare("emodb", corpora / "emodb") if row.emotion in labels and row.speaker in ("03", "08", "09", "10")]
    values = baselines.statistics_of(open_waves(rows, 16_000, root=tmp_path))
    truth = np.array([labels.index(str(row.emotion)) for row in rows])
    test = np.array([row.speaker in ("03", "09") for row in rows])
    found = baselines.plain_statistics(values[~test], truth[~test], values[test])
    recall = [(found.guess[truth[test] == k] == k).mean() for k in range(4)]
    assert np.mean(recall) > 0.5
