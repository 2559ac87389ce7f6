"""The weights of a bundle as files: all in one, or, while a run trains, what takes no gradient apart, so that its checkpoints share it.

    weights.safetensors  parameters and buffers; matrices in float16 where that loses nothing
    frozen.safetensors   in a checkpoint of training alone: parameters that take no gradient, such as those of a frozen encoder

The file apart is that of the checkpoint before, by a hard link, where every number in it is the same to the bit; else it is written. So
each checkpoint is whole, whichever of the others is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

WEIGHTS, FROZEN = "weights.safetensors", "frozen.safetensors"


def write(folder: Path, state: Mapping[str, Tensor], apart: Collection[str] = (), before: Path | None = None) -> None:
    """Write a state into a folder, in place of the weights there. apart: names of what lies in a file of its own; before: a folder whose
    file apart is shared where it holds the same.
    """
    rest = {name: value for name, value in state.items() if name not in apart}
    frozen = {name: value for name, value in state.items() if name in apart}
    _store(folder / WEIGHTS, rest)
    shared = before is not None and bool(frozen) and _holds(before / FROZEN, frozen) and _linked(before / FROZEN, folder / FROZEN)
    if not shared:
        (folder / FROZEN).unlink(missing_ok=True)  # never written in place: others may share it
    if frozen and not shared:
        _store(folder / FROZEN, frozen)


def read(folder: Path) -> dict[str, Tensor]:
    """All weights of a folder, as they are stored. Raises SafetensorError where a file holds none."""
    return {name: value for path in files_of(folder) for name, value in load_file(path).items()}


def files_of(folder: Path) -> list[Path]:
    """The files in which the weights of a folder lie."""
    return [folder / WEIGHTS, *([folder / FROZEN] if (folder / FROZEN).is_file() else [])]


def names_apart(folder: Path) -> list[str]:
    """The names of what lies in a file of its own; [] where all is in one."""
    if not (folder / FROZEN).is_file():
        return []
    with safe_open(folder / FROZEN, "pt") as there:
        return list(there.keys())


def put_together(folder: Path, path: Path) -> None:
    """All weights of a folder as one file: a copy, byte for byte, where they lie in one."""
    if (folder / FROZEN).is_file():
        _store(path, read(folder))
    else:
        shutil.copyfile(folder / WEIGHTS, path)


def _store(path: Path, state: Mapping[str, Tensor]) -> None:
    data = to_bytes({name: _smallest(value.detach().cpu().contiguous()) for name, value in state.items()})
    path.write_bytes(data)  # by the umask; the library's own writer makes files that only their owner reads


def _smallest(value: Tensor) -> Tensor:
    """A matrix in float16 where that loses nothing: rounded ones, and those of encoders that came so. All else as it is."""
    half = value.half() if value.dtype == torch.float32 and value.dim() > 1 else value
    return half if torch.equal(half.to(value.dtype), value) else value


def _holds(path: Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file holds this state and nothing else, to the bit."""
    try:
        with safe_open(path, "pt") as there:
            return {*there.keys()} == {*state} and all(_same(there.get_tensor(name), value) for name, value in state.items())
    except (OSError, SafetensorError):
        return False


def _same(stored: Tensor, value: Tensor) -> bool:
    both = (stored.to(value.dtype), value.detach().cpu())
    one, other = (each.contiguous().flatten().view(torch.uint8) for each in both)
    return stored.shape == value.shape and torch.equal(one, other)


def _linked(source: Path, target: Path) -> bool:
    """Whether a file has a second name now; not every file system gives one."""
    with suppress(OSError):
        os.link(source, target)
        return True
    return False
