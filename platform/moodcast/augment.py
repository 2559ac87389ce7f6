"""Augmentation of sound, in training alone: a window of it, pitch, room, noise, gain, codec, hidden bands and spans, new in each epoch.

Effects are those of the audiomentations library; what is drawn for them comes from a generator of our own, seeded by the run, the epoch
and the utterance, so that any number of workers and a resumed run hear the same. Nothing here is met by dev, test or serving.

Shapes: N samples, T frames, M bins.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast.extras import library

Wave = NDArray[np.float32]
Draw = np.random.Generator

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au"}
WINDOW_S, OVERLAP = 0.032, 0.75  # of the short-time spectrum in which `hidden` hides
LEAST_S = 0.1
BITRATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # kbit/s that MP3 has at 16 to 24 kHz


@dataclass(frozen=True)
class Noise:
    """A recording from `folder` (and below) mixed in at min_snr_db to max_snr_db; share of the utterances that get it."""

    share: float = 0.0
    folder: str = ""
    min_snr_db: float = 5.0
    max_snr_db: float = 30.0


@dataclass(frozen=True)
class Room:
    """Convolved with an impulse response from `folder` (and below); the level stays."""

    share: float = 0.0
    folder: str = ""


@dataclass(frozen=True)
class Gain:
    """Louder or softer by min_db to max_db."""

    share: float = 0.0
    min_db: float = -20.0
    max_db: float = 6.0


@dataclass(frozen=True)
class Pitch:
    """Higher or lower by up to `semitones`, at the same pace."""

    share: float = 0.0
    semitones: float = 2.0


@dataclass(frozen=True)
class Codec:
    """Through an MP3 encoder at min_kbps to max_kbps and back."""

    share: float = 0.0
    min_kbps: int = 8
    max_kbps: int = 64


@dataclass(frozen=True)
class Hide:
    """SpecAugment (Park et al., Interspeech 2019) without warping, on the short-time spectrum of the sound, so that every method hears it.

    `times` bands of up to `mels` mel each (the whole range at 16 kHz has 2840) and `times` spans of up to `seconds` get the mean of the
    log spectrum.
    """

    share: float = 0.0
    mels: float = 500.0
    seconds: float = 0.3
    times: int = 2


@dataclass(frozen=True)
class Crop:
    """Only a window of `seconds` of it, wherever it lies; an utterance that is not longer stays whole. Epochs become cheaper, too."""

    share: float = 0.0
    seconds: float = 3.0


@dataclass(frozen=True)
class Augment:
    """What may happen to an utterance in training: a crop, then the others in this order. Shares are in [0, 1]; 0 is off."""

    pitch: Pitch = Pitch()
    room: Room = Room()
    noise: Noise = Noise()
    gain: Gain = Gain()
    codec: Codec = Codec()
    hide: Hide = Hide()
    crop: Crop = Crop()

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0.0 <= (share := getattr(self, field.name).share) <= 1.0:
                raise ValueError(f"augment.{field.name}.share is a share of the utterances and must be in [0, 1], got {share}")
        for name, value in (
            ("pitch.semitones", self.pitch.semitones),
            ("hide.mels", self.hide.mels),
            ("hide.seconds", self.hide.seconds),
            ("hide.times", self.hide.times),
        ):
            if not 0 <= value < inf:
                raise ValueError(f"augment.{name} says how much at most and must be in [0, inf), got {value}")
        for name, low, high in (
            ("noise.min_snr_db", self.noise.min_snr_db, self.noise.max_snr_db),
            ("gain.min_db", self.gain.min_db, self.gain.max_db),
            ("codec.min_kbps", self.codec.min_kbps, self.codec.max_kbps),
        ):
            if not -inf < low < inf or not -inf < high < inf:
                raise ValueError(f"augment.{name} and its maximum must be finite, got {low} and {high}")
            if low > high:
                raise ValueError(f"augment.{name}={low} is above its maximum, {high}")
        if not self.crop.seconds > 0:
            raise ValueError(f"augment.crop.seconds must be positive, got {self.crop.seconds}")
        if self.codec.share and not any(self.codec.min_kbps <= rate <= self.codec.max_kbps for rate in BITRATES):
            raise ValueError(f"MP3 has no bit rate between {self.codec.min_kbps} and {self.codec.max_kbps} kbit/s; it has {BITRATES}")

    @property
    def active(self) -> bool:
        """Whether anything may happen at all."""
        return any(getattr(self, field.name).share > 0 for field in fields(self))


class Augmenter:
    """`augmenter(wave, seed, epoch, name)`: an utterance as it is heard in an epoch. One thread at a time.

    Raises ValueError where a folder of recordings is missing or empty, or a library is not installed.
    """

    def __init__(self, augment: Augment, rate: int) -> None:
        self.augment, self.rate = augment, rate
        self.noises = recordings(augment.noise.folder, "augment.noise.folder") if augment.noise.share else []
        self.rooms = recordings(augment.room.folder, "augment.room.folder") if augment.room.share else []
        self.durations: dict[str, float] = {}
        self.effects: dict[str, Any] = {}
        effects = _library("audiomentations") if {n for n in active_effects(augment)} - {"hide", "crop"} else None
        if augment.codec.share:
            _library("fast_mp3_augment")
        if effects is not None:
            warnings.filterwarnings("ignore", message=".* had to be resampled", module="audiomentations")  # once a file and epoch
            self.effects = {
                "pitch": effects.PitchShift(p=1.0),
                "gain": effects.Gain(p=1.0),
                "codec": effects.Mp3Compression(p=1.0),
                **({"noise": effects.AddBackgroundNoise(self.noises, p=1.0)} if self.noises else {}),
                **({"room": effects.ApplyImpulseResponse(self.rooms, p=1.0)} if self.rooms else {}),
            }

    def __call__(self, wave: Wave, seed: int, epoch: int, name: str) -> Wave:
        """The utterance `name` [N] as epoch `epoch` of a run with `seed` hears it, [N] or a window of it: a pure function of all these."""
        draw = drawing(seed, epoch, name)
        # Each effect has draws of its own, so that a change of one leaves the others alone.
        draws = {field.name: np.random.default_rng(draw.integers(2**63)) for field in fields(self.augment)}
        crop = draws.pop("crop")
        wave = self._crop(wave, crop) if crop.random() < self.augment.crop.share else wave
        heard = wave
        for effect, one in draws.items():
            if one.random() < getattr(self.augment, effect).share:
                heard = getattr(self, f"_{effect}")(heard, one)
        if heard.shape != wave.shape or not np.isfinite(heard).all():
            raise ValueError(f"augmentation made {heard.shape} of {name} {wave.shape}, or what is not finite; look at it")
        return np.asarray(heard, dtype=np.float32)

    def _crop(self, wave: Wave, draw: Draw) -> Wave:
        size = max(1, round(self.augment.crop.seconds * self.rate))
        start = int(draw.integers(max(0, len(wave) - size) + 1))
        return wave[start : start + size]

    def _pitch(self, wave: Wave, draw: Draw) -> Wave:
        return self._apply("pitch", wave, num_semitones=float(draw.uniform(-1, 1)) * self.augment.pitch.semitones)

    def _room(self, wave: Wave, draw: Draw) -> Wave:
        heard = self._apply("room", wave, ir_file_path=self.rooms[draw.integers(len(self.rooms))])
        return heard * np.float32(_rms(wave) / max(_rms(heard), 1e-9))

    def _noise(self, wave: Wave, draw: Draw) -> Wave:
        settings, seconds = self.augment.noise, len(wave) / self.rate
        path = self.noises[draw.integers(len(self.noises))]
        if path not in self.durations:
            self.durations[path] = float(_library("soundfile").info(path).duration)
        offset = float(draw.uniform(0.0, max(0.0, self.durations[path] - seconds)))
        snr_db = float(draw.uniform(settings.min_snr_db, settings.max_snr_db))
        if not _rms(wave):
            return wave
        return self._apply("noise", wave, noise_file_path=path, offset=offset, duration=seconds, snr_db=snr_db, rms_db=0.0)

    def _gain(self, wave: Wave, draw: Draw) -> Wave:
        decibel = float(draw.uniform(self.augment.gain.min_db, self.augment.gain.max_db))
        return self._apply("gain", wave, amplitude_ratio=10.0 ** (decibel / 20.0))

    def _codec(self, wave: Wave, draw: Draw) -> Wave:
        rates = [rate for rate in BITRATES if self.augment.codec.min_kbps <= rate <= self.augment.codec.max_kbps]
        return self._apply("codec", wave, bitrate=int(draw.choice(rates)))

    def _hide(self, wave: Wave, draw: Draw) -> Wave:
        return hidden(wave, self.rate, self.augment.hide, draw)

    def _apply(self, effect: str, wave: Wave, **parameters: Any) -> Wave:
        """An effect of the library with parameters that were drawn here: frozen, it draws nothing from the global generators."""
        transform = self.effects[effect]
        transform.parameters = {"should_apply": True, **parameters}
        transform.freeze_parameters()
        least = round(LEAST_S * self.rate)  # encoders refuse less
        found: Wave = transform(np.pad(wave, (0, max(0, least - len(wave)))), self.rate)
        return found[: len(wave)]


def hidden(wave: Wave, rate: int, hide: Hide, draw: Draw) -> Wave:
    """`wave` [N] with bands and spans of its short-time spectrum levelled to the mean of its logarithm; phases stay."""
    from scipy.signal import istft, stft  # type: ignore[import-untyped]

    width = 2 * round(WINDOW_S * rate / 2)
    options = {"fs": rate, "nperseg": width, "noverlap": round(width * OVERLAP)}
    spectrum = stft(np.pad(wave, (0, max(0, width - len(wave)))), **options)[2]  # [M, T]
    magnitude = np.abs(spectrum)
    mask = np.zeros(spectrum.shape, dtype=bool)
    mels = 2595.0 * np.log10(1.0 + np.linspace(0, rate / 2, len(spectrum)) / 700.0)
    seconds = np.arange(spectrum.shape[1]) * width * (1 - OVERLAP) / rate
    for _ in range(hide.times):
        mask |= _span(mels, hide.mels, draw)[:, None]
        mask |= _span(seconds, hide.seconds, draw)[None, :]
    floor = 1e-5 * magnitude.mean() + 1e-12
    level = np.exp(np.log(magnitude + floor).mean())
    changed = np.where(mask, spectrum * (level / (magnitude + floor)), spectrum)
    back = istft(changed, **options)[1][: len(wave)]
    return np.pad(back, (0, len(wave) - len(back))).astype(np.float32)


def drawing(seed: int, epoch: int, name: str) -> Draw:
    """The generator of an utterance in an epoch of a run."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest[:8], "little")])


def active_effects(augment: Augment) -> list[str]:
    """The names of the effects that may happen."""
    return [field.name for field in fields(augment) if getattr(augment, field.name).share > 0]


def recordings(folder: str, field: str) -> list[str]:
    """The sound files in `folder` and below, in an order of their own that is the same everywhere.

    Raises ValueError, naming the `field` that gave the folder, where there are none.
    """
    place = Path(os.path.expanduser(folder))
    if not folder or not place.is_dir():
        raise ValueError(f"{field}={folder!r} is no folder; name one that holds recordings, or set its share to 0")
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{field}={folder!r} holds no recording ({', '.join(sorted(SUFFIXES))})")
    return [str(place / name) for name in found]


def check(augment: Augment) -> None:
    """Raise ValueError, before anything is started, for folders or libraries that are missing."""
    if augment.active:
        Augmenter(augment, 16_000)


def _span(axis: NDArray[np.float64], widest: float, draw: Draw) -> NDArray[np.bool_]:
    """A random interval of `axis`, 0 to `widest` wide, as a mask."""
    width = draw.uniform(0.0, widest)
    start = axis[0] + draw.uniform(0.0, max(0.0, axis[-1] - axis[0] - width))
    return np.asarray((axis >= start) & (axis < start + width))


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _library(name: str) -> Any:
    return library(name, "augment", "augmentation needs the library")
