"""RESD: Russian, acted dialogues of about three minutes between two actors, each keeping one emotion; seven emotions, text.

Source: Amentes, Lubenets, Davidchuk, "Russian Emotional Speech Dialogs", Aniemore, 2022. Terms: MIT.

Layout: manifest.csv and audio/{train,test}/NN_emotionA_emotionB/. Labels: `emotion` is the emotion the actor was asked for. Splits: the
published one cuts through every dialogue; here `group` is the dialogue, so that splits and folds are dialogue-disjoint. They are not
speaker-disjoint: actors return in other dialogues without a published identity, and `speaker` is a role (dlgNN_x), which gives its
emotion away completely: never normalise by it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moodcast.corpora._table import read_rows
from moodcast.manifest import Utterance

EMOTIONS = {
    "anger": "angry",
    "disgust": "disgust",
    "enthusiasm": "enthusiasm",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}


def prepare(source: Path) -> list[Utterance]:
    """One row a turn. Raises ValueError where the folder does not hold the corpus."""
    return [replace(row, group=(row.speaker or row.id).partition("_")[0]) for row in read_rows(source, "resd", EMOTIONS)]
