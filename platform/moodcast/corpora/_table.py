"""What the corpora share: reading tables with errors that name what is missing, finding recordings, and naming labels."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from moodcast.labels import CLASSES
from moodcast.manifest import Utterance
from moodcast.texts import open_csv

SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a", ".aac", ".wma", ".aiff", ".aif", ".webm", ".mp4", ".mkv", ".amr", ".au")
SYNONYMS = {
    **{"anger": "angry", "ang": "angry", "mad": "angry", "rage": "angry", "angray": "angry"},
    **{"happiness": "happy", "hap": "happy", "joy": "happy", "joyful": "happy", "amused": "happy", "amusement": "happy"},
    **{"neu": "neutral", "neutrality": "neutral", "sadness": "sad", "fearful": "fear", "fea": "fear", "afraid": "fear", "scared": "fear"},
    **{"disgusted": "disgust", "dis": "disgust", "bored": "boredom", "boredem": "boredom", "enthusiastic": "enthusiasm"},
    **{"surprised": "surprise", "sur": "surprise", "superised": "surprise", "contemptuous": "contempt", "excited": "excitement"},
    **{"exc": "excitement", "frustrated": "frustration", "fru": "frustration", "oth": "other"},
}
UNLABELLED = ("", "none", "unknown", "no-agreement", "no agreement", "xxx", "nan", "undefined")
GENDERS = {"m": "male", "male": "male", "man": "male", "f": "female", "female": "female", "w": "female", "woman": "female"}
CLOCK = re.compile(r"(?:(\d+):(?=[0-5]?\d:))?(\d+):([0-5]?\d(?:[.,]\d*)?)")  # hours, minutes, seconds
_WANTED = ("path", "speaker", "gender", "language", "emotion", "duration_s", "text")


def read_csv(path: Path, wanted: Sequence[str], separator: str = ",") -> list[dict[str, str]]:
    """The records of a CSV file; white space around the name of a column is not part of it.

    Raises ValueError where it is missing, is not UTF-8, has a column twice, lacks one of the columns `wanted`, or opens a quote that
    nothing closes.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; wanted the folder of the corpus, with {path.name} in it, got {path.parent}")
    with open_csv(path, separator) as reader:
        header = [name.strip() for name in reader.fieldnames or ()]
        if twice := [name for name, count in Counter(header).items() if name and count > 1]:
            raise ValueError(f"{path} has the column {twice[0]} twice; rename one of them, or take it out")
        if missing := [name for name in wanted if name not in header]:
            raise ValueError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(header) or 'none'}")
        reader.fieldnames = header
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
                path=placed(source, record["path"]),
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


def has_manifest(source: Path) -> bool:
    """Whether a corpus lies here in our layout (manifest.csv and audio/) and not in its owner's."""
    return (source / "manifest.csv").is_file()


def recordings(source: Path, wanted: str) -> list[Path]:
    """Every recording below `source`, in the order of their paths, the first of each file name (some copies hold a corpus twice).

    Raises ValueError, saying what was `wanted`, where there is none.
    """
    found: dict[str, Path] = {}
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            found.setdefault(path.stem, path)
    if not found:
        raise ValueError(f"{source / 'manifest.csv'} is missing; wanted the folder of the corpus: that, or {wanted}")
    return list(found.values())


def recordings_below(source: Path) -> list[Path]:
    """Every recording below a folder, by path. Raises ValueError where there is none."""
    if not source.is_dir():
        raise ValueError(f"{source} is no folder; wanted one with recordings in it")
    found = [
        path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise ValueError(f"{source} holds no recordings; wanted the folder of the corpus, with some in it or below ({', '.join(SUFFIXES)})")
    return found


def canonical(label: str | None, own: Mapping[str, str] | None = None) -> str | None:
    """The class that a label means: by `own` where it is there, else its own name or a synonym; None where it says unlabelled.

    Raises ValueError, saying how to map it, for a label that nobody knows.
    """
    text = (label or "").strip()
    meant = {key.lower(): value for key, value in (own or {}).items()}.get(text.lower(), text).strip().lower()
    if meant in UNLABELLED:
        return None
    name = SYNONYMS.get(meant, meant)
    if name not in CLASSES:
        mapped = "" if meant == text.lower() else f" (nor does {meant!r}, to which it is mapped)"
        raise ValueError(
            f"the label {text!r} means none of {', '.join(CLASSES)}{mapped}; map it with labels={text}:CLASS (CLASS none: unlabelled)"
        )
    return name


def mapping(text: str | None, option: str = "labels", wanted: str = "class", form: str = "THEIRS:OURS") -> dict[str, str]:
    """`"0:angry,1:sad"` as a dictionary. Raises ValueError for a part without a colon, in the words of the option that it came with."""
    parts = [part.partition(":") for part in (text or "").split(",") if part.strip()]
    if bad := [name for name, colon, _ in parts if not colon]:
        raise ValueError(f"{option}={text!r}: {bad[0]!r} says no {wanted}; write {option}={form},{form}")
    names = [name.strip() for name, _, _ in parts]
    if wrong := [name for name, count in Counter(names).items() if count > 1 or not name]:
        raise ValueError(f"{option}={text!r}: {wrong[0]!r} is {'there twice' if wrong[0] else 'no name'}; write {option}={form},{form}")
    return {name: value.strip() for name, (_, _, value) in zip(names, parts, strict=True)}


def gender(text: str | None) -> str | None:
    """ "male", "female", another word as it is, or None."""
    word = (text or "").strip().lower()
    return GENDERS.get(word, word) if word not in UNLABELLED else None


def number(text: object) -> float | None:
    """A number, or None for an empty cell or a word. 3,5 is three and a half: spreadsheets write it so in half of the world."""
    word = str(text)
    try:
        value = float(word.replace(",", ".") if word.count(",") == 1 and "." not in word else word)
    except ValueError:
        return None
    return value if value == value else None


def seconds(value: object) -> float | None:
    """Seconds, or None for an empty cell; 1:02.5 and 0:01:02,5 are a minute and two and a half seconds.

    Raises ValueError for a word: the whole recording would be taken for its span.
    """
    text = "" if value is None else str(value).strip()
    if text.lower() in ("", "nan", "nat", "none"):
        return None
    if clock := CLOCK.fullmatch(text):
        hours, minutes, rest = (float((part or "0").replace(",", ".")) for part in clock.groups())
        return hours * 3_600 + minutes * 60 + rest
    if (found := number(text)) is None:
        raise ValueError(f"{text!r} is no time; write 62.5, 1:02.5 or 0:01:02.5 for a minute and two and a half seconds")
    return found


def placed(folder: Path, name: str) -> str:
    """The absolute path of a file that a table names, the same however the table spells it; links on the way to ".." are followed."""
    path = folder / slashed(folder, name)
    return str((path.parent.resolve() / path.name) if ".." in path.parts else path.absolute())


def slashed(folder: Path, name: str) -> str:
    """The name of a file with the slashes of this system, where a table from Windows has others: clips\\a.wav is a.wav in clips."""
    return name.replace("\\", "/") if "\\" in name and not (folder / name).exists() else name


def inside(root: Path, folder: Path, name: str) -> Path:
    """The file that a data set calls `name` in one of its folders. Raises ValueError where it lies outside of `root`, the data set."""
    name = slashed(folder, name)
    if ".." in Path(os.path.relpath(folder / name, root)).parts:
        raise ValueError(f"{root} names the file {name}, which lies outside of it; take an unchanged copy of the data set")
    return Path(placed(folder, name)) if ".." in Path(name).parts else folder / name


def first_choice(votes: Mapping[str, float]) -> str | None:
    """The class with most votes, None for a tie or where nobody voted."""
    best = [name for name, count in votes.items() if count == max(votes.values())]
    return best[0] if len(best) == 1 else None


def first(record: Mapping[str, object], columns: Iterable[str]) -> str | None:
    """The first of `columns` that a record fills, as text."""
    for name in columns:
        value = record.get(name)
        if value is not None and str(value).strip() not in ("", "nan", "None"):
            return str(value).strip()
    return None
