"""URDU-Dataset: Urdu, natural speech from television talk shows, 400 clips, four emotions, 29 speakers by the file names.

Source: Latif, Qayyum, Usman, Qadir, "Cross Lingual Speech Emotion Recognition: Urdu vs. Western Languages", FIT 2018, arXiv:1812.10411;
github.com/siddiquelatif/URDU-Dataset. Terms: research use only.

Layout: the owner's Angry/, Happy/, Neutral/ and Sad/ with files like SM1_F10_A010.wav; or manifest.csv and audio/. Labels: voted:
`emotion` is what annotators agreed on; their votes are not published. Splits: there is no official one; ours is by speaker. 26 of the 29
speakers have one emotion only, so that a speaker's name gives it away: never normalise by speaker, and take the corpus as a target or a
test set.
"""

from __future__ import annotations

import re
from pathlib import Path

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import has_manifest, read_rows, recordings
from moodcast.manifest import Utterance

LABELS = "voted"
EMOTIONS = {"angry": "angry", "happy": "happy", "neutral": "neutral", "sad": "sad"}
CODES = {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"}
NAME = re.compile(r"S([MF])(\d+)_F\d+_([AHNS])\d+")
RULES: tuple[Rule, ...] = (
    Rule(
        "a clip contained in another",
        ("urdu/SF6_F5_H029", "urdu/SM24_F15_S027", "urdu/SM25_F9_S059"),
        "all of them is heard in SF6_F10_H034, SM24_F14_S026 and SM25_F8_S058, which are kept",
    ),
    Rule(
        "one voice under two names",
        tuple(f"urdu/SF1_F{n}_H0{n}" for n in range(1, 5)) + tuple(f"urdu/SF4_F{n}_H0{n + 16}" for n in range(1, 5)),
        "SF1_F4_H04 is heard again in SF4_F3_H019 and SF4_F4_H020: one group, so that a split keeps SF1 and SF4 together",
        change={"group": "SF1+SF4"},
    ),
)


def prepare(source: Path) -> list[Utterance]:
    """One row a clip. Raises ValueError where the folder does not hold the corpus."""
    if has_manifest(source):
        return read_rows(source, "urdu", EMOTIONS)
    rows = []
    for path in recordings(source, "Angry/, Happy/, Neutral/ and Sad/ with files like SM1_F10_A010.wav"):
        if not (name := NAME.fullmatch(path.stem)):
            raise ValueError(f"{path.name} is no clip of the URDU-Dataset: wanted names like SM1_F10_A010.wav")
        gender, speaker, emotion = name.groups()
        rows.append(
            Utterance(
                id=f"urdu/{path.stem}",
                path=str(path.absolute()),
                corpus="urdu",
                language="ur",
                speaker=f"S{gender}{speaker}",
                gender="male" if gender == "M" else "female",
                emotion=CODES[emotion],
            )
        )
    return rows
