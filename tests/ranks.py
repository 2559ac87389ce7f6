"""Processes that train together on this machine without Ray: what each of them found, or where each stood when they went on no more."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

WAIT_S = 150.0  # below the time limit of a test: the stacks must still be read
Work = Callable[[int, int, Path], dict[str, Any]]


def on_ranks(work: Work, folder: Path, num_ranks: int = 2) -> list[dict[str, Any]]:
    """What `work(rank, num_ranks, folder)`, a function of a module, gives on each rank; tensors and plain values only.

    Nobody outlives the test: ranks that wait for each other for ever would keep the test runner from ending.
    """
    begun = torch.multiprocessing.start_processes(
        _on_rank, (work, num_ranks, folder), nprocs=num_ranks, join=False, daemon=True, start_method="spawn"
    )
    late = time.monotonic() + WAIT_S
    while not begun.join(timeout=1.0):
        if time.monotonic() > late:
            for process in begun.processes:
                process.kill()
            stacks = "\n".join(f"rank {rank}:\n{_stacks(folder, rank).read_text()}" for rank in range(num_ranks))
            pytest.fail(f"the ranks of {work.__module__} are not done after {WAIT_S:.0f} s\n{stacks}", pytrace=False)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(num_ranks)]


def _on_rank(rank: int, work: Work, num_ranks: int, folder: Path) -> None:
    with _stacks(folder, rank).open("w") as stacks:
        faulthandler.dump_traceback_later(WAIT_S - 10.0, file=stacks)
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=num_ranks, timeout=timedelta(seconds=WAIT_S)
        )
        torch.set_num_threads(1)
        torch.save(work(rank, num_ranks, folder), folder / f"{rank}.pt")
        dist.destroy_process_group()
        faulthandler.cancel_dump_traceback_later()


def _stacks(folder: Path, rank: int) -> Path:
    return folder / f"{rank}.stacks"
