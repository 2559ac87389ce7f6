from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings

from tests.dealing import LONGEST, ByFile, place

ROOT = Path(__file__).resolve().parents[1]
FILES = ["tests/cluster/test_faults.py", "tests/walks/test_demo.py", "tests/serve/test_app.py", "tests/test_run.py", "tests/test_order.py"]


class Process:
    """A process that only notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += indices


@pytest.fixture
def dealer() -> ByFile:
    made = ByFile.__new__(ByFile)  # its __init__ asks pytest for the processes of `-n`
    collected = [f"{file}::test_{number}" for file in FILES for number in range(2)]
    made.workqueue = OrderedDict()
    for name in collected:
        made.workqueue.setdefault(made._split_scope(name), {})[name] = False
    processes: Any = [Process() for _ in range(3)]
    made.assigned_work = {process: {} for process in processes}
    made.registered_collections = dict.fromkeys(processes, collected)
    return made


def test_two_processes_take_from_the_long_end_and_the_others_from_the_quick_one(dealer: ByFile) -> None:
    first, second, third = dealer.nodes
    for process in (first, second, third, third):
        dealer._assign_work_unit(process)
    assert not dealer.workqueue
    assert cast(Any, first).sent == [0, 1]
    assert cast(Any, second).sent == [2, 3, 4, 5]  # whatever serves: by one, for it wants the same port
    assert cast(Any, third).sent == [8, 9, 6, 7]


def test_every_file_that_is_said_to_take_longest_is_there() -> None:
    assert {path.stem for path in (ROOT / "tests" / "cluster").glob("test_*.py")} >= set(LONGEST)
    assert [place(Path(f"{name}.py")) for name in (*LONGEST, "test_run")] == [*range(len(LONGEST) + 1)]


def test_no_property_fails_because_the_machine_is_busy() -> None:
    assert settings().deadline is None
