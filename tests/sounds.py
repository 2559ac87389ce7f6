"""Sounds for the tests of reading: a signal that is never periodic, in every container, whole and not quite right."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
# container, encoder, rate, how well the signal must survive (SNR in dB), how far the length may be off (s), a delay that nobody records (s)
FORMATS = {
    "wav 8 bit": ("wav", "pcm_u8", 16_000, 30, 0, 0),
    "wav 16 bit": ("wav", "pcm_s16le", 44_100, 60, 0, 0),
    "wav 24 bit": ("wav", "pcm_s24le", 48_000, 60, 0, 0),
    "wav 32 bit": ("wav", "pcm_s32le", 22_050, 60, 0, 0),
    "wav float": ("wav", "pcm_f32le", 8_000, 60, 0, 0),
    "wav double": ("wav", "pcm_f64le", 96_000, 60, 0, 0),
    "aiff": ("aiff", "pcm_s16be", 44_100, 60, 0, 0),
    "flac": ("flac", "flac", 44_100, 60, 0, 0),
    "opus": ("ogg", "libopus", 48_000, 15, 0.001, 0),
    "mp3": ("mp3", "libmp3lame", 44_100, 20, 0.001, 0),
    "m4a": ("ipod", "aac", 44_100, 20, 0.03, 0),
    "aac": ("adts", "aac", 44_100, 20, 0.06, 1024 / 44_100),
    "sound of an mp4": ("mp4", "aac", 48_000, 20, 0.03, 0),
    "mkv": ("matroska", "flac", 48_000, 60, 0, 0),
    "webm": ("webm", "libopus", 48_000, 15, 0.001, 0),
}


def sweep(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """A glide through the telephone band with a slow tremolo: never periodic, so that a shifted answer cannot pass."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(400 + 250 * np.sin(2 * np.pi * 0.37 * t + seed) + 40 * np.sin(2 * np.pi * 1.7 * t)) / rate
    return (0.4 * (0.7 + 0.3 * np.sin(2 * np.pi * 0.9 * t)) * np.sin(phase)).astype(np.float32)


def encoded(
    wave: NDArray[np.float32], rate: int, container: str = "wav", encoder: str = "pcm_s16le", video: bool = False, start: int = 0
) -> bytes:
    """`wave`, [N] or [channels, N], in a container; with `video`, beside a grey picture; `start` shifts its clock by samples."""
    channels = np.atleast_2d(wave)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        sound = file.add_stream(encoder, rate=rate, layout=layout)
        picture = file.add_stream("mpeg4", rate=5) if video else None
        if picture is not None:
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
            for number in range(5 * channels.shape[1] // rate):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
                frame.pts = number
                file.mux(picture.encode(frame))
            file.mux(picture.encode(None))
        fit = av.AudioResampler(format=sound.codec_context.format, layout=layout, rate=rate)
        for place in range(0, channels.shape[1], rate):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels[:, place : place + rate]), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, place + start, Fraction(1, rate)
            for piece in fit.resample(frame):
                file.mux(sound.encode(piece))
        for piece in fit.resample(None):
            file.mux(sound.encode(piece))
        file.mux(sound.encode(None))
    return out.getvalue()


def snr_db(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """How far `got` is from `wanted`, edges of 50 ms left out (filters ring there)."""
    inner = slice(RATE // 20, min(len(got), len(wanted)) - RATE // 20)
    return float(10 * np.log10(np.sum(wanted[inner] ** 2) / (np.sum((got[inner] - wanted[inner]) ** 2) + 1e-20)))


def wav_header(channels: int = 1, rate: int = RATE, bits: int = 16, size: int = 0, kind: int = 1) -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, kind, channels, rate, rate * frame, frame, bits)
    return head + struct.pack("<4sI", b"data", size)


def many_channels(layout: str) -> bytes:
    """A second of Opus in which channel k holds a tone of level 0.02 (k + 1); interleaved, PyAV cannot fill eight planes either."""
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as file:
        sound = file.add_stream("libopus", rate=48_000, layout=layout, options={"mapping_family": "255"})
        levels = 0.02 * np.arange(1, sound.codec_context.layout.nb_channels + 1)
        samples = np.outer(np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000), levels).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = 48_000
        file.mux([*sound.encode(frame), *sound.encode(None)])
    return out.getvalue()
