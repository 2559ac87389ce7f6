"""Where somebody speaks: silero-vad on recordings of any level and length.

Silero Team, "Silero VAD", 2021, github.com/snakers4/silero-vad: a probability of speech every 32 ms; its weights come inside its wheel.
Ours: quiet recordings are raised first (a meeting heard by a far microphone lies near -50 dBFS, where the network hears little), and
the recording is cut into blocks that run side by side with a run-up each, so that memory is bounded and hours take seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RATE = 16_000  # Hz, the only rate that this module works at
FRAME = 512  # samples a probability
FRAME_S = FRAME / RATE
BLOCK_FRAMES = 960  # 30.72 s
RUN_UP_FRAMES = 64  # 2 s heard before a block and not used: the network's state has settled by then
BLOCKS_AT_ONCE = 16

TARGET_DBFS = -23.0  # level of speech (95th percentile of frames) that the network is given
LOWEST_DBFS = -85.0  # below it a recording is as good as digital silence and is not raised
MOST_GAIN_DB = 50.0

Wave = NDArray[np.float32]


class SpeechDetector:
    """silero-vad, loaded when first used; one detector may be shared by threads (they take turns)."""

    def __init__(self) -> None:
        self._model: Any = None
        self._lock = threading.Lock()

    def probabilities(self, wave: Wave) -> NDArray[np.float32]:
        """Probability of speech [T] for each 32 ms of mono samples [N] at 16 kHz; the last frame may be part empty."""
        frames = -(-len(wave) // FRAME)
        gain = level_gain(wave)
        found = np.zeros(frames, dtype=np.float32)
        starts = range(0, frames, BLOCK_FRAMES)
        with self._lock, torch.inference_mode(), one_thread():
            model = self._loaded()
            for first in range(0, len(starts), BLOCKS_AT_ONCE):
                some = starts[first : first + BLOCKS_AT_ONCE]
                rows = self._run(model, np.stack([_block(wave, start, gain) for start in some]))
                for start, row in zip(some, rows, strict=True):
                    found[start : start + BLOCK_FRAMES] = row[: frames - start]
        return found

    def _loaded(self) -> Any:
        if self._model is None:
            import silero_vad  # type: ignore[import-untyped]

            self._model = silero_vad.load_silero_vad()
        return self._model

    @staticmethod
    def _run(model: Any, blocks: Wave) -> NDArray[np.float32]:
        """blocks [B, (RUN_UP_FRAMES + BLOCK_FRAMES) * FRAME] to probabilities [B, BLOCK_FRAMES]."""
        model.reset_states()
        samples = torch.from_numpy(blocks)
        heard = [model(samples[:, i : i + FRAME], RATE)[:, 0] for i in range(0, samples.shape[1], FRAME)]
        return torch.stack(heard, dim=1)[:, RUN_UP_FRAMES:].numpy()


def regions(
    probabilities: NDArray[np.float32],
    duration_s: float,
    threshold: float = 0.35,
    min_speech_s: float = 0.15,
    min_pause_s: float = 0.2,
    pad_s: float = 0.05,
) -> list[tuple[float, float]]:
    """Speech as (start_s, stop_s), in order and apart, from probabilities [T].

    Speech begins at `threshold` and ends where the probability stays 0.15 below it for `min_pause_s`; regions shorter than
    `min_speech_s` are dropped, the others widened by `pad_s` on both sides.
    """
    if not len(probabilities):
        return []
    with one_thread():
        from silero_vad import get_speech_timestamps_from_probs

    found = get_speech_timestamps_from_probs(
        probabilities.tolist(),
        sampling_rate=RATE,
        threshold=threshold,
        min_speech_duration_ms=round(1000 * min_speech_s),
        min_silence_duration_ms=round(1000 * min_pause_s),
        speech_pad_ms=round(1000 * pad_s),
        audio_length_samples=round(duration_s * RATE),
    )
    return [(span["start"] / RATE, span["end"] / RATE) for span in found if span["end"] > span["start"]]


def level_gain(wave: Wave) -> float:
    """The factor that brings the louder frames (95th percentile of RMS over 32 ms) to TARGET_DBFS; 1 for digital silence."""
    whole = len(wave) // FRAME * FRAME
    if not whole:
        return 1.0
    step = FRAME * 4096
    powers = [np.mean(np.square(wave[i : min(i + step, whole)].reshape(-1, FRAME)), axis=1) for i in range(0, whole, step)]
    power = float(np.percentile(np.concatenate(powers), 95))
    if power <= 10 ** (LOWEST_DBFS / 10):
        return 1.0
    gain_db = min(MOST_GAIN_DB, TARGET_DBFS - 10 * np.log10(power))
    return float(10 ** (gain_db / 20))


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread inside, as many as before after it.

    The network's steps are tiny: two threads make it eight times slower. And importing silero_vad sets one thread and leaves it so.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _block(wave: Wave, first_frame: int, gain: float) -> Wave:
    """The samples of a block behind its run-up, raised and limited to full scale; zero before the recording and after it."""
    start, stop = (first_frame - RUN_UP_FRAMES) * FRAME, (first_frame + BLOCK_FRAMES) * FRAME
    block = np.zeros(stop - start, dtype=np.float32)
    real = wave[max(0, start) : min(stop, len(wave))]
    block[max(0, -start) : max(0, -start) + len(real)] = np.clip(real * gain, -1.0, 1.0)
    return block
