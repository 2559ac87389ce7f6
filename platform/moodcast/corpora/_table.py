"""What the corpora that come as a folder with manifest.csv share: its reading, with errors that name what is missing."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from moodcast.manifest import Utterance

_WANTED = ("path", "speaker", "gender", "language", "emotion", "duration_s", "text")


def read_csv(path: Path, wanted: tuple[str, ...]) -> list[dict[str, str]]:
    """The records of a CSV file. Raises ValueError where it is missing or lacks one of the columns `wanted`."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; wanted the folder of the corpus, with {path.name} in it, got {path.parent}")
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(reader.fieldnames or ()) or 'none'}")
        return list(reader)


def read_rows(source: Path, corpus: str, emotions: Mapping[str, str]) -> list[Utterance]:
    """The rows of source/manifest.csv, ids "corpus/file", emotions made canonical by the corpus' map.

    Raises ValueError where a label is not in the map or the file names repeat.
    """
    table = source / "manifest.csv"
    rows = []
    for number, record in enumerate(read_csv(table, _WANTED), start=1):
        label = record["emotion"]
        if label not in emotions:
            raise ValueError(f"row {number} of {table}: the label {label!r} is not one of {', '.join(emotions)}")
        rows.append(
            Utterance(
                id=f"{corpus}/{Path(record['path']).stem}",
                path=str((source / record["path"]).absolute()),
                corpus=corpus,
                language=record["language"] or None,
                speaker=record["speaker"] or None,
                gender=record["gender"] or None,
                emotion=emotions[label],
                text=record["text"] or None,
                duration_s=float(record["duration_s"]),
            )
        )
    if len({row.id for row in rows}) < len(rows):
        raise ValueError(f"{table} names files of the same name twice; wanted each file once")
    return rows
