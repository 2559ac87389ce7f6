"""Conversations put together from utterances of real speakers: turns, gaps, overlaps, rooms, noise and levels, with the truth about them.

`conversation` is a pure function of its arguments: the same rows, scene and seed give the same samples. What is drawn, in this order: who
speaks how much; the turns (some utterances each, a gap or an overlap before the next, now and then a short word of somebody else in the
middle); the room and everybody's place in it; noise, the line and the level. The truth is where the clean voice sounds, before the room
adds its tail; pauses inside an utterance of `Scene.pause_s` or more are no speech.

Synthetic rooms: a direct path and Gaussian noise with an exponential decay (J.-D. Polack, 1988), the tail as loud as diffuse-field theory
has it: it equals the direct sound at the critical distance, 0.057 sqrt(volume / T60) metres (H. Kuttruff, Room Acoustics).
Shapes: N samples, S speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import scipy  # type: ignore[import-untyped]  # scipy.signal is loaded where it is first used: whoever trains imports this, and makes no talks
from numpy.typing import NDArray

from moodcast import audio
from moodcast.chunks import samples_of
from moodcast.manifest import Utterance

Wave = NDArray[np.float32]
Draw = np.random.Generator
Read = Callable[[Utterance, int], Wave]  # a row and a rate in Hz -> its mono samples
Runs = Sequence[tuple[int, int]]  # of voice, (first, last) samples
Find = Callable[[Utterance, Wave, int], Runs]  # a row, its samples and their rate -> where the voice is
Placed = tuple[str, Utterance, int, Wave, Runs]  # who says what from which sample on, and where in it the voice is
RATE = 16_000
FRAME_S = 0.02  # of the power that tells voice from silence in a clean utterance
TRIES = 20  # a corpus may hold a silent recording or two
DIRECT_S = 0.0025  # an impulse response around its peak: the direct sound
SHARES = ("overlap_share", "word_share", "room_share", "noise_share", "line_share")
RANGES = ("speakers", "t60_s", "distance_m", "volume_m3", "snr_db", "hiss_db", "loudness_dbfs")
Range = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """How a conversation goes and how it is recorded. Pairs are (least, most) of what is drawn evenly; shares lie in [0, 1].

    seconds: turns are added until the last one ends behind it. speakers: how many. evenness: concentration of a Dirichlet draw of how
    often each speaks; large is even, below 1 somebody dominates. utterances: mean of a turn, which are joined by about `inner_s`. gap_s:
    mean gap before the next turn; overlap_share of the turns begin up to overlap_s before the last one ends. word_share of the turns are
    met by a word of somebody else.

    level_db: standard deviation of the speakers' levels. room_share: how often there is a room; t60_s, distance_m and volume_m3 are of
    synthetic ones. noise_share: how often a recording of noise lies snr_db below the voices; hiss_db is that of white noise, which is
    always there. line_share: how often nothing passes below 300 and above 3400 Hz. loudness_dbfs: level (RMS) of the whole.
    """

    seconds: float = 60.0
    speakers: tuple[int, int] = (2, 4)
    evenness: float = 2.0
    utterances: float = 2.0
    inner_s: float = 0.2
    gap_s: float = 0.4
    overlap_share: float = 0.2
    overlap_s: float = 1.0
    word_share: float = 0.1
    pause_s: float = 0.3
    level_db: float = 3.0
    room_share: float = 0.5
    t60_s: Range = (0.2, 0.8)
    distance_m: Range = (0.3, 4.0)
    volume_m3: Range = (30.0, 200.0)
    noise_share: float = 0.5
    snr_db: Range = (5.0, 30.0)
    hiss_db: Range = (30.0, 60.0)
    line_share: float = 0.1
    loudness_dbfs: Range = (-45.0, -18.0)

    def __post_init__(self) -> None:
        for name in SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a share and must be in [0, 1], got {getattr(self, name)}")
        for name in RANGES:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is (least, most), got {(low, high)}")
        for field in fields(self):
            if field.name.endswith(("_s", "_m", "_m3")) and np.min(getattr(self, field.name)) < 0:
                raise ValueError(f"{field.name} must not be negative, got {getattr(self, field.name)}")
        if self.speakers[0] < 1 or self.seconds <= 0 or self.evenness <= 0 or self.utterances < 1:
            raise ValueError("wanted at least one speaker and one utterance a turn, seconds and evenness above 0")


@dataclass(frozen=True)
class Said:
    """A stretch of clean voice: whose, from when to when (seconds), the utterance it is of and that one's emotion.

    overlap: somebody else speaks during a part of it.
    """

    speaker: str
    start_s: float
    stop_s: float
    utterance: str
    emotion: str | None = None
    overlap: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds from start to stop."""
        return self.stop_s - self.start_s


@dataclass(frozen=True)
class Conversation:
    """Mono samples [N] at `rate` Hz, and who says what in them, by start time."""

    wave: Wave
    rate: int
    said: tuple[Said, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names in the order of first appearance."""
        return tuple(dict.fromkeys(one.speaker for one in self.said))

    @property
    def duration_s(self) -> float:
        """Seconds of the recording."""
        return len(self.wave) / self.rate

    def activity(self, step_s: float, frames: int | None = None) -> NDArray[np.float32]:
        """Who speaks in the middle of each step, [frames, S] of 0 and 1, S in the order of `speakers`."""
        total = int(self.duration_s / step_s) if frames is None else frames
        places = {name: k for k, name in enumerate(self.speakers)}
        made = np.zeros((total, len(places)), dtype=np.float32)
        for one in self.said:
            first, last = (max(0, round(at / step_s)) for at in (one.start_s, one.stop_s))
            made[first:last, places[one.speaker]] = 1.0
        return made


def read_row(row: Utterance, rate: int) -> Wave:
    """The samples of a row, decoded from its file."""
    return audio.read(row.path, row.start_s, row.stop_s, rate)


def conversation(
    speakers: Mapping[str, Sequence[Utterance]],
    scene: Scene,
    seed: int | Sequence[int],
    rooms: Sequence[Wave] = (),
    noises: Sequence[Wave] = (),
    read: Read = read_row,
    find: Find | None = None,
    rate: int = RATE,
) -> Conversation:
    """A conversation of some of `speakers` (name -> what they said), drawn by `seed`.

    rooms: impulse responses at `rate`, used for half of the rooms; without them all are synthetic. noises: recordings at `rate`; without
    them noise is coloured by chance. find: where the voice is in an utterance; without it `voiced`, which only compares levels.
    Raises ValueError where there are fewer speakers than the scene has, or one without rows.
    """
    least, most = scene.speakers
    if len(speakers) < most or not all(speakers.values()):
        raise ValueError(f"the scene has up to {most} speakers; got {len(speakers)} names, each of which needs at least one utterance")
    draw = np.random.default_rng(seed)
    names = [str(name) for name in draw.choice(sorted(speakers), size=int(draw.integers(least, most + 1)), replace=False)]
    found = find or (lambda row, wave, rate: voiced(wave, rate, scene.pause_s))
    placed = _placed({name: speakers[name] for name in names}, scene, draw, read, found, rate)
    total = max(at + len(wave) for _, _, at, wave, _ in placed) + samples_of(float(draw.exponential(scene.gap_s)), rate)
    tracks = np.zeros((len(names), total), dtype=np.float32)
    for name, _, at, wave, _ in placed:
        tracks[names.index(name), at : at + len(wave)] += wave
    tracks *= 10 ** (draw.normal(0.0, scene.level_db, (len(names), 1)) / 20)
    return Conversation(_recorded(tracks, scene, draw, rooms, noises, rate), rate, said(placed, rate))


def said(placed: Sequence[Placed], rate: int) -> tuple[Said, ...]:
    """The truth: one row for each run of voice, by start time, overlaps marked."""
    rows = []
    for name, row, at, _, runs in placed:
        for start, stop in runs:
            rows.append(Said(name, (at + start) / rate, (at + stop) / rate, row.id, row.emotion))
    rows.sort(key=lambda one: (one.start_s, one.stop_s, one.speaker))
    marked = [False] * len(rows)
    open_rows: list[int] = []
    for i, one in enumerate(rows):
        open_rows = [j for j in open_rows if rows[j].stop_s > one.start_s]
        for j in open_rows:
            if rows[j].speaker != one.speaker:
                marked[i] = marked[j] = True
        open_rows.append(i)
    return tuple(replace(one, overlap=flag) for one, flag in zip(rows, marked, strict=True))


def voiced(wave: Wave, rate: int, pause_s: float, below_db: float = 30.0) -> list[tuple[int, int]]:
    """Runs of voice in a clean wave, (first, last) samples: frames of 20 ms less than below_db below the loudest.

    Runs less than pause_s apart are one.
    """
    size = samples_of(FRAME_S, rate)
    if len(wave) < size:
        return []
    power = np.mean(np.square(wave[: len(wave) // size * size].reshape(-1, size), dtype=np.float64), axis=1)
    loud = np.flatnonzero((power > power.max() * 10 ** (-below_db / 10)) & (power > 0))
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) - 1 >= max(1.0, pause_s * rate / size)) + 1
    return [(int(run[0]) * size, int(run[-1] + 1) * size) for run in np.split(loud, breaks)]


def trimmed(wave: Wave, rate: int = RATE, below_db: float = 25.0) -> Wave:
    """Without the silence at both ends: 20 ms frames more than below_db below the loudest."""
    runs = voiced(wave, rate, pause_s=np.inf, below_db=below_db) if len(wave) else []
    return wave[runs[0][0] : runs[-1][1]] if runs else wave[:0]


def synthetic_room(t60_s: float, distance_m: float, volume_m3: float, rate: int, draw: Draw) -> Wave:
    """An impulse response that begins with the direct sound: power falls by 60 dB in t60_s, high bands faster."""
    size = max(1, samples_of(t60_s, rate))
    time_s = np.arange(1, size) / rate
    low = scipy.signal.sosfilt(scipy.signal.butter(1, 1500, fs=rate, output="sos"), draw.standard_normal(size - 1))
    high = draw.standard_normal(size - 1)
    tail = low * np.exp(-6.91 * time_s / t60_s) + 0.5 * high * np.exp(-6.91 * time_s / (0.6 * t60_s))
    tail[: samples_of(0.002, rate)] = 0.0  # nothing is nearer than two thirds of a metre
    critical_m = 0.057 * np.sqrt(volume_m3 / t60_s)
    tail *= (1.0 / critical_m) / max(float(np.sqrt(np.sum(tail**2))), 1e-9)
    return np.concatenate([[1.0 / distance_m], tail]).astype(np.float32)


def moved(room: Wave, gain: float, rate: int) -> Wave:
    """A measured impulse response from its peak on, its direct sound `gain` times as loud: nearer or further away."""
    peak = int(np.abs(room).argmax())
    found = room[peak:].astype(np.float32)
    found[: samples_of(DIRECT_S, rate)] *= gain
    return np.asarray(found / max(float(np.sqrt(np.sum(found**2))), 1e-9), dtype=np.float32)


def _placed(speakers: Mapping[str, Sequence[Utterance]], scene: Scene, draw: Draw, read: Read, find: Find, rate: int) -> list[Placed]:
    """Who says what from which sample on: turns until the scene is long enough."""
    names = list(speakers)
    shares = draw.dirichlet([scene.evenness] * len(names)) + 0.02
    order = list(draw.permutation(len(names)))  # everybody speaks once first, so that the number of speakers is what was drawn
    placed: list[Placed] = []
    free = {name: 0 for name in names}  # nobody overlaps themselves
    end, last = samples_of(float(draw.exponential(scene.gap_s)), rate), -1

    def uttered(name: str) -> tuple[Utterance, Wave, Runs]:
        for _ in range(TRIES):
            row = speakers[name][int(draw.integers(len(speakers[name])))]
            wave = read(row, rate)
            if runs := find(row, wave, rate):
                return row, *_cut(wave, runs, runs[0][0], runs[-1][1])
        raise ValueError(f"nothing is heard in {TRIES} utterances of {name}, the last one {row.id}; leave silent rows out")

    while end < scene.seconds * rate or order:
        k = int(order.pop()) if order else _next(shares, last, draw)
        name, first = names[k], len(placed)
        begin = end + samples_of(float(draw.exponential(scene.gap_s)), rate)
        if placed and draw.random() < scene.overlap_share:
            begin = end - samples_of(float(draw.uniform(0.1, max(0.1, scene.overlap_s))), rate)
        at = max(begin, free[name], 0)
        for _ in range(int(draw.geometric(1.0 / scene.utterances))):
            row, wave, runs = uttered(name)
            placed.append((name, row, at, wave, runs))
            at += len(wave) + samples_of(float(draw.exponential(scene.inner_s)), rate)
        free[name] = at
        start, end = placed[first][2], max(end, placed[-1][2] + len(placed[-1][3]))
        if len(names) > 1 and draw.random() < scene.word_share:
            other = names[(k + int(draw.integers(1, len(names)))) % len(names)]
            row, wave, runs = uttered(other)
            word, runs = _cut(wave, runs, 0, samples_of(float(draw.uniform(0.3, 0.8)), rate))
            where = int(draw.integers(start, max(start + 1, end - len(word))))
            if where >= free[other]:
                placed.append((other, row, where, word, runs))
                free[other] = where + len(word)
        last = k
    return placed


def _cut(wave: Wave, runs: Runs, first: int, last: int) -> tuple[Wave, Runs]:
    """The samples from first to last, and the runs of voice within them."""
    kept = [(max(start, first) - first, min(stop, last) - first) for start, stop in runs if min(stop, last) > max(start, first)]
    return wave[first:last], kept


def _next(shares: NDArray[np.float64], last: int, draw: Draw) -> int:
    """The next speaker, drawn by share; the last one goes on only where there is no other."""
    if len(shares) == 1:
        return 0
    left = np.where(np.arange(len(shares)) == last, 0.0, shares)
    return int(draw.choice(len(shares), p=left / left.sum()))


def _recorded(tracks: NDArray[np.float32], scene: Scene, draw: Draw, rooms: Sequence[Wave], noises: Sequence[Wave], rate: int) -> Wave:
    """Clean tracks [S, N] as one microphone hears them, [N]."""
    total = tracks.shape[1]
    if draw.random() < scene.room_share:
        t60_s, volume_m3 = (float(draw.uniform(*span)) for span in (scene.t60_s, scene.volume_m3))
        measured = rooms[int(draw.integers(len(rooms)))] if len(rooms) and draw.random() < 0.5 else None
        for k, track in enumerate(tracks):
            distance_m = float(draw.uniform(*scene.distance_m))
            heard = (
                synthetic_room(max(t60_s, 0.01), max(distance_m, 0.05), max(volume_m3, 1.0), rate, draw)
                if measured is None
                else moved(measured, 2.0 / max(distance_m, 0.05), rate)
            )
            tracks[k] = scipy.signal.fftconvolve(track, heard)[:total]
    wave: NDArray[np.float64] = tracks.sum(axis=0, dtype=np.float64)
    level = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) or 1e-9
    wave = wave + level * 10 ** (-draw.uniform(*scene.hiss_db) / 20) * draw.standard_normal(total)
    if draw.random() < scene.noise_share:
        noise = _noise(total, noises, draw)
        wave = wave + level * 10 ** (-draw.uniform(*scene.snr_db) / 20) * noise
    if draw.random() < scene.line_share:
        wave = scipy.signal.sosfilt(scipy.signal.butter(4, [300, 3400], "bandpass", fs=rate, output="sos"), wave)
    wanted = 10 ** (draw.uniform(*scene.loudness_dbfs) / 20)
    now = max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), 1e-12)
    return np.asarray(np.clip(wave * (wanted / now), -1.0, 1.0), dtype=np.float32)


def _noise(total: int, noises: Sequence[Wave], draw: Draw) -> Wave:
    """Noise [N] of RMS 1: a recording repeated from a random place on, or, without recordings, Gaussian noise that falls with frequency."""
    if len(noises):
        one = noises[int(draw.integers(len(noises)))]
        places = (int(draw.integers(len(one))) + np.arange(total)) % len(one)
        made = one[places].astype(np.float64)
    else:
        slope = float(draw.uniform(0.0, 1.0))
        spectrum = np.fft.rfft(draw.standard_normal(total))
        made = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** slope, total)
    return np.asarray(made / max(float(np.sqrt(np.mean(made**2))), 1e-12), dtype=np.float32)


def gaps(rows: Sequence[Said]) -> list[float]:
    """Seconds between the end of each stretch and the begin of the next; negative where they overlap."""
    return [after.start_s - before.stop_s for before, after in pairwise(rows)]
