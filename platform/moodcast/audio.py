"""Audio in: any file or bytes a person has -> mono float32 at one rate. The only decoder and the only resampler of moodcast.

The decoder is FFmpeg inside PyAV's wheel (`moodcast.containers`), the resampler soxr (HQ); both stream. Channels are averaged before
resampling; where two cancel each other (one of them recorded upside down), the first is heard. Time 0 is the first decoded audio sample,
whatever the container's clock says; holes that a container's clock announces (a call recorded as WebM with silence left out) are filled
with silence, so that times stay true.

What is read is either all there or an AudioError says what came, what was wanted and what to do. Files are untrusted: only real media
containers are opened, never playlists or scripts that name other files, and never an address.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from moodcast.containers import (
    HIGHEST_RATE,
    LOWEST_RATE,
    PREROLL_S,
    SLACK_S,
    AudioError,
    NotAudio,
    Recording,
    Source,
    TooLong,
    name_of,
    opened,
)

DECODER = f"av {av.__version__}, soxr {soxr.__version__}"  # what decides the samples, beside the file: part of every cache's key
SEEK_FROM_S = 30.0  # a span that starts later than this is sought instead of decoded from the beginning

__all__ = ["AudioError", "NotAudio", "Source", "TooLong", "convert", "fingerprint", "read", "stream"]


def read(
    source: Source, start_s: float = 0.0, stop_s: float | None = None, rate: int = 16_000, max_hours: float = 12.0
) -> NDArray[np.float32]:
    """Mono float32 samples [N] at `rate` Hz of a file or of its bytes, from start_s to stop_s (None: to its end).

    Sample n of the answer is sample round(start_s * rate) + n of the whole. Memory: the answer and a few blocks beside it.
    Raises AudioError where the source is missing, empty, not audio, cut short, damaged, not finite, shorter than the span asked for, or
    where more than `max_hours` would be read.
    """
    kept = np.empty(0, dtype=np.float32)
    count = 0
    for block in stream(source, rate=rate, start_s=start_s, stop_s=stop_s, max_hours=max_hours):
        if count + len(block) > len(kept):
            kept.resize(count + max(len(block), count // 8), refcheck=False)  # in place: no second copy of an hour of sound
        kept[count : count + len(block)] = block
        count += len(block)
    kept.resize(count, refcheck=False)
    return kept


def stream(
    source: Source,
    rate: int = 16_000,
    block_s: float = 30.0,
    start_s: float = 0.0,
    stop_s: float | None = None,
    max_hours: float = 12.0,
) -> Iterator[NDArray[np.float32]]:
    """The same samples as `read` in blocks of `block_s` (the last one shorter), memory bounded by a block whatever the file's length.

    Raises AudioError as `read` does, as soon as the reason is met: what came before has been handed out by then.
    """
    _check_span(rate, block_s, start_s, stop_s)
    size = max(1, round(block_s * rate))
    first = round(start_s * rate)
    wanted = None if stop_s is None else max(1, round(stop_s * rate) - first)
    held: list[NDArray[np.float32]] = []
    count = done = 0
    with opened(source) as recording:
        for piece in _resampled(recording, rate, first, None if wanted is None else first + wanted, max_hours):
            held.append(piece)
            count += len(piece)
            while count >= size:
                whole = np.concatenate(held)
                yield whole[:size]
                done += size
                held, count = [whole[size:]], count - size
    if done + count == 0:
        raise AudioError(f"{name_of(source)} holds nothing from {start_s:.2f} s on; ask for a span within it")
    if wanted is not None and done + count < wanted - SLACK_S * rate:
        raise AudioError(
            f"{name_of(source)} ends at {(first + done + count) / rate:.2f} s; wanted the span {start_s:.2f} to {stop_s:.2f} s; "
            "correct the span, or leave stop_s open to read to the end"
        )
    if count:
        yield np.concatenate(held)


def convert(wave: NDArray[np.floating[Any]], from_rate: int, rate: int) -> NDArray[np.float32]:
    """Samples a program already holds, mono [N] at `from_rate` Hz, as float32 at `rate` Hz.

    Raises AudioError for an empty, not finite or many-channelled array, or a rate that no recording has.
    """
    if wave.ndim != 1 or not len(wave):
        raise AudioError(f"samples have shape {wave.shape}; wanted mono [N], at least one (average the channels first)")
    if not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(f"samples are {wave.dtype}; wanted floating point in [-1, 1] (divide 16-bit integers by 32768)")
    if not LOWEST_RATE <= from_rate <= HIGHEST_RATE:
        raise AudioError(f"a sample rate of {from_rate} Hz came; wanted {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    if not np.isfinite(wave).all():
        raise AudioError("samples hold NaN or infinite values; mend the recording first")
    same = np.asarray(wave, dtype=np.float32)
    return same if from_rate == rate else np.asarray(soxr.resample(same, from_rate, rate, quality="HQ"), dtype=np.float32)


def fingerprint(wave: NDArray[np.float32]) -> str:
    """16 hexadecimal digits that name what was heard: SHA-256 over the samples rounded to 16 bits."""
    scaled = np.clip(np.rint(np.asarray(wave, dtype=np.float32) * 32767.0), -32768, 32767)
    return hashlib.sha256(scaled.astype("<i2").tobytes()).hexdigest()[:16]


def _check_span(rate: int, block_s: float, start_s: float, stop_s: float | None) -> None:
    if rate < 1 or not block_s > 0:
        raise AudioError(f"rate and block_s must be positive, got {rate} and {block_s}")
    if not (math.isfinite(start_s) and start_s >= 0):
        raise AudioError(f"start_s must be 0 or later, got {start_s}")
    if stop_s is not None and not (math.isfinite(stop_s) and stop_s > start_s):
        raise AudioError(f"stop_s must be later than start_s, got {start_s} to {stop_s}")


def _resampled(recording: Recording, rate: int, first: int, last: int | None, max_hours: float) -> Iterator[NDArray[np.float32]]:
    """Output samples first <= n < last of the whole recording at `rate`, in small pieces.

    A late span is sought, and the resampler then starts on an input sample that falls on an output sample (there is one every
    in_rate / gcd), so that the answer is the same as if cut from the whole.
    """
    limit_s = max_hours * 3600
    if last is None and recording.promised_s is not None and recording.promised_s - first / rate > limit_s:
        raise _too_long(recording, max_hours, f"lasts {recording.promised_s / 3600:.1f} h by its header")
    in_rate = recording.rate
    step = math.gcd(in_rate, rate)
    units = 0 if first / rate < SEEK_FROM_S else int((first / rate - PREROLL_S) * step)
    position = units * (rate // step)
    resampler: soxr.ResampleStream | None = None
    nothing = np.empty(0, dtype=np.float32)
    fed_s = 0.0
    origin = units * (in_rate // step)
    for piece_rate, piece in _gathered(recording.mono(origin)):
        recording.check_samples(piece, origin / recording.rate + fed_s)
        fed_s += len(piece) / piece_rate
        if fed_s > limit_s + PREROLL_S:
            raise _too_long(recording, max_hours, "is longer than that")
        if resampler is None or piece_rate != in_rate:  # an advert spliced in at another rate starts a new resampler
            out = nothing if resampler is None else resampler.resample_chunk(nothing, last=True)
            in_rate, resampler = piece_rate, soxr.ResampleStream(piece_rate, rate, 1, dtype="float32", quality="HQ")
            piece = resampler.resample_chunk(piece) if not len(out) else np.concatenate([out, resampler.resample_chunk(piece)])
        else:
            piece = resampler.resample_chunk(piece)
        yield piece[max(0, first - position) : None if last is None else max(0, last - position)]
        position += len(piece)
        if last is not None and position >= last:
            return
    recording.check_complete()
    if resampler is not None:
        piece = resampler.resample_chunk(nothing, last=True)
        yield piece[max(0, first - position) : None if last is None else max(0, last - position)]


def _gathered(pieces: Iterable[tuple[int, NDArray[np.float32]]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The same samples in pieces of about a second: codecs hand out 20 ms at a time, and every call of the resampler costs."""
    held: list[NDArray[np.float32]] = []
    held_rate = count = 0
    failure: AudioError | None = None
    try:
        for rate, piece in pieces:
            if held and (rate != held_rate or count >= rate):
                yield held_rate, np.concatenate(held)
                held, count = [], 0
            held.append(piece)
            held_rate, count = rate, count + len(piece)
    except AudioError as error:
        failure = error  # what was heard before the damage still counts: a span may end there
    if held:
        yield held_rate, np.concatenate(held)
    if failure is not None:
        raise failure


def _too_long(recording: Recording, max_hours: float, what: str) -> TooLong:
    return TooLong(
        f"{recording.name} {what}; wanted at most {max_hours:g} h at once; raise max_hours (audio.max_hours of a run) or read it in spans"
    )
