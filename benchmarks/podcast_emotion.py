"""Emotion in simulated conversations: what centring on speakers, smoothing and a temperature of conversations change.

    python benchmarks/podcast_emotion.py default ravdess.parquet nemo.parquet urdu.parquet
    python benchmarks/podcast_emotion.py default ravdess.parquet nemo.parquet --one-emotion
    python benchmarks/podcast_emotion.py default urdu.parquet --num 3 --seconds 30           # whether all of it works

Each manifest by itself: conversations of speakers of its split, as `moodcast evaluate-podcast --simulate` makes them, answered on the turns
of the reference, so that the diarizer has no part in it. UAR in % of judged turns, 95 % intervals by bootstrap over conversations, and
the paired difference to raw; speakers return in several conversations, so intervals are too narrow. --one-emotion is a control in which
each speaker keeps one emotion, drawn by seed. With --calibrate MANIFEST a temperature is fitted on conversations of its dev side first, and
calibration errors before and after are told. The bundle must not have been trained on any of these speakers.

Figures: podcast_emotion_MANIFEST_adapted_minus_raw_points and the same of median, goal 0.

Takes: 2 minutes for 16 conversations of 120 s on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.shared import begin, figures, options_of, signed, some
from moodcast import evaluate, load, metrics, podcast
from moodcast.bundle import Bundle
from moodcast.diarize import Given
from moodcast.labels import Labels
from moodcast.manifest import Utterance, read_manifest
from moodcast.refine import Refinement, refined
from moodcast.study import calibrate, conversation, coverage
from moodcast.study.coverage import Judged
from moodcast.study.talks import SCENE, simulated
from moodcast.timeline import Timeline

WAYS = {"raw": Refinement(False, "", 0.0), "adapted": Refinement(True, "", 0.0), "median:3": Refinement(False, "median:3", 0.0)}
BOUNDS = (0.0, 0.5, 0.6, 0.7)
Pair = tuple[Timeline, Timeline]  # the reference, and what was answered


def heard(bundle: Bundle, rows: Sequence[Utterance], num: int, seconds: float, seed: int) -> list[Pair]:
    """References and raw answers on their turns."""
    found = []
    for talk in simulated(rows, bundle.run.labels, num, replace(SCENE, seconds=seconds), seed, bundle.rate):
        turns = tuple(replace(turn, speech=1.0) for turn in conversation.turns(talk.reference))
        found.append((talk.reference, podcast.timeline((talk.wave, talk.rate), bundle, Given(turns), refine=WAYS["raw"])))
    return found


def one_emotion(rows: Sequence[Utterance], labels: Labels, seed: int) -> list[Utterance]:
    """What each speaker said in one of their emotions."""
    draw = np.random.default_rng(seed)
    by_speaker: dict[str, dict[str, list[Utterance]]] = {}
    for row in rows:
        if (name := labels.name(row)) is not None:
            by_speaker.setdefault(row.corpus_speaker, {}).setdefault(name, []).append(row)
    return [row for _, said in sorted(by_speaker.items()) for row in said[str(draw.choice(sorted(said)))]]


def judged(pairs: Sequence[Pair], bundle: Bundle, way: str) -> list[tuple[Judged, ...]]:
    how = podcast.chosen(bundle, WAYS[way])
    return [coverage.judge(reference, refined(raw, how)) for reference, raw in pairs]


def confusions(rows: Sequence[Sequence[Judged]], classes: Sequence[str]) -> metrics.Counts:
    """[N, K, K]"""
    pairs = [[(classes.index(row.truth), classes.index(row.best)) for row in each if row.emotions] for each in rows]
    return np.stack([metrics.confusion([a for a, _ in each], [b for _, b in each], len(classes)) for each in pairs])


def report(name: str, bundle: Bundle, pairs: Sequence[Pair]) -> dict[str, float]:
    """A line for each way; what each is above raw, in points."""
    gains = {}
    raw, centred = confusions(judged(pairs, bundle, "raw"), bundle.classes), podcast.chosen(bundle, WAYS["adapted"])
    verdicts = [one.mixed > 0 for _, answered in pairs for one in refined(answered, centred).adaptation]
    for way in WAYS:
        counts = confusions(judged(pairs, bundle, way), bundle.classes)
        above = metrics.paired_bootstrap(metrics.uar, counts, raw)
        told = "" if way == "raw" else signed(above)
        opened = f"{100 * np.mean(verdicts):.0f} %" if way == "adapted" else ""
        uar = metrics.speaker_bootstrap(metrics.uar, counts)
        print(f"| {name} | {len(pairs)}, {int(counts.sum())} | {way} | {uar} | {told} | {opened} |", flush=True)
        if way != "raw":
            gains[f"podcast_emotion_{name}_{way.partition(':')[0]}_minus_raw_points"] = 100 * above.value
    return gains


def sureness(name: str, bundle: Bundle, before: Sequence[Pair], after: Sequence[Pair]) -> None:
    errors = [coverage.measures(judged(pairs, bundle, "raw"), bundle.classes)["ece"] for pairs in (before, after)]
    points = coverage.curve(judged(after, bundle, "raw"), BOUNDS)
    told = "; ".join(f"{p.min_confidence:g}: {100 * p.coverage.value:.0f} answered, {p.accuracy} right" for p in points)
    print(f"{name}: calibration error {errors[0]}, cooled {errors[1]}; from a confidence of {told}", flush=True)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("bundle")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--num", type=some, default=16, help="conversations of each manifest")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one-emotion", action="store_true", help="each speaker keeps one emotion")
    parser.add_argument("--calibrate", type=Path, nargs="*", default=[], metavar="MANIFEST", help="whose dev side fits a temperature")
    asked = parser.parse_args()
    bundle = load(asked.bundle)
    cooled: Bundle | None = None
    gains: dict[str, float] = {}
    if asked.calibrate:
        rows = [row for path in asked.calibrate for row in read_manifest(path)]
        fitted = calibrate.fit_conversations(bundle, rows, num=12, seed=asked.seed + 1)
        print(f"temperature {fitted.turn_temperature} of {fitted.num_turns} turns of {fitted.num_turn_speakers} speakers\n")
        cooled = Bundle(bundle.run, bundle.method, bundle.provenance, {}, bundle.sha256, bundle.name, fitted)
    print(f"bundle {bundle.name} {bundle.sha256[:12]}, split {asked.split}, seed {asked.seed}, {asked.seconds:g} s\n")
    print("| manifest | conversations, turns | way | UAR % | minus raw | guard open |\n|---|---|---|---|---|---|")
    for path in asked.manifests:
        rows, _ = evaluate.scorable(bundle, read_manifest(path), asked.split)
        evaluate.refuse_trained_speakers(bundle, rows)
        chosen = one_emotion(rows, bundle.run.labels, asked.seed) if asked.one_emotion else rows
        pairs = heard(bundle, chosen, asked.num, asked.seconds, asked.seed)
        gains |= report(path.stem, bundle, pairs)
        if cooled is not None:
            sureness(path.stem, bundle, pairs, heard(cooled, chosen, asked.num, asked.seconds, asked.seed))
    figures(gains, 0)


if __name__ == "__main__":
    begin(main)
