"""Score a bundle on a split that it has never heard, with a speaker-bootstrap interval and the trivial baseline beside each score.

A split that leaks speakers, or a bundle that was trained on speakers or recordings of the split, is refused and the names are given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast import metrics
from moodcast.bundle import Bundle
from moodcast.cache import WaveStore, open_waves
from moodcast.manifest import Utterance, leaks
from moodcast.metrics import Interval

BATCH = 64  # utterances a call; the bundle bounds its own memory


@dataclass(frozen=True)
class Scores:
    """One slice's scores with intervals, beside a constant answer of the majority class."""

    slice: str
    num_utterances: int
    num_speakers: int
    uar: Interval
    accuracy: Interval
    macro_f1: Interval
    majority_class: str
    majority_uar: float
    majority_accuracy: float
    recall: dict[str, float]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Report:
    """What `evaluate` found: the pool first, then each corpus. `to_dict` is ready for JSON."""

    bundle: str
    sha256: str
    split: str
    classes: tuple[str, ...]
    slices: tuple[Scores, ...]
    skipped: dict[str, int]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def evaluate(
    bundle: Bundle,
    rows: Sequence[Utterance],
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Answer every utterance of `split` that has one of the bundle's classes, alone by alone, and score it.

    `rows` is the whole manifest, so that speakers shared between splits are seen. progress(done, total) is called as answers come.
    Raises ValueError where the manifest leaks, the split is empty, or the bundle knows its speakers or recordings.
    """
    _refuse_leaks(rows)
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        have = sorted({str(row.split) for row in rows})
        raise ValueError(f"no utterance has split {split!r}; the manifest has {', '.join(have) or 'no rows'}")
    known = [row for row in chosen if bundle.run.labels.name(row) is not None]
    if not known:
        found = sorted({str(row.emotion) for row in chosen})
        raise ValueError(f"split {split!r} holds none of the bundle's classes {bundle.classes}; its labels are {', '.join(found)}")
    refuse_trained_speakers(bundle, known)
    store = open_waves(known, bundle.rate, max_hours=bundle.run.audio.max_hours)
    refuse_trained_recordings(bundle, known, store.fingerprints)
    guess = _guesses(bundle, store, progress)
    truth = np.array([bundle.classes.index(str(bundle.run.labels.name(row))) for row in known])
    majority = _majority(bundle, truth)
    corpora = sorted({row.corpus for row in known})
    slices = [("all", np.full(len(known), True))]
    if len(corpora) > 1:
        slices += [(corpus, np.array([row.corpus == corpus for row in known])) for corpus in corpora]
    speakers = np.array([row.corpus_speaker for row in known])
    scores = tuple(score_slice(name, truth[where], guess[where], speakers[where], bundle.classes, majority) for name, where in slices)
    skipped = Counter(str(row.emotion) for row in chosen if bundle.run.labels.name(row) is None)
    return Report(bundle.name, bundle.sha256, split, bundle.classes, scores, dict(skipped), _notes(known))


def score_slice(
    name: str, truth: NDArray[np.int64], guess: NDArray[np.int64], speakers: NDArray[np.str_], classes: tuple[str, ...], majority: int
) -> Scores:
    """Scores of one set of answers [N] as class numbers; `majority` is the class that the trivial baseline always answers."""
    counts = metrics.by_speaker(truth.tolist(), guess.tolist(), speakers.tolist(), len(classes))
    pool = counts.sum(0)
    trivial = metrics.confusion(truth.tolist(), [majority] * len(truth), len(classes))
    support = pool.sum(1)
    return Scores(
        slice=name,
        num_utterances=len(truth),
        num_speakers=len(counts),
        uar=metrics.speaker_bootstrap(metrics.uar, counts),
        accuracy=metrics.speaker_bootstrap(metrics.accuracy, counts),
        macro_f1=metrics.speaker_bootstrap(metrics.macro_f1, counts),
        majority_class=classes[majority],
        majority_uar=float(metrics.uar(trivial)),
        majority_accuracy=float(metrics.accuracy(trivial)),
        recall={label: float(pool[k, k] / support[k]) for k, label in enumerate(classes) if support[k]},
        confusion=pool.astype(int).tolist(),
    )


def refuse_trained_speakers(bundle: Bundle, rows: Sequence[Utterance]) -> None:
    """Raise ValueError, naming them, where the bundle was trained on speakers, dialogues or sessions of these rows."""
    trained = {*bundle.provenance.speakers, *bundle.provenance.groups}
    shared = sorted({name for row in rows for name in (row.corpus_speaker, row.corpus_group) if name in trained})
    if shared:
        raise ValueError(
            f"{bundle.name} was trained on {len(shared)} of the speakers or dialogues it would be scored on: {_some(shared)}. "
            "Score it on speakers it has never heard (the split of the manifest it was trained from)"
        )


def refuse_trained_recordings(bundle: Bundle, rows: Sequence[Utterance], fingerprints: Sequence[str]) -> None:
    """Raise ValueError where the bundle was trained on one of these recordings under whatever name (same decoded samples)."""
    trained = set(bundle.provenance.fingerprints)
    shared = [row.id for row, mark in zip(rows, fingerprints, strict=True) if mark in trained]
    if shared:
        raise ValueError(
            f"{bundle.name} was trained on {len(shared)} of the recordings it would be scored on, under these or other names: "
            f"{_some(shared)}"
        )


def _refuse_leaks(rows: Sequence[Utterance]) -> None:
    found = leaks(rows)
    if found:
        named = [f"{name} ({', '.join(sorted(splits))})" for name, splits in sorted(found.items())]
        raise ValueError(
            f"{len(found)} speakers or groups stand on more than one side of the split: {_some(named)}. "
            "Split again by speaker (moodcast prepare) before scoring"
        )


def _guesses(bundle: Bundle, store: WaveStore, progress: Callable[[int, int], None] | None) -> NDArray[np.int64]:
    total = len(store)
    found: list[int] = []
    for start in range(0, total, BATCH):
        waves = [store[i] for i in range(start, min(start + BATCH, total))]
        for answer in bundle.answer(waves):
            if answer.emotion is None:
                raise ValueError(f"{bundle.name} answers no classes ({type(bundle.method).__name__}); there is nothing to score")
            found.append(int(answer.emotion.argmax()))
        if progress:
            progress(len(found), total)
    return np.array(found)


def _majority(bundle: Bundle, truth: NDArray[np.int64]) -> int:
    """The class seen most often in training, where the bundle says so; else in the split."""
    counts = bundle.provenance.class_counts
    if counts:
        return bundle.classes.index(max(bundle.classes, key=lambda name: counts.get(name, 0)))
    return int(np.bincount(truth).argmax())


def _notes(rows: Sequence[Utterance]) -> tuple[str, ...]:
    notes = ["speaker-independent; intervals: 95 % bootstrap over speakers, 2000 draws"]
    if any(row.speaker is None for row in rows):
        notes.append("some utterances name no speaker and count as speakers of their own: their intervals are too narrow")
    if grouped := sorted({row.corpus for row in rows if row.group}):
        notes.append(f"{', '.join(grouped)}: independent by dialogue or session; its speakers may recur under other names")
    return tuple(notes)


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
