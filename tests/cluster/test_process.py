"""What a process that trains keeps: looked at from outside, by the pages that the kernel has to hand it anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASKS = """
import resource, sys
import torch
from moodcast.cluster import process
if sys.argv[1] == "kept":
    process.set_up(threads=1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(16, 1_000_000).mul(2.0)
before = faults()
for _ in range(10):
    torch.ones(16, 1_000_000).mul(2.0)
print(faults() - before, torch.get_num_threads())
"""


def asked(how: str) -> list[int]:
    """Pages fetched by ten steps that ask for 128 MB each, threads."""
    ran = subprocess.run([sys.executable, "-c", ASKS, how], capture_output=True, text=True, check=True)
    return [int(word) for word in ran.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told")
def test_memory_of_a_step_is_kept_for_the_next() -> None:
    anew, _ = asked("as it comes")
    kept, threads = asked("kept")
    assert threads == 1
    assert kept < 0.05 * anew
