"""Who speaks when: the embedded diarizer against "everyone is one speaker" on the same voice activity.

    python benchmarks/diarization.py                      # the reported sets
    python benchmarks/diarization.py --sets tune_resd tune_cremad   # what settings were chosen on; never reported

Diarization error rate: collar 0, overlap scored, the scored region (UEM) respected, number of speakers estimated; intervals by bootstrap
over files. Missed speech, false alarm and speaker confusion are shares of reference speech.

Sets. conversations: ten 30 s excerpts of AMI meetings and a telephone sample. resd: two-speaker dialogues put back together from their
turns (dialogues 41 and up). cremad: made of clips of 1 to 4 speakers (1087 to 1091). far: the same speakers in conversations by
moodcast.simulate, far from the microphone, in noise, some speaking much more than others. tune_resd (dialogues 31 to 40), tune_cremad
(speakers 1081 to 1086) and tune_far (the same, far away) are where settings were chosen. The voiceprint has heard none of these speakers,
except that resd's actors return in other dialogues without a published identity. A turn's inner pauses count as speech in the rebuilt
references.

The audio is not part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures, a set each: SET_der, goal below that of one speaker; SET_confusion_ratio, confusion over that of one speaker, goal 0.5 at most;
resd_speakers_right, the share of dialogues with the right number of speakers, goal 0.67.

Takes: 3 minutes on two cores for the four reported sets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from pyannote.database.util import load_rttm, load_uem
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.signal import butter, sosfilt

from benchmarks.shared import begin, corpora_folder, corpus_in, figure, options_of
from moodcast import audio, corpora, simulate
from moodcast.diarize import Turn
from moodcast.embedded import Embedded, default_diarizer, segmented
from moodcast.manifest import Utterance
from moodcast.simulate import trimmed

RATE = 16_000
SETS = ("conversations", "resd", "cremad", "far", "tune_resd", "tune_cremad", "tune_far")
REPORTED = ("conversations", "resd", "cremad", "far")
PARTS = ("missed detection", "false alarm", "confusion")
Wave = NDArray[np.float32]
FAR = simulate.Scene(
    seconds=45.0,
    evenness=0.7,
    utterances=2.5,
    gap_s=0.5,
    overlap_share=0.3,
    overlap_s=1.2,
    word_share=0.25,
    level_db=4.0,
    room_share=1.0,
    t60_s=(0.3, 0.8),
    distance_m=(1.0, 4.0),
    noise_share=0.8,
    snr_db=(10.0, 25.0),
    hiss_db=(25.0, 45.0),
    line_share=0.0,
    loudness_dbfs=(-50.0, -30.0),
)


@dataclass(frozen=True)
class Talk:
    """A conversation and the truth about it."""

    uri: str
    wave: Wave
    reference: Annotation
    scored: Timeline


@dataclass(frozen=True)
class Score:
    """Seconds of reference speech and of errors of one file, and how many speakers there are and were found."""

    total: float
    errors: tuple[float, float, float]  # as PARTS
    speakers: int
    found: int


def talks(name: str, folder: Path) -> Iterator[Talk]:
    makers: dict[str, Callable[[], Iterator[Talk]]] = {
        "conversations": lambda: excerpts(corpus_in("conversations", folder)),
        "resd": lambda: dialogues(corpus_in("resd", folder), range(41, 100)),
        "cremad": lambda: mixtures(corpus_in("cremad", folder), range(1087, 1092), 24, seed=2),
        "far": lambda: simulated(corpus_in("cremad", folder), range(1087, 1092), 30, seed=8),
        "tune_resd": lambda: dialogues(corpus_in("resd", folder), range(31, 41)),
        "tune_far": lambda: simulated(corpus_in("cremad", folder), range(1081, 1087), 30, seed=7),
        "tune_cremad": lambda: mixtures(corpus_in("cremad", folder), range(1081, 1087), 24, seed=1),
    }
    return makers[name]()


def excerpts(folder: Path) -> Iterator[Talk]:
    references, regions = load_rttm(folder / "reference.rttm"), load_uem(folder / "reference.uem")
    for uri in sorted(regions):
        yield Talk(uri, audio.read(folder / "audio" / f"{uri}.flac"), references.get(uri, Annotation(uri=uri)), regions[uri])


def dialogues(folder: Path, numbers: range) -> Iterator[Talk]:
    """Turns of a dialogue by their running number, the first-named role first, with gaps of 0.1 to 0.7 s."""
    rows: dict[int, list[tuple[int, int, Utterance]]] = {}
    for row in corpora.read("resd", folder):
        named = re.match(r"(?:(\d+)_)?([a-z]+)_([a-z]+)_(?:(\d+)_)?([a-z])_(\d+)$", Path(row.path).stem)
        if named is None:
            raise ValueError(f"{row.path} is not named as resd's files are")
        number = int(named[1] or named[4])
        if number in numbers:
            rows.setdefault(number, []).append((int(named[6]), int(named[5] != named[2][0]), row))
    for number, turns in sorted(rows.items()):
        order = sorted(turns, key=lambda turn: turn[:2])
        pieces = [(row.speaker or "", trimmed(audio.read(row.path))) for _, _, row in order]
        yield joined(f"resd_{number}", pieces, np.random.default_rng(number))


def mixtures(folder: Path, speakers: range, count: int, seed: int) -> Iterator[Talk]:
    """`count` talks of 12 to 20 turns by 1, 2, 3 or 4 speakers of one to four clips each, every speaker at a level of their own."""
    rng = np.random.default_rng(seed)
    clips: dict[str, list[str]] = {}
    for row in corpora.read("cremad", folder):
        if row.speaker and int(row.speaker) in speakers:
            clips.setdefault(row.speaker, []).append(row.path)
    for i in range(count):
        names = [str(name) for name in rng.choice(sorted(clips), size=1 + i % 4, replace=False)]
        gains = {name: 10 ** (rng.uniform(-4, 4) / 20) for name in names}
        pieces: list[tuple[str, Wave]] = []
        last = ""
        for k in range(int(rng.integers(12, 21))):
            name = names[k % len(names)] if k < len(names) else str(rng.choice([n for n in names if n != last] or names))
            last = name
            for path in rng.choice(clips[name], size=int(rng.integers(1, 5)), replace=False):
                pieces.append((name, (trimmed(audio.read(str(path))) * gains[name]).astype(np.float32)))
        yield joined(f"cremad_{i:02d}_{len(names)}", pieces, rng)


def simulated(folder: Path, speakers: range, count: int, seed: int) -> Iterator[Talk]:
    """`count` conversations of 45 s by 1 to 4 speakers far from the microphone, some of whom speak much more than others."""
    clips: dict[str, list[Utterance]] = {}
    for row in corpora.read("cremad", folder):
        if row.speaker and int(row.speaker) in speakers:
            clips.setdefault(row.speaker, []).append(row)
    for i in range(count):
        made = simulate.conversation(clips, replace(FAR, speakers=(1 + i % 4, 1 + i % 4)), (seed, i))
        reference = Annotation(uri=f"far_{i:02d}_{1 + i % 4}")
        for k, one in enumerate(made.said):
            reference[Segment(one.start_s, one.stop_s), k] = one.speaker
        yield Talk(f"far_{i:02d}_{1 + i % 4}", made.wave, reference, Timeline([Segment(0, made.duration_s)], uri=reference.uri))


def joined(uri: str, pieces: Sequence[tuple[str, Wave]], rng: np.random.Generator) -> Talk:
    """One recording with faint noise throughout; the reference joins a speaker's neighbouring pieces."""
    reference = Annotation(uri=uri)
    parts: list[Wave] = []
    at = 0
    for k, (speaker, wave) in enumerate(pieces):
        gap = np.zeros(round(rng.uniform(0.1, 0.7) * RATE), dtype=np.float32)
        at += len(gap)
        reference[Segment(at / RATE, (at + len(wave)) / RATE), k] = speaker
        at += len(wave)
        parts += [gap, wave]
    whole = np.concatenate(parts)
    noise = rng.standard_normal(len(whole)).astype(np.float32) * float(np.sqrt(np.mean(whole**2))) * 10 ** (-35 / 20)
    return Talk(uri, whole + noise, reference.support(0.5), Timeline([Segment(0, len(whole) / RATE)], uri=uri))


def annotation(uri: str, turns: Iterable[Turn], one_speaker: bool = False) -> Annotation:
    found = Annotation(uri=uri)
    for k, turn in enumerate(turns):
        found[Segment(turn.start_s, turn.stop_s), k] = "all" if one_speaker else turn.speaker
    return found


def scored(talk: Talk, found: Annotation) -> Score:
    parts = DiarizationErrorRate(collar=0.0, skip_overlap=False)(talk.reference, found, uem=talk.scored, detailed=True)
    return Score(parts["total"], tuple(parts[name] for name in PARTS), len(talk.reference.labels()), len(found.labels()))


def rates(scores: Sequence[Score]) -> NDArray[np.float64]:
    """DER and its three parts, pooled over files, as shares of reference speech."""
    errors = np.sum([score.errors for score in scores], axis=0)
    return np.array([errors.sum(), *errors]) / sum(score.total for score in scores)


def over(ours: Sequence[Score], baseline: Sequence[Score], rows: Iterable[int]) -> float:
    """Confusion of these files over the baseline's."""
    chosen = list(rows)
    return float(rates([ours[i] for i in chosen])[3] / max(rates([baseline[i] for i in chosen])[3], 1e-9))


def interval(values: Callable[[Sequence[int]], float], count: int, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval over files."""
    rng = np.random.default_rng(0)
    drawn = [values(rng.integers(0, count, count).tolist()) for _ in range(draws)]
    return float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))


def measure(name: str, folder: Path, diarizer: Embedded, telephone: bool = False) -> dict[str, float]:
    ours, baseline, seconds, spent = [], [], 0.0, 0.0
    for talk in talks(name, folder):
        wave = over_telephone(talk.wave) if telephone else talk.wave
        started = time.perf_counter()
        turns = diarizer.diarize(wave, RATE)
        spent += time.perf_counter() - started
        seconds += len(talk.wave) / RATE
        ours.append(scored(talk, annotation(talk.uri, turns)))
        baseline.append(scored(talk, annotation(talk.uri, turns, one_speaker=True)))
        print(f"  {talk.uri:16s} DER {100 * rates(ours[-1:])[0]:6.1f}  speakers {ours[-1].speakers} found {ours[-1].found}", flush=True)
    print(f"\n{name}: {len(ours)} files, {seconds / 60:.1f} min, {seconds / spent:.0f} times faster than real time")
    print(f"{'':14s}{'DER':>22s}{'missed':>9s}{'false al.':>10s}{'confusion':>22s}")
    for label, scores in (("one speaker", baseline), ("embedded", ours)):
        der, missed, false_alarm, confused = 100 * rates(scores)
        low, high = (100 * x for x in interval(lambda rows, s=scores: rates([s[i] for i in rows])[0], len(scores)))
        worst = [100 * x for x in interval(lambda rows, s=scores: rates([s[i] for i in rows])[3], len(scores))]
        print(
            f"{label:14s}{der:7.1f} [{low:4.1f}, {high:4.1f}]{missed:9.1f}{false_alarm:10.1f}"
            f"{confused:7.1f} [{worst[0]:4.1f}, {worst[1]:4.1f}]"
        )
    counted = [score.found == score.speakers for score in ours]
    right = float(np.mean(counted))
    low, high = (100 * x for x in interval(lambda rows: float(np.mean([counted[i] for i in rows])), len(counted)))
    print(f"right number of speakers: {100 * right:.0f} [{low:.0f}, {high:.0f}] %")
    low, high = interval(lambda rows: over(ours, baseline, rows), len(ours))
    print(f"confusion over that of one speaker: {over(ours, baseline, range(len(ours))):.2f} [{low:.2f}, {high:.2f}]\n")
    return {
        "der": float(rates(ours)[0]),
        "der_of_baseline": float(rates(baseline)[0]),
        "confusion_ratio": over(ours, baseline, range(len(ours))),
        "speakers_right": right,
        "rtfx": seconds / spent,
    }


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(REPORTED))
    parser.add_argument("--bundle", help="another voiceprint bundle than the one that ships")
    parser.add_argument("--segmentation", type=Path, help="a folder of jobs/segmentation.py: local speakers are linked")
    parser.add_argument("--corpora", type=Path, default=corpora_folder(), help="the folder that holds them")
    parser.add_argument("--telephone", action="store_true", help="everything as over a telephone: 300 to 3400 Hz, noise 25 dB below")
    asked = parser.parse_args()
    diarizer = segmented(asked.segmentation) if asked.segmentation else from_bundle(asked.bundle) if asked.bundle else default_diarizer()
    figures = {name: measure(name, asked.corpora, diarizer, asked.telephone) for name in asked.sets}
    goals = {"confusion_ratio": "<= 0.5", "speakers_right": ">= 0.67"}
    for name, row in figures.items():
        figure(f"{name}_der", f"{row['der']:.3f}", f"< {row['der_of_baseline']:.3f}")
        for title, goal in goals.items():
            if title != "speakers_right" or name.endswith("resd"):
                figure(f"{name}_{title}", f"{row[title]:.3f}", goal)


def over_telephone(wave: Wave) -> Wave:
    """300 to 3400 Hz and white noise 25 dB below."""
    narrow = sosfilt(butter(6, [300, 3400], "bandpass", fs=RATE, output="sos"), wave)
    noise = np.random.default_rng(0).standard_normal(len(wave)) * np.sqrt(np.mean(narrow**2)) * 10 ** (-25 / 20)
    return (narrow + noise).astype(np.float32)


def from_bundle(path: str) -> Embedded:
    from moodcast.bundle import load

    return Embedded.of(load(path))


if __name__ == "__main__":
    begin(main)
