"""What can be known from the sound: unreadable, silent, short, clipped and cut recordings, and the same sound under several names.

Pure functions of rows and their facts, both [N] in one order. What many recordings of a corpus share is one finding with all their ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from moodcast.audit import likeness
from moodcast.audit.facts import MISSING, Facts
from moodcast.audit.finding import SAME_SOUND, Finding, Severity, some
from moodcast.audit.likeness import Alike
from moodcast.manifest import Utterance

SILENT_DB = -70.0  # dBFS, the loudest frames: below it nothing can be judged
SHORT_S = 0.5
CLIPPED = 1e-3  # share of samples at full scale: 16 a second
CUT_DB = 6.0  # the first or last 50 ms are this close to the loudest frames
CLEAR_DB = 20.0  # of a recording whose loud frames stand out of its quiet ones by so much
FLAT_DB = 8.0  # loud frames that stand out less are hardly above the noise
LENGTH_S = 0.1  # a length may differ from the table's by so much
ZEROS_S = 0.5
MOST_OF = 0.8  # of the shorter recording shared: near-identical; less: a shared stretch
HALF_OF = 0.5  # of it shared: a leak where they stand on two sides; less may be a jingle
ANOTHER_FORM = "in another form or by half, as moodcast audit found"


Pair = tuple[int, int, Alike, float]  # two rows, what they share, and which part of the shorter one that is


def shared_sound(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Pair]:
    """Pairs of recordings that share sound without being the same samples."""
    heard = [i for i, fact in enumerate(facts) if fact.error is None and fact.loud_db >= SILENT_DB]
    prints = [facts[i].sound for i in heard]
    found = []
    for match in likeness.find([item for item in prints if item is not None]):
        first, second = heard[match.first], heard[match.second]
        a, b = facts[first], facts[second]
        if a.fingerprint != b.fingerprint and rows[first].path != rows[second].path:
            found.append((first, second, match, match.seconds / min(a.seconds, b.seconds)))
    return found


def sound_findings(rows: Sequence[Utterance], facts: Sequence[Facts], shared: Iterable[Pair]) -> list[Finding]:
    """Everything below."""
    readable = [i for i, fact in enumerate(facts) if fact.error is None]
    heard = [i for i in readable if facts[i].loud_db >= SILENT_DB]
    return [
        *unreadable(rows, facts),
        *silent([rows[i] for i in readable], [facts[i] for i in readable]),
        *quality([rows[i] for i in heard], [facts[i] for i in heard]),
        *lengths([rows[i] for i in readable], [facts[i] for i in readable]),
        *voices([rows[i] for i in heard], [facts[i] for i in heard]),
        *identical([rows[i] for i in heard], [facts[i].fingerprint for i in heard]),
        *near_identical(rows, facts, shared),
    ]


def unreadable(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Finding]:
    """Recordings that cannot be decoded, cut-off files among them; and those that are not there, one finding a corpus."""
    found = [
        Finding("unreadable", "error", (row.id,), _named(row.path, fact.error), "get the file again, or take the row out")
        for row, fact in zip(rows, facts, strict=True)
        if fact.error not in (None, MISSING)
    ]
    for corpus, members in _by(rows, lambda row: row.corpus).items():
        if gone := [rows[i] for i in members if facts[i].error == MISSING]:
            files, lost = ({row.path for row in some} for some in ([rows[i] for i in members], gone))
            detail = f"{corpus}: {len(lost)} of {len(files)} recordings are missing or cannot be opened, the first is {gone[0].path}"
            do = "get the files, or let the manifest name them where they lie; else take the rows out"
            found.append(Finding("missing", "error", tuple(row.id for row in gone), detail, do))
    return found


def _named(path: str, error: str | None) -> str:
    return str(error) if str(error).startswith(path) else f"{path}: {error}"


def silent(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Finding]:
    """Recordings in which nothing is heard; with a label, that is an error."""
    return [
        Finding(
            "silent",
            "error" if row.emotion or row.votes or row.attributes else "warning",
            (row.id,),
            f"loudest frames {fact.loud_db:.0f} dBFS over {fact.seconds:.2f} s" + (f", labelled {row.emotion}" if row.emotion else ""),
            "take it out: there is nothing to learn from and nothing to score",
        )
        for row, fact in zip(rows, facts, strict=True)
        if fact.loud_db < SILENT_DB
    ]


def quality(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Finding]:
    """Short, clipped, cut and noisy recordings, one finding a corpus and kind."""
    kinds: list[tuple[str, Severity, Callable[[Facts], bool], Callable[[Facts], float], str, str]] = [
        (
            "too short",
            "warning",
            lambda fact: fact.seconds < SHORT_S,
            lambda fact: -fact.seconds,
            f"under {SHORT_S} s",
            "listen; take out what holds no word, a label of it means little",
        ),
        (
            "clipped",
            "warning",
            lambda fact: fact.clipped > CLIPPED,
            lambda fact: fact.clipped,
            f"more than {100 * CLIPPED:g} % of samples at full scale",
            "where one class is clipped more than others, level and clipping tell the class; train with changes of gain",
        ),
        (
            "cut at its start",
            "note",
            lambda fact: _cut(fact.start_db, fact),
            lambda fact: fact.start_db - fact.loud_db,
            f"the first 50 ms within {CUT_DB:g} dB of the loudest frames: speech begins before the recording",
            "nothing, unless words must be whole",
        ),
        (
            "cut at its end",
            "note",
            lambda fact: _cut(fact.stop_db, fact),
            lambda fact: fact.stop_db - fact.loud_db,
            f"the last 50 ms within {CUT_DB:g} dB of the loudest frames: speech goes on after the recording",
            "nothing, unless words must be whole",
        ),
        (
            "hardly above its noise",
            "note",
            lambda fact: fact.loud_db - fact.quiet_db < FLAT_DB,
            lambda fact: fact.quiet_db - fact.loud_db,
            f"loud frames less than {FLAT_DB:g} dB above quiet ones",
            "listen; noise or a hum may be what the label is read from",
        ),
        (
            "digital silence",
            "note",
            lambda fact: fact.zeros_s > ZEROS_S,
            lambda fact: fact.zeros_s,
            f"more than {ZEROS_S} s of exact zeros",
            "it was edited: trim it, or add noise in training, lest its place or length tell the class",
        ),
    ]
    found = []
    for corpus, members in _by(rows, lambda row: row.corpus).items():
        for kind, severity, is_so, badness, what, do in kinds:
            hit = sorted((i for i in members if is_so(facts[i])), key=lambda i: (-badness(facts[i]), rows[i].id))
            if hit:
                detail = f"{corpus}: {len(hit)} of {len(members)} recordings, {what}; worst first"
                found.append(Finding(kind, severity, tuple(rows[i].id for i in hit), detail + _by_class(rows, hit, members), do))
    return found


def lengths(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Finding]:
    """Recordings that are shorter (truncated) or longer than the manifest says."""
    found = []
    for row, fact in zip(rows, facts, strict=True):
        if row.duration_s is None or row.stop_s is not None or row.start_s > 0 or abs(fact.seconds - row.duration_s) <= LENGTH_S:
            continue
        detail = f"{fact.seconds:.2f} s of sound, {row.duration_s:.2f} s in the manifest"
        if fact.seconds < row.duration_s:
            found.append(Finding("truncated", "error", (row.id,), detail, "get the file again"))
        else:
            do = "correct duration_s, or look whether the file is another one"
            found.append(Finding("longer than its table says", "warning", (row.id,), detail, do))
    for row, fact in zip(rows, facts, strict=True):
        last_s = max((stop_s for spans in (row.words, row.phones) for _, _, stop_s in spans or ()), default=0.0)
        if last_s > row.start_s + fact.seconds + LENGTH_S:
            detail = f"the last label ends at {last_s:.2f} s, the recording at {row.start_s + fact.seconds:.2f} s"
            found.append(
                Finding("labels beyond the end", "warning", (row.id,), detail, "look whether the label file is of another recording")
            )
    return found


def voices(rows: Sequence[Utterance], facts: Sequence[Facts]) -> list[Finding]:
    """Speakers whose pitch lies beyond the middle of the other gender of their corpus: a table may have gender or speakers mixed up."""
    found = []
    for corpus, members in _by(rows, lambda row: row.corpus).items():
        pitch = {
            name: (rows[members[own[0]]].gender, float(np.median(values)), own)
            for name, own in _by([rows[i] for i in members], lambda row: row.speaker or "").items()
            if name and len(values := [value for i in own if (value := facts[members[i]].pitch_hz)]) >= 5
        }
        middle = {gender: [hz for other, hz, _ in pitch.values() if other == gender] for gender in ("female", "male")}
        if min(map(len, middle.values())) < 3:
            continue
        female, male = float(np.median(middle["female"])), float(np.median(middle["male"]))
        for name, (gender, hz, own) in sorted(pitch.items()):
            if (gender == "male" and hz >= female) or (gender == "female" and hz <= male):
                detail = f"{corpus}/{name}: {gender}, median pitch {hz:.0f} Hz; medians here: female {female:.0f}, male {male:.0f} Hz"
                do = "listen; loud or high voices exist, mixed-up tables too"
                found.append(Finding("pitch unlike its gender", "note", tuple(rows[members[i]].id for i in own), detail, do))
    return found


def identical(rows: Sequence[Utterance], fingerprints: Sequence[str]) -> list[Finding]:
    """The same samples under several ids; fingerprints as `audio.fingerprint` gives them, so another name or format hides nothing."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, mark in enumerate(fingerprints):
        groups[mark].append(i)
    return [_same("identical", "the same samples", [rows[i] for i in own]) for own in groups.values() if len(own) > 1]


def near_identical(rows: Sequence[Utterance], facts: Sequence[Facts], shared: Iterable[Pair]) -> list[Finding]:
    """Pairs that share sound without being the same samples: copies through a codec, other cuts of one take, overlapping turns."""
    found = []
    for first, second, match, share in shared:
        a, b = facts[first], facts[second]
        name = "near-identical" if share >= MOST_OF else "shared stretch"
        detail = (
            f"{match.seconds:.2f} s of the same sound: from {match.first_s:.2f} s of {a.seconds:.2f} s, and from {match.second_s:.2f} s of "
            f"{b.seconds:.2f} s ({100 * match.differ:.0f} % of fingerprint bits differ)"
        )
        found.append(_same(name, detail, [rows[first], rows[second]], leak=share >= HALF_OF))
    return found


def noted(rows: Sequence[Utterance], pairs: Iterable[tuple[int, int]]) -> list[Finding]:
    """Pairs of rows of which an earlier audit has heard what `near_identical` says of half of one and more."""
    return [_same("near-identical", ANOTHER_FORM, [rows[first], rows[second]]) for first, second in pairs]


def _same(name: str, detail: str, own: Sequence[Utterance], leak: bool = True) -> Finding:
    """The finding about utterances that share sound: what differs between them decides what it is called and how bad it is."""
    ids = tuple(row.id for row in own)
    labels = sorted({row.emotion or "unlabelled" for row in own})
    speakers = sorted({row.corpus_speaker for row in own if row.speaker is not None})
    sides = sorted({row.split for row in own if row.split is not None})
    groups = {row.corpus_group for row in own}
    who = f"; labels: {', '.join(labels)}; speakers: {some(speakers) or 'unknown'}"
    if len(sides) > 1:
        do = "keep one of them, or give them one group and split again"
        detail = f"{name}: {detail}; in {', '.join(sides)}{who}"
        if leak:
            return Finding(SAME_SOUND, "error", ids, detail, do)
        return Finding(f"{name} on two sides", "warning", ids, detail, do)
    if len({row.emotion for row in own}) > 1:
        severity: Severity = "error" if name != "shared stretch" else "warning"
        do = "at most one label is right: take out both, or trim what is shared"
        return Finding(f"{name}, different labels", severity, ids, detail + who, do)
    if len(speakers) > 1:
        severity = "warning" if len(groups) == 1 else "error"
        do = "one person has two names: give the rows one group, so that a split keeps them together"
        return Finding(f"{name}, two speakers", severity, ids, detail + who, do)
    do = "keep one: it counts twice" if name != "shared stretch" else "nothing, if they stay on one side; trim what is shared"
    return Finding(f"{name}, one label", "warning" if name != "shared stretch" else "note", ids, detail + who, do)


def _cut(edge_db: float, fact: Facts) -> bool:
    """Whether speech runs over an edge of a recording that is otherwise clear."""
    return edge_db > fact.loud_db - CUT_DB and fact.loud_db - fact.quiet_db > CLEAR_DB


def _by(rows: Sequence[Utterance], key: Callable[[Utterance], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[key(row)].append(i)
    return dict(sorted(groups.items()))


def _by_class(rows: Sequence[Utterance], hit: Sequence[int], members: Sequence[int]) -> str:
    """The class that has most of the hits, where it has far more than its share."""
    labels = [rows[i].emotion for i in members]
    best = max({rows[i].emotion for i in hit}, key=lambda name: (sum(rows[i].emotion == name for i in hit), name or ""))
    part, share = sum(rows[i].emotion == best for i in hit) / len(hit), labels.count(best) / len(labels)
    return f"; {100 * part:.0f} % of them {best} ({100 * share:.0f} % of all)" if best and len(hit) >= 10 and part > 2 * share else ""
