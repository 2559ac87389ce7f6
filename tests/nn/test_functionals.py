"""Statistics of a stretch: pitch and level against signals whose answer is known, the same at any gain, finite for whatever is heard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast.features import mel_filters
from moodcast.nn.functionals import LEVELS, PITCHES, levels, num_plain, opensmile_features, opensmile_set, pitch_track, pitches, plain

RATE = 16_000
FILTERS = mel_filters(40, 512, RATE, 60.0, 7600.0)
Wave = NDArray[np.float32]


def buzz(hz: float | NDArray[np.float64], seconds: float = 1.0) -> Wave:
    """Twelve harmonics of a pitch that may move."""
    count = round(seconds * RATE)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, count)) / RATE
    return (0.05 * sum(np.sin(k * phase) / k for k in range(1, 13))).astype(np.float32)


@pytest.mark.parametrize("hz", [80.0, 123.4, 220.0, 333.3, 440.0])
def test_the_pitch_of_a_buzz_is_its_pitch(hz: float):
    octaves, voicing = pitch_track(buzz(hz).astype(float), RATE)
    assert np.median(2**octaves) == pytest.approx(hz, rel=0.005)
    assert np.median(voicing) > 0.9


def test_pitch_statistics_say_how_it_moves():
    names = ("median", "deviation", "range", "step", "up", "slope", "voiced", "voicing", "clarity")
    still, rising = (
        dict(zip(names, pitches(wave.astype(float), RATE), strict=True)) for wave in (buzz(150), buzz(np.geomspace(120, 240, RATE)))
    )
    assert still["deviation"] < 0.01
    assert still["slope"] == pytest.approx(0.0, abs=0.01)
    assert rising["slope"] == pytest.approx(1.0, abs=0.1)  # an octave over its length
    assert rising["up"] > 0.9
    assert rising["range"] == pytest.approx(0.8, abs=0.1)
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert pitches(noise, RATE)[6] < 0.1
    assert len(names) == PITCHES


def test_level_statistics_count_syllables_and_pauses():
    level = np.concatenate([np.full(100, -20.0), np.tile(np.r_[np.linspace(0, 1, 10), np.linspace(1, 0, 10)], 10)])
    loud = level > -7
    found = levels(level[loud], level, loud, seconds=3.0)
    assert len(found) == LEVELS
    assert found[5] == pytest.approx(2 / 3)  # of the frames are loud
    assert found[6] == pytest.approx(np.log(3.0))
    assert found[7] == pytest.approx(10 / 3, abs=0.4)  # ten humps in three seconds


def test_a_gain_changes_nothing(speechlike: Callable[..., Wave]):
    wave = speechlike(1.5, RATE)
    found = [plain(wave * np.float32(gain), RATE, FILTERS) for gain in (1.0, 0.01)]
    assert found[0].shape == (num_plain(40),) == (138,)
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)


def test_brighter_sound_has_more_of_the_high_bands(speechlike: Callable[..., Wave]):
    wave = speechlike(1.5, RATE)
    bright = np.append(0.0, np.diff(wave)).astype(np.float32)
    dull, sharp = (plain(sound, RATE, FILTERS)[:40] for sound in (wave, bright))
    assert sharp[30:].mean() > dull[30:].mean() + 0.5
    assert sharp[:5].mean() < dull[:5].mean() - 0.5


@pytest.mark.parametrize(
    "wave",
    [np.zeros(1), np.zeros(16_000), np.ones(5_000), np.full(300, 1e-30), np.r_[np.zeros(8_000), 1.0, np.zeros(8_000)], 0.1 * np.ones(639)],
    ids=["a sample", "silence", "offset", "almost nothing", "a click", "short"],
)
def test_whatever_is_heard_gives_finite_numbers(wave: Wave):
    found = plain(wave.astype(np.float32), RATE, FILTERS)
    assert found.shape == (138,)
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e4


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_other_rates_give_the_same_pitch(rate: int):
    time = np.arange(rate) / rate
    wave = sum(np.sin(2 * np.pi * 180 * k * time) / k for k in range(1, 9))
    assert 2 ** pitches(wave, rate)[0] == pytest.approx(180, rel=0.01)


@pytest.mark.parametrize(("name", "size"), [("egemaps", 88), ("compare", 6373)])
def test_opensmile_gives_its_features_even_of_a_blink(name: str, size: int, speechlike: Callable[..., Wave]):
    pytest.importorskip("opensmile", reason="opensmile is not installed: pip install 'moodcast[functionals]'")
    extractor = opensmile_set(name)
    found = [
        opensmile_features(extractor, wave, RATE) for wave in (speechlike(1.0, RATE), speechlike(1.0, RATE, 5), np.zeros(200, np.float32))
    ]
    assert all(values.shape == (size,) and np.isfinite(values).all() for values in found)
    assert not np.allclose(found[0], found[1])


def test_without_opensmile_the_message_says_what_it_costs(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ValueError, match=r"moodcast\[functionals\].*research and private use only.*features=plain"):
        opensmile_set("egemaps")
