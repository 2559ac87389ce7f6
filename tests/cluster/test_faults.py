from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from moodcast import load
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.train import Fit, fit
from moodcast.config import replace_at
from moodcast.manifest import Utterance, write_manifest
from moodcast.order import epoch_batches
from tests.cluster.tiny import tiny_run

pytestmark = pytest.mark.ray
RUN = tiny_run(epochs=4, batch_size=8, dropout=0.3, sleep_s=0.03)  # about half a second an epoch: time enough to be killed in one
ROOT = Path(__file__).resolve().parents[2]


def wait_for(what: Callable[[], bool], seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain")
        time.sleep(0.01)


def kill_worker(folder: Path, epoch: int, rank: int, killed: list[tuple[int, int]]) -> None:
    """SIGKILL for a worker in the middle of an epoch; notes (epoch, step) at that moment."""

    def there() -> bool:
        now = files.read_json(folder / files.PROGRESS)
        return now is not None and now["epoch"] == epoch and 0 < now["step"] < now["steps"]

    wait_for(there)
    now = files.read_json(folder / files.PROGRESS) or {}
    os.kill(now["workers"][rank]["pid"], signal.SIGKILL)
    killed.append((now["epoch"], now["step"]))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def undisturbed(corpus: list[Utterance], out: Path, cache: Path, local_ray: None) -> Fit:
    return fit(RUN, corpus, out, name="undisturbed", workers=2, cache=cache, progress=False)


@pytest.mark.usefixtures("local_ray")
def test_killed_workers_are_replaced_and_the_result_is_that_of_an_undisturbed_run(
    undisturbed: Fit, corpus: list[Utterance], out: Path, cache: Path
) -> None:
    killed: list[tuple[int, int]] = []

    def kill_both() -> None:
        kill_worker(out / "killed", 1, 1, killed)
        kill_worker(out / "killed", 2, 0, killed)

    killer = threading.Thread(target=kill_both)
    killer.start()
    done = fit(RUN, corpus, out, name="killed", workers=2, cache=cache, progress=False)
    killer.join()
    assert [epoch for epoch, _ in killed] == [1, 2]
    started = [line["epoch"] for line in files.read_lines(done.folder / files.ATTEMPTS)]
    assert started == [0, 1, 2]  # resumed in the epoch of the kill: less than one epoch is repeated
    for where in (Path(files.CHECKPOINTS) / "epoch_0003", Path(files.BUNDLE)):
        ours, theirs = (load_file(place.folder / where / "weights.safetensors") for place in (done, undisturbed))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    lines, wanted = (files.read_lines(place.folder / files.METRICS) for place in (done, undisturbed))
    assert [{**line, "seconds": 0} for line in lines] == [{**line, "seconds": 0} for line in wanted]


@pytest.mark.usefixtures("local_ray")
def test_a_loss_that_is_no_number_on_one_rank_stops_all_and_names_its_utterances(corpus: list[Utterance], out: Path, cache: Path) -> None:
    run = replace_at(RUN, {"method.nan_at_step": 17, "method.sleep_s": 0.0, "train.balance": "none"})
    with pytest.raises(ValueError, match=r"epoch 1, step 2: the loss is nan \(terms: classes nan\); utterances .*; look at") as stopped:
        fit(run, corpus, out, name="nan", workers=2, cache=cache, progress=False)
    named = str(stopped.value).partition("utterances ")[2].partition(";")[0].split(", ")
    data = CachedStretches([row for row in corpus if row.split == "train"], run, cache)
    assert named == data.names(epoch_batches(len(data), 8, 0, epoch=1, world=2, rank=1)[2])
    assert len(files.read_lines(out / "nan" / files.METRICS)) == 1
    assert len(files.read_lines(out / "nan" / files.ATTEMPTS)) == 1  # trying again is no use


def test_an_interrupted_run_leaves_a_checkpoint_and_the_command_that_goes_on(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    small = "labels.classes=high,low audio.rate=8000 chunks.length_s=0.5 chunks.hop_s=0.5 method.width=16 method.num_mels=32"
    words = f"-m jobs.erm {manifest} --out {tmp_path} --name stopped {small} train.epochs=8 train.batch_size=8"
    environment = {**os.environ, "MOODCAST_CACHE": str(cache)}
    with subprocess.Popen(
        [sys.executable, *words.split()], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        folder = tmp_path / "stopped"
        wait_for(lambda: driver.poll() is not None or bool(files.read_lines(folder / files.METRICS)))
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to everything that it started
        _, told = driver.communicate(timeout=120)
    assert driver.returncode == 130, told
    assert "Traceback" not in told
    last, latest = max(files.checkpoints(folder).items())
    assert f"{last + 1} epochs are done, the last is in {latest}" in told
    assert last < 7
    assert load(latest).predict(corpus[0].path).label in ("high", "low")
    command = next(line.strip() for line in told.splitlines() if "--resume" in line)
    python, *rest = shlex.split(command)
    assert python.startswith("python")
    again = subprocess.run([sys.executable, *rest], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == str(folder / files.BUNDLE)
    assert len(files.read_lines(folder / files.METRICS)) == 8
    assert [line["epoch"] for line in files.read_lines(folder / files.ATTEMPTS)] == [0, last + 1]
    assert json.loads((folder / files.BUNDLE / "bundle.json").read_text())["scores"]["dev"]["uar"] > 0.5
