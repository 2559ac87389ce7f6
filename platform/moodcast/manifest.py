"""Utterance: one row of a manifest, a reference to audio and what is known about it; read, write and split manifests.

Parquet, JSONL and CSV hold the same columns, the fields of `Utterance`; in CSV, dictionaries and tuples are JSON and an empty cell is
unknown. Paths inside the manifest's folder are stored relative to it, so that a corpus can be moved with its manifest.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
import typing
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from moodcast.texts import open_csv, read_text
from moodcast.whole import whole, write_whole


@dataclass(frozen=True)
class Utterance:
    """A span of a recording and its labels. Audio is read late; whatever is unknown is None.

    Times are seconds within the file; stop_s None means to its end. `group` is what must stay on one side of a split beside the
    speaker: a dialogue or a session. `emotion` is a canonical class name (see corpora/), `votes` are the raters' counts by class name,
    `attributes` values in [0, 1] by name, `words` and `phones` (label, start_s, stop_s).
    """

    id: str
    path: str
    start_s: float = 0.0
    stop_s: float | None = None
    corpus: str = ""
    language: str | None = None
    speaker: str | None = None
    group: str | None = None
    gender: str | None = None
    age: float | None = None
    split: str | None = None
    emotion: str | None = None
    votes: dict[str, float] | None = None
    attributes: dict[str, float] | None = None
    text: str | None = None
    words: tuple[tuple[str, float, float], ...] | None = None
    phones: tuple[tuple[str, float, float], ...] | None = None
    trace: str | None = None
    video: str | None = None
    clean: str | None = None
    weight: float = 1.0
    duration_s: float | None = None

    @property
    def corpus_speaker(self) -> str:
        """The speaker's name across corpora: "cremad/1001"; an unknown speaker is its own recording."""
        return f"{self.corpus}/{self.speaker or self.id}"

    @property
    def corpus_group(self) -> str:
        """What a split may not cut: the dialogue or session where there is one, else the speaker."""
        return f"{self.corpus}/{self.group}" if self.group else self.corpus_speaker


_KINDS = typing.get_type_hints(Utterance)
_COLUMNS = tuple(field.name for field in fields(Utterance))
_PATHS = ("path", "trace", "video", "clean")
_NESTED = ("votes", "attributes", "words", "phones")
_ADAPTER = TypeAdapter(Utterance)
_SPANS = pa.list_(pa.struct([("label", pa.string()), ("start_s", pa.float64()), ("stop_s", pa.float64())]))
_ARROW = {"votes": pa.map_(pa.string(), pa.float64()), "attributes": pa.map_(pa.string(), pa.float64()), "words": _SPANS, "phones": _SPANS}
_NUMBERS = ("start_s", "stop_s", "age", "weight", "duration_s")
_SCHEMA = pa.schema([(name, _ARROW.get(name, pa.float64() if name in _NUMBERS else pa.string())) for name in _COLUMNS])
SPLITS = {"train": 0.7, "dev": 0.15, "test": 0.15}
csv.field_size_limit(2**31 - 1)  # the words of an hour are longer than what Python allows a cell


def read_manifest(path: str | Path) -> list[Utterance]:
    """The rows of a .parquet, .jsonl or .csv manifest; relative paths inside start at the manifest's folder.

    Raises ValueError, with the number of the row (1 is the first below the header), for unknown columns, missing or repeated ids,
    missing paths, values that do not fit and spans that end before they begin.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no manifest {path}; `moodcast prepare` writes one")
    rows = [_row(record, number, path) for number, record in enumerate(_records(path), start=1)]
    if not rows:
        raise ValueError(f"{path} has no rows; wanted at least one utterance")
    _check_ids(rows, str(path))
    return rows


def read_manifests(items: Iterable[str | Path | Utterance]) -> list[Utterance]:
    """The rows of several manifests together, or rows as they are. Raises ValueError for none, or an id that two of them use."""
    rows = [row for item in items for row in ([item] if isinstance(item, Utterance) else read_manifest(item))]
    if not rows:
        raise ValueError("no manifest came; `moodcast prepare CORPUS FOLDER` writes one")
    _check_ids(rows, "these manifests together")
    return rows


def write_manifest(rows: Iterable[Utterance], path: str | Path) -> None:
    """Write rows as .parquet, .jsonl or .csv; an older file of that name is replaced at once or not at all.

    Raises ValueError for another suffix, and for rows that `read_manifest` would refuse: repeated ids, spans that end before they begin.
    """
    path = Path(path)
    rows = list(rows)
    kind = _suffix(path)
    _check_ids(rows, "these rows")
    for number, row in enumerate(rows, start=1):
        _check_numbers(row, f"row {number} ({row.id})")
    records = [_record(row, path.parent) for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".parquet":
        with whole(path) as half:
            pq.write_table(pa.Table.from_pylist([_arrow_record(record) for record in records], schema=_SCHEMA), half)
    else:
        write_whole(path, _jsonl(records) if kind == ".jsonl" else _csv(records))


def split_by_group(rows: Sequence[Utterance], shares: Mapping[str, float] | None = None, seed: int = 0) -> list[Utterance]:
    """The rows with `split` set: within each corpus, nobody and nothing is heard on two sides.

    What shares a speaker, a group or a recording stays together; shares (default train 0.7, dev 0.15, test 0.15) hold as well as that
    allows, for each class. The same seed gives the same split whatever the order of the rows.

    Raises ValueError for shares that do not sum to 1, or a corpus with fewer groups than shares.
    """
    shares = dict(SPLITS if shares is None else shares)
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-6):
        raise ValueError(f"shares must be positive and sum to 1, got {shares}")
    names = list(shares)
    sides = _sides(rows, np.array([shares[name] for name in names]), seed)
    return [replace(row, split=names[side]) for row, side in zip(rows, sides, strict=True)]


def folds(rows: Sequence[Utterance], k: int, seed: int = 0) -> list[int]:
    """The fold, 0 to k - 1, of every row: k equal shares, as apart as those of `split_by_group`."""
    if k < 2:
        raise ValueError(f"k must be at least 2 folds, got {k}")
    return _sides(rows, np.full(k, 1.0 / k), seed)


def fold_splits(rows: Sequence[Utterance], k: int, seed: int = 0) -> Iterator[list[Utterance]]:
    """For each of `folds` the rows with `split` set: that fold is the test side, the next one dev, the rest trains.

    Raises ValueError, at once, where no fold is left to train on.
    """
    if k < 3:
        raise ValueError(f"{k} folds are too few: wanted 3 or more, one to test, one to choose the checkpoint (dev) and one to train on")
    where = folds(rows, k, seed)
    sides = ({test: "test", (test + 1) % k: "dev"} for test in range(k))
    return ([replace(row, split=named.get(fold, "train")) for row, fold in zip(rows, where, strict=True)] for named in sides)


def leaks(rows: Iterable[Utterance]) -> dict[str, set[str]]:
    """Speakers and groups ("corpus/name") that are heard in more than one split, with those splits; rows without a split do not count."""
    speakers: dict[str, set[str]] = defaultdict(set)
    groups: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split is not None:
            speakers[row.corpus_speaker].add(row.split)
            groups[row.corpus_group].add(row.split)
    found = {name: splits for name, splits in groups.items() if len(splits) > 1}
    return found | {name: splits for name, splits in speakers.items() if len(splits) > 1}


def _sides(rows: Sequence[Utterance], shares: NDArray[np.float64], seed: int) -> list[int]:
    """The side of every row, corpus by corpus."""
    sides = [0] * len(rows)
    for corpus in sorted({row.corpus for row in rows}):
        members = sorted((i for i, row in enumerate(rows) if row.corpus == corpus), key=lambda i: rows[i].id)
        units = _units([rows[i] for i in members])
        if units.max() + 1 < len(shares):
            raise ValueError(
                f"corpus {corpus!r} has {units.max() + 1} groups that may not be cut (speakers, dialogues, recordings) and was to be "
                f"split into {len(shares)} parts; add speakers, ask for fewer parts, or name sides yourself (split: train, dev, test)"
            )
        names = sorted({rows[i].emotion or "" for i in members})
        counts = np.zeros((units.max() + 1, len(names)))  # [units, classes]
        for unit, i in zip(units, members, strict=True):
            counts[unit, names.index(rows[i].emotion or "")] += 1
        chosen = _stratified(counts, shares, np.random.default_rng([seed, len(members)]))
        for unit, i in zip(units, members, strict=True):
            sides[i] = int(chosen[unit])
    return sides


def _units(rows: Sequence[Utterance]) -> NDArray[np.int64]:
    """A number for what must stay together: rows that share a speaker, a group or a recording, directly or by way of others."""
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        for key in (("speaker", row.corpus_speaker), ("group", row.corpus_group), ("path", row.path)):
            parent[root(i)] = root(first.setdefault(key, i))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(i), len(numbers)) for i in range(len(rows))], dtype=np.int64)


def _stratified(counts: NDArray[np.float64], shares: NDArray[np.float64], rng: np.random.Generator, tries: int = 30) -> NDArray[np.int64]:
    """A side for each unit, [units] from counts [units, classes]: the best of a few greedy passes in random order.

    Greedy: a unit goes where the squared distance to the wanted class counts shrinks most.
    """
    wanted = shares[:, None] * counts.sum(axis=0)  # [sides, classes]
    best, lowest = np.zeros(len(counts), dtype=np.int64), math.inf
    for _ in range(tries):
        held = np.zeros_like(wanted)
        sides = np.zeros(len(counts), dtype=np.int64)
        order = rng.permutation(len(counts))
        for place, unit in enumerate(order):
            cost = ((counts[unit] * (2 * (held - wanted) + counts[unit])) / wanted).sum(axis=1)
            empty = held.sum(axis=1) == 0
            if empty.sum() >= len(order) - place:  # only just enough units are left to give each side one
                cost[~empty] = math.inf
            sides[unit] = cost.argmin()
            held[sides[unit]] += counts[unit]
        distance = float(((held - wanted) ** 2 / wanted).sum())
        if distance < lowest:
            best, lowest = sides, distance
    return best


def _suffix(path: Path) -> str:
    if path.suffix not in (".parquet", ".jsonl", ".csv"):
        raise ValueError(f"{path}: a manifest ends in .parquet, .jsonl or .csv, got {path.suffix or 'no suffix'!r}")
    return path.suffix


def _check_ids(rows: Sequence[Utterance], where: str) -> None:
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if row.id in seen:
            raise ValueError(f"{where}: the id {row.id!r} comes twice, in rows {seen[row.id]} and {number}; ids must differ")
        seen[row.id] = number


def _records(path: Path) -> Iterable[dict[str, Any]]:
    """Plain records of a manifest, one a row."""
    kind = _suffix(path)
    if kind == ".parquet":
        try:
            found = pq.read_table(path)  # __index_level_0__: numbers of rows by pandas, which took some out
            kept = found.select([name for name in found.column_names if not name.startswith("__index_level_")])
            return typing.cast(list[dict[str, Any]], kept.to_pylist())
        except pa.ArrowException as error:
            raise ValueError(f"{path} is no Parquet file ({error}); write it again") from None
    if kind == ".csv":
        return _csv_records(path)
    lines = read_text(path).split("\n")
    return [_loads(line, f"row {number} of {path}") for number, line in enumerate(lines, start=1) if line.strip()]


def _csv_records(path: Path) -> Iterable[dict[str, Any]]:
    with open_csv(path) as reader:
        _check_columns(reader.fieldnames or (), path)
        for number, record in enumerate(reader, start=1):
            if None in record:
                raise ValueError(f"row {number} of {path} has more cells than the header; quote texts that hold commas")
            for name in _NESTED:
                if record.get(name):
                    record[name] = _loads(record[name], f"row {number} of {path}, {name}")
            yield {name: value for name, value in record.items() if value not in ("", None)}


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: {text[:60]!r} is not JSON ({error})") from None


def _check_columns(names: Iterable[str], path: Path) -> None:
    names = list(names)
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise ValueError(f"{path} has the column {twice[0]} twice; rename one of them, or take it out")
    for name in names:
        if name not in _COLUMNS:
            near = difflib.get_close_matches(str(name), _COLUMNS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            if path.suffix == ".csv" and any(mark in str(name) for mark in ";\t|"):
                hint = " A manifest has commas between its cells; `moodcast prepare csv` reads other tables."
            raise ValueError(f"{path} has a column '{name}' that no utterance knows.{hint} Columns: {', '.join(_COLUMNS)}")


def _row(record: Any, number: int, path: Path) -> Utterance:
    """A record as an Utterance; numbers where text is wanted (a speaker called 1001) become text."""
    where = f"row {number} of {path}"
    if not isinstance(record, dict):
        raise ValueError(f"{where} is {type(record).__name__}; wanted an object with the columns {', '.join(_COLUMNS)}")
    _check_columns(record, path)
    values = {name: _plain(name, value) for name, value in record.items()}
    values = {name: value for name, value in values.items() if value is not None}
    for name in ("id", "path"):
        if not values.get(name):
            raise ValueError(f"{where} has no {name}; every utterance needs one")
    for name in _PATHS:
        if name in values:
            values[name] = os.path.normpath(os.path.join(os.path.abspath(path.parent), str(values[name])))
    try:
        row = _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}, {column}: {first['input']!r} does not fit ({first['msg']})") from None
    _check_numbers(row, where)
    return row


def _check_numbers(row: Utterance, where: str) -> None:
    for name in _NUMBERS:
        value = getattr(row, name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{where}, {name}: got {value}; wanted 0 or more")
    for name, count in (row.votes or {}).items():
        if not (math.isfinite(count) and count >= 0):
            raise ValueError(f"{where}, votes: {name} has {count}; wanted how often it was chosen, 0 or more")
    if row.stop_s is not None and row.stop_s <= row.start_s:
        raise ValueError(f"{where}: the span {row.start_s} to {row.stop_s} s is empty; correct start_s and stop_s")


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None  # how pandas writes an empty cell
    if name in _NESTED or value is None:
        return _mapping(value) if name in ("votes", "attributes") else _tuples(value)
    return str(value) if name not in _NUMBERS and isinstance(value, int) else value


def _mapping(value: Any) -> Any:
    """Votes and attributes as the dictionary they were: Parquet gives pairs, and pandas lists of two.

    Anything else is refused later, with its row.
    """
    if not isinstance(value, list):
        return value
    pairs = all(isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str) for item in value)
    return dict(value) if pairs else value


def _tuples(value: Any) -> Any:
    """Words and phones of Parquet, structs, as the tuples they were."""
    if isinstance(value, list):
        return [tuple(item.values()) if isinstance(item, dict) else item for item in value]
    return value


def _record(row: Utterance, folder: Path) -> dict[str, Any]:
    record = asdict(row)
    base = os.path.abspath(folder)
    for name in _PATHS:
        if record[name] is not None:
            whole = os.path.abspath(record[name])
            record[name] = os.path.relpath(whole, base) if whole.startswith(base + os.sep) else whole
    return record


def _arrow_record(record: dict[str, Any]) -> dict[str, Any]:
    spans = {
        name: [dict(zip(("label", "start_s", "stop_s"), item, strict=True)) for item in record[name]]
        for name in ("words", "phones")
        if record[name] is not None
    }
    maps = {name: list(record[name].items()) for name in ("votes", "attributes") if record[name] is not None}
    return {**record, **spans, **maps}


def _jsonl(records: Iterable[dict[str, Any]]) -> str:
    lines = ({name: value for name, value in record.items() if value is not None} for record in records)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _csv(records: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS)
    writer.writeheader()
    for record in records:
        nested = {name: json.dumps(record[name], ensure_ascii=False) for name in _NESTED if record[name] is not None}
        writer.writerow({**record, **nested})
    return out.getvalue()
