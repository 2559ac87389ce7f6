from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from moodcast import load, weights
from moodcast.bundle import save
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.train import Fit, _keep, finished, fit
from moodcast.config import replace_at
from moodcast.manifest import Utterance, write_manifest
from moodcast.order import balance_weights, epoch_batches
from moodcast.run import Audio, Run, build
from moodcast.step import Trainer, weights_digest
from tests.cluster import slow
from tests.cluster.tiny import Dozing, tiny_run
from tests.cluster.told import board_of, history, runs_of

RUN = tiny_run(epochs=4, batch_size=8, dropout=0.3, sleep_s=0.03)  # about half a second an epoch: time enough to be killed in one
ROOT = Path(__file__).resolve().parents[2]


def wait_for(what: Callable[[], bool], seconds: float = 280.0) -> None:
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


@pytest.mark.ray
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


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("tune", "thaw"), [("none", 0), ("lora", 0), ("full", 1)])
def test_after_a_kill_an_encoder_is_what_it_was_and_as_long_as_it_is_frozen_it_is_written_once(
    tune: Literal["none", "lora", "full"], thaw: int, corpus: list[Utterance], tmp_path: Path, cache: Path
) -> None:
    method = Dozing.Config(encoder="random/wavlm", tune=tune, thaw_per_epoch=thaw, encoder_lr_scale=1.0, dropout=0.0)
    run = replace(RUN, method=method, audio=Audio(rate=16_000), train=replace(RUN.train, keep="last", cache_features="off"))
    killed: list[tuple[int, int]] = []
    killer = threading.Thread(target=kill_worker, args=(tmp_path / "killed", 2, 0, killed))
    killer.start()
    done = fit(run, corpus, tmp_path, name="killed", cache=cache, progress=False)
    killer.join()
    again = files.read_lines(done.folder / files.ATTEMPTS)[1]
    assert again["epoch"] == 2
    assert digests(done.folder) == plain_digests(run, corpus, cache)
    last = max(files.checkpoints(done.folder).values())
    assert ((last / weights.FROZEN).stat().st_mtime < again["time"]) == (tune != "full")
    assert weights.files_of(done.bundle) == [done.bundle / weights.WEIGHTS]
    assert {weights_digest(load(place, trust=("tests",)).method) for place in (last, done.bundle)} == {digests(done.folder)[-1]}


@pytest.mark.ray
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


@pytest.mark.ray
def test_an_interrupted_run_leaves_a_checkpoint_and_the_command_that_goes_on(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    words = f"-m tests.cluster.slow {manifest} --out {tmp_path} --name stopped"
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
    assert f"{last + 1} {'epochs are' if last else 'epoch is'} done, the last is in {latest}" in told
    assert last < 5
    assert load(latest, trust=("tests",)).predict(corpus[0].path).label in ("high", "low")
    command = next(line.strip() for line in told.splitlines() if "--resume" in line)
    python, *rest = shlex.split(command)
    assert python.startswith("python")
    again = subprocess.run([sys.executable, *rest], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == str(folder / files.BUNDLE)
    assert len(files.read_lines(folder / files.METRICS)) == 6
    assert [line["epoch"] for line in files.read_lines(folder / files.ATTEMPTS)] == [0, last + 1]
    assert json.loads((folder / files.BUNDLE / "bundle.json").read_text())["scores"]["dev"]["uar"] > 0.5


@pytest.mark.ray
def test_workers_that_fail_again_and_again_are_said_in_two_lines(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    command = [sys.executable, "-m", "tests.cluster.slow", str(manifest), "--out", str(tmp_path), "--name", "broken", "method.sleep_s=1e12"]
    environment = {**os.environ, "MOODCAST_CACHE": str(cache)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    what = r"error: training failed 3 times, last: .*OverflowError: timestamp.*; no epoch is done yet\. To go on:"
    how = rf"  .* method\.sleep_s=1e12 --resume {re.escape(str(tmp_path / 'broken'))}"
    assert re.search(f"^{what}\n{how}$", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ray
def test_a_run_that_a_scheduler_ends_says_how_to_go_on(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    command = [sys.executable, "-m", "tests.cluster.slow", str(manifest), "--out", str(tmp_path), "--name", "ended"]
    environment = {**os.environ, "MOODCAST_CACHE": str(cache)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as driver:
        wait_for(lambda: driver.poll() is not None or bool(files.read_lines(tmp_path / "ended" / files.METRICS)))
        os.killpg(driver.pid, signal.SIGTERM)  # as `timeout` and systemd do: to Ray's own processes, too
        _, told = driver.communicate(timeout=120)
    assert driver.returncode == 130, told
    assert "Traceback" not in told
    assert re.search(r"[1-5] epochs? (is|are) done, the last is in", told)
    assert "--resume" in told


@pytest.mark.ray
def test_a_driver_that_is_killed_and_started_again_ends_where_training_without_ray_does(
    corpus: list[Utterance], tmp_path: Path, cache: Path
) -> None:
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    command = [sys.executable, "-m", "tests.cluster.slow", str(manifest), "-o", str(tmp_path), "--name", "killed"]
    command += ["--resume", "auto"]  # as whatever starts a job again by itself says it from the first time on
    command += ["--track", "tensorboard,mlflow"]
    environment = {**os.environ, "MOODCAST_CACHE": str(cache)}
    folder = tmp_path / "killed"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True) as driver:
        try:
            wait_for(lambda: driver.poll() is not None or bool(files.read_lines(folder / files.METRICS)))
        finally:
            driver.kill()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=800)
    assert again.returncode == 0, again.stderr
    attempts = [line["epoch"] for line in files.read_lines(folder / files.ATTEMPTS)]
    assert attempts[0] == 0
    assert 1 <= attempts[1] < 6
    assert digests(folder) == plain_digests(slow.RUN, corpus, cache)
    assert [step for step, _ in board_of(folder / files.TENSORBOARD)["dev_uar"]] == [*range(6)]  # each epoch once, whatever the restarts
    client, runs = runs_of(folder)
    (run,) = runs.values()
    assert (run.info.run_name, run.info.status) == ("killed", "FINISHED")
    assert history(client, run, "dev_uar") == [*range(6)]


def digests(folder: Path) -> list[str]:
    return [line["weights"] for line in files.read_lines(folder / files.METRICS)]


def plain_digests(run: Run, rows: list[Utterance], cache: Path) -> list[str]:
    """The weights after each epoch of the same training in this process, without Ray."""
    data = CachedStretches([row for row in rows if row.split == "train"], run, cache)
    weights = balance_weights([data.rows[i] for i in data.owners], run.labels, run.train.balance)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = Trainer(build(run, trust=("tests",)), run.train, data, weights)
        trainer.fit_once()
        found = []
        for epoch in range(run.train.epochs):
            trainer.epoch(epoch)
            found.append(weights_digest(trainer.method))
    finally:
        torch.set_num_threads(threads)
    return found


def can_mount() -> bool:
    """Whether this system lets us have a small disk of our own."""
    return shutil.which("unshare") is not None and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


FULL_DISK = """
import json, os, sys, threading, time
from pathlib import Path
from moodcast.cluster import folder as files
from moodcast.cluster.train import fit
from moodcast.manifest import read_manifest
from tests.cluster.slow import WIDE

out, manifest, cache = map(Path, sys.argv[1:])
rows, run = read_manifest(manifest), WIDE

def fill():
    while not files.read_lines(out / "full" / files.METRICS):
        time.sleep(0.01)
    with (out / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

threading.Thread(target=fill, daemon=True).start()
try:  # a Ray of its own, as on the command line: after such an error Ray Train does not give back what it had reserved
    fit(run, rows, out, name="full", cache=cache, progress=False)
except ValueError as error:
    told = str(error)
kept = len(files.checkpoints(out / "full"))
(out / "filler").unlink()
done = fit(run, rows, out, resume=out / "full", cache=cache, progress=False)
print(json.dumps({"told": told, "kept": kept, "weights": [line["weights"] for line in files.read_lines(done.folder / files.METRICS)]}))
"""


@pytest.mark.ray
def test_a_full_disk_stops_with_one_message_and_room_made_the_run_goes_on(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    if not can_mount():
        pytest.skip("a disk that can be filled takes `unshare --mount`, which this system does not allow")
    manifest = tmp_path / "tiny.parquet"
    write_manifest(corpus, manifest)
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=1200k none "{small}" && exec "$0" -c "$1" "{small}" "{manifest}" "{cache}"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, FULL_DISK], cwd=ROOT, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert re.search(
        r"^no space left in .*/full; [1-5] epochs? (is|are) done, the last is in .*epoch_000\d\. Make room there", found["told"]
    )
    assert found["kept"] >= 1
    assert found["weights"] == plain_digests(slow.WIDE, corpus, cache)
    assert len(found["weights"]) == 6


def test_damaged_recordings_are_all_named_before_anything_begins(corpus: list[Utterance], tmp_path: Path) -> None:
    rows = list(corpus)
    for place in (3, 70):
        rows[place] = replace(rows[place], path=str(tmp_path / f"{place}.wav"))
        Path(rows[place].path).write_bytes(Path(corpus[place].path).read_bytes()[:30])
    train = sum(row.split == "train" for row in rows)
    with pytest.raises(ValueError, match=f"^2 of {train} rows cannot be read: u003: .*; u070: .*Mend these files, or take their rows out"):
        fit(RUN, rows, tmp_path, name="damaged", cache=tmp_path / "cache", progress=False)
    assert not (tmp_path / "damaged").exists()


def test_a_bundle_that_was_copied_by_half_is_no_result(tmp_path: Path) -> None:
    run, console = tiny_run(epochs=1), Console(quiet=True)
    made = save(tmp_path / files.CHECKPOINTS / "epoch_0000", build(run, ("tests",)), run)
    files.append_line(tmp_path / files.METRICS, {"epoch": 0})
    (made / "gone.txt").symlink_to(tmp_path / "nowhere")  # cannot be copied, where all else can
    with pytest.raises(shutil.Error):
        _keep(run, tmp_path, console)
    assert finished(tmp_path, run) is None
    (made / "gone.txt").unlink()
    kept = _keep(run, tmp_path, console)
    assert finished(tmp_path, run) == kept
    assert load(kept.bundle, trust=("tests",)).classes == run.labels.classes
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_is_trained_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        files.held(tmp_path),
        pytest.raises(ValueError, match=rf"{tmp_path} is being trained now, by process {os.getpid()} on "),
        files.held(tmp_path),
    ):
        pytest.fail("held twice")
    with files.held(tmp_path):
        pass


def test_what_is_started_again_by_itself_goes_on_or_begins(tmp_path: Path) -> None:
    assert files.going_on(tmp_path, "new") is None
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / files.RUN).write_text("{}")
    assert files.going_on(tmp_path, "begun") == tmp_path / "begun"
    (tmp_path / "died").mkdir()
    (tmp_path / "died" / files.LOCK).touch()
    assert files.going_on(tmp_path, "died") is None
    assert not (tmp_path / "died").exists()
    (tmp_path / "reads").mkdir()
    with files.held(tmp_path / "reads"), pytest.raises(ValueError, match="is being trained now, by process"):
        files.going_on(tmp_path, "reads")
    assert (tmp_path / "reads").is_dir()
    with pytest.raises(ValueError, match="--resume auto goes on with the run of a --name"):
        files.going_on(tmp_path, None)


def test_a_name_is_free_again_where_the_driver_was_killed_while_it_wrote_what_a_run_begins_with(tmp_path: Path) -> None:
    folder = tmp_path / "died"
    folder.mkdir()
    for name in (files.LOCK, files.MANIFEST, f".{files.TARGET}.4711", f".{files.RUN}.4711"):
        (folder / name).touch()
    with files.held(folder), pytest.raises(ValueError, match="is being trained now, by process"):
        files.new_folder(tmp_path, "died", tiny_run())
    assert list(files.new_folder(tmp_path, "died", tiny_run()).iterdir()) == []
    for name in (files.LOCK, files.RUN):
        (folder / name).touch()
    with pytest.raises(ValueError, match=f"there is a run {folder} already"):
        files.new_folder(tmp_path, "died", tiny_run())


def test_a_folder_that_no_driver_has_locked_is_left_alone_however_little_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / files.MANIFEST).touch()
    assert files.going_on(tmp_path, "mine") is None
    assert (tmp_path / "mine" / files.MANIFEST).is_file()
    with pytest.raises(ValueError, match="is no name for a run"):
        files.going_on(tmp_path / "runs", "../mine")
    (tmp_path / "empty").mkdir()
    assert files.going_on(tmp_path, "empty") is None
    assert not (tmp_path / "empty").exists()
