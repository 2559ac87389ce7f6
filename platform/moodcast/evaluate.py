"""Score a bundle on a split that it has never heard, with speaker-bootstrap intervals and trivial baselines beside each score.

A split that leaks speakers, or a bundle that was trained on speakers or recordings of the split, is refused and the names are given.
What is computed of the answers is in `scores`, what they are compared with in `baselines`, the page in `report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from moodcast import audit, baselines, scores
from moodcast.bundle import Bundle
from moodcast.cache import WaveStore, open_waves
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.provenance import ChosenOn, known_among
from moodcast.scores import Answers, Baseline, Floats, Report, Scores

__all__ = ["Report", "Scores", "answer", "evaluate", "refuse_trained_recordings", "refuse_trained_speakers", "scorable", "trivial"]

ALLOW = "allow_leaks (--allow-leaks)"
RARE = 2  # speakers: a bootstrap misses a class that so few of many hold in one draw of three to eight
BATCH = 64  # utterances a call; the bundle bounds its own memory
Progress = Callable[[int, int], None]


def evaluate(
    bundle: Bundle,
    rows: Sequence[Utterance],
    split: str = "test",
    progress: Progress | None = None,
    *,
    against: Bundle | None = None,
    plain: bool = True,
    flags: Sequence[str] = (),
    allow_leaks: bool = False,
) -> Report:
    """Answer every utterance of `split` that has one of the bundle's classes, alone by alone, and score it.

    `rows` is the whole manifest, so that speakers shared between splits are seen and baselines are fitted on its train side, unless that
    is what is scored; plain=False leaves out the one that takes a while. against: another bundle of the same classes, for paired
    differences. flags: what makes the scores doubtful, to stand in every guard line. allow_leaks: score what leaks nevertheless; what
    leaks is then such a flag, and so is what train.allow_leaks let through. progress(done, total) is called as answers come.

    Raises ValueError where the manifest leaks, the split is empty, or a bundle knows its speakers or recordings.
    """
    flags = [*flags, *audit.guard(audit.leaks_among(rows), allow_leaks, ALLOW)]
    known, skipped = scorable(bundle, rows, split)
    if against is not None and against.classes != bundle.classes:
        raise ValueError(f"{against.name} answers {against.classes}, {bundle.name} {bundle.classes}; only the same classes compare")
    for each in (bundle, against) if against is not None else (bundle,):
        flags += [*each.provenance.leaks, *heard_before(each, known, allow_leaks), *chosen_before(each, known), *bound_above(each, known)]
    flags = list(dict.fromkeys(flags))  # what leaks here may have leaked in training, too
    answers = answer(bundle, known, progress, allow_leaks)
    other = None
    if against is not None:
        other = answer(against, known, progress, allow_leaks)
    train = [row for row in rows if row.split == "train" != split and bundle.run.labels.name(row) is not None]
    found = trivial(answers, train, bundle, plain)
    return Report(
        bundle=bundle.name,
        sha256=bundle.sha256,
        split=split,
        classes=bundle.classes,
        slices=scores.score_all(answers, found, prior(bundle, answers), votes_mean(bundle.run.labels, train or known), other, flags),
        skipped=skipped,
        notes=(*notes(known, train, plain, leaks=bool(flags)), *audit.remarks(rows, bundle.classes)),
        flags=tuple(flags),
        against=None if against is None else against.name,
        temperature=bundle.calibration.temperature,
        answers=answers,
    )


def scorable(bundle: Bundle, rows: Sequence[Utterance], split: str) -> tuple[list[Utterance], dict[str, int]]:
    """The utterances of `split` that have one of the bundle's classes, and how many were left out by label.

    Raises ValueError for a split that is not there, or holds none, and for a bundle that tells voices apart.
    """
    if bundle.run.labels.source == "speaker":
        raise ValueError(f"{bundle.name} tells voices apart, for the diarizer; it knows no emotions, so there are none to score")
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        have = sorted({row.split for row in rows if row.split})
        there = f"it has {', '.join(have)}" if have else "it has no splits; `moodcast prepare manifest FILE --out NEW` makes them"
        raise ValueError(f"no utterance of the manifest has split {split!r}; {there}")
    known = [row for row in chosen if bundle.run.labels.name(row) is not None]
    if not known:
        found = sorted({row.emotion for row in chosen if row.emotion})
        labels = f"its labels are {', '.join(found)}" if found else "none of its rows has a label"
        raise ValueError(f"split {split!r} holds none of the bundle's classes {bundle.classes}; {labels}")
    return known, dict(Counter(str(row.emotion) for row in chosen if bundle.run.labels.name(row) is None))


def answer(
    bundle: Bundle,
    rows: Sequence[Utterance],
    progress: Progress | None = None,
    allow_leaks: bool = False,
    root: Path | None = None,
) -> Answers:
    """What a bundle says of each row, alone by alone. root: where decoded audio is kept.

    Raises ValueError where it was trained on one of these recordings, unless allow_leaks.
    """
    store = open_waves(rows, bundle.rate, root, bundle.run.audio.max_hours)
    if not allow_leaks:
        refuse_trained_recordings(bundle, rows, store.fingerprints, root=root)
    probabilities, attributes = _answered(bundle, store, [row.text for row in rows], progress)
    labels = bundle.run.labels
    truth = np.array([bundle.classes.index(str(labels.name(row))) for row in rows], dtype=np.int64)
    return Answers(
        classes=bundle.classes,
        rows=tuple(rows),
        truth=truth,
        probabilities=probabilities,
        votes=votes_of(labels, rows),
        attribute_names=labels.attributes,
        attributes=attributes,
        attribute_truth=np.array([labels.values(row) for row in rows]) if attributes is not None else None,
    )


def trivial(answers: Answers, train: Sequence[Utterance], bundle: Bundle, plain: bool = True, root: Path | None = None) -> list[Baseline]:
    """The baselines that can be had: plain statistics need training rows of every class. root: where decoded audio is kept."""
    labels, truth = bundle.run.labels, answers.truth
    found: list[Baseline | None] = [
        baselines.majority(bundle.classes, bundle.provenance.class_counts, truth),
        baselines.speaker_name(truth, answers.speakers, len(bundle.classes)),
    ]
    if plain and len({labels.name(row) for row in train}) == len(bundle.classes):
        hours = bundle.run.audio.max_hours
        sides = [baselines.statistics_of(open_waves(side, baselines.RATE, root, hours)) for side in (train, answers.rows)]
        known = np.array([bundle.classes.index(str(labels.name(row))) for row in train])
        found.append(baselines.plain_statistics(sides[0], known, sides[1]))
    return [baseline for baseline in found if baseline is not None]


def prior(bundle: Bundle, answers: Answers) -> Floats:
    """The train mean of the classes, [K]; that of the split where the bundle does not say."""
    counts = bundle.provenance.class_counts or Counter(bundle.classes[k] for k in answers.truth)
    return baselines.shares(bundle.classes, counts)


def votes_of(labels: Labels, rows: Sequence[Utterance]) -> Floats:
    """The raters' distributions over the classes, [N, K]; NaN where nobody voted for one of them."""
    voted = replace(labels, source="votes")
    found = [voted.target(row) if row.votes else None for row in rows]
    return np.array([[np.nan] * len(labels.classes) if target is None else target for target in found], dtype=np.float64)


def votes_mean(labels: Labels, rows: Sequence[Utterance]) -> Floats | None:
    """The mean of the raters' distributions, [K]; None where nobody voted."""
    votes = votes_of(labels, rows)
    known = votes[~np.isnan(votes).any(1)]
    return np.asarray(known.mean(0)) if len(known) else None


def heard_before(bundle: Bundle, rows: Sequence[Utterance], allow_leaks: bool, root: Path | None = None) -> list[str]:
    """A flag for each kind of thing among these rows that the bundle was trained on. Raises ValueError for them unless allow_leaks."""
    if not allow_leaks:
        refuse_trained_speakers(bundle, rows)  # known before anything is heard
    marks = open_waves(rows, bundle.rate, root, bundle.run.audio.max_hours).fingerprints
    if not allow_leaks:
        refuse_trained_recordings(bundle, rows, marks, root=root)
    heard = {
        "speakers or dialogues": trained_speakers(bundle, rows),
        "recordings": trained_recordings(bundle, rows, marks),
        f"recordings, {audit.ANOTHER_FORM}": trained_copies(bundle, rows, marks, root),
    }
    return [
        f"leak let through: {bundle.name} was trained on {len(names)} of these {what} ({_some(names, 6)})"
        for what, names in heard.items()
        if names
    ]


def chosen_before(bundle: Bundle, rows: Sequence[Utterance], root: Path | None = None) -> list[str]:
    """A flag where the bundle's epoch or temperature was chosen on some of these speakers or recordings: the score flatters it."""
    return [
        f"chosen on what is scored: {chosen} on {len(names)} of these speakers, dialogues or recordings ({_some(names, 6)}), "
        f"so that {flattered} it"
        for chosen, on, flattered in (
            (f"epoch and temperature of {bundle.name} were chosen", bundle.provenance.chosen_on, "the score flatters"),
            (f"the temperature of {bundle.name} was fitted", bundle.calibration.fitted_on, "calibration and likelihood flatter"),
        )
        if (names := _chosen_among(bundle, on, rows, root))
    ]


def _chosen_among(bundle: Bundle, on: ChosenOn, rows: Sequence[Utterance], root: Path | None) -> list[str]:
    """The speakers, dialogues and sessions of these rows that something was chosen on; or else recordings by id, in any form."""
    names = known_among(rows, on.speakers, on.groups)
    if names or not on.fingerprints:
        return names
    marks = open_waves(rows, bundle.rate, root, bundle.run.audio.max_hours).fingerprints
    chosen, copies = set(on.fingerprints), audit.copies_of(marks, root)
    return sorted(row.id for row, mark in zip(rows, marks, strict=True) if chosen & {mark, *copies.get(mark, ())})


def bound_above(bundle: Bundle, rows: Sequence[Utterance]) -> list[str]:
    """A flag where labels of a corpus that is scored were opened for the bundle, which is then no adaptation but an upper bound of one."""
    opened = sorted({row.corpus for row in rows} & set(bundle.provenance.adapted_to.unsealed))
    return [f"upper bound: {bundle.name} was trained with labels of the target {', '.join(opened)}"] if opened else []


def refuse_trained_speakers(bundle: Bundle, rows: Sequence[Utterance], otherwise: str = f"; {ALLOW} scores it nevertheless") -> None:
    """Raise ValueError, naming them, where the bundle was trained on speakers, dialogues or sessions of these rows; what else to do."""
    if shared := trained_speakers(bundle, rows):
        raise ValueError(
            f"{bundle.name} was trained on {len(shared)} of the speakers or dialogues it would be scored on: {_some(shared)}. "
            f"Score it on speakers it has never heard (the split of the manifest it was trained from){otherwise}"
        )


def refuse_trained_recordings(
    bundle: Bundle,
    rows: Sequence[Utterance],
    fingerprints: Sequence[str],
    otherwise: str = f". {ALLOW} scores it nevertheless, and says so",
    root: Path | None = None,
) -> None:
    """Raise ValueError where the bundle was trained on one of these recordings, whatever its name (same samples); what else to do.

    And where an audit, which kept what it found below `root`, has heard one of them in another form.
    """
    if shared := trained_recordings(bundle, rows, fingerprints):
        raise ValueError(
            f"{bundle.name} was trained on {len(shared)} of the recordings it would be scored on, under these or other names: "
            f"{_some(shared)}{otherwise}"
        )
    if copies := trained_copies(bundle, rows, fingerprints, root):
        raise ValueError(
            f"{bundle.name} was trained on {len(copies)} of the recordings it would be scored on, {audit.ANOTHER_FORM}: "
            f"{_some(copies)}{otherwise}"
        )


def trained_speakers(bundle: Bundle, rows: Sequence[Utterance]) -> list[str]:
    """The speakers, dialogues and sessions of these rows ("corpus/name") that the bundle was trained on or, without labels, adapted to."""
    known = bundle.provenance
    return known_among(rows, {*known.speakers, *known.adapted_to.speakers}, {*known.groups, *known.adapted_to.groups})


def trained_recordings(bundle: Bundle, rows: Sequence[Utterance], fingerprints: Sequence[str]) -> list[str]:
    """The ids of rows whose decoded samples the bundle was trained on or, without labels, adapted to, under whatever name."""
    trained = {*bundle.provenance.fingerprints, *bundle.provenance.adapted_to.fingerprints}
    return [row.id for row, mark in zip(rows, fingerprints, strict=True) if mark in trained]


def trained_copies(bundle: Bundle, rows: Sequence[Utterance], fingerprints: Sequence[str], root: Path | None = None) -> list[str]:
    """The ids of rows of which an audit has found a copy among what the bundle was trained on: through a codec, or cut otherwise."""
    trained = {*bundle.provenance.fingerprints, *bundle.provenance.adapted_to.fingerprints}
    copies = audit.copies_of(fingerprints, root)
    return [row.id for row, mark in zip(rows, fingerprints, strict=True) if mark not in trained and copies.get(mark, set()) & trained]


def _answered(bundle: Bundle, store: WaveStore, texts: Sequence[str | None], progress: Progress | None) -> tuple[Floats, Floats | None]:
    """Probabilities [N, K] and attributes [N, A]."""
    total = len(store)
    emotions, attributes = [], []
    for start in range(0, total, BATCH):
        waves = [store[i] for i in range(start, min(start + BATCH, total))]
        for found in bundle.answer(waves, texts[start : start + BATCH]):
            if found.emotion is None:
                raise ValueError(f"{bundle.name} answers no classes ({type(bundle.method).__name__}); there is nothing to score")
            emotions.append(found.emotion)
            attributes.append(found.attributes)
        if progress:
            progress(len(emotions), total)
    known = [values for values in attributes if values is not None]
    return np.array(emotions, dtype=np.float64), np.array(known, dtype=np.float64) if len(known) == total else None


def notes(rows: Sequence[Utterance], train: Sequence[Utterance], plain: bool = True, leaks: bool = False) -> tuple[str, ...]:
    """What a reader of the scores must know beside them; leaks: whether some were let through."""
    nameless = any(not row.speaker and not row.group for row in (*rows, *train))
    split = "NOT KNOWN to be speaker-independent: some rows name no speaker" if nameless else "speaker-independent"
    split = "NOT independent of what was trained or chosen on, see the flags" if leaks else split
    found = [f"{split}; intervals: 95 % bootstrap over speakers, 2000 draws"]
    if any(row.speaker is None for row in rows):
        found.append("some utterances name no speaker and count as speakers of their own: their intervals are too narrow")
    if grouped := sorted({row.corpus for row in rows if row.group}):
        found.append(f"{', '.join(grouped)}: independent by dialogue or session; its speakers may recur under other names")
    if (people := len({row.corpus_speaker for row in rows})) == 1:
        found.append("a single speaker was scored: there is nothing to draw, and intervals are as wide as they can be")
    elif people < scores.FEW:
        found.append(f"{people} speakers were scored: intervals drawn from so few are too narrow (docs/evaluation.md); score folds of them")
    if rare := _rare(rows):
        found.append(f"{rare}: where a draw leaves them out, UAR and F1 are those of the other classes, and their intervals say less")
    if not plain:
        found.append("the baseline of plain statistics was left out")
    elif not train:
        found.append("no baseline of plain statistics: there is no train side beside what is scored to fit it on")
    if not train and any(row.votes for row in rows):
        found.append("no train side: the train mean of the votes is that of the scored rows themselves, a harder rival than a real one")
    return tuple(found)


def _rare(rows: Sequence[Utterance]) -> str:
    """Which classes so few of the speakers hold that a bootstrap over speakers often misses them; "" where there is none."""
    holders: dict[str, set[str]] = {}
    for row in rows:
        holders.setdefault(str(row.emotion), set()).add(row.corpus_speaker)
    people = len(set().union(*holders.values()))
    found = [f"{name} ({len(some)} of {people})" for name, some in sorted(holders.items()) if len(some) <= RARE < people]
    return f"classes that hardly any speaker has: {', '.join(found)}" if found else ""


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
