"""How a process that Ray started is set up: where it stands, its threads, memory that it keeps, and who hears a SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress

import torch

# Parameters of mallopt(3), glibc.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def set_up(threads: int | None) -> None:
    """What this process trains with: so many threads (None: as torch finds them), memory that is kept, and children that can be ended."""
    if threads:
        torch.set_num_threads(threads)
    keep_memory()
    let_children_end()


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


def let_children_end() -> None:
    """What this thread starts from now on ends at a SIGTERM, where this process does not: in workers of a local Ray.

    They have the signal blocked (`moodcast.cluster.local`), and whatever a process starts is born with what it blocks: a child that is
    told to terminate never would. So here it comes through, to a handler that does nothing, which no program that is started inherits.
    """
    if signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGTERM, ctypes.cast(libc.abs, ctypes.c_void_p))  # not by Python, which lets the main thread alone set one
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
