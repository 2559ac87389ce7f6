"""moodcast.audit.likeness: the same sound is found under other names, whatever was done to it, and different takes are not taken for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from moodcast.audit import audit, likeness
from moodcast.audit.facts import examine, facts_of
from moodcast.manifest import Utterance
from tests.audit.planted import Wave, of, with_wave


def test_the_same_samples_are_found_under_other_names_and_formats(rows: list[Utterance]) -> None:
    wave, rate = soundfile.read(rows[0].path, dtype="float32")
    copy = with_wave(rows[0], "copy.flac", wave, rate)
    other_label = with_wave(replace(rows[0], emotion="sad"), "relabelled.wav", wave, rate)
    other_side = with_wave(replace(rows[0], speaker="s9", split="test"), "renamed.wav", wave, rate)
    assert of(audit([*rows, copy]).findings, "identical, one label").ids == ("s0_angry", "copy.flac")
    relabelled = of(audit([*rows, other_label]).findings, "identical, different labels")
    assert (relabelled.severity, relabelled.ids) == ("error", ("s0_angry", "relabelled.wav"))
    assert "angry, sad" in relabelled.detail
    leak = of(audit([*rows, other_side]).findings, "same sound on two sides")
    assert leak.severity == "error"
    assert "test, train" in leak.detail


@pytest.mark.parametrize("damage", ["opus", "mp3", "louder", "later", "resampled", "noisy"])
def test_damaged_copies_are_found(damage: str, rows: list[Utterance]) -> None:
    wave, _ = soundfile.read(rows[0].path, dtype="float32")
    rng = np.random.default_rng(0)
    noise = 0.1 * float(np.std(wave)) * rng.standard_normal(len(wave))
    made = {
        "opus": ("c.ogg", wave, 16_000),
        "mp3": ("c.mp3", wave, 16_000),
        "louder": ("c.wav", 0.25 * wave, 16_000),
        "later": ("c.wav", wave[5_003:], 16_000),
        "resampled": ("c.wav", np.interp(np.arange(0, len(wave), 16_000 / 22_050), np.arange(len(wave)), wave), 22_050),
        "noisy": ("c.wav", wave + noise, 16_000),
    }[damage]
    copy = with_wave(replace(rows[0], emotion="happy"), *made)
    found = of(audit([*rows, copy]).findings, "near-identical, different labels")
    assert (found.severity, set(found.ids)) == ("error", {"s0_angry", copy.id})


def test_a_shared_stretch_says_where_it_lies(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    whole = speechlike(6.0, seed=99)
    first = with_wave(rows[0], "first.wav", whole[: 4 * 16_000])
    second = with_wave(rows[0], "second.wav", whole[3 * 16_000 - 777 :])
    (match,) = likeness.find([fact.sound for fact in facts_of([first, second]) if fact.sound])
    assert match.first_s == pytest.approx(3.0, abs=0.1)
    assert match.second_s == pytest.approx(0.0, abs=0.1)
    assert match.seconds == pytest.approx(1.05, abs=0.15)
    assert of(audit([*rows, first, second]).findings, "shared stretch, one label").severity == "note"
    other = replace(second, speaker="s1")
    assert of(audit([*rows, first, other]).findings, "shared stretch, two speakers").severity == "error"
    one_group = [replace(first, group="show"), replace(other, group="show")]
    assert of(audit([*rows, *one_group]).findings, "shared stretch, two speakers").severity == "warning"


def test_a_match_ends_where_the_sound_goes_apart(speechlike: Callable[..., Wave]) -> None:
    shared, ends = speechlike(2.0, seed=1), [speechlike(3.0, seed=seed) for seed in (2, 3)]
    prints = [examine(np.concatenate([shared, end])).sound for end in ends]
    (match,) = likeness.find([item for item in prints if item])
    assert (match.first_s, match.second_s) == pytest.approx((0.0, 0.0), abs=0.05)
    assert match.seconds == pytest.approx(2.0, abs=0.3)


def test_a_jingle_that_unknown_voices_share_is_no_leak(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    jingle = speechlike(1.5, seed=50)
    shows = [
        with_wave(
            replace(rows[0], speaker=None, emotion=None, split=split),
            f"show{n}.wav",
            np.concatenate([jingle, speechlike(4.0, seed=60 + n)]),
        )
        for n, split in enumerate(("train", "test"))
    ]
    found = audit([*rows, *shows])
    assert of(found.findings, "shared stretch on two sides").severity == "warning"
    assert found.ok
    same_side = audit([*rows, *(replace(row, split="train") for row in shows)])
    assert of(same_side.findings, "shared stretch, one label").severity == "note"


def test_different_takes_of_one_voice_are_not_alike(speechlike: Callable[..., Wave]) -> None:
    prints = [examine(speechlike(2.0, seed=seed)).sound for seed in range(20)]
    assert likeness.find([item for item in prints if item]) == []


def test_a_long_recording_has_the_fingerprint_of_its_blocks(speechlike: Callable[..., Wave], monkeypatch: pytest.MonkeyPatch) -> None:
    low = likeness.lowered(speechlike(6.0, seed=4))
    whole = likeness.print_of(low)
    monkeypatch.setattr(likeness, "BLOCK", 37)
    assert np.array_equal(likeness.print_of(low).bits, whole.bits)
    assert np.array_equal(likeness.print_of(low).active, whole.active)
