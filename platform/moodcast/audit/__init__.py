"""What is wrong with a manifest: leaks, giveaways, duplicates, silence, damage. `audit` hears everything, `table_findings` nothing.

A finding has a kind, a severity, the ids concerned, what was found and what to do. Nothing is changed: `moodcast prepare` drops and
mends by the rules that each corpus names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moodcast.audit.facts import Facts, copies_among, copies_of, facts_of, keep_copies
from moodcast.audit.finding import LEAKS, SAME_SOUND, SEVERITIES, Finding, in_order, some
from moodcast.audit.sound import ANOTHER_FORM, HALF_OF, identical, noted, shared_sound, sound_findings
from moodcast.audit.table import Giveaway, giveaways, split_leaks, table_findings
from moodcast.labels import CLASSES
from moodcast.manifest import Utterance

__all__ = [
    "ANOTHER_FORM",
    "LEAKS",
    "SAME_SOUND",
    "SEVERITIES",
    "Audit",
    "Facts",
    "Finding",
    "audit",
    "copies_among",
    "copies_of",
    "counts_of",
    "guard",
    "leaks_among",
    "remarks",
    "table_findings",
]


@dataclass(frozen=True)
class Audit:
    """What was found in `num_rows` rows lasting `hours`, worst first.

    counts as `counts_of`, classes as `classes_of`; giveaways: what names predict.
    """

    num_rows: int
    hours: float
    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, dict[str, int]]]
    classes: dict[str, dict[str, dict[str, int]]]
    giveaways: tuple[Giveaway, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not any(found.severity == "error" for found in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        totals = Counter(found.severity for found in self.findings)
        return {
            "rows": self.num_rows,
            "hours": round(self.hours, 3),
            "ok": self.ok,
            "totals": {name: totals[name] for name in SEVERITIES},
            "findings": [found.to_dict() for found in self.findings],
            "giveaways": [asdict(item) for item in self.giveaways],
            "counts": self.counts,
            "classes": self.classes,
        }


def audit(
    rows: Sequence[Utterance],
    classes: Sequence[str] = CLASSES,
    root: Path | None = None,
    processes: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Hear every row once (in parallel, kept on disk: see `facts_of`) and say what is wrong with them, together.

    classes: the labels that may occur. Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("there are no rows to audit; wanted at least one")
    facts = facts_of(rows, root, processes, progress)
    shared = shared_sound(rows, facts)
    keep_copies(((facts[a].fingerprint, facts[b].fingerprint) for a, b, _, share in shared if share >= HALF_OF), root)
    findings = in_order([*table_findings(rows, classes), *sound_findings(rows, facts, shared)])
    hours = sum(fact.seconds for fact in facts) / 3600
    return Audit(len(rows), hours, tuple(findings), counts_of(rows), classes_of(rows), tuple(giveaways(rows)))


def counts_of(rows: Sequence[Utterance]) -> dict[str, dict[str, dict[str, int]]]:
    """Utterances by corpus, then by what (emotion, language, gender, split), then by value; "?" where it is unknown."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for corpus in sorted({row.corpus for row in rows}):
        own = [row for row in rows if row.corpus == corpus]
        what = {name: Counter(getattr(row, name) or "?" for row in own) for name in ("emotion", "language", "gender", "split")}
        people = {"speakers": len({row.corpus_speaker for row in own}), "groups": len({row.corpus_group for row in own})}
        counts[corpus] = {**{name: dict(sorted(found.items())) for name, found in what.items()}, "people": people}
    return counts


def classes_of(rows: Sequence[Utterance]) -> dict[str, dict[str, dict[str, int]]]:
    """Utterances by corpus, language, gender and split ("?" where it is unknown), then by value, then by class, most first."""
    order = [name for name, _ in Counter(row.emotion or "unlabelled" for row in rows).most_common()]
    found: dict[str, dict[str, dict[str, int]]] = {}
    for what in ("corpus", "language", "gender", "split"):
        found[what] = {}
        for value in sorted({getattr(row, what) or "?" for row in rows}):
            counts = Counter(row.emotion or "unlabelled" for row in rows if (getattr(row, what) or "?") == value)
            found[what][value] = {name: counts[name] for name in order}
    return found


def leaks_among(rows: Sequence[Utterance], fingerprints: Sequence[str] | None = None, root: Path | None = None) -> list[Finding]:
    """What stands on two sides of the split: speakers, dialogues, recordings, copies that audits have found, the same samples.

    fingerprints: of each row [N], without which nothing is said of samples. root: where audits keep what they found. Nothing is decoded.
    """
    split = [row for row in rows if row.split is not None]
    same = [] if fingerprints is None else identical(rows, fingerprints)
    alike = noted(split, copies_among(split, root)) if len({row.split for row in split}) > 1 else []
    return split_leaks(rows) + [found for found in (*same, *alike) if found.kind in LEAKS]


def remarks(rows: Sequence[Utterance], classes: Sequence[str] = ()) -> tuple[str, ...]:
    """The warnings and errors of the cheap part, other than leaks, as one line each: what `train` and `evaluate` say in passing.

    classes: labels that are fine beside the common ones.
    """
    found = in_order(table_findings(rows, tuple(dict.fromkeys((*CLASSES, *classes)))))
    return tuple(f"{item.kind}: {item.detail}" for item in found if item.severity != "note" and item.kind not in LEAKS)


def guard(found: Sequence[Finding], allow: bool, how: str) -> tuple[str, ...]:
    """The leaks among findings as one sentence each, for whoever reads the score.

    allow: whether they were let through knowingly; how: the field or option that does so. Raises ValueError, naming them, without it.
    """
    leaking = [item for item in found if item.kind in LEAKS]
    if leaking and not allow:
        which = [f" ({some(item.ids)})" if item.kind == SAME_SOUND else "" for item in leaking]  # details of the others name them
        each = [f"{item.kind}: {item.detail}{ids}" for item, ids in zip(leaking, which, strict=True)]
        named = "; ".join(each[:12]) + (" and more" if len(leaking) > 12 else "")
        mend = f"To mend it, {leaking[0].do}; {how} lets them through, and every score says so"
        count = "a leak" if len(leaking) == 1 else f"{len(leaking)} leaks"
        raise ValueError(f"{count} between sides of the split: {named}. {mend}")
    by_kind: dict[str, list[str]] = {}
    for item in leaking:
        by_kind.setdefault(item.kind, []).append(item.detail.partition(":")[0] if "sound" not in item.kind else some(item.ids, 2))
    return tuple(
        f"leak let through: {kind}, {'once' if len(names) == 1 else f'{len(names)} times'} ({some(names)})"
        for kind, names in by_kind.items()
    )
