"""Augmentation: the same for the same seed, epoch and utterance whatever else draws or runs; each effect does what its name says."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast.augment import Augment, Augmenter, Codec, Crop, Gain, Hide, Noise, Pitch, Room, active_effects, check, hidden, recordings
from moodcast.config import leaves, replace_at
from moodcast.methods.erm import Erm
from moodcast.nn.functionals import pitch_track
from moodcast.run import Run, Train

RATE = 16_000
Wave = NDArray[np.float32]


@pytest.fixture
def folders(tmp_path: Path, write_wav: Callable[..., Path]) -> dict[str, str]:
    """A folder of three noises, one of them below it and one at another rate, and a folder of two rooms."""
    rng = np.random.default_rng(0)
    for folder in ("noise/deep", "rooms"):
        (tmp_path / folder).mkdir(parents=True)
    for number, (name, rate) in enumerate((("noise/a.wav", RATE), ("noise/deep/b.wav", RATE), ("noise/c.wav", 8_000))):
        write_wav(name, (0.1 * (number + 1) * rng.standard_normal(rate)).astype(np.float32), rate)
    for number in range(2):
        tail = rng.standard_normal(4_000) * np.exp(-np.arange(4_000) / (400 * (number + 1)))
        write_wav(f"rooms/{number}.wav", (0.2 * np.r_[4.0, tail]).astype(np.float32), RATE)
    return {"noise": str(tmp_path / "noise"), "rooms": str(tmp_path / "rooms")}


def every(folders: dict[str, str]) -> Augment:
    return Augment(
        Pitch(0.7), Room(0.7, folders["rooms"]), Noise(0.7, folders["noise"]), Gain(0.7), Codec(0.7), Hide(0.7)
    )  # fmt: skip


@pytest.fixture
def voice(speechlike: Callable[..., Wave]) -> Wave:
    return speechlike(1.5, RATE)


def db(wave: Wave) -> float:
    return float(10 * np.log10(np.mean(np.square(wave, dtype=np.float64))))


def test_an_utterance_sounds_the_same_in_an_epoch_whatever_happened_before(folders: dict[str, str], speechlike: Callable[..., Wave]):
    """So that any number of workers, in any order, and a resumed run hear the same."""
    waves = {f"u{i}": speechlike(0.4 + 0.1 * i, RATE, i) for i in range(8)}
    first, second = Augmenter(every(folders), RATE), Augmenter(every(folders), RATE)
    ours = {name: first(wave, 3, 5, name) for name, wave in waves.items()}
    random.seed(1)
    np.random.seed(1)
    theirs = {name: second(waves[name], 3, 5, name) for name in reversed(waves)}
    for name, wave in waves.items():
        np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours[name].shape == wave.shape
        assert ours[name].dtype == np.float32


def test_the_global_generators_are_left_alone(folders: dict[str, str], voice: Wave):
    """They belong to training on the main thread, while augmentation runs beside it."""
    augmenter = Augmenter(every(folders), RATE)
    random.seed(4)
    np.random.seed(4)
    before = random.getstate(), np.random.get_state()[1].tolist()
    for epoch in range(6):
        augmenter(voice, 0, epoch, "u")
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_epochs_seeds_and_utterances_sound_different(folders: dict[str, str], voice: Wave):
    augmenter = Augmenter(replace(every(folders), hide=Hide(1.0)), RATE)
    heard = [augmenter(voice, *place) for place in ((0, 0, "u"), (0, 1, "u"), (1, 0, "u"), (0, 0, "v"))]
    assert all(not np.array_equal(a, b) for i, a in enumerate(heard) for b in heard[:i])


def test_a_change_of_one_effect_leaves_the_draws_of_the_others_alone(folders: dict[str, str], voice: Wave):
    with_gain = Augmenter(Augment(gain=Gain(1.0)), RATE)(voice, 0, 0, "u")
    with_both = Augmenter(Augment(gain=Gain(1.0), codec=Codec(1.0, 64, 64)), RATE)(voice, 0, 0, "u")
    assert db(with_both) == pytest.approx(db(with_gain), abs=0.5)


def test_shares_are_kept(voice: Wave):
    augmenter = Augmenter(Augment(gain=Gain(0.3)), RATE)
    changed = [not np.array_equal(augmenter(voice, 0, 0, f"u{i}"), voice) for i in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)


# ---------------------------------------------------------------------------------------------- what each does


def test_noise_comes_at_the_ratio_asked_for(folders: dict[str, str], voice: Wave):
    augmenter = Augmenter(Augment(noise=Noise(1.0, folders["noise"], 7.0, 12.0)), RATE)
    ratios = [db(voice) - db(augmenter(voice, 0, epoch, "u") - voice) for epoch in range(30)]
    assert min(ratios) >= 6.8
    assert max(ratios) <= 12.2
    assert max(ratios) - min(ratios) > 3
    silence = np.zeros(3_000, np.float32)
    np.testing.assert_array_equal(augmenter(silence, 0, 0, "u"), silence)


def test_a_room_rings_after_the_sound_and_keeps_its_level(folders: dict[str, str], voice: Wave):
    cut = np.r_[voice[:12_000], np.zeros(8_000, np.float32)]
    heard = Augmenter(Augment(room=Room(1.0, folders["rooms"])), RATE)(cut, 0, 0, "u")
    assert db(heard) == pytest.approx(db(cut), abs=0.01)
    assert db(heard[12_000:14_000]) > db(heard[:12_000]) - 40


def test_a_gain_is_between_its_limits(voice: Wave):
    augmenter = Augmenter(Augment(gain=Gain(1.0, -9.0, 3.0)), RATE)
    gains = [db(augmenter(voice, 0, epoch, "u")) - db(voice) for epoch in range(30)]
    assert -9.01 <= min(gains) < -5
    assert 0 < max(gains) <= 3.01


def test_pitch_moves_by_no_more_than_was_said():
    time = np.arange(2 * RATE) / RATE
    wave = (0.05 * sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 10))).astype(np.float32)
    augmenter = Augmenter(Augment(pitch=Pitch(1.0, 3.0)), RATE)
    moved = [
        12 * (np.median(pitch_track(augmenter(wave, 0, epoch, "u")[RATE // 2 :].astype(float), RATE)[0]) - np.log2(150))
        for epoch in range(8)
    ]
    assert max(map(abs, moved)) < 3.2
    assert max(moved) - min(moved) > 1.5


def test_a_codec_takes_the_highest_frequencies(voice: Wave):
    noise = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    heard = Augmenter(Augment(codec=Codec(1.0, 8, 8)), RATE)(noise, 0, 0, "u")
    spectrum, original = (np.abs(np.fft.rfft(wave)) ** 2 for wave in (heard, noise))
    assert spectrum[-4_000:].sum() < 0.01 * original[-4_000:].sum()  # above 6 kHz
    assert spectrum[1_000:6_000].sum() > 0.1 * original[1_000:6_000].sum()


def spectrogram(wave: Wave) -> NDArray[np.float64]:
    framed = np.lib.stride_tricks.sliding_window_view(wave, 512)[::128] * np.hanning(512)
    return np.log(np.abs(np.fft.rfft(framed)) + 1e-6)


class Sixty:
    """A generator whose every draw lies at 60 % of its range."""

    def uniform(self, low: float, high: float) -> float:
        return low + 0.6 * (high - low)


def test_bands_and_spans_are_hidden_and_the_rest_is_as_it_was(voice: Wave):
    heard = hidden(voice, RATE, Hide(1.0, mels=700.0, seconds=0.4, times=1), Sixty())  # type: ignore[arg-type]
    before, after = spectrogram(voice), spectrogram(heard)  # [T, M]
    frame, band = (0.6 * (1.5 - 0.24) + 0.12) / 0.008, 700 * (10 ** ((0.6 * (2840 - 420) + 210) / 2595) - 1) / (8_000 / 256)
    frames, bands = slice(round(frame) - 8, round(frame) + 4), slice(round(band) - 15, round(band) + 15)
    for where in ((frames, slice(None)), (slice(None), bands)):
        assert after[where].std() < 0.6 * before[where].std()
    outside = np.abs(after - before)[: frames.start - 15, : bands.start - 40]
    assert outside.size > 1_000
    assert np.median(outside) < 0.02
    still = hidden(voice, RATE, Hide(1.0, mels=0.0, seconds=0.0), Sixty())  # type: ignore[arg-type]
    np.testing.assert_allclose(still, voice, atol=1e-4)


@pytest.mark.parametrize("length", [1, 100, 700, 16_001])
def test_length_stays_whatever_it_is(length: int, folders: dict[str, str]):
    rng, sure = np.random.default_rng(0), replace(every(folders), **{})
    for name in active_effects(sure):
        one = Augment(**{name: replace(getattr(sure, name), share=1.0)})
        for wave in ((0.1 * rng.standard_normal(length)).astype(np.float32), np.zeros(length, np.float32)):
            heard = Augmenter(one, RATE)(wave, 0, 0, name)
            assert heard.shape == (length,), name
            assert np.isfinite(heard).all(), name


def test_samples_of_the_cache_are_never_written_to(folders: dict[str, str], voice: Wave):
    locked = voice.copy()
    locked.flags.writeable = False
    augmenter = Augmenter(every(folders), RATE)
    for epoch in range(5):
        augmenter(locked, 0, epoch, "u")
    np.testing.assert_array_equal(locked, voice)


# ------------------------------------------------------------------------------------------------------ fields


def test_every_setting_is_a_leaf_of_the_run_and_off_by_default(folders: dict[str, str]):
    run = Run(method=Erm.Config())
    assert not run.augment.active
    assert {"augment.noise.share", "augment.noise.folder", "augment.hide.mels"} <= set(leaves(run))
    on = replace_at(run, {"augment.noise.share": "0.5", "augment.noise.folder": folders["noise"]})
    assert active_effects(on.augment) == ["noise"]


def test_kept_features_and_augmentation_exclude_each_other():
    with pytest.raises(ValueError, match=r"train\.cache_features=on would train on features of recordings as they are"):
        Run(method=Erm.Config(), augment=Augment(gain=Gain(0.1)), train=Train(cache_features="on"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Augment(gain=Gain(1.5)), r"augment\.gain\.share is a share"),
        (lambda: Augment(noise=Noise(0.0, "", 20.0, 10.0)), r"augment\.noise\.min_snr_db=20\.0 is above its maximum, 10\.0"),
        (lambda: Augment(codec=Codec(0.5, 33, 39)), "no bit rate between 33 and 39"),
        (lambda: Augment(hide=Hide(0.5, seconds=-1.0)), r"augment\.hide\.seconds says how much at most and must be in \[0, inf\), got -1"),
        (lambda: Augment(hide=Hide(0.5, times=-1)), r"augment\.hide\.times says how much at most and must be in \[0, inf\), got -1"),
        (
            lambda: Augment(pitch=Pitch(0.5, float("nan"))),
            r"augment\.pitch\.semitones says how much at most and must be in \[0, inf\), got nan",
        ),
        (lambda: Augment(gain=Gain(0.5, float("-inf"), 6.0)), r"augment\.gain\.min_db and its maximum must be finite, got -inf and 6"),
        (
            lambda: Augment(noise=Noise(0.5, "noise", 5.0, float("nan"))),
            r"augment\.noise\.min_snr_db and its maximum must be finite, got 5\.0 and nan",
        ),
        (lambda: check(Augment(noise=Noise(0.5))), r"augment\.noise\.folder='' is no folder"),
        (lambda: check(Augment(room=Room(0.5, "/nowhere"))), r"augment\.room\.folder='/nowhere' is no folder"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong: Callable[[], object], said: str):
    with pytest.raises(ValueError, match=said):
        wrong()


def test_a_folder_without_recordings_is_refused_and_hidden_order_does_not_matter(tmp_path: Path, folders: dict[str, str]):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no sound")
    with pytest.raises(ValueError, match="holds no recording"):
        recordings(str(tmp_path / "empty"), "augment.noise.folder")
    found = [Path(path).relative_to(folders["noise"]).as_posix() for path in recordings(folders["noise"], "x")]
    assert found == ["a.wav", "c.wav", "deep/b.wav"]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(ValueError, match=r"audiomentations: pip install 'moodcast\[augment\]'"):
        check(Augment(gain=Gain(0.5)))
    check(Augment())
    Augmenter(Augment(hide=Hide(1.0)), RATE)(np.ones(1_000, np.float32), 0, 0, "u")  # which needs none


@pytest.mark.corpora
def test_the_given_recordings_of_noise_and_rooms_can_be_used(corpora: Path, voice: Wave):
    given = Augment(noise=Noise(1.0, str(corpora / "noise")), room=Room(1.0, str(corpora / "rir")))
    augmenter = Augmenter(given, RATE)
    assert len(augmenter.noises) == 508
    assert len(augmenter.rooms) == 21
    for epoch in range(8):
        assert augmenter(voice, 0, epoch, "u").shape == voice.shape


def test_a_crop_is_a_window_of_the_utterance_drawn_anew_each_epoch_and_leaves_other_effects_alone(voice: Wave):
    augmenter, ramp = Augmenter(Augment(crop=Crop(1.0, 0.5)), RATE), np.arange(2 * RATE, dtype=np.float32)
    found = [augmenter(ramp, 0, epoch, "u") for epoch in range(40)]
    assert all(len(wave) == RATE // 2 and (np.diff(wave) == 1).all() for wave in found)
    starts = [int(wave[0]) for wave in found]
    assert min(starts) < 4_000
    assert max(starts) > 20_000
    assert np.array_equal(augmenter(ramp, 0, 7, "u"), found[7])
    assert np.array_equal(augmenter(ramp[:5_000], 0, 0, "u"), ramp[:5_000])  # shorter: whole
    louder = Augmenter(Augment(gain=Gain(1.0, 6.0, 6.0), crop=Crop(1.0, 0.5)), RATE)
    np.testing.assert_allclose(louder(voice, 0, 3, "u"), 10**0.3 * augmenter(voice, 0, 3, "u"), rtol=1e-4)


def test_a_folder_below_the_home_of_a_user_is_found(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    noise = Path(folders["noise"])
    monkeypatch.setenv("HOME", str(noise.parent))
    assert recordings(f"~/{noise.name}", "augment.noise.folder") == recordings(str(noise), "augment.noise.folder")


def test_a_crop_without_length_is_refused():
    with pytest.raises(ValueError, match="crop.seconds must be positive"):
        Augment(crop=Crop(1.0, 0.0))
