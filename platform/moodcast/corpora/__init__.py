"""Corpora: one module each, with `prepare(source, **options) -> rows`. A new corpus is one file here; nothing else is edited.

A module's docstring states source, terms, layout, labels (and whether they are intended or voted) and the split convention; EMOTIONS is its
label map to the canonical classes (`moodcast.labels.CLASSES`), LABELS names the label source, and RULES what is dropped or mended. Keyword
arguments of its `prepare` are the options that a user may give.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from moodcast.corpora._rules import Rule, applied
from moodcast.labels import CLASSES
from moodcast.manifest import Utterance

__all__ = ["CLASSES", "Rule", "clean", "names", "options_of", "prepare", "read", "summary"]


def names() -> tuple[str, ...]:
    """The corpora that `prepare` knows, in alphabetical order."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def prepare(name: str, source: str | Path, options: Mapping[str, str] | None = None, unpack: Path | None = None) -> list[Utterance]:
    """The rows of corpus `name`, known defects dropped and mended: `read`, then `clean`."""
    return clean(name, read(name, source, options, unpack))[0]


def read(name: str, source: str | Path, options: Mapping[str, str] | None = None, unpack: Path | None = None) -> list[Utterance]:
    """All rows of corpus `name` as its files in `source` (a folder or a table) give them; audio is not opened.

    options: what the module's `prepare` takes beside the source. unpack: a folder for audio that lies inside Parquet files.
    Raises ValueError for a name or an option that is not known, or a source that does not hold the corpus.
    """
    known = options_of(name)
    for option in options or {}:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"{name} has no option '{option}'.{hint} Options: {', '.join(known) or 'none'}")
    function = _module(name).prepare
    given: dict[str, Any] = dict(options or {})
    if "unpack" in inspect.signature(function).parameters:
        given["unpack"] = unpack
    rows: list[Utterance] = function(Path(source), **given)
    return rows


def clean(name: str, rows: Sequence[Utterance]) -> tuple[list[Utterance], list[Rule]]:
    """The rows without what the corpus' RULES drop and with what they mend, and the rules that met rows."""
    return applied(rows, getattr(_module(name), "RULES", ()))


def options_of(name: str) -> tuple[str, ...]:
    """The options of a corpus, by name."""
    parameters = inspect.signature(_module(name).prepare).parameters.values()
    return tuple(item.name for item in parameters if item.kind is item.KEYWORD_ONLY and item.name != "unpack")


def summary(rows: Sequence[Utterance]) -> str:
    """One line about rows: how many, how long, how many speakers, and which classes how often."""
    if not rows:
        return "no utterances"
    hours = sum(row.duration_s or 0.0 for row in rows) / 3600
    speakers = len({row.corpus_speaker for row in rows})
    counts = Counter(row.emotion or "unlabelled" for row in rows).most_common()
    return f"{len(rows)} utterances, {hours:.2f} h, {speakers} speakers: " + ", ".join(f"{name} {count}" for name, count in counts)


def _module(name: str) -> ModuleType:
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no corpus '{name}'.{hint} Known: {', '.join(names())}")
    return importlib.import_module(f"moodcast.corpora.{name}")
