"""A data set as the Hugging Face hub keeps audio: an audio folder with metadata.csv or metadata.jsonl, class folders, or Parquet files.

Source: huggingface.co/docs/datasets, "Create an audio dataset". Terms: as the data set's card says.

Layout: files below the folder, each named by file_name in the metadata.csv, .tsv or .jsonl of its folder; or without metadata, each in a
folder called by its class; or Parquet files with an audio column (their audio is unpacked). Labels: as the data set has them; emotion=,
speaker=, text= and language= name other columns, labels=THEIRS:OURS,... maps class names and numbers. Splits: the data set's, from the
folder or Parquet file (train, validation or dev, test); else ours, by speaker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moodcast.corpora._hub import SIDES, parquet_files, unpacked
from moodcast.corpora._rules import Rule
from moodcast.corpora._table import canonical, first, gender, inside, mapping, number, read_csv, recordings_below
from moodcast.manifest import Utterance
from moodcast.texts import read_text

LABELS = "as the data set"
EMOTIONS: dict[str, str] = {}
RULES: tuple[Rule, ...] = ()


def prepare(
    source: Path,
    *,
    corpus: str | None = None,
    emotion: str = "emotion",
    speaker: str = "speaker",
    text: str = "text",
    language: str = "language",
    labels: str | None = None,
    unpack: Path | None = None,
) -> list[Utterance]:
    """One row a recording. Raises ValueError for a folder that is no data set, a file that is missing, or an unknown label."""
    if not source.is_dir():
        raise ValueError(f"{source} is missing; wanted the folder of the corpus, a data set of the Hugging Face hub")
    name = corpus or source.absolute().name
    names = mapping(labels)
    rows = []
    for record, path, within in _records(source, unpack, name):
        rows.append(
            Utterance(
                id=f"{name}/{within}",
                path=str(path.absolute()),
                corpus=name,
                language=first(record, (language, "lang")),
                speaker=first(record, (speaker, "speaker_id", "spk")),
                group=first(record, ("group", "dialogue", "session")),
                gender=gender(first(record, ("gender", "sex"))),
                age=number(record.get("age")),
                split=SIDES.get(str(record.get("split") or "").lower()),
                emotion=canonical(first(record, (emotion, "label")), names),
                text=first(record, (text, "transcription", "transcript", "sentence", "raw_text")),
            )
        )
    return rows


def _records(source: Path, unpack: Path | None, name: str) -> Iterator[tuple[Mapping[str, Any], Path, str]]:
    """(what is known, file, its name within the data set) of every recording."""
    tables = sorted(path for kind in ("csv", "tsv", "jsonl") for path in source.rglob(f"metadata.{kind}"))
    if tables:
        for table in tables:
            for record in _metadata(table):
                path = inside(source, table.parent, str(record["file_name"]))
                if not path.is_file():
                    raise ValueError(f"{table} names {record['file_name']}, which is not there")
                within = path.relative_to(source)
                yield {"split": _side(within), **record}, path, within.as_posix()
    elif files := parquet_files(source):
        for number_, (record, path) in enumerate(unpacked(source, files, unpack, name)):
            yield record, path, str(record.get("file_id") or record.get("id") or record.get("file") or f"{record['split']}-{number_}")
    else:
        for path in recordings_below(source):
            within = path.relative_to(source)
            label = within.parent.name if within.parent.name.lower() not in SIDES else ""
            yield {"split": _side(within), "label": label}, path, within.as_posix()


def _metadata(table: Path) -> list[dict[str, Any]]:
    if table.suffix != ".jsonl":
        return list(read_csv(table, ("file_name",), "\t" if table.suffix == ".tsv" else ","))
    lines = read_text(table).split("\n")
    try:
        found = [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise ValueError(f"{table} is not JSONL ({error})") from None
    if bad := next(
        (number_ for number_, record in enumerate(found, start=1) if not isinstance(record, dict) or "file_name" not in record), None
    ):
        raise ValueError(f"line {bad} of {table} has no file_name")
    return found


def _side(within: Path) -> str | None:
    """The first folder that is called like a split."""
    return next((part for part in within.parts[:-1] if part.lower() in SIDES), None)
