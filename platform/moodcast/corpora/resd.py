"""RESD: Russian, acted dialogues of about three minutes between two actors, each keeping one emotion; seven emotions, text.

Source: Amentes, Lubenets, Davidchuk, "Russian Emotional Speech Dialogs", Aniemore, 2022; huggingface.co/datasets/Aniemore/resd_annotated.
Terms: MIT.

Layout: train.csv and test.csv (name, path, emotion, text) with folders train/ and test/; Parquet files as on the Hugging Face hub (their
audio is unpacked); or manifest.csv and audio/. Labels: intended: `emotion` is the emotion the actor was asked for. Splits: the published
one cuts through every dialogue and is not taken; `group` is the dialogue, so that ours is dialogue-disjoint. It is not
speaker-disjoint: actors return in other dialogues without a published identity, and `speaker` is a role (dlgNN_x), which gives its
emotion away completely: never normalise by it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from moodcast.corpora._hub import parquet_files, unpacked
from moodcast.corpora._rules import Rule
from moodcast.corpora._table import has_manifest, read_csv, read_rows
from moodcast.manifest import Utterance

LABELS = "intended"
EMOTIONS = {
    "anger": "angry",
    "disgust": "disgust",
    "enthusiasm": "enthusiasm",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}
NAME = re.compile(r"(\d+)_[a-z]+_[a-z]+[_ ]([a-z])_\d+")  # dialogue, first letter of the role's emotion; some names hold a space
RULES: tuple[Rule, ...] = (
    Rule("one word cut off", ("resd/17_neutral_disgust_n_010",), "0.37 s, half a word of greeting: no label can be heard in it"),
    Rule(
        "a turn contained in the next",
        ("resd/31_fear_enthusiasm_f_060",),
        "all of it is heard again at the beginning of 31_fear_enthusiasm_f_070, which is kept",
    ),
    Rule(
        "a turn told twice",
        ("resd/32_happiness_enthusiasm_h_080",),
        "all of it is heard again at the beginning of 32_happiness_enthusiasm_h_090, which is kept",
    ),
    Rule(
        "the other role at the beginning",
        ("resd/11_anger_disgust_d_150",),
        "its first 2.0 s are the end of 11_anger_disgust_a_150, where the other role still speaks",
        change={"start_s": 2.0, "text": "Какой тебе велосипед?"},
    ),
)


def prepare(source: Path, *, unpack: Path | None = None) -> list[Utterance]:
    """One row a turn. Raises ValueError where the folder does not hold the corpus."""
    if has_manifest(source):
        rows = read_rows(source, "resd", EMOTIONS)
    elif files := parquet_files(source):
        rows = [_row(record, path) for record, path in unpacked(source, files, unpack, "resd")]
    else:
        rows = _owner(source)
    return [replace(row, group=(row.speaker or row.id).partition("_")[0]) for row in rows]


def _owner(source: Path) -> list[Utterance]:
    tables = [source / name for name in ("train.csv", "test.csv") if (source / name).is_file()]
    if not tables:
        raise ValueError(f"{source / 'manifest.csv'} is missing; wanted the folder of the corpus: that, or train.csv and test.csv")
    rows = []
    for table in tables:
        for record in read_csv(table, ("name", "path", "emotion", "text")):
            places = (source / table.stem / record["path"], source / record["path"])
            path = next((place for place in places if place.is_file()), None)
            if path is None:
                raise ValueError(f"{table} names {record['path']}, which is not there; take the complete corpus")
            rows.append(_row(record, path))
    return rows


def _row(record: dict[str, str], path: Path) -> Utterance:
    turn = Path(str(record.get("name") or record.get("path") or path.stem)).name.removesuffix(".wav")
    emotion, name = str(record.get("emotion")), NAME.fullmatch(turn)
    if name is None or emotion not in EMOTIONS:
        raise ValueError(f"{turn} labelled {emotion!r} is no turn of RESD: wanted names like 01_happiness_anger_a_010")
    return Utterance(
        id=f"resd/{turn.replace(' ', '_')}",
        path=str(path.absolute()),
        corpus="resd",
        language="ru",
        speaker=f"dlg{name[1]}_{name[2]}",
        emotion=EMOTIONS[emotion],
        text=record.get("text") or None,
    )
