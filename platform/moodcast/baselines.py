"""What somebody gets who does not listen as a model does: the guard that stands beside every score.

majority: always the class most frequent in training. speaker's name: the speaker's most frequent class among other recordings of the
same split, in five random folds, which needs no sound at all (in a corpus where speakers keep one emotion it is nearly always right).
plain statistics: 132 numbers an utterance and a logistic regression fitted on the train side. Shapes: N utterances, K classes, M bands,
T frames, L samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import KFold  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from moodcast.cache import WaveStore, write_array
from moodcast.features import mel_filters
from moodcast.scores import Baseline

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

FOLDS = 5  # of the speaker's name
RATE = 16_000  # Hz, what the plain statistics are defined at
FFT, WINDOW, HOP, BANDS = 512, 400, 160, 40
LOW_HZ, HIGH_HZ = 60.0, 7600.0
LOUD_NATS = 6.9  # frames within 30 dB of the loud ones count
STATISTICS = 3 * BANDS + 7 + 5
VERSION = 1  # of the statistics, part of the name under which they are kept


def majority(classes: Sequence[str], counts: dict[str, int], truth: Indices) -> Baseline:
    """The class most frequent in training (`counts` by name; in the split itself, where nothing is known of training)."""
    most = classes.index(max(classes, key=lambda name: counts.get(name, 0))) if counts else int(np.bincount(truth).argmax())
    return Baseline("majority", f"always {classes[most]}", np.full(len(truth), most))


def speaker_name(truth: Indices, speakers: Sequence[str], num_classes: int, seed: int = 0) -> Baseline | None:
    """Each speaker's most frequent class in the other folds of the split [N]; None where no speaker has two recordings."""
    if len(set(speakers)) == len(speakers) or len(truth) < FOLDS:
        return None
    names = np.asarray(speakers)
    guess = np.zeros(len(truth), dtype=np.int64)
    for fit, score in KFold(FOLDS, shuffle=True, random_state=seed).split(truth):
        overall = np.bincount(truth[fit], minlength=num_classes) / len(fit)
        known = {name: np.bincount(truth[fit][names[fit] == name], minlength=num_classes) for name in set(names[fit].tolist())}
        guess[score] = [int(np.argmax(known.get(name, 0) + overall)) for name in names[score].tolist()]  # a tie goes to the commoner
    return Baseline("speaker's name", f"the speaker's most frequent class in {FOLDS - 1} of {FOLDS} random folds of the split", guess)


def plain_statistics(train: Floats, train_truth: Indices, test: Floats) -> Baseline:
    """Logistic regression on statistics: train [N, F] with its classes [N], test [N, F]."""
    guess = np.asarray(_regression().fit(train, train_truth).predict(test), dtype=np.int64)
    what = f"logistic regression on {train.shape[1]} statistics of log-mel, energy and F0, fitted on {len(train)} training utterances"
    return Baseline("plain statistics", what, guess)


def statistics_of(store: WaveStore, progress: Callable[[int, int], None] | None = None) -> Floats:
    """The plain statistics of every stretch of a store, [N, 132], kept beside the store for the next time."""
    kept = store.folder / f"plain-{VERSION}.npy"
    if kept.is_file():
        found: Floats = np.asarray(np.load(kept, allow_pickle=False))
        if found.shape == (len(store), STATISTICS):
            return found
    rows = []
    for i in range(len(store)):
        rows.append(statistics(np.asarray(store[i])))
        if progress is not None:
            progress(i + 1, len(store))
    found = np.stack(rows)
    write_array(kept, found)
    return found


def statistics(wave: NDArray[np.float32]) -> Floats:
    """132 plain statistics of a stretch [L] at 16 kHz: the set of the published baseline of our corpora.

    Of log-mel power in loud frames, after taking away the mean of all bands in each frame: mean, deviation and mean step of 40 bands,
    the shape of the energy, its deviation, the share of loud frames, the log of the duration; five numbers of F0.
    """
    power = np.abs(np.fft.rfft(_framed(_mirrored(wave), FFT, HOP) * _window(), axis=1)) ** 2
    bands = np.log(power @ mel_filters(BANDS, FFT, RATE, LOW_HZ, HIGH_HZ) + 1e-7)  # [T, M]
    energy = bands.mean(1)
    loud = energy > np.percentile(energy, 95) - LOUD_NATS
    bands = bands[loud] if loud.sum() > 10 else bands
    energy = bands.mean(1)
    steps = np.abs(np.diff(bands, axis=0)).mean(0) if len(bands) > 2 else np.zeros(BANDS)
    shape = np.percentile(energy - energy.mean(), [5, 25, 75, 95])
    rest = [energy.std(), loud.mean(), np.log(len(wave) / RATE)]
    centred = bands - energy[:, None]
    return np.asarray(np.nan_to_num(np.concatenate([centred.mean(0), bands.std(0), steps, shape, rest, _pitch(wave)])))


def _pitch(wave: NDArray[np.float32], width: int = 640, hop: int = 320) -> Floats:
    """Median, deviation and range of log2 F0, share of voiced frames, mean voicing; by autocorrelation in the louder half of frames."""
    if len(wave) < width + hop:
        return np.zeros(5)
    frames = _framed(wave, width, hop)
    power = np.square(frames).mean(1)
    frames = frames[power > np.median(power)] * np.hanning(width)
    own = _autocorrelation(np.hanning(width)[None])[0]
    lags = _autocorrelation(frames)
    lags = lags / (lags[:, :1] + 1e-12) / (own / own[0] + 1e-9)
    low, high = RATE // 500, RATE // 65
    best = low + lags[:, low:high].argmax(1)
    voicing = lags[np.arange(len(best)), best]
    f0 = np.log2(RATE / best[voicing > 0.5])
    if len(f0) < 3:
        return np.zeros(5)
    ten, ninety = np.percentile(f0, [10, 90])
    return np.array([np.median(f0), f0.std(), ninety - ten, (voicing > 0.5).mean(), voicing.mean()])


def _autocorrelation(frames: Floats) -> Floats:
    return np.asarray(np.fft.irfft(np.abs(np.fft.rfft(frames, 2048)) ** 2)[:, : frames.shape[1]])


def _framed(wave: Floats | NDArray[np.float32], width: int, hop: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(np.asarray(wave, dtype=np.float64), width)[::hop]


def _mirrored(wave: NDArray[np.float32]) -> Floats:
    """Half a window more on both sides, mirrored, so that frames sit on the middle of their window."""
    return np.pad(np.asarray(wave, dtype=np.float64), FFT // 2, mode="reflect")


def _window() -> Floats:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    return np.pad(hann, (FFT - WINDOW) // 2)


def _regression() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=400, class_weight="balanced"))


def shares(classes: Sequence[str], counts: dict[str, int] | Counter[str]) -> Floats:
    """The train mean of the classes, [K], with one more of each so that none is impossible."""
    found = np.array([counts.get(name, 0) + 1.0 for name in classes])
    return np.asarray(found / found.sum())
