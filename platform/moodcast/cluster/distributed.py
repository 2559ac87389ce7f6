"""A trial of a sweep as a Train run of its own, with any number of workers that share every batch.

Ray Tune starts a small process for the trial, which starts the Train run; what rank 0 reports comes back by a queue. A trial that falls
behind is not killed, because Ray Train may leave the workers of a killed trial in place, and the next trials would wait for their cores for
ever: it finds a file that tells it to leave, which all ranks see after the same epoch.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from moodcast.cluster import ledger as books
from moodcast.cluster.group import group_of
from moodcast.cluster.process import stand_in
from moodcast.cluster.referee import DEATHS
from moodcast.cluster.trial import last_reports, records
from moodcast.passes import gather_objects

LITTLE = 0.05  # of a core, for the process that only starts the Train run and waits


def launch(given: dict[str, Any]) -> None:
    """One trial, in a process of Ray Tune: start its workers, wait for them."""
    folder, number = Path(given["sweep"]), int(given["trial"])
    home = folder / books.RAY_FOLDER / f"train-{number:04d}"
    shutil.rmtree(home, ignore_errors=True)  # Ray would go on from it; what is gone on from is the trial's own state
    home.mkdir(parents=True)
    gpu = given["device"] == "cuda"
    trainer = TorchTrainer(
        work,
        train_loop_config=given,
        torch_config=group_of(gpu, home),
        scaling_config=ray.train.ScalingConfig(
            num_workers=given["workers"], use_gpu=gpu, resources_per_worker={"CPU": given["cpus"], "GPU": int(gpu)}
        ),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=str(home),
            failure_config=ray.train.FailureConfig(max_failures=DEATHS),
            callbacks=[TuneReportCallback()],  # type: ignore[no-untyped-call,list-item]
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        words = [line.strip() for line in str(error).splitlines() if line.strip()]
        tune.report({"ended": "failed", "error": words[-1] if words else type(error).__name__, "value": 0.0})
        return
    for record in last_reports(given):  # the queue is not waited for at the end
        tune.report(record)


def work(given: dict[str, Any]) -> None:
    """The same trial function on every rank, called by Ray Train."""
    stand_in(given["cwd"])
    context = ray.train.get_context()
    world, rank = context.get_world_size(), context.get_world_rank()
    device: torch.device = ray.train.torch.get_device()
    for record in records({**given, "device": str(device)}, world, rank):
        ray.train.report(record)
        if gather_objects(stop_file(given).is_file(), world)[0]:  # what rank 0 sees
            return


def stop_file(given: Mapping[str, Any]) -> Path:
    """What tells a trial to leave."""
    return Path(given["sweep"]) / books.RAY_FOLDER / f"stop-{int(given['trial']):04d}"


def dismiss(given: Mapping[str, Any]) -> None:
    """Tell a trial to leave."""
    path = stop_file(given)
    path.parent.mkdir(exist_ok=True)
    path.touch()
