"""CREMA-D: English, acted, 7442 clips of 12 sentences by 91 actors, six emotions, judged by a crowd.

Source: Cao, Cooper, Keutmann, Gur, Nenkova, Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Trans. Affective
Computing 5(4):377-390, 2014. Terms: Open Database License 1.0, contents under the Database Contents License 1.0.

Layout: manifest.csv, VideoDemographics.csv, tabulatedVotes.csv and audio/. Labels: `emotion` is the emotion the actor was asked for;
`votes` are how often raters who only heard the voice chose each class (the two agree in 42 % of the clips, ties counted as wrong: say
which one you train on). Splits: there is no official one; use speaker-disjoint ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moodcast.corpora._table import read_csv, read_rows
from moodcast.manifest import Utterance

EMOTIONS = {"anger": "angry", "disgust": "disgust", "fear": "fear", "happy": "happy", "neutral": "neutral", "sad": "sad"}
VOTES = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
VOICE_ONLY = "1"  # rows of tabulatedVotes.csv numbered 1xxxxx: voice; 2xxxxx: face; 3xxxxx: both


def prepare(source: Path) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder lacks a table, or a table lacks a clip or an actor."""
    ages = {row["ActorID"]: float(row["Age"]) for row in read_csv(source / "VideoDemographics.csv", ("ActorID", "Age"))}
    votes = {
        row["fileName"]: {name: float(row[letter]) for letter, name in VOTES.items() if float(row[letter])}
        for row in read_csv(source / "tabulatedVotes.csv", ("", "fileName", *VOTES))
        if row[""].startswith(VOICE_ONLY)
    }
    rows = []
    for row in read_rows(source, "cremad", EMOTIONS):
        clip = row.id.removeprefix("cremad/")
        if clip not in votes or row.speaker not in ages:
            raise ValueError(f"{clip} by actor {row.speaker} has no voice votes or no demographics in {source}; take the complete tables")
        rows.append(replace(row, age=ages[row.speaker], votes=votes[clip]))
    return rows
