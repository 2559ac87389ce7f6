"""How a process that trains is set up: where it stands, its threads, and the memory that it keeps from one step to the next."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

import torch

# Parameters of mallopt(3), glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def set_up(threads: int | None) -> None:
    """What this process trains with: so many threads (None: as torch finds them), and memory that is kept."""
    if threads:
        torch.set_num_threads(threads)
    keep_memory()


def stand_in(folder: str) -> None:
    """Go where the driver stands, because paths of a run begin there; on another machine that folder may not be there."""
    with suppress(OSError):
        os.chdir(folder)


def keep_memory() -> bool:
    """Keep what is freed for what is asked for next; False where the C library is none that can be told so.

    On a processor each step asks for the same large blocks as the one before. glibc gives every such block back to the kernel and fetches
    it anew, zeroed, page by page: little of the time of a small network on a quiet machine, more where others wait for pages, too
    (benchmarks/kept_memory.py). A process that answers requests leaves this alone: it would never become smaller again.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))
