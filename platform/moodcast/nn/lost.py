"""What gets lost on the way to a recogniser: frames of sound, packets in bursts, words. Of samples and texts, before a batch is made.

Shapes: N samples. Sources: the loss of packets is the two-state Markov chain of Gilbert (1960); moodcast/methods/word_chunks.py names the
study that these belong to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
FRAME_S = 0.02


def without_frames(wave: Wave, rate: int, share: float, rng: np.random.Generator) -> Wave:
    """The wave [N] with a share of its frames of 20 ms silent, chosen at random: floor(share * frames) of them."""
    frames = _frames(wave, rate)
    lost = np.zeros(frames, dtype=bool)
    lost[rng.permutation(frames)[: int(share * frames)]] = True
    return _silent(wave, rate, lost)


def without_packets(wave: Wave, rate: int, stay_well: float, stay_lost: float, rng: np.random.Generator) -> Wave:
    """The wave [N] with frames of 20 ms silent in bursts; see `packets`."""
    return _silent(wave, rate, packets(_frames(wave, rate), stay_well, stay_lost, rng))


def packets(frames: int, stay_well: float, stay_lost: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which frames are lost, [frames]: a chain that begins well and stays in its state with these probabilities.

    In the long run (1 - stay_well) / (2 - stay_well - stay_lost) of all are lost, in bursts of 1 / (1 - stay_lost) on average.
    """
    lost = np.zeros(frames, dtype=bool)
    now = False
    for frame, draw in enumerate(rng.random(frames)):
        now = (draw < stay_lost) if now else (draw >= stay_well)
        lost[frame] = now
    return lost


def lost_words(count: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of `count` words are lost, in order: round(share * count) of them."""
    return np.sort(rng.permutation(count)[: round(share * count)])


def without_words(text: str, lost: Sequence[int] | NDArray[np.int64]) -> str:
    """The text without the words at these places, as spaces part them; their places are known, not guessed by likeness."""
    gone = set(map(int, lost))
    return " ".join(word for place, word in enumerate(text.split()) if place not in gone)


def _frames(wave: Wave, rate: int) -> int:
    return -(-len(wave) // max(1, round(FRAME_S * rate)))


def _silent(wave: Wave, rate: int, lost: NDArray[np.bool_]) -> Wave:
    return np.where(np.repeat(lost, max(1, round(FRAME_S * rate)))[: len(wave)], np.float32(0.0), wave)
