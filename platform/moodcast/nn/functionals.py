"""Statistics of a whole stretch as one vector ("functionals"): a plain set of our own, and openSMILE's sets where that is installed.

Shapes: N samples, T frames, M mel bands, F features. Plain arrays, not tensors: a stretch is described alone, so that its batch cannot
matter, and nothing here is trained.

The plain set says how the spectrum lies, spreads and moves in the loud part of a stretch, how level and pitch move, and how fast it is
spoken; nothing in it depends on the recording's gain. Pitch is the highest peak of the normalised autocorrelation (Boersma, "Accurate
short-term analysis of the fundamental frequency", IFA Proceedings 17, 1993, with its octave cost and without its path search).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast.chunks import samples_of
from moodcast.extras import library

Array = NDArray[np.float64]

WINDOW_S, HOP_S = 0.025, 0.010
PITCH_WINDOW_S, PITCH_HOP_S = 0.040, 0.010
LOWEST_HZ, HIGHEST_HZ = 65.0, 500.0
LOUD = 6.9  # nats of power, 30 dB: frames that far below the loud ones are pauses
OCTAVE_COST = 0.03  # of peak height an octave: a periodic sound has equal peaks at all multiples of its period
VOICED = 0.5  # of the normalised autocorrelation
TINY = 1e-10
LEVELS, PITCHES = 9, 9  # how many of each there are
OPENSMILE = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}


def num_plain(num_mels: int) -> int:
    """F of `plain` with M mel bands."""
    return 3 * num_mels + LEVELS + PITCHES


def plain(wave: NDArray[np.float32], rate: int, filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """The plain set of a stretch [N], filters [fft // 2 + 1, M] for its power spectrum: [F], finite whatever is heard.

    M means of log power against its frame's mean, M deviations, M mean steps; nine of level and tempo; nine of pitch.
    """
    samples = np.asarray(wave, dtype=np.float64)
    logs = log_mel(samples, rate, filters)
    level = logs.mean(axis=1)
    loud = level > np.percentile(level, 95) - LOUD
    heard = logs[loud] if loud.sum() > 10 else logs
    step = np.abs(np.diff(heard, axis=0)).mean(axis=0) if len(heard) > 2 else np.zeros(heard.shape[1])
    shape = (heard - heard.mean(axis=1, keepdims=True)).mean(axis=0)
    found = [shape, heard.std(axis=0), step, levels(heard.mean(axis=1), level, loud, len(samples) / rate), pitches(samples, rate)]
    values: NDArray[np.float32] = np.nan_to_num(np.concatenate(found)).astype(np.float32)
    return values


def levels(heard: Array, level: Array, loud: NDArray[np.bool_], seconds: float) -> Array:
    """Of the mean log power of loud frames and of all [T]: four percentiles and deviation, share of loud frames, duration, tempo, swing."""
    spread = np.percentile(heard - heard.mean(), [5, 25, 75, 95])
    smooth = np.convolve(np.pad(level, 3, mode="edge"), np.ones(7) / 7, mode="valid")
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & loud[1:-1]  # about one a syllable
    swing = np.abs(np.diff(smooth)).mean() if len(smooth) > 1 else 0.0
    return np.array([*spread, heard.std(), loud.mean(), np.log(max(seconds, HOP_S)), peaks.sum() / max(seconds, 0.1), swing])


def pitches(samples: Array, rate: int) -> Array:
    """In octaves: median, deviation, range (10 to 90 %), mean step, share of steps up, slope; share voiced, mean voicing, clarity."""
    octaves, voicing = pitch_track(samples, rate)
    voiced = voicing > VOICED
    if voiced.sum() < 3:
        return np.zeros(PITCHES)
    curve, strength = octaves[voiced], voicing[voiced]
    together = np.diff(np.flatnonzero(voiced)) == 1
    steps = np.diff(curve)[together]
    steps = steps[np.abs(steps) < 0.3]  # more than that in 10 ms is a mistake of an octave
    moved = [np.abs(steps).mean(), (steps > 0).mean()] if len(steps) else [0.0, 0.5]
    low, high = np.percentile(curve, [10, 90])
    slope = np.polyfit(np.linspace(-0.5, 0.5, len(curve)), curve, 1)[0]
    return np.array([np.median(curve), curve.std(), high - low, *moved, slope, voiced.mean(), voicing.mean(), strength.mean()])


def pitch_track(samples: Array, rate: int) -> tuple[Array, Array]:
    """log2 of the pitch in Hz and the height of its peak, of frames in the louder half: [T], [T]; empty for what is too short."""
    width = samples_of(PITCH_WINDOW_S, rate)
    framed = frames(samples, width, samples_of(PITCH_HOP_S, rate))
    power = (framed**2).mean(axis=1)
    framed = framed[power >= max(np.median(power), TINY)]
    framed = (framed - framed.mean(axis=1, keepdims=True)) * np.hanning(width)
    first, last = int(rate / HIGHEST_HZ), min(int(rate / LOWEST_HZ), width - 2)
    size = 1 << (width + last).bit_length()  # lags up to last + 1 do not wrap around
    product = np.fft.irfft(np.abs(np.fft.rfft(framed, size)) ** 2, size)[:, : last + 2]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(width), size)) ** 2, size)[: last + 2]
    normed = product / (product[:, :1] + TINY) / (window / window[0] + 1e-9)
    lags = np.arange(first, last + 1)
    best = first + (normed[:, first : last + 1] - OCTAVE_COST * np.log2(lags * LOWEST_HZ / rate)).argmax(axis=1)
    rows = np.arange(len(normed))
    before, here, after = normed[rows, best - 1], normed[rows, best], normed[rows, best + 1]
    bend = before - 2 * here + after
    offset = np.clip(np.divide(0.5 * (before - after), bend, out=np.zeros_like(bend), where=np.abs(bend) > 1e-9), -0.5, 0.5)
    return np.log2(rate / (best + offset)), np.clip(here, -1.0, 1.0)


def log_mel(samples: Array, rate: int, filters: NDArray[np.float32]) -> Array:
    """Natural log of mel power [T, M] of [N]; a stretch shorter than a window is padded to one."""
    width = samples_of(WINDOW_S, rate)
    framed = frames(samples, width, samples_of(HOP_S, rate)) * np.hanning(width)
    power = np.abs(np.fft.rfft(framed, 2 * (len(filters) - 1))) ** 2
    floor = TINY + 1e-7 * (power @ filters).mean()  # relative, so that the gain of a recording changes nothing but an offset
    return np.asarray(np.log(power @ filters + floor))


def frames(samples: Array, width: int, hop: int) -> Array:
    """Windows [T, width] every `hop` samples of [N], at least one."""
    padded = np.pad(samples, (0, max(0, width - len(samples))))
    return np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]


def opensmile_set(name: str) -> Any:
    """openSMILE's extractor of "egemaps" (88 features) or "compare" (6373), whose `process_signal` takes samples.

    Raises ValueError where opensmile is not installed. Its licence allows research and private use, not commercial use.
    """
    try:
        smile = library("opensmile", "functionals", f"the features {name!r} need")
    except ValueError as error:
        raise ValueError(f"{error}. Its licence allows research and private use only; method.features=plain needs nothing") from error
    return smile.Smile(feature_set=getattr(smile.FeatureSet, OPENSMILE[name]), feature_level=smile.FeatureLevel.Functionals)


def opensmile_features(extractor: Any, wave: NDArray[np.float32], rate: int, least_s: float = 1.0) -> NDArray[np.float32]:
    """openSMILE's functionals of a stretch [N]: [F], finite. What is shorter than `least_s` is padded with silence, or it gives none."""
    padded = np.pad(wave, (0, max(0, samples_of(least_s, rate) - len(wave))))
    values = extractor.process_signal(padded, rate).to_numpy(dtype=np.float32)[0]
    return np.asarray(np.clip(np.nan_to_num(values), -1e9, 1e9), dtype=np.float32)
