"""Parquet files of the Hugging Face hub whose rows hold whole recordings: the recordings become files, so that they are read late."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from moodcast.whole import whole

SIDES = {  # what data sets call their splits, and what we do
    "train": "train",
    "training": "train",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "dev": "dev",
    "test": "test",
    "eval": "test",
}
SUFFIX = {b"RIFF": ".wav", b"OggS": ".ogg", b"fLaC": ".flac", b"ID3": ".mp3"}


def parquet_files(source: Path) -> list[Path]:
    """The Parquet files of a data set's folder, in order; none where there are none."""
    return sorted(source.rglob("*.parquet")) if source.is_dir() else []


def unpacked(source: Path, files: Sequence[Path], folder: Path | None, name: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """Each row without its audio, and the file in `folder` that its audio was written to, named by its content.

    source: the data set's folder, in which the files lie. "split" is as `side_of` has it, unless the row says it itself. Raises ValueError
    where no column holds audio as the hub writes it (bytes and a path), or no folder is given.
    """
    if folder is None:
        raise ValueError(
            f"{name}: the recordings lie inside {files[0].name}; say where to unpack them (moodcast prepare does it beside --out)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        table = pq.ParquetFile(file)
        columns = [field.name for field in table.schema_arrow if {"bytes", "path"} <= _children(field)]
        if not columns:
            raise ValueError(f"{file} holds no audio: wanted a column with bytes and path, got {', '.join(table.schema_arrow.names)}")
        side = side_of(file.relative_to(source))
        for batch in table.iter_batches(batch_size=64):
            for record in batch.to_pylist():
                audio = record.pop(columns[0]) or {}
                if not audio.get("bytes"):
                    raise ValueError(f"{file}: a row without audio ({str(record)[:80]}); take the complete data set")
                yield {"split": side, "file": audio.get("path"), **record}, _written(audio["bytes"], folder)


def side_of(within: Path) -> str:
    """The split of a Parquet file by its place in the data set: the first word of its name (train-00000-of-00002.parquet).

    Where that names no side, it is the nearest folder that does (default/train/0000.parquet, as the hub converts data sets, or
    default/partial-train/0000.parquet, of one that it converts in part); where none does, the word stays.
    """
    word = within.stem.partition("-")[0]
    places = (word, *(part.removeprefix("partial-") for part in reversed(within.parts[:-1])))
    return next((part for part in places if part.lower() in SIDES), word)


def _children(field: Any) -> set[str]:
    kind = field.type
    return {kind.field(i).name for i in range(kind.num_fields)} if kind.num_fields else set()


def _written(content: bytes, folder: Path) -> Path:
    suffix = next((suffix for begin, suffix in SUFFIX.items() if content.startswith(begin)), ".audio")
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{suffix}"
    if not path.is_file() or path.stat().st_size != len(content):
        with whole(path) as half:
            half.write_bytes(content)
    return path
