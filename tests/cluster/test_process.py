"""Where a process that trains stands; what it keeps, looked at from outside, by the pages that the kernel has to hand it anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moodcast.cluster.local import usable_cpus
from moodcast.cluster.process import stand_in
from moodcast.cluster.retrain import train_one

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


def test_cores_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    before = usable_cpus()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # what counts them heeds this, as it heeds affinity and a container's quota
    assert (before >= 1, usable_cpus()) == (True, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone can be told")
def test_memory_of_a_step_is_kept_for_the_next() -> None:
    anew, _ = asked("as it comes")
    kept, threads = asked("kept")
    assert threads == 1
    assert kept < 0.05 * anew


def test_a_process_stands_where_its_driver_does_if_that_folder_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    stand_in(str(tmp_path / "there"))
    assert Path.cwd() == tmp_path / "there"
    stand_in(str(tmp_path / "gone"))
    assert Path.cwd() == tmp_path / "there"


def test_a_recipe_is_trained_anew_also_on_a_machine_without_the_folder_of_the_driver(tmp_path: Path) -> None:
    given = {"cwd": str(tmp_path / "gone"), "sweep": str(tmp_path), "trust": [], "cache": "", "stages": [], "seed": 0}
    with pytest.raises(ValueError, match="there is no manifest"):  # it came as far as the rows, of which there are none here
        train_one(given)
