"""A run that may have one worker or two: which it has is nobody's business but the cluster's, and it learns the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import jobs.erm
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.options import workers_of, workers_said
from moodcast.config import parse_overrides, replace_at
from moodcast.manifest import Utterance, write_manifest
from moodcast.order import balance_weights
from moodcast.run import build
from moodcast.step import Trainer
from tests.cluster.machines import machines
from tests.cluster.test_faults import wait_for
from tests.cluster.test_submit import SMALL, begin, ended

EPOCHS = 8
STILL = ["method.dropout=0", "method.hide_bands=0", "method.hide_s=0"]  # what is random in training is each rank's own
FIELDS = [*SMALL, *STILL, "train.batch_size=8", "train.threads=1", f"train.epochs={EPOCHS}", "train.keep=last"]


@pytest.mark.ray
def test_a_run_that_loses_one_of_two_nodes_goes_on_with_one_worker_to_the_same_weights(corpus: list[Utterance], tmp_path: Path) -> None:
    manifest, cache, folder = tmp_path / "tiny.parquet", tmp_path / "cache", tmp_path / "elastic"
    write_manifest(corpus, manifest)
    again = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5"}  # after which it asks anew who is there, as often as it takes; else a minute
    with machines((1, 1), MOODCAST_CACHE=str(cache), **again) as nodes:
        words = ["submit", "erm", manifest, "-a", nodes.address, "--out", tmp_path, "--name", "elastic", "--workers", "1-2", *FIELDS]
        process = begin(*words)
        wait_for(lambda: process.poll() is not None or len(files.read_lines(folder / files.METRICS)) > 1)
        assert process.poll() is None, ended(process)
        workers = (files.read_json(folder / files.PROGRESS) or {})["workers"]
        lost = {nodes.node_of(worker["pid"]) for worker in workers}
        assert len(lost) == 2  # one on each
        nodes.kill(max(lost))
        code, _, told = ended(process)
    assert code == 0, told
    assert f"run {folder}, on 1 to 2 CPU workers" in told
    first, *_, last = attempts = files.read_lines(folder / files.ATTEMPTS)
    assert [len(first["workers"]), len(last["workers"])] == [2, 1]
    assert first["epoch"] == 0
    assert 2 <= last["epoch"] < EPOCHS
    assert [line["epoch"] for line in attempts] == sorted(line["epoch"] for line in attempts)
    alone = learns_as_one_worker(corpus, FIELDS, cache, folder)
    assert len(files.read_lines(folder / files.METRICS)) == EPOCHS
    found = load_file(folder / files.BUNDLE / "weights.safetensors")
    begun = build(replace_at(jobs.erm.RUN, parse_overrides(FIELDS))).state_dict()
    for name, value in alone.method.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=0)
    assert max(float((value - begun[name]).abs().max()) for name, value in found.items()) > 0.02


@pytest.mark.ray
@pytest.mark.timeout(540)
def test_a_run_that_a_second_node_joins_goes_on_with_two_workers_and_learns_the_same(corpus: list[Utterance], tmp_path: Path) -> None:
    manifest, cache, folder = tmp_path / "tiny.parquet", tmp_path / "cache", tmp_path / "growing"
    write_manifest(corpus, manifest)
    fields = [*FIELDS, "train.epochs=9999"]  # more than there is time for
    with machines((1,), MOODCAST_CACHE=str(cache)) as nodes:
        words = ["submit", "erm", manifest, "-a", nodes.address, "--out", tmp_path, "--name", "growing", "--workers", "1-2", *fields]
        process = begin(*words)
        wait_for(lambda: process.poll() is not None or len(files.read_lines(folder / files.METRICS)) > 1)
        assert process.poll() is None, ended(process)
        nodes.join(1)
        wait_for(lambda: process.poll() is not None or len(files.read_lines(folder / files.ATTEMPTS)) > 1)
        assert process.poll() is None, ended(process)
        first, second = files.read_lines(folder / files.ATTEMPTS)
        wait_for(lambda: len(files.read_lines(folder / files.METRICS)) > second["epoch"] + 2)
        process.kill()
        process.wait()
    assert [len(first["workers"]), len(second["workers"])] == [1, 2]
    assert (first["epoch"], second["epoch"] > 1) == (0, True)
    learns_as_one_worker(corpus, fields, cache, folder)


def learns_as_one_worker(corpus: list[Utterance], fields: list[str], cache: Path, folder: Path) -> Trainer:
    """Each epoch of the run was learned once, with the loss of one worker that nobody disturbed, who is given back."""
    lines = files.read_lines(folder / files.METRICS)
    assert [line["epoch"] for line in lines] == list(range(len(lines)))
    run = replace_at(jobs.erm.RUN, parse_overrides(fields))
    data = CachedStretches([row for row in corpus if row.split == "train"], run, cache)
    weights = balance_weights([data.rows[i] for i in data.owners], run.labels, run.train.balance)
    alone = Trainer(build(run), run.train, data, weights)
    threads = torch.get_num_threads()
    torch.set_num_threads(run.train.threads)  # steps are tiny: beside other tests, a second thread makes them many times slower
    losses = [alone.epoch(epoch)["loss"] for epoch in range(len(lines))]
    torch.set_num_threads(threads)
    assert [line["loss"] for line in lines] == pytest.approx(losses, abs=1e-4)
    return alone


def test_the_number_of_workers_is_a_number_or_the_fewest_and_the_most() -> None:
    for said, meant in (("3", 3), ("1-4", (1, 4)), ("2-2", (2, 2))):
        assert workers_of(said) == meant
        assert workers_said(meant) == said
    for wrong in ("0", "4-1", "-2", "1-", "two", "1-2-3", ""):
        with pytest.raises(ValueError, match="--workers takes a number, or the fewest and the most: 4, or 1-4; got"):
            workers_of(wrong)
