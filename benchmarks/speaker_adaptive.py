"""Speaker-adaptive answers against the raw ones: how much do 2, 4, 8, 16 or all other recordings of the same speaker help?

    python benchmarks/speaker_adaptive.py default ravdess.parquet nemo.parquet urdu.parquet      # which the shipped bundle never heard
    python benchmarks/speaker_adaptive.py default cremad.parquet emodb.parquet resd.parquet --folds ANSWERS

Each recording of the split is answered once with so many other recordings of its speaker given, drawn at random (without the recording
itself), for each of several draws; a speaker with fewer gives all. UAR in %, counts of all draws together, 95 % intervals by bootstrap over
speakers, and the paired difference to raw. "guard" is how far it believed that emotions are mixed (mean of its verdict), "unguarded" is
plain centring with no check. Two controls are made of the first corpus: only recordings of the scored one's own emotion are given
("one emotion"), or of that and one other ("two emotions").

--folds takes the answers that benchmarks/default_bundle.py keeps of its speaker folds, for corpora that the bundle itself was trained on: a
speaker's recordings are all answered by one run of the recipe, which had not heard them, or by the runs of several seeds together, as the
bundle that ships is; and by its temperature.

The guard was designed on held-out speakers of cremad, emodb and resd; on whatever else it is only reported. The bundle must not have been
trained on what is scored. Log-probabilities are kept (--cache), so that a second call takes seconds.

Figures: speaker_adaptive_CORPUS_8_minus_raw_points, with eight recordings given, goal 0.

Takes: a minute for each 1,000 recordings on two cores, and half a minute a corpus for the draws.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import fold_answers
from benchmarks.shared import begin, figures, options_of, signed, some
from moodcast import evaluate, load, metrics
from moodcast.bundle import Bundle
from moodcast.manifest import Utterance, read_manifest
from moodcast.study.speaker import adapted, usual
from moodcast.whole import write_whole

NUMBERS: tuple[int | None, ...] = (2, 4, 8, 16, None)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Heard:
    """The answers to one corpus: log-probabilities [N, K], classes [N], speakers [N]."""

    name: str
    logs: Floats
    truth: NDArray[np.int64]
    speakers: NDArray[np.str_]


@dataclass(frozen=True)
class Row:
    """A line of the table; difference is to raw, paired."""

    corpus: str
    given: str
    uar: metrics.Interval
    difference: metrics.Interval
    unguarded: metrics.Interval
    guard: float


def heard(bundle: Bundle, rows: Sequence[Utterance], split: str, folder: Path, folds: Path | None = None) -> Iterator[Heard]:
    """The answers by corpus, from the folds or the cache where they are there."""
    told = fold_answers.answers_in(folds) if folds else {}
    for corpus in sorted({row.corpus for row in rows}, key=[row.corpus for row in rows].index):
        part = [row for row in rows if row.corpus == corpus]
        if by_folds := [row for row in part if row.id in told]:
            labels = bundle.run.labels
            truth = np.array([labels.classes.index(str(labels.name(row))) for row in by_folds])
            logs = np.log(np.maximum([told[row.id] for row in by_folds], 1e-12)) / bundle.calibration.temperature
            logs -= np.logaddexp.reduce(logs, axis=1, keepdims=True)
            yield Heard(f"{corpus} (folds)", logs, truth, np.array([row.corpus_speaker for row in by_folds]))
            continue
        known, _ = evaluate.scorable(bundle, part, split)
        evaluate.refuse_trained_speakers(bundle, known)
        kept = folder / f"{bundle.sha256[:16]}-{corpus}-{split}.npz"
        if not kept.is_file():
            answers = evaluate.answer(bundle, known)
            folder.mkdir(parents=True, exist_ok=True)
            logs = np.log(np.maximum(answers.probabilities, 1e-12))
            np.savez(kept, logs=logs, truth=answers.truth, speakers=np.array(answers.speakers), ids=np.array([row.id for row in known]))
        found = np.load(kept, allow_pickle=False)
        if found["ids"].tolist() != [row.id for row in known]:
            raise ValueError(f"{kept} holds other recordings than the manifest; remove it")
        yield Heard(corpus, found["logs"], found["truth"], found["speakers"])


def score(part: Heard, number: int | None, draws: int, same: int = 0) -> tuple[Floats, Floats, float]:
    """Confusions by speaker [S, K, K] of all draws together, guarded and not, and the mean verdict.

    same: give only recordings of so many emotions, the scored one's own among them (0: of any).
    """
    guess, plain, verdicts, where = [], [], [], []
    for draw in range(1 if number is None and not same else draws):
        rng = np.random.default_rng([draw, number or 0, same])
        for i in range(len(part.truth)):
            others = np.flatnonzero(part.speakers == part.speakers[i])
            others = others[others != i]
            if same:
                classes = [part.truth[i], *rng.permutation([k for k in range(part.logs.shape[1]) if k != part.truth[i]])[: same - 1]]
                others = others[np.isin(part.truth[others], classes)]
            if number is not None and len(others) > number:
                others = rng.choice(others, number, replace=False)
            of = usual(part.logs[others])
            guess.append(int(adapted(part.logs[i : i + 1], of)[0].argmax()))
            centre = part.logs[others].mean(0) if len(others) else 0.0
            plain.append(int((part.logs[i] - centre).argmax()))
            verdicts.append(of.mixed)
            where.append(i)
    truth, speakers = part.truth[where].tolist(), part.speakers[where].tolist()
    classes_of = part.logs.shape[1]
    counts = [metrics.by_speaker(truth, answers, speakers, classes_of) for answers in (guess, plain)]
    times = len(where) / len(part.truth)
    return counts[0] / times, counts[1] / times, float(np.mean(verdicts))


def table(part: Heard, draws: int, controls: bool) -> Iterator[Row]:
    raw = metrics.by_speaker(part.truth.tolist(), part.logs.argmax(1).tolist(), part.speakers.tolist(), part.logs.shape[1])
    nothing = metrics.Interval(0.0, 0.0, 0.0)
    yield Row(part.name, "raw", metrics.speaker_bootstrap(metrics.uar, raw), nothing, nothing, 0.0)
    plans = [(str(number or "all"), number, 0) for number in NUMBERS]
    plans += [("8, one emotion", 8, 1), ("8, two emotions", 8, 2)] if controls else []
    for name, number, same in plans:
        ours, plain, verdict = score(part, number, draws, same)
        difference = metrics.paired_bootstrap(metrics.uar, ours, raw)
        unguarded = metrics.paired_bootstrap(metrics.uar, plain, raw)
        yield Row(part.name, name, metrics.speaker_bootstrap(metrics.uar, ours), difference, unguarded, verdict)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("bundle")
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--draws", type=some, default=5, help="random draws of the given recordings (seeds 0, 1, ...)")
    parser.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("MOODCAST_CACHE") or Path.home() / ".cache" / "moodcast") / "answers"
    )
    parser.add_argument("--folds", type=Path, help="answers of speaker folds, all seeds together, for the corpora that they cover")
    parser.add_argument("--json", type=Path, help="write the rows here, one JSON object a line")
    asked = parser.parse_args()
    bundle = load(asked.bundle)
    rows = [row for path in asked.manifests for row in read_manifest(path)]
    found: list[dict[str, Any]] = []
    gains = {}
    print(f"bundle {bundle.name} {bundle.sha256[:12]}, split {asked.split}, draws {asked.draws} (seeds 0 to {asked.draws - 1})\n")
    print("| corpus | speakers | given | UAR % | minus raw | unguarded minus raw | guard |\n|---|---|---|---|---|---|---|")
    for number, part in enumerate(heard(bundle, rows, asked.split, asked.cache, asked.folds)):
        for row in table(part, asked.draws, controls=number == 0):
            told = ("", "", "") if row.given == "raw" else (signed(row.difference), signed(row.unguarded), f"{row.guard:.2f}")
            print(f"| {row.corpus} | {len(set(part.speakers.tolist()))} | {row.given} | {row.uar} | {' | '.join(told)} |", flush=True)
            if row.given == "8":
                gains[f"speaker_adaptive_{row.corpus.replace(' (folds)', '_folds')}_8_minus_raw_points"] = 100 * row.difference.value
            found.append({"bundle": bundle.sha256, "split": asked.split, "draws": asked.draws, **asdict(row)})
    if asked.json:
        write_whole(asked.json, "".join(json.dumps(row) + "\n" for row in found))
    figures(gains, 0)


if __name__ == "__main__":
    begin(main)
