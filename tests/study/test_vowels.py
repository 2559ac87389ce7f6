"""Vowels: a synthetic one has the formants it was made of, labels are read in three alphabets, nuclei lie where syllables are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from moodcast import audio
from moodcast.corpora import prepare
from moodcast.study import vowels
from moodcast.study.vowels import VOWELS

Wave = NDArray[np.float32]
RATE = 16_000


def voiced(f1: float, f2: float, seconds: float = 0.3, pitch_hz: float = 110.0) -> Wave:
    """Pulses through four resonances, as a vocal tract has them."""
    pulses = np.zeros(round(seconds * RATE))
    pulses[:: round(RATE / pitch_hz)] = 1.0
    wave = lfilter([1.0], [1.0, -0.95], pulses)
    for hz, width in ((f1, 60.0), (f2, 90.0), (2700.0, 150.0), (3500.0, 200.0)):
        radius = np.exp(-np.pi * width / RATE)
        wave = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * hz / RATE), radius**2], wave)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize(("f1", "f2"), [(300, 2200), (450, 1900), (700, 1300), (500, 950)])
def test_the_formants_of_a_made_vowel_are_found(f1: float, f2: float) -> None:
    found = vowels.measured(voiced(f1, f2), RATE, [(0.1, 0.2)])[0]
    assert found == pytest.approx([f1, f2], rel=0.08)


def test_five_made_vowels_get_their_names() -> None:
    pairs = np.array([vowels.measured(voiced(*hz), RATE, [(0.1, 0.2)])[0] for hz in vowels.CARDINAL_HZ])
    names = vowels.nearest(vowels.lobanov(pairs))
    assert [VOWELS[i] for i in names[:3]] == ["i", "e", "a"]
    assert set(names[3:]) <= {3, 4}  # the two that lie closest
    assert vowels.nearest(np.array([[np.nan, 0.0]])) == -1


def test_nuclei_lie_in_syllables_and_noise_has_none() -> None:
    gap = np.zeros(round(0.15 * RATE), dtype=np.float32)
    fade = np.hanning(round(0.3 * RATE)).astype(np.float32)
    talk = np.concatenate([gap, voiced(700, 1300) * fade, gap, voiced(300, 2200) * fade, gap])
    talk = talk + 1e-4 * np.random.default_rng(0).standard_normal(len(talk)).astype(np.float32)
    found = vowels.nuclei(talk, RATE)
    assert len(found) == 2
    assert 0.15 < found[0, 0] < found[0, 1] < 0.45 < 0.6 < found[1, 0] < found[1, 1] < 0.9
    assert found[0, 2] > found[1, 2]
    assert found[0, 3] < found[1, 3]
    noise = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    assert len(vowels.nuclei(noise, RATE)) == 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.03])
def test_what_is_hardly_a_sound_has_no_vowels(seconds: float, tone: Callable[..., Wave]) -> None:
    wave = tone(seconds) if seconds else np.zeros(100, dtype=np.float32)
    assert vowels.nuclei(wave, RATE).shape == (0, 4)
    assert np.isnan(vowels.measured(wave, RATE, [(0.0, 0.01)])).all()


def test_labels_of_three_alphabets_are_the_same_vowels() -> None:
    assert [vowels.vowel_of(x) for x in ("i", "iː", "IY1", "I+nas", "U", "aʊ", "@", "t")] == ["i", "i", "i", "i", "u", None, None, None]
    spans = vowels.labelled((("t", 0.0, 0.1), ("a", 0.1, 0.3), ("o:", 0.9, 1.3)), 1.0)
    assert [(name, round(a, 3), round(b, 3)) for name, a, b in spans] == [("a", 0.15, 0.25)]


@pytest.mark.corpora
def test_the_labelled_vowels_of_emodb_have_the_formants_of_german(corpora: Path) -> None:
    rows = [row for row in prepare("emodb", corpora / "emodb") if row.phones][:40]
    pairs: dict[str, list[NDArray[np.float64]]] = {name: [] for name in VOWELS}
    for row in rows:
        wave = audio.read(row.path, rate=RATE)
        marks = vowels.labelled(row.phones or (), len(wave) / RATE)
        for (name, _, _), pair in zip(marks, vowels.measured(wave, RATE, [mark[1:] for mark in marks]), strict=True):
            pairs[name].append(pair)
    middle = {name: np.nanmedian(np.array(found), axis=0) for name, found in pairs.items()}
    assert middle["a"][0] > middle["e"][0] > middle["i"][0]  # open, half, close
    assert min(middle["i"][1], middle["e"][1]) > middle["a"][1] > middle["o"][1]  # front, central, back
