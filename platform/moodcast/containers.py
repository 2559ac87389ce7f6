"""Media containers: one file or its bytes, opened safely by FFmpeg (inside PyAV's wheel), decoded into mono frames with true times.

Files are untrusted. Only formats that hold their sound themselves are opened, never playlists or scripts that name other files, and
FFmpeg may open this one file and nothing else. What a header promises is compared with what is there, so that half a recording is not
taken for a whole one. Use `moodcast.audio`: it resamples what comes from here.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Source = str | Path | bytes | mmap.mmap

PREROLL_S = 2.0  # decoded before a sought span and dropped: decoders and the resampler need a run-up
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000  # Hz; outside it a header is damaged or made to hurt
MOST_PLANES = 8  # AV_NUM_DATA_POINTERS: up to it, looking for a frame's planes stays inside the frame
LOUDEST = 100.0  # floating-point files may pass 1; beyond this they are integers in disguise, or damaged
HOLE_S = 0.05  # jumps of a container's clock smaller than this are rounding
AUDIBLE, CANCELLED = 1e-6, 1e-2  # mean square of a channel that is more than noise of its last bits; that of a mean over it
SLACK_S = 0.25  # how far lengths that headers declare may lie from what is there: codec frames, rounded clocks
# What FFmpeg may open. All of these hold their sound themselves; formats that name other files (hls, dash, concat, sdp, ...) stay out.
PLAIN = ("wav", "w64", "aiff", "caf", "au", "flac")  # their headers count samples
CLOCKED = ("mov", "matroska", "flv", "asf", "mpegts")  # their clocks may leave holes on purpose
CHECKED = ("ogg", "flac")  # their clocks have no holes, unless something is lost
SOUGHT = ("flac", "caf", "mov", "matroska", "ogg", "mp3", "aac", "flv", "mpegts")  # exact to the sample, as plain PCM is anywhere
SPLICED = ("mp3", "aac", "mpeg", "ac3")  # bare frames: a tag or a splice between them is no damage
FORMATS = (*PLAIN, *CLOCKED, *SPLICED, "ogg", "avi", "amr")
# The decoders that may run: sound alone, so that the pictures of a video reach no decoder at all.
_PCM = "u8 s8 s16le s16be s24le s24be s32le s32be f32le f32be f64le f64be alaw mulaw bluray dvd lxf"
_CODED = (
    "aac ac3 adpcm_ima_qt adpcm_ima_wav adpcm_ms adpcm_swf alac amrnb amrwb eac3 flac gsm gsm_ms mp1 mp1float mp2 mp2float mp3 mp3float"
)
_MORE = "aac_latm libgsm libgsm_ms libopencore_amrnb libopencore_amrwb libspeex nellymoser opus speex vorbis wmapro wmav1 wmav2 wmavoice"
CODECS = (*(f"pcm_{kind}" for kind in _PCM.split()), *_CODED.split(), *_MORE.split())
_SAMPLES = {name: np.dtype(kind) for name, kind in {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}.items()}


class AudioError(ValueError):
    """This source cannot be read as asked; the message says why and what to do."""


class NotAudio(AudioError):
    """The content is no sound or video file, or one without sound."""


class TooLong(AudioError):
    """More than the limit of hours would be read."""


@contextmanager
def opened(source: Source) -> Iterator[Recording]:
    """Open a source for decoding. The content decides the format, never the name; FFmpeg may open this one file and nothing else."""
    name = name_of(source)
    target: Any = _file_of(source) if isinstance(source, bytes | mmap.mmap) else f"file:{os.path.abspath(source)}"
    if (len(source) if isinstance(source, bytes | mmap.mmap) else _size(source)) == 0:
        raise NotAudio(f"{name} is empty (0 bytes); wanted a sound or video file")
    options = {
        "format_whitelist": ",".join(FORMATS),
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "file" if isinstance(target, str) else "none",
    }
    try:
        container = av.open(target, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise NotAudio(
            f"{name} is not audio that can be read ({_reason(error)}); wanted wav, flac, ogg, opus, mp3, m4a, aac, mp4, mkv or webm, "
            "whole and not a playlist; if a player plays it, save or export it again from there"
        ) from None
    with container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({found.type for found in container.streams})) or "none"
            raise NotAudio(f"{name} holds no sound (its streams: {kinds}); wanted a file with an audio track")
        sound = container.streams.audio[0]
        known = sound.codec_context is not None
        channels, rate = (sound.channels, sound.rate or 0) if known else (0, 0)
        if channels < 1 or not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise AudioError(
                f"{name} declares {channels} channels at {rate} Hz; wanted at least one channel at {LOWEST_RATE} to {HIGHEST_RATE} Hz; "
                "its header is damaged or its codec unknown: export it again"
            )
        if sound.codec_context.name not in CODECS:
            raise AudioError(f"{name} holds {sound.codec_context.name} sound, which is not read here; convert it to wav, flac or mp3")
        yield Recording(container, sound, source)


class _Mapped(io.RawIOBase):
    """A mapped file as a file with a place of its own, which may lie behind the end; mmap's own is shared, and stops there."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self.mapped, self.at = mapped, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, (0, self.at, len(self.mapped))[whence] + offset)
        return self.at

    def readinto(self, buffer: Any) -> int:
        piece = self.mapped[self.at : self.at + len(buffer)]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)


def _file_of(source: bytes | mmap.mmap) -> io.BufferedIOBase:
    return io.BytesIO(source) if isinstance(source, bytes) else io.BufferedReader(_Mapped(source))


def _size(path: str | Path) -> int:
    text = str(path)
    if isinstance(path, str) and "://" in text:
        raise AudioError(f"{text} is an address; wanted a file on this machine: download it first")
    if "\0" in text or not os.path.exists(path):
        raise AudioError(f"{text!r} does not exist; check the path (relative ones start at {os.getcwd()})")
    if not os.path.isfile(path):
        raise AudioError(f"{text} is {'a folder' if os.path.isdir(path) else 'no regular file'}; wanted one sound file")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{text} may not be read by this user; change its permissions")
    return os.path.getsize(path)


class Recording:
    """An open container and its first audio track.

    promised_s is the duration its header vouches for, None where it vouches for nothing; `at` counts the input samples handed out.
    """

    def __init__(self, container: Any, sound: Any, source: Source) -> None:
        self.container = container
        self.sound = sound
        self.source = source
        self.name = name_of(source)
        self.rate: int = sound.rate
        self.kind: str = next(kind for kind in FORMATS if kind in container.format.name.split(","))
        self.promised_s = self._promise()
        self.tick_s = float(sound.time_base or 0)  # of the container's clock
        self.begins_s = 0.0  # by that clock, where the sound of a Matroska file does: there the header promises an end, not a length
        self.at = 0
        self.at_s = 0.0
        self.of_two = np.zeros(3)  # of two channels so far: squares of their mean, squares of the first, samples

    def mono(self, origin: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(rate, samples [n]) from input sample `origin` on, channels averaged, holes of the clock filled."""
        source = self._frames()
        head = next(source, None)
        if head is None:
            raise AudioError(f"{self.name} holds an audio track without a single sample; record or export it again")
        zero, grid = head.pts, head.samples
        if self.kind == "matroska" and zero is not None:
            self.begins_s = max(0.0, zero * self.tick_s)
        frames: Iterable[Any] = chain([head], source)
        if origin and zero is not None and (self.kind in SOUGHT or self.sound.codec_context.name.startswith("pcm_")):
            frames = self._sought(zero, grid, origin)
        watched = zero is not None and self.kind in CLOCKED + CHECKED
        for frame in frames:
            rate = frame.sample_rate
            watched = watched and rate == self.rate  # `at` counts no clock once rates mix
            hole = self._index(frame, zero, grid) - self.at if watched and frame.pts is not None else 0
            if hole > HOLE_S * rate and self.kind in CHECKED:
                raise self._cut_short(f"before {hole / rate:.2f} s are missing")
            if hole > HOLE_S * rate:
                for left in range(hole, 0, -rate):
                    yield from self._hand_out(rate, np.zeros(min(left, rate), dtype=np.float32), origin)
            yield from self._hand_out(rate, self._samples(frame), origin)

    def check_samples(self, samples: NDArray[np.float32], start_s: float) -> None:
        """Raise AudioError where samples that begin at `start_s` are no numbers, or beyond what sound can be."""
        loudest = float(np.abs(samples).max(initial=0.0))
        if loudest <= LOUDEST:
            return
        what = f"samples of {loudest:.3g}" if math.isfinite(loudest) else "NaN or infinite samples"
        raise AudioError(
            f"{self.name} holds {what} near {start_s:.0f} s; wanted -1 to 1: repair what wrote it (divide 16-bit values by 32768)"
        )

    def check_complete(self) -> None:
        """Raise AudioError unless what was decoded until the end is all that the container promised."""
        slack_s = 0.01 if self.kind in PLAIN else SLACK_S
        if self.promised_s is not None and self.at_s < self.promised_s - self.begins_s - slack_s:
            raise self._cut_short(f"of the {self.promised_s - self.begins_s:.2f} s that its header promises")
        if (self.kind in ("wav", "w64", "avi") and self._riff_is_cut()) or (self.kind == "ogg" and self._ogg_is_cut()):
            raise self._cut_short("before the file ends in the middle of a block")

    def _hand_out(self, rate: int, samples: NDArray[np.float32], origin: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        skip = max(0, origin - self.at)
        self.at += len(samples)
        self.at_s += len(samples) / rate
        if skip < len(samples):
            yield rate, samples[skip:]

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; damage raises AudioError, except a stray packet between the frames of a format that allows for it."""
        stray: str | None = None
        try:
            for packet in self.container.demux(self.sound):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError as error:
                    if self.kind not in SPLICED:
                        raise
                    stray = _reason(error)
                    continue
                for frame in frames:
                    stray = None
                    yield frame
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._cut_short(f"before damage ({_reason(error)})") from None
        if stray is not None:
            raise self._cut_short(f"before damage ({stray})")

    def _sought(self, zero: int, grid: int, origin: int) -> Iterable[Any]:
        """Frames from shortly before input sample `origin` on, `at` set to the first of them; from the start where seeking fails."""
        target = zero + int((origin / self.rate - PREROLL_S) / self.tick_s)
        try:
            self.container.seek(target, backward=True, stream=self.sound)
            frames = self._frames()
            head = next(frames, None)
        except (av.FFmpegError, AudioError):
            head = None
        if head is not None and head.pts is not None and head.sample_rate == self.rate:
            index = self._index(head, zero, grid)
            if 0 <= index <= origin:  # else the seek went too far
                self.at, self.at_s = index, index / self.rate
                return chain([head], frames)
        self.container.seek(0, backward=True)
        return self._frames()

    def _index(self, frame: Any, zero: int, grid: int) -> int:
        """Which input sample a frame begins with, by the container's clock.

        Clocks in milliseconds (Matroska) are too coarse for a sample; codecs with frames of one length put it right again.
        """
        index: int = round((frame.pts - zero) * self.tick_s * frame.sample_rate)
        coarse = self.tick_s * frame.sample_rate
        if coarse > 1 and frame.samples:
            snapped: int = grid + round((index - grid) / frame.samples) * frame.samples
            return snapped if abs(snapped - index) <= coarse else index
        return index

    def _samples(self, frame: Any) -> NDArray[np.float32]:
        """A frame as mono float32 [n]; integers become [-1, 1)."""
        kind = _SAMPLES.get(frame.format.packed.name)
        if kind is None:
            raise AudioError(
                f"{self.name} decodes to {frame.format.name} samples, which nothing here reads; export it again as wav or flac"
            )
        channels: int = frame.layout.nb_channels
        if frame.format.is_planar and channels > MOST_PLANES:
            raise AudioError(
                f"{self.name} has {channels} channels in planes of their own, wanted at most {MOST_PLANES}: mix it down and export it again"
            )
        # PyAV lists planes until a null pointer, which FFmpeg does not promise: whatever lies beyond the channels is no sound.
        planes = [np.frombuffer(plane, dtype=kind) for plane in frame.planes[: channels if frame.format.is_planar else 1]]
        if not frame.format.is_planar:
            planes = list(planes[0][: frame.samples * channels].reshape(frame.samples, -1).T)
        first = planes[0][: frame.samples]
        if len(planes) == 1:
            return _scaled(first, kind)
        mixed = _scaled(np.mean([plane[: frame.samples] for plane in planes], axis=0), kind)
        return self._of_two(mixed, _scaled(first, kind)) if len(planes) == 2 else mixed

    def _of_two(self, mixed: NDArray[np.float32], first: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of two channels; the first where the mean has lost so far what that one holds: a cable with one of them turned round."""
        self.of_two += (np.dot(mixed, mixed), np.dot(first, first), len(first))
        left, lost, count = self.of_two
        return first if lost > AUDIBLE * count and left < CANCELLED * lost else mixed

    def _promise(self) -> float | None:
        own = float(self.sound.duration * self.sound.time_base) if self.sound.duration and self.sound.time_base else None
        if self.kind in PLAIN or self.kind == "mov":
            return own
        if self.kind == "mp3":
            return own if self._mp3_is_counted() else None
        if self.kind == "matroska":
            tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.\d+)", self.sound.metadata.get("DURATION", ""))
            if tag is not None:
                return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
            if len(self.container.streams) == 1 and self.container.duration:
                return float(self.container.duration / av.time_base)
        return None

    def _bytes(self, start: int, size: int) -> bytes:
        if isinstance(self.source, bytes | mmap.mmap):
            return self.source[start : start + size]
        with open(self.source, "rb") as file:
            file.seek(start)
            return file.read(size)

    def _mp3_is_counted(self) -> bool:
        """Whether an MP3 begins with a frame that counts the others; without one, its duration is a guess from its size."""
        head = self._bytes(0, 10)
        tag = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)) if head[:3] == b"ID3" else 0
        return any(mark in self._bytes(tag, 4096) for mark in (b"Xing", b"Info", b"VBRI"))

    def _riff_is_cut(self) -> bool:
        """Whether a WAV, W64 or AVI says that it reaches beyond the file; streamed WAVs leave their sizes open."""
        size: int = self.container.size
        if self.kind == "w64":
            return int.from_bytes(self._bytes(16, 8), "little") > size
        if self.kind == "avi":
            return int.from_bytes(self._bytes(4, 4), "little") + 8 > size
        place = 12
        while len(head := self._bytes(place, 8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return length < 0x7FFF_0000 and place + 8 + length > size
            place += 8 + length + length % 2
        return False

    def _ogg_is_cut(self) -> bool:
        """Whether an Ogg file ends in the middle of a page (27 bytes, a table of segment lengths, the segments)."""
        size = self.container.size
        start = max(0, size - 65_307)  # the longest page
        tail = self._bytes(start, size - start)
        page = tail.rfind(b"OggS")
        table = tail[page + 27 : page + 27 + tail[page + 26]] if 0 <= page < len(tail) - 26 else b""
        return not table or page + 27 + len(table) + sum(table) > len(tail)

    def _cut_short(self, why: str) -> AudioError:
        until_s = max(0.0, math.floor(self.at_s * 10 - 1) / 10)
        error = AudioError(f"{self.name} is cut short or damaged: {self.at_s:.2f} s could be read {why}; fetch or export it again")
        error.add_note(f"what is there can be read with stop_s={until_s}")  # for who calls the library: no verb has that option
        return error


def _scaled(samples: NDArray[Any], kind: np.dtype[Any]) -> NDArray[np.float32]:
    """Samples [n] of a kind as float32; a copy, because the frame's memory is reused."""
    with np.errstate(over="ignore"):  # a double beyond a float becomes infinite, and is refused as such
        mono: NDArray[np.float32] = samples.astype(np.float32)
    if kind == np.uint8:
        return (mono - np.float32(128)) / np.float32(128)
    return mono / np.float32(2.0 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else mono


def name_of(source: Source) -> str:
    """How a source is called in errors."""
    return f"a recording of {len(source)} bytes" if isinstance(source, bytes | mmap.mmap) else str(source)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().rstrip(".").lower()
