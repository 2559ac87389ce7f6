"""EMO-DB: German, acted, 535 clips of 10 sentences by 10 actors, seven emotions.

Source: Burkhardt, Paeschke, Rolfes, Sendlmeier, Weiss, "A Database of German Emotional Speech", Interspeech 2005. Terms: CC0 1.0 as
published by audEERING with the authors.

Layout: manifest.csv, audio/ and labels/lablaut (phone labels by hand, optional). Labels: `emotion` is the emotion the actor was asked
for; only clips that at least 16 of 20 listeners recognised were published. `phones` are the main segments of the label files.
Splits: there is no official one; leave one or two speakers out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moodcast.corpora._table import read_rows
from moodcast.manifest import Utterance

EMOTIONS = {
    "anger": "angry",
    "boredom": "boredom",
    "disgust": "disgust",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}


def prepare(source: Path) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder does not hold the corpus."""
    labels = source / "labels" / "lablaut"
    return [replace(row, phones=_phones(labels / f"{Path(row.path).stem}xx.lablaut")) for row in read_rows(source, "emodb", EMOTIONS)]


def _phones(path: Path) -> tuple[tuple[str, float, float], ...] | None:
    """(label, start_s, stop_s) of an xlabel file: below "#", each line has the time a segment ends, a colour, its label and +modifiers.

    A line of modifiers alone only marks how the phone before it ends, so it lengthens that one.
    """
    if not path.is_file():
        return None
    body = path.read_text(encoding="latin-1").partition("\n#\n")[2]
    phones: list[tuple[str, float, float]] = []
    start_s = 0.0
    for line in body.splitlines():
        time, *words = line.split() or [""]
        if not time:
            continue
        label = next((word for word in words[1:] if word[0] not in "+-"), "")
        if not label and phones:
            label, start_s, _ = phones.pop()
        phones.append((label, start_s, float(time)))
        start_s = float(time)
    return tuple(phones) or None
