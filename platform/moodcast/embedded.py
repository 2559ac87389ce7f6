"""The diarizer that comes with moodcast: where somebody speaks, and who.

Where somebody speaks (speech.py), windows are embedded by a voiceprint bundle and clustered into speakers (voices.py), and a Viterbi pass
decides step by step, changes costing less where the speaker pauses. That hears one speaker at a time, and far from the microphone it may
hear one altogether. Then, whatever number of speakers is asked for, it is a segmentation that says who speaks when, which
jobs/segmentation.py trains: speakers are told apart in windows of ten seconds, two at once too (segmentation.py), what each says alone is
embedded, and the windows are linked (linking.py).
Shapes: N windows or local speakers, D width, K speakers, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moodcast import audio, linking, speech, voices
from moodcast.chunks import samples_of
from moodcast.diarize import Turn, join, mark_overlap

if TYPE_CHECKING:
    from moodcast.bundle import Bundle
    from moodcast.segmentation import Segmentation

Wave = NDArray[np.float32]
Span = tuple[float, float]  # start_s, stop_s
Embed = Callable[[list[Wave]], NDArray[np.float32]]
VOICEPRINT = "voiceprint"  # the shipped bundle that embeds voices
SEGMENTATION = "segmentation.json"  # what a folder of jobs/segmentation.py holds
EMBED_BATCH = 128  # windows embedded at once
LOCAL_BATCH = 32  # local speakers embedded at once: up to ten seconds each


@dataclass(frozen=True)
class Settings:
    """Of the embedded diarizer; times in seconds.

    threshold: probability at which speech begins. Windows of window_s every hop_s are embedded; alike, min_share and enough_s decide how
    many speakers they are (`voices.assign`): whoever has min_share of the speech, or enough_s of it, is one. switch: what a change of
    speaker costs in units of cosine times seconds; a change while the speech probability is low costs down to pause_share of it. Turns of
    one speaker less than join_s apart are one.

    With a segmentation: windows begin every shift_s; two are heard at once where it says so with more than `together`; who speaks alone
    for alone_s in a window is embedded, and linked to others while the mean likeness is at least `same` (linking.py). min_share and
    enough_s count there, too, in what is said alone.

    Chosen on the tune_ sets of benchmarks/diarization.py, which it does not report: `alike` and `voices.SPLIT` lie in the middle of where
    dialogues, mixtures and far talks together have least confusion, `min_share` where nothing changes them. Two lie elsewhere: threshold
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
    min_share: float = 0.04
    enough_s: float = 30.0
    switch: float = 0.25
    pause_share: float = 0.15
    join_s: float = 0.5
    shift_s: float = 2.5
    together: float = 0.5
    alone_s: float = 0.4
    same: float = 0.35


class Embedded:
    """The diarizer that comes with moodcast.

    embed: waves (mono at `rate` Hz, at most window_s long) to embeddings [N, D], compared by cosine. segmentation: is asked where voices
    alone tell nobody apart, or, if `always`, in their place.
    """

    def __init__(
        self,
        embed: Embed,
        rate: int = speech.RATE,
        settings: Settings | None = None,
        name: str = "embedded",
        segmentation: Segmentation | None = None,
        always: bool = False,
    ) -> None:
        self.embed = embed
        self.rate = rate
        self.settings = settings or Settings()
        self.name = name
        self.segmentation = segmentation
        self.always = always
        self.detector = speech.SpeechDetector()

    @classmethod
    def of(
        cls, bundle: Bundle, settings: Settings | None = None, segmentation: Segmentation | None = None, always: bool = False
    ) -> Embedded:
        """With the embeddings of a voiceprint bundle. Raises ValueError where the bundle gives none."""

        def embed(waves: list[Wave]) -> NDArray[np.float32]:
            found = [answer.embedding for answer in bundle.answer(waves)]
            known = [row for row in found if row is not None]
            if len(known) < len(found):
                raise ValueError(f"the bundle {bundle.name} gives no embeddings; wanted one trained by moodcast.methods.voiceprint")
            return np.stack(known)

        embed([np.zeros(bundle.rate, np.float32)])  # said now, not when somebody has spoken
        name = f"embedded/{bundle.sha256[:12]}" + ("" if segmentation is None else f"{'+' if always else '|'}{segmentation.name}")
        return cls(embed, bundle.rate, settings, name, segmentation, always)

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns by start time, speakers named SPEAKER_00, SPEAKER_01, ... as they are first heard; [] where nobody speaks.

        Raises ValueError where the wanted numbers of speakers contradict each other.
        """
        limits = voices.speaker_limits(num_speakers, min_speakers, max_speakers)
        heard = wave if rate == speech.RATE else audio.convert(wave, rate, speech.RATE)
        own = heard if self.rate == speech.RATE else audio.convert(wave, rate, self.rate)
        probabilities = self.detector.probabilities(heard)
        at = self.settings
        spoken = speech.regions(probabilities, len(wave) / rate, at.threshold, min_pause_s=at.min_pause_s, pad_s=at.pad_s)
        if not spoken:
            return []
        if self.segmentation is not None and self.always:
            return self._by_segmentation(self.segmentation, own, spoken, limits)
        windows = [windows_of(*region, at.window_s, at.hop_s) for region in spoken]
        embeddings = self._embedded(own, [window for some in windows for window in some])
        by_windows = partial(self._by_windows, spoken, windows, embeddings, probabilities)
        asked = (num_speakers, min_speakers, max_speakers)
        if self.segmentation is None or limits[1] == 1:
            return by_windows(*asked)
        free = by_windows()  # a number of speakers only cuts a voice in pieces where voices tell nobody apart
        if len({turn.speaker for turn in free}) == 1:
            return self._by_segmentation(self.segmentation, own, spoken, limits)
        return by_windows(*asked) if any(asked) else free

    def _by_segmentation(self, segmentation: Segmentation, wave: Wave, spoken: Sequence[Span], limits: tuple[int, int]) -> list[Turn]:
        """Turns that may overlap, from local speakers of overlapping windows; wave at the voiceprint's rate."""
        at, step_s, shape = self.settings, segmentation.step_s, segmentation.shape
        heard_at = wave if self.rate == speech.RATE else audio.convert(wave, self.rate, speech.RATE)
        voiced = np.zeros(-(-len(wave) // samples_of(step_s, self.rate)), dtype=bool)
        for start_s, stop_s in spoken:
            voiced[round(start_s / step_s) : max(round(stop_s / step_s), round(start_s / step_s) + 1)] = True
        starts = starts_of(voiced, shape.frames, round(at.shift_s / step_s))
        inside = np.pad(voiced, (0, shape.frames))
        parts = []
        for first in range(0, len(starts), EMBED_BATCH):  # what is kept of a window is small
            some = starts[first : first + EMBED_BATCH]
            activity = segmentation.activity(heard_at, [samples_of(start * step_s, speech.RATE) for start in some])
            where = np.stack([inside[start : start + shape.frames] for start in some])
            parts.append(linking.active(activity, segmentation.sets, where, at.together))
        heard = np.concatenate(parts)
        local = linking.locals_of(heard, round(at.alone_s / step_s))
        if not local:
            return join([Turn("SPEAKER_00", *span) for span in spoken], at.join_s)
        embeddings = self._voices(wave, local, starts, step_s)
        once = at.shift_s / shape.window_s * step_s  # seconds of a frame that is in several windows
        seconds = np.array([one.alone.sum() * once for one in local])
        least_s = min(at.min_share * float(seconds.sum()), at.enough_s)
        labels = linking.settled(
            lambda low, high: linking.linked(embeddings, local, heard, starts, at.same, low, high), embeddings, seconds, least_s, *limits
        )
        found = linking.together(heard, local, labels, starts, voiced)
        return named(found, step_s, len(wave) / self.rate, at.join_s)

    def _voices(self, wave: Wave, local: Sequence[linking.Local], starts: Sequence[int], step_s: float) -> NDArray[np.float32]:
        """Embeddings [N, D] of what local speakers say alone."""
        rows = []
        for first in range(0, len(local), LOCAL_BATCH):
            pieces = []
            for one in local[first : first + LOCAL_BATCH]:
                frames = starts[one.window] + np.flatnonzero(one.alone)
                edges = [(samples_of(frame * step_s, self.rate), samples_of((frame + 1) * step_s, self.rate)) for frame in frames]
                pieces.append(np.concatenate([wave[start:stop] for start, stop in edges]))
            rows.append(self.embed(pieces))
        return np.concatenate(rows)

    def _by_windows(
        self,
        spoken: Sequence[Span],
        windows: Sequence[Sequence[Span]],
        embeddings: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
    ) -> list[Turn]:
        """Turns that do not overlap, from embeddings [N, D] of windows (by region)."""
        at = self.settings
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


def starts_of(voiced: NDArray[np.bool_], frames: int, shift: int) -> list[int]:
    """Where windows of so many frames begin, `shift` apart, the last one ending with the recording; those without speech are left out."""
    last = max(0, len(voiced) - frames)
    return [start for start in (*range(0, last, shift), last) if voiced[start : start + frames].any()]


def named(active: NDArray[np.bool_], step_s: float, duration_s: float, join_s: float) -> list[Turn]:
    """Turns of who speaks in each frame [F, K], named as they are first heard, overlap marked; joined over pauses of everybody."""
    order = [int(k) for k in np.argsort(active.argmax(axis=0), kind="stable") if active[:, k].any()]
    turns: list[Turn] = []
    for number, k in enumerate(order):
        edges = np.flatnonzero(np.diff(np.pad(active[:, k], 1).astype(np.int8)))
        spans: list[list[int]] = []
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if spans and (start - spans[-1][1]) * step_s < join_s and not active[spans[-1][1] : start].any():
                spans[-1][1] = stop
            else:
                spans.append([start, stop])
        turns += [Turn(f"SPEAKER_{number:02d}", start * step_s, min(stop * step_s, duration_s)) for start, stop in spans]
    return mark_overlap(turns)


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


def default_diarizer(voiceprint: str | Path = VOICEPRINT) -> Embedded:
    """The embedded diarizer with the segmentation that ships with moodcast, and its voiceprint unless another bundle of voices is named."""
    from moodcast import segmentation
    from moodcast.bundle import load

    return Embedded.of(load(voiceprint), segmentation=segmentation.load())


def segmented(folder: str | Path, voiceprint: str | Path = VOICEPRINT) -> Embedded:
    """The embedded diarizer with the segmentation in a folder that jobs/segmentation.py wrote, asked always: it hears two at once.

    voiceprint: the bundle that embeds voices. Raises ValueError where the folder holds no segmentation, or that is no bundle.
    """
    from moodcast import segmentation
    from moodcast.bundle import load

    return Embedded.of(load(voiceprint), segmentation=segmentation.load(folder), always=True)


def _steps(start_s: float, stop_s: float, step_s: float) -> list[Span]:
    edges = np.linspace(start_s, stop_s, 1 + max(1, round((stop_s - start_s) / step_s)))
    return [(float(a), float(b)) for a, b in pairwise(edges)]
