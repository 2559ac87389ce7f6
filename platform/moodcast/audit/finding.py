"""Finding: one thing that is wrong, or worth knowing, about some rows of a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# Kinds that let a model hear in training what it is scored on: `train` and `evaluate` refuse them.
SAME_SOUND = "same sound on two sides"
LEAKS = ("speaker on two sides", "dialogue on two sides", "recording on two sides", SAME_SOUND)


@dataclass(frozen=True)
class Finding:
    """kind names it in a few words, ids are the utterances concerned, detail says what was found, do says what to do about it.

    error: a score or a model made from these rows would be wrong. warning: look at it, some of it should go. note: good to know.
    """

    kind: str
    severity: Severity
    ids: tuple[str, ...]
    detail: str
    do: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `do` is called what_to_do there."""
        return {"kind": self.kind, "severity": self.severity, "ids": list(self.ids), "detail": self.detail, "what_to_do": self.do}


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; within these by kind."""
    return sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), found.kind, found.ids))


def some(names: Sequence[str], most: int = 6) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
