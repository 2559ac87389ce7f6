"""A database in audformat: db.yaml and its tables as CSV or Parquet.

Source: audeering.github.io/audformat. Terms: as the header of the database says.

Layout: the folder with db.yaml, db.TABLE.csv or db.TABLE.parquet, and the media files. tables=A,B chooses tables (default: those with a
column of emotions), emotion=COLUMN and speaker=COLUMN columns (default: emotion or the like, speaker or the like). What tables of whole
files say of speaker and text is joined. Labels: as the database says in its header; labels=THEIRS:OURS,... maps its names. Gender, age
and language come from columns or from the labels of the speaker's scheme. Splits: the database's, from the split of a table's header
(train, dev and test); else ours, by speaker.

Pickled tables and headers with Python objects in them are never opened: the library itself reads both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]

from moodcast.corpora._rules import Rule
from moodcast.corpora._table import canonical, first, gender, inside, mapping, number, read_csv, seconds
from moodcast.manifest import Utterance
from moodcast.texts import read_text

LABELS = "as the database"
EMOTIONS: dict[str, str] = {}
EMOTION_COLUMNS = ("emotion", "emotion.categories", "emotion.categories.gold", "label", "category")
SPEAKER_COLUMNS = ("speaker", "speaker_id", "speaker.id")
ABOUT_FILES = (*SPEAKER_COLUMNS, "gender", "sex", "age", "language", "transcription", "transcript", "text")
TIME = re.compile(r"(?:(\d+) days?(?: |$))?(?:(\d+):(\d+):(\d+(?:\.\d+)?))?")
RULES: tuple[Rule, ...] = ()


def prepare(
    source: Path,
    *,
    tables: str | None = None,
    emotion: str | None = None,
    speaker: str | None = None,
    labels: str | None = None,
    corpus: str | None = None,
) -> list[Utterance]:
    """One row a segment or file of each table. Raises ValueError for a header or a table that cannot be read, or an unknown label."""
    header = _header(source / "db.yaml")
    known = header.get("tables") or {}
    if not isinstance(known, dict) or not all(
        isinstance(about, dict) and isinstance(about.get("columns") or {}, dict) for about in known.values()
    ):
        raise ValueError(f"{source / 'db.yaml'} says of its tables what is no header of audformat; wanted names with columns by name")
    for part in ("splits", "schemes"):
        said = header.get(part) or {}
        if not isinstance(said, dict) or not all(about is None or isinstance(about, dict) for about in said.values()):
            raise ValueError(f"{source / 'db.yaml'} says of its {part} what is no header of audformat; wanted names with fields by name")
    columns = (emotion,) if emotion else EMOTION_COLUMNS
    chosen = tables.split(",") if tables else [name for name, table in known.items() if set(table.get("columns") or {}) & set(columns)]
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"{source / 'db.yaml'} has no table {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if not chosen:
        raise ValueError(
            f"no table of {source} has a column {' or '.join(columns)}; name it with emotion=COLUMN, or tables with tables=NAME"
        )
    name = corpus or str(header.get("name") or source.absolute().name)
    files = _files(source, known, chosen)
    rows: dict[str, Utterance] = {}
    for table in chosen:
        about = known[table]
        split = _split(header, about)
        for number_of, record in enumerate(_records(source, table), start=1):
            record = {**files.get(str(record["file"]), {}), **record}
            whose = (speaker,) if speaker else SPEAKER_COLUMNS
            try:
                row = _row(record, source, name, split, columns, whose, mapping(labels), header, about)
            except ValueError as error:
                raise ValueError(f"row {number_of} of the table {table}: {error}") from None
            if row.id in rows:
                raise ValueError(f"{row.id} stands twice in the tables {', '.join(chosen)}; choose among them with tables=NAME")
            rows[row.id] = row
    return list(rows.values())


def _row(
    record: Mapping[str, Any],
    source: Path,
    corpus: str,
    split: str | None,
    emotions: tuple[str, ...],
    speakers: tuple[str, ...],
    names: Mapping[str, str],
    header: Mapping[str, Any],
    table: Mapping[str, Any],
) -> Utterance:
    file = str(record["file"])
    start_s, stop_s = _seconds(record.get("start")) or 0.0, _seconds(record.get("end"))
    span = f"#{start_s:g}-{'' if stop_s is None else f'{stop_s:g}'}" if record.get("start") is not None else ""
    who = first(record, speakers)
    person = {**_person(header, table, speakers, who), **{key: value for key, value in record.items() if value is not None}}
    return Utterance(
        id=f"{corpus}/{file}{span}",
        path=str(inside(source, source, file).absolute()),
        start_s=start_s,
        stop_s=stop_s,
        corpus=corpus,
        language=first(person, ("language",)) or next(iter(header.get("languages") or []), None),
        speaker=who,
        gender=gender(first(person, ("gender", "sex"))),
        age=number(person.get("age")),
        split=split,
        emotion=canonical(first(record, emotions), names),
        text=first(person, ("transcription", "text", "transcript")),
    )


def _files(source: Path, known: Mapping[str, Any], chosen: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the tables of whole files that were not chosen say of each file: often speaker and text stand in one of their own."""
    found: dict[str, dict[str, Any]] = {}
    for table, about in known.items():
        if table not in chosen and about.get("type") == "filewise" and set(about.get("columns") or {}) & set(ABOUT_FILES):
            for record in _records(source, table):
                kept = {name: record[name] for name in ABOUT_FILES if record.get(name) not in (None, "")}
                found.setdefault(str(record["file"]), {}).update(kept)
    return found


def _person(header: Mapping[str, Any], table: Mapping[str, Any], speakers: tuple[str, ...], who: str | None) -> dict[str, Any]:
    """What the labels of the speaker column's scheme say of a speaker."""
    columns = {name: column for each in (header.get("tables") or {}).values() for name, column in (each.get("columns") or {}).items()}
    columns |= table.get("columns") or {}
    scheme = next((columns[name].get("scheme_id") for name in speakers if name in columns), None)
    found = ((header.get("schemes") or {}).get(scheme) or {}).get("labels") or {}
    if not isinstance(found, dict) or who is None:
        return {}
    about = next((value for key, value in found.items() if str(key) == who), None)
    return dict(about) if isinstance(about, dict) else {}


def _split(header: Mapping[str, Any], table: Mapping[str, Any]) -> str | None:
    split = (header.get("splits") or {}).get(table.get("split_id")) or {}
    kind = str(split.get("type") or table.get("split_id") or "").lower()
    return {"train": "train", "dev": "dev", "develop": "dev", "devel": "dev", "test": "test"}.get(kind)


def _header(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; wanted the folder of the corpus, with db.yaml in it, got {path.parent}")
    try:
        header = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no plain YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} holds no header of audformat")
    return header


def _records(source: Path, table: str) -> Iterator[dict[str, Any]]:
    if Path(table).name != table:
        raise ValueError(f"{source / 'db.yaml'} has a table {table!r}, which is no name of one; take an unchanged copy of the database")
    base = source / f"db.{table}"
    if (path := base.with_name(base.name + ".parquet")).is_file():
        yield from pq.read_table(path).to_pylist()
    elif (path := base.with_name(base.name + ".csv")).is_file():
        yield from read_csv(path, ("file",))
    else:
        raise ValueError(f"{base}.csv and .parquet are missing; save the tables as one of them (pickled ones are not opened)")


def _seconds(value: Any) -> float | None:
    """A time as "0 days 00:00:01.5" or "0 days" (pandas, where all of a column are), as a timedelta, or as seconds; None for none and
    NaT. Raises ValueError for another word.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = str(value or "").strip()
    if text and (found := TIME.fullmatch(text)):
        days, hours, minutes, rest = (float(part or 0) for part in found.groups())
        return days * 86_400 + hours * 3_600 + minutes * 60 + rest
    return seconds(text)
