"""Who speaks when: turns, from a file that the user gives or from the embedded diarizer.

Embedded: where somebody speaks (speech.py) is cut into overlapping windows, a voiceprint bundle embeds each, windows are clustered into
speakers (voices.py), and a Viterbi pass decides step by step, changes costing less where the speaker pauses. It hears one speaker at a
time. Shapes: N windows, D width, K speakers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from moodcast import audio, speech, voices
from moodcast.chunks import samples_of

if TYPE_CHECKING:
    from moodcast.bundle import Bundle

Wave = NDArray[np.float32]
Span = tuple[float, float]  # start_s, stop_s
Embed = Callable[[list[Wave]], NDArray[np.float32]]
VOICEPRINT = "voiceprint"  # the shipped bundle that embeds voices
EMBED_BATCH = 128  # windows embedded at once


@dataclass(frozen=True)
class Turn:
    """One speaker from start_s to stop_s, seconds; `overlap` where somebody else is heard too.

    speech: the share of the turn in which a speech detector hears somebody; None where none was asked.
    """

    speaker: str
    start_s: float
    stop_s: float
    overlap: bool = False
    speech: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds from start to stop."""
        return self.stop_s - self.start_s


class Diarizer(Protocol):
    """What finds the turns of a recording."""

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns by start time, none where nobody speaks. wave: mono samples [N] at `rate` Hz."""


@dataclass(frozen=True)
class Given:
    """Turns that the user knows already; asking for a number of speakers changes nothing."""

    turns: tuple[Turn, ...]
    name: str = "given"

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """The given turns by start time, cut at the end of the recording."""
        end_s = len(wave) / rate
        turns = [replace(turn, stop_s=min(turn.stop_s, end_s)) if turn.start_s < end_s else turn for turn in self.turns]
        return sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))


def read_rttm(path: str | Path, uri: str | None = None) -> list[Turn]:
    """The SPEAKER lines of an RTTM file (NIST RT-09) as turns by start time; turns that meet another speaker are marked `overlap`.

    uri: which recording, where the file holds several. Raises ValueError for a line that is not RTTM, a recording that is not there, or
    several where none was named.
    """
    by_uri: dict[str, list[Turn]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start_s, duration_s, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: wanted SPEAKER uri 1 start duration <NA> <NA> speaker ..., got {line!r}") from error
        if not (start_s >= 0 and 0 <= duration_s < float("inf")):
            raise ValueError(f"{path}, line {number}: wanted a start of at least 0 and a finite duration of at least 0, got {line!r}")
        if duration_s > 0:
            by_uri.setdefault(fields[1], []).append(Turn(speaker, start_s, start_s + duration_s))
    if uri is None and len(by_uri) > 1:
        raise ValueError(f"{path} holds turns of {len(by_uri)} recordings ({_some(by_uri)}); name one with uri")
    if uri is not None and uri not in by_uri:
        raise ValueError(f"{path} holds no turns of {uri!r}, only of {_some(by_uri)}")
    return mark_overlap(by_uri[uri] if uri is not None else [turn for turns in by_uri.values() for turn in turns])


def mark_overlap(turns: Iterable[Turn]) -> list[Turn]:
    """The turns by start time, `overlap` set where a turn of somebody else shares time with it."""
    rows = sorted(turns, key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))
    marked = [False] * len(rows)
    open_rows: list[int] = []
    for i, turn in enumerate(rows):
        open_rows = [j for j in open_rows if rows[j].stop_s > turn.start_s]
        for j in open_rows:
            if rows[j].speaker != turn.speaker:
                marked[i] = marked[j] = True
        open_rows.append(i)
    return [replace(turn, overlap=flag) for turn, flag in zip(rows, marked, strict=True)]


@dataclass(frozen=True)
class Settings:
    """Of the embedded diarizer; times in seconds.

    threshold: probability at which speech begins. Windows of window_s every hop_s are embedded; alike, min_share and enough_s decide how
    many speakers they are (`voices.assign`): whoever has min_share of the speech, or enough_s of it, is one. switch: what a change of
    speaker costs in units of cosine times seconds; a change while the speech probability is low costs down to pause_share of it. Turns of
    one speaker less than join_s apart are one.

    Chosen on the tune_ sets of benchmarks/diarization.py, which it does not report: `alike` and `voices.SPLIT` lie in the middle of where
    dialogues, mixtures and far talks together have least confusion; `min_share` matters little. Two settings lie elsewhere: threshold
    above what they prefer, because rebuilt talks hold no sounds that could be taken for speech, and enough_s beyond their length, because
    in an hour somebody with half a minute is no stray.
    """

    threshold: float = 0.35
    min_pause_s: float = 0.3
    pad_s: float = 0.1
    window_s: float = 1.5
    hop_s: float = 0.25
    step_s: float = 0.1
    alike: float = 0.68
    min_share: float = 0.06
    enough_s: float = 30.0
    switch: float = 0.25
    pause_share: float = 0.15
    join_s: float = 0.5


class Embedded:
    """The diarizer that comes with moodcast.

    embed: waves (mono at `rate` Hz, at most window_s long) to embeddings [N, D], compared by cosine.
    """

    def __init__(self, embed: Embed, rate: int = speech.RATE, settings: Settings | None = None, name: str = "embedded") -> None:
        self.embed = embed
        self.rate = rate
        self.settings = settings or Settings()
        self.name = name
        self.detector = speech.SpeechDetector()

    @classmethod
    def of(cls, bundle: Bundle, settings: Settings | None = None) -> Embedded:
        """With the embeddings of a voiceprint bundle. Raises ValueError where the bundle gives none."""

        def embed(waves: list[Wave]) -> NDArray[np.float32]:
            found = [answer.embedding for answer in bundle.answer(waves)]
            known = [row for row in found if row is not None]
            if len(known) < len(found):
                raise ValueError(f"the bundle {bundle.name} gives no embeddings; wanted one trained by moodcast.methods.voiceprint")
            return np.stack(known)

        return cls(embed, bundle.rate, settings, name=f"embedded/{bundle.sha256[:12]}")

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns that do not overlap, speakers named SPEAKER_00, SPEAKER_01, ... as they are first heard; [] where nobody speaks.

        Raises ValueError where the wanted numbers of speakers contradict each other.
        """
        voices.speaker_limits(num_speakers, min_speakers, max_speakers)
        heard = wave if rate == speech.RATE else audio.convert(wave, rate, speech.RATE)
        own = heard if self.rate == speech.RATE else audio.convert(wave, rate, self.rate)
        probabilities = self.detector.probabilities(heard)
        duration_s = len(wave) / rate
        at = self.settings
        spoken = speech.regions(probabilities, duration_s, at.threshold, min_pause_s=at.min_pause_s, pad_s=at.pad_s)
        if not spoken:
            return []
        windows = [windows_of(*region, at.window_s, at.hop_s) for region in spoken]
        embeddings = self._embedded(own, [window for some in windows for window in some])
        middles_s = [(start + stop) / 2 for some in windows for start, stop in some]
        labels = voices.assign(
            embeddings,
            num_speakers,
            min_speakers,
            max_speakers,
            at.alike,
            at.min_share,
            enough=round(at.enough_s / at.hop_s),
            middles_s=middles_s,
            window_s=at.window_s,
        )
        similarity = voices.similarities(embeddings, voices.centroids(embeddings, labels))
        return join(turns_of(spoken, windows, similarity, probabilities, at), at.join_s)

    def _embedded(self, wave: Wave, windows: Sequence[Span]) -> NDArray[np.float32]:
        """Embeddings [N, D] of windows, a batch at a time: beside them, memory is the same whatever the recording's length."""
        found: NDArray[np.float32] | None = None
        for first in range(0, len(windows), EMBED_BATCH):
            some = windows[first : first + EMBED_BATCH]
            rows = self.embed([np.ascontiguousarray(wave[samples_of(a, self.rate) : samples_of(b, self.rate)]) for a, b in some])
            if found is None:
                found = np.empty((len(windows), rows.shape[1]), dtype=np.float32)
            found[first : first + len(some)] = rows
        return np.zeros((0, 1), dtype=np.float32) if found is None else found


def windows_of(start_s: float, stop_s: float, window_s: float, hop_s: float) -> list[Span]:
    """Windows of at most window_s inside a region, about hop_s apart; the first begins and the last ends where the region does."""
    slack_s = stop_s - start_s - window_s
    if slack_s < 0.01:
        return [(start_s, stop_s)]
    offsets_s = np.linspace(0.0, slack_s, 2 + int(slack_s / hop_s))
    return [(float(start_s + offset), float(start_s + offset + window_s)) for offset in offsets_s]


def turns_of(
    spoken: Sequence[Span],
    windows: Sequence[Sequence[Span]],
    similarity: NDArray[np.floating[Any]],
    probabilities: NDArray[np.float32],
    settings: Settings,
) -> list[Turn]:
    """One turn a step of step_s, its speaker from the best path through all steps; similarity [N, K] of windows (by region), speakers."""
    steps: list[Span] = []
    scores = []
    first = 0
    for (start_s, stop_s), some in zip(spoken, windows, strict=True):
        found = _steps(start_s, stop_s, settings.step_s)
        middles, centres = [(a + b) / 2 for a, b in found], [(a + b) / 2 for a, b in some]
        rows = similarity[first : first + len(some)]
        scores.append(np.stack([np.interp(middles, centres, column) for column in rows.T], axis=1) * (found[0][1] - found[0][0]))
        steps += found
        first += len(some)
    path = voices.best_path(np.concatenate(scores), switch_costs(steps, probabilities, settings))
    return [Turn(f"SPEAKER_{k:02d}", start_s, stop_s) for (start_s, stop_s), k in zip(steps, voices.by_appearance(path), strict=True)]


def switch_costs(steps: Sequence[tuple[float, float]], probabilities: NDArray[np.float32], settings: Settings) -> NDArray[np.float64]:
    """What changing the speaker costs at the start of each step [T]: less in a pause, least between two regions."""
    costs = np.empty(len(steps))
    for i, (start_s, _) in enumerate(steps):
        frame = min(int(start_s / speech.FRAME_S), len(probabilities) - 1)
        lowest = float(probabilities[max(0, frame - 2) : frame + 3].min())
        apart = i > 0 and start_s > steps[i - 1][1] + 1e-6
        costs[i] = settings.switch * (settings.pause_share if apart else settings.pause_share + (1 - settings.pause_share) * lowest)
    return costs


def join(turns: Iterable[Turn], join_s: float) -> list[Turn]:
    """Neighbouring turns of one speaker less than `join_s` apart as one; turns by start time, not overlapping."""
    joined: list[Turn] = []
    for turn in turns:
        last = joined[-1] if joined else None
        if last is not None and last.speaker == turn.speaker and turn.start_s - last.stop_s < join_s:
            joined[-1] = replace(last, stop_s=turn.stop_s)
        else:
            joined.append(turn)
    return joined


def default_diarizer() -> Embedded:
    """The embedded diarizer with the voiceprint bundle that ships with moodcast."""
    from moodcast.bundle import load

    return Embedded.of(load(VOICEPRINT))


def _steps(start_s: float, stop_s: float, step_s: float) -> list[Span]:
    edges = np.linspace(start_s, stop_s, 1 + max(1, round((stop_s - start_s) / step_s)))
    return [(float(a), float(b)) for a, b in pairwise(edges)]


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "") if listed else "none"
