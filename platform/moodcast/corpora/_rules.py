"""Rule: what `prepare` drops or mends of a corpus, by name and with its reason, so that nobody has to find a known defect again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moodcast.manifest import Utterance


@dataclass(frozen=True)
class Rule:
    """Rows named by `ids` are dropped, or mended by `change` (fields of `Utterance` and their values)."""

    name: str
    ids: tuple[str, ...]
    why: str
    change: Mapping[str, Any] | None = None

    @property
    def does(self) -> str:
        """What it does, in words."""
        if self.change is None:
            return "drops"
        return ", ".join(f"empties {name}" if value is None else f"sets {name}={value}" for name, value in self.change.items())


def applied(rows: Sequence[Utterance], rules: Sequence[Rule]) -> tuple[list[Utterance], list[Rule]]:
    """The rows after all rules, and the rules that met rows, each with the ids that it met.

    Rows that share an id all stay, so that whoever writes them sees it; none is lost on the way.
    """
    met, kept = [], list(rows)
    for rule in rules:
        wanted = set(rule.ids) & {row.id for row in kept}
        if not wanted:
            continue
        met.append(replace(rule, ids=tuple(name for name in rule.ids if name in wanted)))
        if rule.change is None:
            kept = [row for row in kept if row.id not in wanted]
        else:
            kept = [replace(row, **rule.change) if row.id in wanted else row for row in kept]
    return kept, met
