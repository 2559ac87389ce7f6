"""A sweep on a real Ray, killed in every way there is, comes to the same set of trials as one that nothing disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from moodcast.cluster import folder as files
from moodcast.cluster import stores, sweep
from moodcast.cluster.ledger import RAY_FOLDER, Ledger
from tests.cluster.sweeping import begun, play, scores, space
from tests.cluster.tiny import tiny_corpus, tiny_run
from tests.cluster.told import board_of, history, runs_of

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
RUN = tiny_run(epochs=4, sleep_s=0.05)
TRIAL = "ray::ImplicitFunc"  # what Ray calls the process of a trial
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # a minute after their Ray they go, too, and do nothing in it
DRIVER = """
import sys
from pathlib import Path
from typing import Any
from moodcast.cluster import sweep
from tests.cluster.sweeping import space
try:
    ledger = sweep.go_on(Path(sys.argv[1]), space, sweep.Machines(concurrent=1), cache=Path(sys.argv[2]), track=("tensorboard", "mlflow"))
except KeyboardInterrupt as stopped:
    sys.exit(f"interrupted: {stopped}")
print(len(ledger.ended))
"""


def wait_for(what: Callable[[], bool], driver: subprocess.Popen[str], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        if driver.poll() is not None or time.monotonic() > end:
            pytest.fail(f"waited in vain; the driver says: {driver.communicate()[1] if driver.poll() is not None else 'nothing'}")
        time.sleep(0.02)


def below(driver: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes that a driver started, directly or not, whose command line has a word."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.timeout(1200)
def test_killed_in_four_ways_it_comes_to_the_same_trials_and_none_is_run_twice(cache: Path, tmp_path: Path) -> None:
    rows = [replace(row, split="train") for row in tiny_corpus(tmp_path / "corpus", num=72, speakers=6)]
    folder = begun(rows, tmp_path / "sweep", RUN, trials=5)
    done: list[int] = []

    def reports() -> int:
        return sum(len(trial.epochs) + (trial.state != "running") for trial in Ledger(folder).trials.values())

    def drive() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(cache)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    driver = drive()  # a trial's process is killed: Ray Tune starts it again, and it goes on from its last epoch
    wait_for(lambda: reports() >= 2, driver)
    (trial,) = below(driver, TRIAL)
    trial.kill()
    wait_for(lambda: reports() >= 4, driver)
    os.killpg(driver.pid, signal.SIGINT)  # Ctrl-C, as a terminal sends it: to everything
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert f"interrupted: interrupted; {len(Ledger(folder).ended)} of 5 trials are done" in said
    assert f"moodcast tune --resume {folder}" in said
    done.append(reports())

    driver = drive()  # the driver is killed, and what it started goes with it
    wait_for(lambda: reports() >= done[-1] + 3, driver)
    agents = [process for name in AGENTS for process in below(driver, name)]
    started = [process for process in below(driver, "") if process not in agents]
    driver.kill()
    driver.communicate()
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left
    done.append(reports())

    driver = drive()  # the cluster is killed: the driver ends by itself
    wait_for(lambda: reports() >= done[-1] + 2, driver)
    for process in (*below(driver, "raylet/raylet"), *below(driver, "gcs_server")):
        process.kill()
    driver.communicate(timeout=300)
    assert driver.returncode != 0
    assert len(Ledger(folder).ended) < 5, "the sweep is over before the cluster was killed: nothing was shown"

    driver = drive()
    said, wrong = driver.communicate(timeout=300)
    assert said.strip() == "5", wrong
    found = Ledger(folder)
    found.check_count()
    assert scores(found) == scores(play(begun(rows, tmp_path / "whole", RUN, trials=5), cache))
    assert not (folder / RAY_FOLDER).exists()
    assert sorted(path.name for path in (folder / "trials").iterdir()) == sorted(f"{t.number:04d}" for t in found.ranked()[:2])
    client, runs = runs_of(folder)  # five drivers told of it, and each trial is one run, each epoch one step
    assert set(runs) == {stores.WHOLE, *(f"{trial.number:04d}" for trial in found.ended)}
    for trial in found.ended:
        steps = [int(line["epoch"]) for line in trial.epochs]
        assert history(client, runs[f"{trial.number:04d}"], "value") == steps
        assert [step for step, _ in board_of(folder / files.TENSORBOARD / f"{trial.number:04d}")["value"]] == steps


@pytest.mark.timeout(1200)
def test_trials_that_are_train_runs_of_two_workers_come_to_the_same(cache: Path, tmp_path: Path) -> None:
    """Two workers share every batch, so scores are those of one; who falls behind leaves by itself, and the next can begin."""
    rows = [replace(row, split="train") for row in tiny_corpus(tmp_path / "corpus", num=72, speakers=6)]
    same: dict[str, Any] = {"run": tiny_run(epochs=2), "trials": 4, "fixed": {"method.dropout": 0.0}}  # each rank would hide other things
    alone = play(begun(rows, tmp_path / "alone", **same), cache)
    found = sweep.go_on(begun(rows, tmp_path / "sweep", **same), space, sweep.Machines(1, workers=2), cache=cache, progress=False)
    assert [(t.number, t.state, t.last_epoch) for t in found.ended] == [(t.number, t.state, t.last_epoch) for t in alone.ended]
    assert "stopped" in {trial.state for trial in found.ended}
    for ours, theirs in zip(found.ended, alone.ended, strict=True):
        assert [line["loss"] for line in ours.epochs] == pytest.approx([line["loss"] for line in theirs.epochs], abs=1e-4)
    assert not (found.folder / RAY_FOLDER).exists()
