"""A plain CSV or TSV table of recordings, with any column names.

Source: your own. Terms: yours.

Layout: a table with a header; FIELD=COLUMN says which column holds a field of a manifest (path, emotion, speaker, group, gender, age,
language, split, text, start_s, stop_s, id; default: a column of the same name, large letters or small), and corpus=NAME, language=CODE or
emotion=CLASS a value for all rows where there is no such column. attributes=NAME:COLUMN,... takes ratings (attributes=valence:V,arousal:A)
with scale=LEAST:MOST, what a rating of any of them can be (scale=1:7; default 0:1), which become 0 and 1; votes=CLASS:COLUMN,... takes how
often raters chose each class (votes=angry:A,sad:S). Paths are relative to the table, or to audio=FOLDER; back slashes of Windows are
slashes, 3,5 is 3.5, and a time is seconds (62.5) or a clock (1:02.5, 0:01:02,5). Labels: as the table has them; labels=THEIRS:OURS,... maps
its names. A row without one takes the first choice of its votes, if there is one. Splits: the table's, where it has a column of them; else
ours, by speaker or group.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from moodcast.corpora._hub import SIDES
from moodcast.corpora._rules import Rule
from moodcast.corpora._table import canonical, first_choice, gender, mapping, number, placed, read_csv, seconds, slashed
from moodcast.manifest import Utterance
from moodcast.texts import read_text

LABELS = "as the table"
EMOTIONS: dict[str, str] = {}
RULES: tuple[Rule, ...] = ()
SPLITS = {**SIDES, "development": "dev", "testing": "test"}
FIELDS = ("path", "emotion", "speaker", "group", "gender", "age", "language", "split", "text", "start_s", "stop_s", "id")
CONSTANT = ("language", "emotion")  # may be a value instead of a column
THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")  # of a second, or whole ones
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")


def prepare(
    source: Path,
    *,
    path: str = "path",
    emotion: str = "emotion",
    speaker: str = "speaker",
    group: str = "group",
    gender: str = "gender",
    age: str = "age",
    language: str = "language",
    split: str = "split",
    text: str = "text",
    start_s: str = "start_s",
    stop_s: str = "stop_s",
    id: str = "id",  # noqa: A002
    corpus: str | None = None,
    audio: str | None = None,
    labels: str | None = None,
    separator: str | None = None,
    attributes: str | None = None,
    scale: str = "0:1",
    votes: str | None = None,
) -> list[Utterance]:
    """One row a line. Raises ValueError for a table or a column that is missing, a label that means no class, or two rows of one name."""
    if not source.is_file():
        raise ValueError(f"{source} is no file; wanted the folder of the corpus or its table, here a CSV file")
    if source.suffix.lower() in WORKBOOKS:
        raise ValueError(f"{source} is a workbook; wanted a CSV file: save the sheet as CSV (UTF-8), and name that")
    columns = dict(
        path=path, emotion=emotion, speaker=speaker, group=group, gender=gender, age=age, language=language, split=split, text=text
    )
    columns |= dict(start_s=start_s, stop_s=stop_s, id=id)
    between = _character(separator) if separator else _separator(source)
    records = read_csv(source, (), between)
    if not records:
        raise ValueError(f"{source} holds no rows; wanted a header, and below it a row for each recording")
    have = {name for name in records[0] if name}  # None: cells beyond the header
    by_word = {name.lower(): name for name in sorted(have)}
    columns |= {name: by_word[name] for name, column in columns.items() if column == name and name not in have and name in by_word}
    rated, ends = mapping(attributes, "attributes", "column", "NAME:COLUMN"), _ends(scale)
    asked = [f"{name}={column}" for name, column in columns.items() if column not in have and column != name and name not in CONSTANT]
    asked += [f"attributes={name}:{column}" for name, column in rated.items() if column not in have]
    chosen = mapping(votes, "votes", "column", "CLASS:COLUMN")
    asked += [f"votes={name}:{column}" for name, column in chosen.items() if column not in have]
    if asked:
        raise ValueError(f"{source} has no column for {', '.join(asked)}; it has {', '.join(sorted(have))}")
    if columns["path"] not in have:
        raise ValueError(f"{source} has no column path; say which one it is, path=COLUMN: {', '.join(sorted(have))}")
    constants = {name: columns[name] for name in CONSTANT if columns[name] not in have and columns[name] != name}
    root = Path(audio) if audio else source.absolute().parent
    name = corpus or source.stem
    own = mapping(labels)
    ballot = [(chosen_as, column) for label, column in chosen.items() if (chosen_as := canonical(label, own))]
    rows: dict[str, tuple[int, Utterance]] = {}
    for line, record in enumerate(records, start=1):
        if not _filled(record.values()):  # spreadsheets write empty rows below the last
            continue
        times = [(record.get(columns[field]) or "").strip() for field in ("start_s", "stop_s")]
        if between == "," and (odd := [cell for cell in times if THOUSANDS.fullmatch(cell)]):
            raise ValueError(f"row {line} of the table: whether {odd[0]} s are thousands is not clear; write a point, or no comma")
        row = _row(record, columns, constants, root, name, own, line)
        if row.id in rows:
            how = f"{source}: rows {rows[row.id][0]} and {line} are both called {row.id!r}"
            raise ValueError(f"{how}; take one out, or name a column of ids (id=COLUMN), or of spans (start_s=COLUMN stop_s=COLUMN)")
        counts = _votes(record, ballot, line)
        label = row.emotion or first_choice(counts or {})
        rows[row.id] = line, replace(row, emotion=label, votes=counts, attributes=_ratings(record, rated, ends, line))
    return [row for _, row in rows.values()]


def unread(source: Path, options: Mapping[str, str]) -> list[str]:
    """The columns of a table that `prepare` with these options passes over: ones of spans or speakers may be among them."""
    separator = options.get("separator")
    (header, *_) = read_csv(source, (), _character(separator) if separator else _separator(source))
    named = {*options.values(), *mapping(options.get("attributes")).values(), *mapping(options.get("votes")).values()}
    default = {name for name in FIELDS if name not in options}
    return [name for name in header if name and name not in named and name.lower() not in default]


def _row(
    record: dict[str, str],
    columns: dict[str, str],
    constants: dict[str, str],
    root: Path,
    corpus: str,
    names: dict[str, str],
    line: int,
) -> Utterance:
    def cell(name: str) -> str | None:
        return constants.get(name) or (record.get(columns[name]) or "").strip() or None

    if _filled(beyond for name, beyond in record.items() if name is None):
        raise ValueError(f"row {line} of the table has more cells than the header; quote texts that hold the separator")
    if (file := cell("path")) is None:
        raise ValueError(f"row {line} of the table has no {columns['path']}; every recording needs one")
    file = slashed(root, file)
    try:
        emotion = canonical(cell("emotion"), names)
        start_s, stop_s = seconds(cell("start_s")), seconds(cell("stop_s"))
    except ValueError as error:
        raise ValueError(f"row {line} of the table: {error}") from None
    side = cell("split")
    span = f"#{start_s or 0:g}-{'' if stop_s is None else f'{stop_s:g}'}" if start_s is not None or stop_s is not None else ""
    return Utterance(
        id=f"{corpus}/{cell('id') or file + span}",
        path=placed(root, file),
        start_s=start_s or 0.0,
        stop_s=stop_s,
        corpus=corpus,
        language=cell("language"),
        speaker=cell("speaker"),
        group=cell("group"),
        gender=gender(cell("gender")),
        age=number(cell("age")),
        split=SPLITS.get(side.lower(), side.lower()) if side else None,
        emotion=emotion,
        text=cell("text"),
    )


def _ratings(record: dict[str, str], columns: dict[str, str], ends: tuple[float, float], line: int) -> dict[str, float] | None:
    """The ratings that a row has, in [0, 1]. Raises ValueError for one that is no number on the scale."""
    least, most = ends
    found = {}
    for name, column in columns.items():
        cell = (record.get(column) or "").strip()
        if cell.lower() in ("", "nan", "none"):
            continue
        value = number(cell)
        if value is None or not least <= value <= most:
            raise ValueError(
                f"row {line} of the table: {name} is {cell!r}, wanted a number from {least:g} to {most:g}; say scale=LEAST:MOST"
            )
        found[name] = (value - least) / (most - least)
    return found or None


def _votes(record: dict[str, str], columns: Sequence[tuple[str, str]], line: int) -> dict[str, float] | None:
    """How often each class was chosen, columns of one class together, without those that nobody chose. Raises ValueError for no count."""
    found: dict[str, float] = {}
    for name, column in columns:
        cell = (record.get(column) or "").strip()
        count = 0.0 if cell.lower() in ("", "nan", "none") else number(cell)
        if count is None or not 0 <= count < math.inf:
            raise ValueError(f"row {line} of the table: {cell!r} votes for {name}, wanted how often it was chosen: 0 or more")
        if count:
            found[name] = found.get(name, 0.0) + count
    return found or None


def _ends(scale: str) -> tuple[float, float]:
    """The least and the most that a rating can be. Raises ValueError for anything but two numbers, the first the smaller one."""
    least, most = (number(word) for word in scale.partition(":")[::2])
    if least is None or most is None or not least < most or math.isinf(most - least):
        raise ValueError(f"scale={scale}: wanted the least and the most that a rating can be, such as scale=1:7")
    return least, most


def _filled(cells: Iterable[str | list[str] | None]) -> bool:
    """Whether any of the cells says something; those beyond the header are a list."""
    return any("".join(cell or "").strip() for cell in cells)


def _separator(source: Path) -> str:
    """Comma, semicolon, tab or bar: whichever the header has most of."""
    head = read_text(source).partition("\n")[0]
    return max((",", ";", "\t", "|"), key=head.count)


def _character(word: str) -> str:
    """The separator that a person names; a shell hands a tab over as "\\t". Raises ValueError for more than one character."""
    if (found := word.replace("\\t", "\t")) and len(found) == 1:
        return found
    raise ValueError(f"separator={word!r}: wanted one character, such as separator=';', or separator='\\t' for a tab")
