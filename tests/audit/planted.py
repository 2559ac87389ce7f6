"""Defects planted among rows with which nothing is wrong, and how the tests find what an audit says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from moodcast.audit import Finding, keep_copies
from moodcast.audit.facts import facts_of
from moodcast.manifest import Utterance

Wave = NDArray[np.float32]
CLASSES = ("angry", "happy", "neutral", "sad")


def faded(wave: Wave) -> Wave:
    """Nothing begins or ends in the middle of a word."""
    ramp = np.minimum(1, np.arange(len(wave)) / 3_200)
    return (wave * ramp * ramp[::-1]).astype(np.float32)


def with_wave(row: Utterance, name: str, wave: Wave, rate: int = 16_000) -> Utterance:
    """The row with another sound, in a file `name` beside its own, which is also its id."""
    path = Path(row.path).with_name(name)
    soundfile.write(path, wave, rate, subtype="OPUS" if path.suffix == ".ogg" else None)
    return replace(row, id=name, path=str(path))


def note_copies(one: Utterance, other: Utterance, root: Path | None = None) -> None:
    """As an audit does that has heard both and finds them alike."""
    a, b = facts_of([one, other], root)
    keep_copies([(a.fingerprint, b.fingerprint)], root)


def kinds(findings: Sequence[Finding], severity: str | None = None) -> set[str]:
    """What was found, by kind."""
    return {item.kind for item in findings if severity in (None, item.severity)}


def of(findings: Sequence[Finding], kind: str) -> Finding:
    """The one finding of a kind."""
    (found,) = [item for item in findings if item.kind == kind]
    return found
