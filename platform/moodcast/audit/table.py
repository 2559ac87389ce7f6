"""What can be known from the rows alone, without hearing anything: leaks, labels, people, and what a name gives away. Pure functions."""

from __future__ import annotations

import difflib
import itertools
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodcast.audit.finding import Finding, Severity
from moodcast.labels import CLASSES
from moodcast.manifest import Utterance, leaks

FOLDS, REPEATS, SHUFFLES = 5, 5, 20
TELLS = 0.25  # of the way from chance to certainty: what a name predicts is then worth a warning
HINTS = 0.05


@dataclass(frozen=True)
class Giveaway:
    """How well a name alone predicts the label: the majority label of the name in the other folds; five random folds, five times.

    So every name is heard in training, as in a split that is not by name. All are shares; 97.5 % of 20 shuffles of the labels stay below
    `shuffled`. Below chance is as good as chance: where a name has all labels equally often, the one left out is the rarest of the rest.
    """

    corpus: str
    name: str
    num_names: int
    num_utterances: int
    uar: float
    accuracy: float
    chance: float
    majority: float
    shuffled: float

    @property
    def excess(self) -> float:
        """0 at chance, 1 where the name decides the label."""
        return (self.uar - self.chance) / (1 - self.chance)


def table_findings(rows: Sequence[Utterance], classes: Sequence[str] = CLASSES) -> list[Finding]:
    """Everything below, on one manifest or several together."""
    found = [
        *split_leaks(rows),
        *unknown_labels(rows, classes),
        *people(rows),
        *thin_splits(rows),
        *votes(rows),
        *shared_texts(rows),
        *overlaps(rows),
    ]
    return found + [finding for giveaway in giveaways(rows) if (finding := giveaway_finding(giveaway, rows))]


def split_leaks(rows: Sequence[Utterance]) -> list[Finding]:
    """Speakers, dialogues and recordings that stand on more than one side of the split."""
    split = [row for row in rows if row.split is not None]
    speakers = {row.corpus_speaker for row in split}
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in split:
        for name in {row.corpus_speaker, row.corpus_group}:
            sides[name][str(row.split)].append(row.id)
    found = []
    for name in sorted(leaks(split)):
        what = "speaker" if name in speakers else "dialogue"
        counts = ", ".join(f"{len(ids)} in {side}" for side, ids in sorted(sides[name].items()))
        found.append(
            Finding(
                f"{what} on two sides",
                "error",
                tuple(sorted(name for ids in sides[name].values() for name in ids)),
                f"{name}: {counts}",
                "split again by speaker and dialogue: moodcast prepare manifest FILE --out FILE",
            )
        )
    files: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in split:
        files[row.path][str(row.split)].append(row.id)
    return found + [
        Finding(
            "recording on two sides",
            "error",
            tuple(sorted(name for ids in by_side.values() for name in ids)),
            f"{path}: in {', '.join(sorted(by_side))}",
            "keep all spans of a recording on one side",
        )
        for path, by_side in sorted(files.items())
        if len(by_side) > 1
    ]


def unknown_labels(rows: Sequence[Utterance], classes: Sequence[str]) -> list[Finding]:
    """Labels, and names of votes, that are not among the classes; rows without a label beside rows with one."""
    found = []
    by_label: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name in {row.emotion, *(row.votes or ())} - {None, *classes}:
            by_label[str(name)].append(row.id)
    for name, ids in sorted(by_label.items()):
        near = difflib.get_close_matches(name.lower(), classes, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        detail = f"{name!r} in {len(ids)} rows is not among {', '.join(classes)}"
        found.append(Finding("label outside the map", "error", tuple(ids), detail, f"{hint}correct the label map of the corpus"))
    bare = tuple(row.id for row in rows if row.emotion is None and not row.votes and not row.attributes)
    if bare and len(bare) < len(rows):
        detail = f"{len(bare)} of {len(rows)} rows have no emotion, no votes and no attributes"
        found.append(Finding("no label", "note", bare, detail, "nothing, if they are meant for adaptation"))
    outside = tuple(row.id for row in rows if row.attributes and not all(0 <= value <= 1 for value in row.attributes.values()))
    if outside:
        detail = f"{len(outside)} rows have attributes outside 0 to 1"
        found.append(Finding("attribute out of range", "error", outside, detail, "scale attributes to 0..1 when the manifest is made"))
    return found


def people(rows: Sequence[Utterance]) -> list[Finding]:
    """Speakers of whom the rows say two things, names that are one but for their spelling, and rows that name no speaker."""
    found = spellings(rows)
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        if row.speaker is not None:
            by_speaker[row.corpus_speaker].append(row)
    for name, own in sorted(by_speaker.items()):
        for what in ("gender", "age"):
            values = Counter(getattr(row, what) for row in own if getattr(row, what) is not None)
            if len(values) > 1 and (what == "gender" or max(values) - min(values) > 5):
                rare = values.most_common()[-1][0]
                counts = ", ".join(f"{value} in {count}" for value, count in values.most_common())
                ids = tuple(row.id for row in own if getattr(row, what) == rare)
                do = "find out which is right; a mix-up of speakers also breaks splits"
                found.append(Finding(f"two values of {what}", "warning", ids, f"{name}: {counts}", do))
    nameless = tuple(row.id for row in rows if row.speaker is None)
    if nameless:
        detail = (
            f"{len(nameless)} of {len(rows)} rows name no speaker: each counts as a speaker of its own, and no split can keep them apart"
        )
        do = "name speakers, or sessions as group; do not report scores as speaker-independent"
        labelled = any(row.emotion or row.votes or row.attributes for row in rows if row.speaker is None)
        found.append(Finding("no speaker", "warning" if labelled else "note", nameless, detail, do))
    return found


def spellings(rows: Sequence[Utterance]) -> list[Finding]:
    """Names of speakers that differ in capitals, white space, signs or leading zeros alone, as tables typed or saved by hand have them."""
    names: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.speaker and (words := _words(row.speaker)):
            names[row.corpus, words][row.speaker].append(row.id)
    return [
        Finding(
            "one speaker, several spellings",
            "warning",
            tuple(sorted(name for ids in written.values() for name in ids)),
            f"{corpus}: {', '.join(f'{name!r} in {len(ids)} rows' for name, ids in sorted(written.items()))}",
            "if this is one person, write the name in one way and split again: a split takes each spelling for a person of its own",
        )
        for (corpus, _), written in sorted(names.items())
        if len(written) > 1
    ]


def _words(name: str) -> str:
    """The words and numbers of a name with spaces between, alike however they are written."""
    runs = itertools.groupby(unicodedata.normalize("NFKC", name).casefold(), _kind)
    return " ".join("".join(run).lstrip("0") or "0" for kind, run in runs if kind)


def _kind(char: str) -> str:
    """A number, a letter (or a sign that belongs to one, as vowels do in Hindi or Thai), or "", which is neither."""
    return "number" if char.isdecimal() else "letter" if unicodedata.category(char)[0] in "LM" else ""


def thin_splits(rows: Sequence[Utterance]) -> list[Finding]:
    """Classes that a side of the split lacks although another has them."""
    found = []
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in rows:
        if row.split is not None and row.emotion is not None:
            counts[row.corpus][row.split][row.emotion] += 1
    for corpus, sides in sorted(counts.items()):
        names = set().union(*sides.values())
        for side, classes in sorted(sides.items()):
            if missing := sorted(names - set(classes)):
                detail = f"{corpus}: {side} has no {', '.join(missing)}; other sides do"
                found.append(
                    Finding("class missing from a side", "warning", (), detail, "try another seed, or score without these classes")
                )
    return found


def votes(rows: Sequence[Utterance]) -> list[Finding]:
    """How often the voters' first choice is not the label: two label sources that must not be mixed up."""
    found = []
    for corpus in sorted({row.corpus for row in rows}):
        both = [row for row in rows if row.corpus == corpus and row.emotion and row.votes and sum(row.votes.values()) > 0]
        other = tuple(row.id for row in both if row.emotion not in _first(row.votes or {}))
        tied = sum(row.emotion in (top := _first(row.votes or {})) and len(top) > 1 for row in both)
        if other:
            detail = (
                f"{corpus}: in {len(other)} of {len(both)} rows ({100 * len(other) / len(both):.1f} %) most votes are for another class "
                f"than the label, in {tied} more it ties with another"
            )
            found.append(Finding("votes against the label", "note", other, detail, "say which of them a score is about (labels.source)"))
    return found


def shared_texts(rows: Sequence[Utterance]) -> list[Finding]:
    """Corpora in which the sentences of the test side are also heard in training: scores are then not text-independent."""
    found = []
    for corpus in sorted({row.corpus for row in rows}):
        own = [row for row in rows if row.corpus == corpus and row.text and row.split]
        heard = {_plain(row.text) for row in own if row.split == "train"}
        ids = tuple(row.id for row in own if row.split != "train" and _plain(row.text) in heard)
        tested = sum(row.split != "train" for row in own)
        if heard and len(ids) > tested / 10:
            detail = f"{corpus}: {len(ids)} of {tested} utterances outside train say a sentence that train says, too"
            found.append(
                Finding("sentences shared by sides", "note", ids, detail, "say that scores are speaker-independent, not text-independent")
            )
    return found


def overlaps(rows: Sequence[Utterance]) -> list[Finding]:
    """Rows whose spans of one recording overlap by more than a tenth of the shorter: heard twice, worse with two labels."""
    files: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        files[row.path].append(row)
    pairs: dict[bool, list[tuple[Utterance, Utterance]]] = {True: [], False: []}
    for own in files.values():
        own.sort(key=lambda row: row.start_s)
        for place, first in enumerate(own):
            stop_s = first.stop_s if first.stop_s is not None else first.duration_s or float("inf")
            for second in own[place + 1 :]:
                if second.start_s >= stop_s:
                    break
                shared_s = min(stop_s, second.stop_s if second.stop_s is not None else float("inf")) - second.start_s
                shorter_s = min(stop_s - first.start_s, (second.stop_s or float("inf")) - second.start_s)
                if shared_s == float("inf") or shared_s > 0.1 * shorter_s:
                    pairs[first.emotion != second.emotion].append((first, second))
    found = []
    for differ, some_pairs in pairs.items():
        if some_pairs:
            ids = tuple(dict.fromkeys(row.id for pair in some_pairs for row in pair))
            what = "overlapping spans, different labels" if differ else "overlapping spans, one label"
            detail = f"{len(some_pairs)} pairs of rows hear the same part of a recording"
            do = "correct start_s and stop_s, or take out one" + (": at most one label is right, unless two people speak" if differ else "")
            found.append(Finding(what, "warning" if differ else "note", ids, detail, do))
    return found


def giveaways(rows: Sequence[Utterance]) -> list[Giveaway]:
    """What each name of a corpus gives away, and with several corpora what the corpus gives away; names that hardly repeat are left out."""
    keys: dict[str, Callable[[Utterance], str | None]] = {
        "speaker": lambda row: row.speaker,
        "group": lambda row: row.group,
        "gender": lambda row: row.gender,
        "text": lambda row: _plain(row.text) if row.text else None,
    }
    corpora = sorted({row.corpus for row in rows})
    found = []
    for corpus in corpora:
        own = [row for row in rows if row.corpus == corpus]
        found += [giveaway(corpus, name, own, key) for name, key in keys.items()]
    if len(corpora) > 1:
        found.append(giveaway("all", "corpus", rows, lambda row: row.corpus))
    return [item for item in found if item is not None]


def giveaway(corpus: str, name: str, rows: Sequence[Utterance], key: Callable[[Utterance], str | None]) -> Giveaway | None:
    """How well `key` alone predicts the emotion of these rows, or None where there is nothing to predict or names hardly repeat."""
    kept = [(value, row.emotion) for row in rows if (value := key(row)) is not None and row.emotion is not None]
    names, who = np.unique([value for value, _ in kept], return_inverse=True)
    labels, truth = np.unique([label for _, label in kept], return_inverse=True)
    if len(names) < 2 or len(labels) < 2 or len(kept) < 2 * len(names):
        return None
    rng = np.random.default_rng(0)
    folds = [rng.permutation(len(kept)) % FOLDS for _ in range(REPEATS)]
    uar, accuracy = np.mean([_by_name(who, truth, fold, len(names), len(labels)) for fold in folds], axis=0)
    scores = [_by_name(who, rng.permutation(truth), folds[0], len(names), len(labels))[0] for _ in range(SHUFFLES)]
    majority = float(np.bincount(truth).max() / len(truth))
    shuffled = float(np.percentile(scores, 97.5))
    return Giveaway(corpus, name, len(names), len(kept), float(uar), float(accuracy), 1 / len(labels), majority, shuffled)


def giveaway_finding(item: Giveaway, rows: Sequence[Utterance]) -> Finding | None:
    """A warning or a note where a name predicts the label well above chance."""
    if item.excess < HINTS or item.uar <= item.shuffled:
        return None
    severity: Severity = "warning" if item.excess >= TELLS else "note"
    detail = (
        f"{item.corpus}: the {item.name} alone ({item.num_names} names) scores {100 * item.uar:.1f} % UAR and {100 * item.accuracy:.1f} % "
        f"accuracy under random folds; chance {100 * item.chance:.1f}, shuffled labels below {100 * item.shuffled:.1f}, majority class "
        f"{100 * item.majority:.1f} % accuracy"
    )
    do = {
        "speaker": "split by speaker; never normalise by speaker; put this figure beside scores, or use the corpus only as a target",
        "group": "split by group; never normalise by it; put this figure beside scores",
        "text": "leave the text out of the model, or keep sentences on one side of the split",
        "gender": "report scores by gender",
        "corpus": "balance classes within corpora (train.balance=corpus_class)",
    }[item.name]
    return Finding(f"{item.name} gives the label away", severity, (), detail, do)


def _by_name(
    who: NDArray[np.int64], truth: NDArray[np.int64], fold: NDArray[np.int64], num_names: int, num_labels: int
) -> tuple[float, float]:
    """UAR and accuracy of "the label that this name has most often in the other folds" (the commonest of all for a new name)."""
    counts = np.zeros((FOLDS, num_names, num_labels))
    np.add.at(counts, (fold, who, truth), 1)
    rest = counts.sum(axis=0) - counts  # [folds, names, labels]: what the other folds know
    commonest = rest.sum(axis=1).argmax(axis=1)  # [folds]
    guess = np.where(rest.sum(axis=2) > 0, rest.argmax(axis=2), commonest[:, None])
    right = guess[fold, who] == truth
    recall = np.bincount(truth, weights=right, minlength=num_labels) / np.bincount(truth, minlength=num_labels)
    return float(recall.mean()), float(right.mean())


def _first(counts: dict[str, float]) -> set[str]:
    most = max(counts.values(), default=0)
    return {name for name, count in counts.items() if count == most}


def _plain(text: str | None) -> str:
    return " ".join("".join(sign if sign.isalnum() else " " for sign in (text or "").casefold()).split())
