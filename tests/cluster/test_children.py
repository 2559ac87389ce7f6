"""What workers of a local Ray start can be ended by a SIGTERM, and the workers themselves cannot."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from typing import Any

import pytest
import ray

from moodcast.cluster.process import let_children_end, set_up

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def program() -> int:
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    try:
        return child.wait(2)
    except subprocess.TimeoutExpired:
        child.kill()
        return 0


def fork() -> int | None:
    context = multiprocessing.get_context("fork")
    there = context.Event()
    child = context.Process(target=stay, args=(there,))
    child.start()
    assert there.wait(30)
    child.terminate()
    child.join(5)
    code = child.exitcode
    child.kill()
    return code


def stay(there: Event) -> None:
    there.set()
    time.sleep(60)


def in_thread(begin: Callable[[], None]) -> dict[str, Any]:
    """As Ray Train calls what trains, and Ray Serve what answers."""
    found: dict[str, Any] = {}

    def run() -> None:
        begin()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        found.update(program=program(), fork=fork(), pid=os.getpid())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def begun() -> None:
    set_up(None)


class Worker:
    def asked(self, begin: Callable[[], None]) -> dict[str, Any]:
        return in_thread(begin)

    async def lives(self) -> int:
        return os.getpid()


def test_children_of_a_worker_that_trains_end_at_a_sigterm_that_the_worker_outlives() -> None:
    worker = ray.remote(Worker).remote()
    found = ray.get(worker.asked.remote(begun), timeout=60)
    assert (found["program"], found["fork"]) == (-signal.SIGTERM, -signal.SIGTERM)
    os.kill(found["pid"], signal.SIGTERM)
    time.sleep(0.3)
    assert ray.get(worker.lives.remote(), timeout=30) == found["pid"]


def test_without_it_they_never_would() -> None:
    found = ray.get(ray.remote(Worker).remote().asked.remote(int), timeout=60)
    assert found["program"] == 0  # the reason for it: where Ray or moodcast blocks no SIGTERM any more, it can go


def test_a_process_that_hears_a_sigterm_goes_on_hearing_it() -> None:
    before = signal.getsignal(signal.SIGTERM)
    let_children_end()
    assert signal.getsignal(signal.SIGTERM) == before
    caught = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: caught.set())
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught.wait(5)
    finally:
        signal.signal(signal.SIGTERM, before)
