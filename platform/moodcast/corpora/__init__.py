"""Corpora: one module each, with `prepare(source) -> rows`. A new corpus is one file here; nothing else is edited.

Class names are canonical (CLASSES), so that corpora can be trained and scored together; every module states its label map.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from moodcast.manifest import Utterance

CLASSES = ("angry", "happy", "neutral", "sad", "fear", "disgust", "boredom", "enthusiasm", "surprise", "calm")


def names() -> tuple[str, ...]:
    """The corpora that `prepare` knows, in alphabetical order."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")))


def prepare(name: str, source: str | Path) -> list[Utterance]:
    """The rows of corpus `name`, whose files lie in the folder `source`; audio is not opened.

    Raises ValueError for a name that is not known, or a folder that does not hold the corpus.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no corpus '{name}'.{hint} Known: {', '.join(names())}")
    rows: list[Utterance] = importlib.import_module(f"moodcast.corpora.{name}").prepare(Path(source))
    return rows


def summary(rows: Sequence[Utterance]) -> str:
    """One line about rows: how many, how long, how many speakers, and which classes how often."""
    if not rows:
        return "no utterances"
    hours = sum(row.duration_s or 0.0 for row in rows) / 3600
    speakers = len({row.corpus_speaker for row in rows})
    counts = Counter(row.emotion or "unlabelled" for row in rows).most_common()
    return f"{len(rows)} utterances, {hours:.2f} h, {speakers} speakers: " + ", ".join(f"{name} {count}" for name, count in counts)
