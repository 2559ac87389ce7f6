"""Trackers: a run that is killed and gone on with is one run for TensorBoard and MLflow, and no step stands there twice. Without Ray."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster import stores, tracker
from moodcast.cluster.ledger import Ledger, Trial
from moodcast.run import run_to_dict
from tests.cluster.tiny import tiny_run
from tests.cluster.told import board_of, history, runs_of

BOTH = ("tensorboard", "mlflow")
QUIET = Console(file=io.StringIO())


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(stores.URI, raising=False)
    monkeypatch.delenv(stores.EXPERIMENT, raising=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs whose MLflow store is made already: that takes seconds."""
    out = tmp_path_factory.mktemp("runs")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    MlflowClient(f"sqlite:///{out / stores.STORE}").create_experiment("moodcast")
    return out


def begun(out: Path, name: str) -> Path:
    """The folder of a run that has not trained yet."""
    folder = files.new_folder(out, name, tiny_run())
    files.describe(folder, tiny_run(), [], 1)
    return folder


def trained(folder: Path, epochs: range) -> None:
    for epoch in epochs:
        line = {"epoch": epoch, "steps": 4 * epoch, "loss": 1 / (epoch + 1), "dev_uar": 0.5, "weights": "ab", "seconds": float(epoch)}
        files.append_line(folder / files.METRICS, line)


def told(folder: Path, state: type[BaseException] | None = None, wanted: tuple[str, ...] | None = BOTH) -> str:
    """What a sitting in which nothing happens says, which ends so."""
    said = io.StringIO()
    try:
        with tracker.tracking(tracker.opened(folder, wanted), lambda: tracker.of_run(folder), Console(file=said)):
            if state:
                raise state
    except (KeyboardInterrupt, RuntimeError):
        pass
    return said.getvalue()


DRIVER = """
import io, sys, time
from pathlib import Path
from rich.console import Console
from moodcast.cluster import tracker
folder = Path(sys.argv[1])
tracker.EVERY_S = 0.05
with tracker.tracking(tracker.opened(folder, ("tensorboard", "mlflow")), lambda: tracker.of_run(folder), Console(file=io.StringIO())):
    time.sleep(300)
"""


@pytest.fixture
def killed(made: Path) -> Path:
    """A run whose driver was killed after it told of two epochs; half a line of metrics was written."""
    folder = begun(made, "killed")
    trained(folder, range(2))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], env=environment)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and driver.poll() is None:
            time.sleep(0.1)
            if (folder / tracker.CHOICE).is_file() and any((folder / files.TENSORBOARD).glob("events*")):
                client, runs = runs_of(folder)
                if runs and "dev_uar" in runs[""].data.metrics and len(history(client, runs[""], "dev_uar")) == 2:
                    break
        assert driver.poll() is None
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait()
    with (folder / files.METRICS).open("a") as file:
        file.write('{"epoch": 2, "lo')
    return folder


def test_a_killed_run_goes_on_in_the_same_runs_and_no_step_stands_twice(killed: Path) -> None:
    assert runs_of(killed)[1][""].info.status == "RUNNING"
    (killed / files.METRICS).unlink()  # as a worker that goes on does: it tells its epochs again
    trained(killed, range(5))
    assert told(killed, wanted=None) == ""
    board = board_of(killed / files.TENSORBOARD)
    assert set(board) == {"loss", "dev_uar", "seconds"}
    assert board["loss"] == [(epoch, pytest.approx(1 / (epoch + 1))) for epoch in range(5)]
    client, runs = runs_of(killed)
    (run,) = runs.values()
    assert {name: history(client, run, name) for name in run.data.metrics} == {name: [0, 1, 2, 3, 4] for name in board}
    assert (run.info.status, run.info.run_name) == ("FINISHED", "killed")
    assert run.data.params["train.lr"] == str(run_to_dict(tiny_run())["train"]["lr"])
    assert {"method.width", "chunks.length_s", "labels.classes"} <= set(run.data.params)


def test_how_a_run_ended_is_told_and_one_that_goes_on_runs_again(made: Path) -> None:
    folder = begun(made, "ends")
    for number, (end, status) in enumerate(((KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED"), (None, "FINISHED"))):
        trained(folder, range(number, number + 1))
        told(folder, end)
        client, runs = runs_of(folder)
        assert runs[""].info.status == status
        assert history(client, runs[""], "loss") == list(range(number + 1))
    files.write_json(folder / files.FAILURE, {"error": "the loss is nan"})
    told(folder)
    assert runs_of(folder)[1][""].info.status == "FAILED"


def test_a_store_that_goes_away_stops_nothing_and_is_told_later(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(made, "away")
    trained(folder, range(2))
    opened = tracker.opened(folder, ("mlflow",))
    said = io.StringIO()
    hidden = made / "hidden.db"
    (made / stores.STORE).rename(hidden)
    (made / stores.STORE).mkdir()  # neither read nor written
    opened[0].client._tracking_client.store.engine.dispose()  # type: ignore[attr-defined]
    with tracker.tracking(opened, lambda: tracker.of_run(folder), Console(file=said, width=1000)):
        pass
    (made / stores.STORE).rmdir()
    hidden.rename(made / stores.STORE)
    assert "mlflow cannot be told now" in said.getvalue()
    assert "mlflow was not told everything" in said.getvalue()
    assert told(folder, wanted=None) == ""
    client, runs = runs_of(folder)
    assert history(client, runs[""], "loss") == [0, 1]


def test_trials_of_a_sweep_are_runs_below_its_own(made: Path) -> None:
    folder = made / "sweep"
    folder.mkdir()
    files.write_json(folder / books.SETTINGS, {"trials": 3, "epochs": 2, "fixed": {"train.epochs": 2}, "run": {}, "searcher": "random"})
    with Ledger(folder, write=True) as ledger:
        for number, state, scores in ((0, "finished", (0.3, 0.4)), (1, "stopped", (0.2,)), (2, "running", (0.5,))):
            ledger.begin(Trial(number, {}, {}, {"train.lr": 0.1 / (number + 1), "method.mix.kind": "none", "method.on": True}))
            for epoch, score in enumerate(scores, start=1):
                ledger.epoch(number, {"epoch": epoch, "value": score, "spread": 0.0, "each": [score], "loss": None, "seconds": 0.5})
            if state != "running":
                ledger.end(number, state)
        for _ in range(2):  # a second sitting adds nothing
            with pytest.raises(KeyboardInterrupt), tracker.tracking(tracker.opened(folder, BOTH), lambda: tracker.of_sweep(folder), QUIET):
                raise KeyboardInterrupt
        ledger.epoch(2, {"epoch": 2, "value": 0.6, "spread": 0.0, "each": [0.6], "loss": 0.1, "seconds": 0.5})
        ledger.end(2, "finished")
        with tracker.tracking(tracker.opened(folder, None), lambda: tracker.of_sweep(folder), QUIET):
            pass
    place = folder / files.TENSORBOARD
    assert board_of(place)["best"] == [(1, pytest.approx(0.4)), (2, pytest.approx(0.4)), (3, pytest.approx(0.6))]
    assert board_of(place / "0002")["value"] == [(1, pytest.approx(0.5)), (2, pytest.approx(0.6))]
    told = EventAccumulator(str(place / "0001")).Reload().summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"train.lr" in told
    assert b"True" in told, "a switch is not a number"
    assert len(list((place / "0001").iterdir())) == 1, "a trial that ended is not opened again"
    client, runs = runs_of(folder)
    assert {part: run.info.status for part, run in runs.items()} == {
        "": "FINISHED",
        "0000": "FINISHED",
        "0001": "KILLED",
        "0002": "FINISHED",
    }
    assert {run.data.tags.get(stores.PARENT) for part, run in runs.items() if part} == {runs[""].info.run_id}
    assert history(client, runs["0002"], "value") == [1, 2]
    assert history(client, runs[""], "best") == [1, 2, 3]
    assert runs["0001"].data.params == {"train.lr": "0.05", "method.mix.kind": "none", "method.on": "true"}
    assert runs[""].data.params["train.epochs"] == "2"


def test_what_was_chosen_is_remembered_and_none_is_a_choice(tmp_path: Path) -> None:
    folder = begun(tmp_path, "run")
    assert [one.name for one in tracker.opened(folder, None, default=("tensorboard",))] == ["tensorboard"]
    assert tracker.remembered(folder) == ("tensorboard",)
    assert tracker.opened(folder, ()) == []
    assert tracker.opened(folder, None, default=("tensorboard",)) == []
    key = json.loads((folder / tracker.CHOICE).read_text())["key"]
    tracker.opened(folder, ("tensorboard",))
    assert json.loads((folder / tracker.CHOICE).read_text()) == {"key": key, "trackers": ["tensorboard"]}
    other = begun(tmp_path, "other")
    assert tracker.opened(other, None) == []
    assert tracker.remembered(other) == ()
    assert not (other / tracker.CHOICE).exists()


@pytest.mark.parametrize(("words", "names"), [(None, None), ("none", ()), ("mlflow, tensorboard,mlflow", ("mlflow", "tensorboard"))])
def test_trackers_are_named_with_commas(words: str | None, names: tuple[str, ...] | None) -> None:
    assert tracker.chosen(words) == names


@pytest.mark.parametrize(
    ("words", "message"), [("tensorbord", "Did you mean 'tensorboard'"), (",", "which trackers"), ("none,mlflow", "'none'")]
)
def test_another_name_is_refused(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tracker.chosen(words)


@pytest.mark.parametrize(("name", "extra"), [("mlflow", "mlflow"), ("tensorboard", "ray")])
def test_a_library_that_is_missing_is_named_with_its_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"--track {name} needs {name}: pip install 'moodcast\[{extra}\]'"):
        tracker.chosen(name)


@pytest.mark.parametrize(
    ("uri", "sent"),
    [("http://store:5000", True), ("https://me:secret@store", False), ("sqlite:///store.db", False), ("", False)],
)
def test_a_job_is_told_where_the_store_is_but_no_file_of_here_and_no_password(
    monkeypatch: pytest.MonkeyPatch, uri: str, sent: bool
) -> None:
    from moodcast.cluster.submit import _servers

    monkeypatch.setenv(stores.URI, uri)
    monkeypatch.setenv(stores.EXPERIMENT, "mine")
    assert _servers() == {stores.EXPERIMENT: "mine", **({stores.URI: uri} if sent else {})}


def test_a_store_that_cannot_be_opened_is_refused_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stores.URI, "strange://me:secret@nowhere/store")
    with pytest.raises(ValueError, match="MLflow at strange://nowhere/store cannot be told of run.*MLFLOW_TRACKING_URI") as error:
        tracker.opened(begun(tmp_path, "run"), ("mlflow",))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "uri", "view"),
    [
        ("tensorboard", "", "tensorboard --logdir '{0}/a run/tensorboard'"),
        ("mlflow", "", "mlflow ui --backend-store-uri sqlite:///{0}/mlflow.db"),
        ("mlflow", "https://me:secret@store", "https://store"),
    ],
)
def test_what_shows_the_curves_is_said_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, uri: str, view: str
) -> None:
    monkeypatch.setenv(stores.URI, uri)
    assert stores.view_of(name, tmp_path / "a run") == view.format(tmp_path)
