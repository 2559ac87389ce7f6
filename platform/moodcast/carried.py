"""Text files that travel in a bundle beside its weights: what rebuilds a Hugging Face encoder or tokenizer without the network.

Only JSON and plain text, in one folder below the bundle, named by their SHA-256 in bundle.json, which that file's own hash covers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9_]*/[A-Za-z0-9][A-Za-z0-9_.-]*\.(json|txt)")
MAX_BYTES = 64 * 2**20  # the largest tokenizers have 20


def write_files(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Write "folder/name.json" -> text below `folder`; the SHA-256 of each by name. Raises ValueError for another kind of name."""
    digests = {}
    for name, text in sorted(files.items()):
        path = _path(folder, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
        digests[name] = hashlib.sha256(text.encode()).hexdigest()
    return digests


def read_files(folder: Path, digests: Mapping[str, str]) -> dict[str, str]:
    """The files that `write_files` wrote, by name. Raises ValueError where one is missing, was changed or is no text."""
    if not isinstance(digests, Mapping):
        raise ValueError(f"{folder}: files of a bundle are named with their SHA-256, got {type(digests).__name__}; take a fresh copy")
    found = {}
    for name, digest in digests.items():
        path = _path(folder, name)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"{path} has more than the {MAX_BYTES} bytes that a file in a bundle may have")
            data = path.read_bytes()
            found[name] = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}, a part of the bundle, cannot be read: {error}; take a fresh copy") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise ValueError(f"{path} was changed after the bundle was saved (SHA-256 differs); take a fresh copy")
    return found


def _path(folder: Path, name: str) -> Path:
    if not NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no file of a bundle; wanted FOLDER/NAME.json or FOLDER/NAME.txt")
    return folder / name
