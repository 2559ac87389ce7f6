"""What is said while a run is watched: its epochs once each, and when all workers have begun again."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from moodcast.cluster import folder as files
from moodcast.cluster import nodes, watch
from moodcast.cluster.watch import watching


def attempt(epoch: int, workers: int) -> dict[str, object]:
    return {"epoch": epoch, "time": 0.0, "workers": [{"host": "h", "pid": pid} for pid in range(workers)]}


def test_workers_that_begin_again_are_told_with_their_number_and_epochs_come_once(tmp_path: Path) -> None:
    files.write_json(tmp_path / files.RUN, {"run": {"train": {"epochs": 9}}})
    lines = [{"epoch": epoch, "loss_classes": 0.5, "seconds": 1.0} for epoch in range(4)]
    files.append_line(tmp_path / files.ATTEMPTS, attempt(0, 2))  # of a sitting before
    files.append_line(tmp_path / files.METRICS, lines[0])
    said = io.StringIO()

    def wait_for(word: str) -> None:
        end = time.monotonic() + 20
        while word not in said.getvalue():
            assert time.monotonic() < end, said.getvalue()
            time.sleep(0.02)

    with watching(tmp_path, Console(file=said, width=200), epochs_done=1):
        files.append_line(tmp_path / files.ATTEMPTS, attempt(1, 2))
        files.append_line(tmp_path / files.METRICS, lines[1])
        wait_for("epoch 2/9")
        (tmp_path / files.METRICS).unlink()  # as a worker does that begins again
        files.append_line(tmp_path / files.ATTEMPTS, attempt(2, 1))
        wait_for("epoch 3: 1")
        for line in lines[:3]:
            files.append_line(tmp_path / files.METRICS, line)
        wait_for("epoch 3/9")
        files.append_line(tmp_path / files.ATTEMPTS, attempt(3, 1))
        wait_for("epoch 4: 1")
        files.append_line(tmp_path / files.METRICS, lines[3])
    assert said.getvalue().splitlines() == [
        "epoch 2/9  classes 0.5000  1.0 s",
        "all workers began again with epoch 3: 1 worker now, 2 before",
        "epoch 3/9  classes 0.5000  1.0 s",
        "all workers began again with epoch 4: 1 worker",
        "epoch 4/9  classes 0.5000  1.0 s",
    ]


class Controller:
    """Asks for workers in another process than the driver, as that of Ray Train does."""

    def ask(self) -> None:
        import ray

        self.group = ray.util.placement_group([{"CPU": 1.0}] * 3)

    def leave(self) -> None:
        import ray

        ray.util.remove_placement_group(self.group)


@pytest.mark.ray
def test_workers_for_which_there_is_no_room_are_told_once_when_nothing_comes(
    tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(watch, "QUIET_S", 0.5)
    files.write_json(tmp_path / files.RUN, {"run": {"train": {"epochs": 9}}})
    said = io.StringIO()
    with watching(tmp_path, Console(file=said, width=200)):
        assert nodes.waited_for() == ""
        time.sleep(1.5)
        assert said.getvalue() == ""  # there is room, as far as anybody asks
        controller = ray.remote(num_cpus=0)(Controller).remote()
        ray.get(controller.ask.remote())
        time.sleep(4.0)
    ray.get(controller.leave.remote())
    assert said.getvalue().splitlines() == ["waiting for room: 3 workers of 1 CPU asked for, and Ray has 2 CPU free"]
