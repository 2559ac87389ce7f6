"""Vowels of a recording: cut out by phone labels where somebody made them, else found by ear of a machine ("acoustic vowels").

Acoustic vowels hold for every language and need no model: a syllable nucleus is a peak of energy that is voiced, its first two formants are
measured by linear prediction (Atal and Hanauer, JASA 50, 1971; autocorrelation method, order 10 at 10 kHz), standardised over the corpus
(Lobanov, JASA 49, 1971), and the nearest of five cardinal vowels names it. They are cut out of the spectrum: what is later said of the
spectrum of a vowel holds by construction in part, and every table that uses them must say so.

Shapes: L samples, T frames, n vowels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz  # type: ignore[import-untyped]

from moodcast import audio

Floats = NDArray[np.float64]

VOWELS = ("i", "e", "a", "o", "u")
# What the five are called in SAMPA, IPA and ARPABET; diphthongs, rounded front vowels and schwa are none of them.
NAMES: dict[str, tuple[str, ...]] = {
    "i": ("i", "I", "ɪ", "IY", "IH"),
    "e": ("e", "E", "ɛ", "EH"),
    "a": ("a", "A", "ɑ", "ɐ", "AA"),
    "o": ("o", "O", "ɔ", "AO"),
    "u": ("u", "U", "ʊ", "UW", "UH"),
}
CARDINAL_HZ = np.array([[300.0, 2300.0], [450.0, 2000.0], [750.0, 1300.0], [480.0, 900.0], [330.0, 800.0]])  # F1, F2 of VOWELS
RATE, ORDER = 10_000, 10  # of linear prediction, Hz and coefficients
HOP_S, WINDOW_S = 0.010, 0.025
PEAK_APART_S, WIDEST_S, NARROWEST_S = 0.08, 0.16, 0.04  # of nuclei
DROP = 0.7  # nats of power, 3 dB: where a nucleus ends
LOUD = 4.6  # nats, 20 dB: peaks that far below the loudest moments are no nuclei
VOICED = 0.5  # of the normalised autocorrelation
F1_HZ, F2_HZ, APART_HZ, WIDTH_HZ = (200.0, 1100.0), (500.0, 3200.0), 200.0, 500.0


def vowel_of(phone: str) -> str | None:
    """Which of VOWELS a phone label is, or None; marks of length, stress and voice quality do not count.

    >>> [vowel_of(phone) for phone in ("I", "aː", "AA1", "aI", "I+nas", "@")]
    ['i', 'a', 'a', None, 'i', None]
    """
    bare = phone.partition("+")[0].rstrip(":ː012")
    return next((vowel for vowel, names in NAMES.items() if bare in names), None)


def labelled(phones: Sequence[tuple[str, float, float]], seconds: float) -> list[tuple[str, float, float]]:
    """(vowel, start_s, stop_s) of the central half of every vowel among phone labels, within a recording of `seconds`."""
    found = []
    for phone, start_s, stop_s in phones:
        vowel, quarter = vowel_of(phone), (stop_s - start_s) / 4
        if vowel is not None and start_s + quarter < stop_s - quarter <= seconds:
            found.append((vowel, start_s + quarter, stop_s - quarter))
    return found


def nuclei(wave: NDArray[np.float32], rate: int) -> Floats:
    """Syllable nuclei of [L]: start and stop of the central half in seconds, F1 and F2 in Hz, [n, 4]."""
    energy = _energy(np.asarray(wave, dtype=np.float64), rate)
    smooth = np.convolve(np.pad(energy, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    top = np.percentile(smooth, 95)
    rises = np.flatnonzero((smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & (smooth[1:-1] > top - LOUD)) + 1
    low = _at_rate(wave, rate)
    found, last = [], -np.inf
    for peak in rises:
        first, stop = _around(smooth, int(peak))
        start_s, stop_s = first * HOP_S + WINDOW_S / 2, (stop - 1) * HOP_S + WINDOW_S / 2
        middle = (start_s + stop_s) / 2
        if stop_s - start_s < NARROWEST_S or middle - last < PEAK_APART_S or not _voiced(low, middle):
            continue
        quarter = (stop_s - start_s) / 4
        pair = formants(low, start_s + quarter, stop_s - quarter)
        if pair is not None:
            found.append((start_s + quarter, stop_s - quarter, *pair))
            last = middle
    return np.array(found, dtype=float).reshape(-1, 4)


def loud_at(wave: NDArray[np.float32], rate: int, middles_s: Floats) -> NDArray[np.bool_]:
    """Which moments [T] of [L] are within 20 dB of the loudest."""
    energy = _energy(np.asarray(wave, dtype=np.float64), rate)
    at = np.clip(np.round((middles_s - WINDOW_S / 2) / HOP_S).astype(int), 0, len(energy) - 1)
    return np.asarray(energy[at] > np.percentile(energy, 95) - LOUD)


def measured(wave: NDArray[np.float32], rate: int, spans: Sequence[tuple[float, float]]) -> Floats:
    """F1 and F2 in Hz of given spans (start_s, stop_s), [n, 2]; NaN where they cannot be found."""
    low = _at_rate(wave, rate)
    pairs = [formants(low, start_s, stop_s) or (np.nan, np.nan) for start_s, stop_s in spans]
    return np.array(pairs, dtype=float).reshape(-1, 2)


def formants(low: Floats, start_s: float, stop_s: float) -> tuple[float, float] | None:
    """The median F1 and F2 in Hz of frames whose middle lies in a span of samples at RATE; None where no frame has two."""
    width = round(WINDOW_S * RATE)
    middles = np.arange(start_s, max(stop_s, start_s + HOP_S / 2), HOP_S)
    found = []
    for middle in middles:
        begin = round(middle * RATE) - width // 2
        if begin >= 1 and begin + width <= len(low) and (pair := _two(low[begin - 1 : begin + width])) is not None:
            found.append(pair)
    if not found:
        return None
    f1, f2 = np.median(np.array(found), axis=0)
    return float(f1), float(f2)


def lobanov(pairs: Floats, given: Floats | None = None) -> Floats:
    """F1 and F2 [n, 2] standardised by the mean and deviation of all that were measured (`given`, default themselves)."""
    known = pairs if given is None else given
    return np.asarray((pairs - np.nanmean(known, axis=0)) / np.nanstd(known, axis=0))


def nearest(standard: Floats) -> NDArray[np.int64]:
    """The cardinal vowel nearest to standardised formants [n, 2], as an index of VOWELS; -1 where they are NaN."""
    distance = np.linalg.norm(standard[:, None] - lobanov(CARDINAL_HZ)[None], axis=-1)
    return np.where(np.isnan(distance).any(axis=1), -1, np.argmin(np.nan_to_num(distance), axis=1)).astype(np.int64)


def _energy(samples: Floats, rate: int) -> Floats:
    """Log power of frames of WINDOW_S every HOP_S, [T], at least one."""
    width, hop = round(WINDOW_S * rate), round(HOP_S * rate)
    padded = np.pad(samples, (0, max(0, width - len(samples))))
    framed = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]
    return np.asarray(np.log(((framed * np.hanning(width)) ** 2).mean(axis=1) + 1e-12))


def _around(smooth: Floats, peak: int) -> tuple[int, int]:
    """First frame, and the one behind the last, of the run around a peak that stays within DROP of it."""
    most = round(WIDEST_S / HOP_S / 2)
    first, stop = peak, peak + 1
    while first > max(0, peak - most) and smooth[first - 1] > smooth[peak] - DROP:
        first -= 1
    while stop < min(len(smooth), peak + most + 1) and smooth[stop] > smooth[peak] - DROP:
        stop += 1
    return first, stop


def _voiced(low: Floats, middle_s: float) -> bool:
    """Whether 40 ms around a moment are periodic between 65 and 500 Hz."""
    width = round(0.040 * RATE)
    begin = max(0, round(middle_s * RATE) - width // 2)
    part = low[begin : begin + width]
    if len(part) < width:
        return False
    part = (part - part.mean()) * np.hanning(width)
    own = np.correlate(np.hanning(width), np.hanning(width), mode="full")[width - 1 :]
    found = np.correlate(part, part, mode="full")[width - 1 :] / (own / own[0] + 1e-9)
    return bool(found[round(RATE / 500) : round(RATE / 65)].max() > VOICED * (found[0] + 1e-12))


def _two(samples: Floats) -> tuple[float, float] | None:
    """F1 and F2 of one window (with one sample before it), by the roots of linear prediction."""
    emphasised = (samples[1:] - 0.97 * samples[:-1]) * np.hamming(len(samples) - 1)
    own = np.correlate(emphasised, emphasised, mode="full")[len(emphasised) - 1 :][: ORDER + 1]
    if own[0] <= 1e-12:
        return None
    own[0] *= 1 + 1e-9  # white noise far below: keeps the system solvable
    roots = np.roots(np.concatenate([[1.0], -solve_toeplitz(own[:-1], own[1:])]))
    roots = roots[roots.imag > 0.01]
    hz = np.angle(roots) * RATE / (2 * np.pi)
    width = -np.log(np.abs(roots)) * RATE / np.pi
    peaks = np.sort(hz[(width < WIDTH_HZ) & (hz > F1_HZ[0])])
    if len(peaks) < 2:
        return None
    f1, f2 = float(peaks[0]), float(peaks[1])
    fits = f1 <= F1_HZ[1] and F2_HZ[0] <= f2 <= F2_HZ[1] and f2 - f1 >= APART_HZ
    return (f1, f2) if fits else None


def _at_rate(wave: NDArray[np.float32], rate: int) -> Floats:
    return np.asarray(audio.convert(np.asarray(wave, dtype=np.float32), rate, RATE), dtype=np.float64)
