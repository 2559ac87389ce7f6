"""Small made-up copies of corpora: files without sound, tables, and Parquet files as the Hugging Face hub writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HEAD = "path,speaker,gender,language,emotion,duration_s,text\n"  # of manifest.csv, our layout


def touch(*paths: Path) -> None:
    """Empty files: what is read by its name alone."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def parquet(path: Path, records: list[dict[str, Any]]) -> None:
    """A Parquet file of these records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)
