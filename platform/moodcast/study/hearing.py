"""What `moodcast units` hears of a corpus: the frames inside vowels, with what is known of each vowel, and a few frames of all speech.

Shapes: F frames, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodcast import audio
from moodcast.manifest import Utterance
from moodcast.study import vowels
from moodcast.study.frames import Framer
from moodcast.study.units import Floats, Ints
from moodcast.study.vowels import VOWELS

Progress = Callable[[int, int], None]
SAMPLED = 40  # frames of an utterance that k-means may see


@dataclass(frozen=True)
class Heard:
    """The vowels of all utterances. Frames [F, D] inside vowels with the token of each, sampled frames [F', D] with their row; of each
    token the row, the name that a label file gives (index of VOWELS, -1 without one), and F1, F2 in Hz.
    """

    rows: tuple[Utterance, ...]
    frames: NDArray[np.float32]
    token_of: Ints
    sampled: NDArray[np.float32]
    sampled_row: Ints
    row_of: Ints
    named: Ints
    formants: Floats


def hear(
    rows: Sequence[Utterance], framer: Framer, rate: int, use_phones: bool = True, seed: int = 0, progress: Progress | None = None
) -> Heard:
    """Listen to every row: vowels by its phone labels where it has some (and `use_phones`), else by the machine's ear.

    Raises AudioError for what cannot be read, ValueError where nobody says a vowel.
    """
    rng = np.random.default_rng(seed)
    frames, token_of, sampled, sampled_row, row_of, named, formants = ([] for _ in range(7))  # type: ignore[var-annotated]
    for index, row in enumerate(rows):
        wave = audio.read(row.path, row.start_s, row.stop_s, rate)
        found, middles = framer(wave)
        spans, names, pairs = _vowels(row, wave, rate, use_phones)
        for (start_s, stop_s), name, pair in zip(spans, names, pairs, strict=True):
            inside = np.flatnonzero((middles >= start_s) & (middles < stop_s))
            inside = inside if len(inside) else np.array([np.abs(middles - (start_s + stop_s) / 2).argmin()])
            token_of += [len(row_of)] * len(inside)
            frames.append(found[inside])
            row_of.append(index)
            named.append(name)
            formants.append(pair)
        loud = found[vowels.loud_at(wave, rate, middles)]
        some = loud[np.sort(rng.permutation(len(loud))[:SAMPLED])]
        sampled.append(some)
        sampled_row += [index] * len(some)
        if progress is not None:
            progress(index + 1, len(rows))
    if not row_of:
        raise ValueError(f"no vowel was found in {len(rows)} utterances; wanted recordings of speech")
    return Heard(
        tuple(rows),
        np.concatenate(frames),
        np.array(token_of, dtype=np.int64),
        np.concatenate(sampled),
        np.array(sampled_row, dtype=np.int64),
        np.array(row_of, dtype=np.int64),
        np.array(named, dtype=np.int64),
        np.array(formants, dtype=float),
    )


def _vowels(
    row: Utterance, wave: NDArray[np.float32], rate: int, use_phones: bool
) -> tuple[list[tuple[float, float]], list[int], list[tuple[float, float]]]:
    """Spans, names (index of VOWELS, -1 without a label) and formants of the vowels of a row."""
    if use_phones and row.phones:
        inside = [(name, start_s - row.start_s, stop_s - row.start_s) for name, start_s, stop_s in row.phones]
        marks = vowels.labelled([phone for phone in inside if phone[1] >= 0], len(wave) / rate)
        spans = [(start_s, stop_s) for _, start_s, stop_s in marks]
        return spans, [VOWELS.index(name) for name, _, _ in marks], [(f1, f2) for f1, f2 in vowels.measured(wave, rate, spans)]
    found = vowels.nuclei(wave, rate)
    return [(a, b) for a, b, _, _ in found], [-1] * len(found), [(f1, f2) for _, _, f1, f2 in found]
