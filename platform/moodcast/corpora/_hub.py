"""Parquet files of the Hugging Face hub whose rows hold whole recordings: the recordings become files, so that they are read late."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

SUFFIX = {b"RIFF": ".wav", b"OggS": ".ogg", b"fLaC": ".flac", b"ID3": ".mp3"}


def parquet_files(source: Path) -> list[Path]:
    """The Parquet files of a data set's folder, in order; none where there are none."""
    return sorted(source.rglob("*.parquet")) if source.is_dir() else []


def unpacked(files: Sequence[Path], folder: Path | None, name: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """Each row without its audio, and the file in `folder` that its audio was written to, named by its content.

    "split" is the first word of the file's name (train-00000-of-00002.parquet). Raises ValueError where no column holds audio as the hub
    writes it (bytes and a path), or no folder is given.
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
        for batch in table.iter_batches(batch_size=64):
            for record in batch.to_pylist():
                audio = record.pop(columns[0]) or {}
                if not audio.get("bytes"):
                    raise ValueError(f"{file}: a row without audio ({str(record)[:80]}); take the complete data set")
                yield {"split": file.stem.partition("-")[0], "file": audio.get("path"), **record}, _written(audio["bytes"], folder)


def _children(field: Any) -> set[str]:
    kind = field.type
    return {kind.field(i).name for i in range(kind.num_fields)} if kind.num_fields else set()


def _written(content: bytes, folder: Path) -> Path:
    suffix = next((suffix for begin, suffix in SUFFIX.items() if content.startswith(begin)), ".audio")
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{suffix}"
    if not path.is_file() or path.stat().st_size != len(content):
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(content)
        os.replace(temporary, path)
    return path
