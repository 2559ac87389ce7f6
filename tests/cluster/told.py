"""What TensorBoard and MLflow were told of a run or a sweep, read with their own libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from moodcast.cluster import stores, tracker


def board_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By step: two sittings that begin in the same second have files in no order."""
    there = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: sorted((event.step, event.value) for event in there.Scalars(tag)) for tag in there.Tags()["scalars"]}


def runs_of(folder: Path) -> tuple[MlflowClient, dict[str, Any]]:
    """The runs of MLflow that belong to a folder, by part."""
    client = MlflowClient(f"sqlite:///{folder.parent / stores.STORE}")
    key = json.loads((folder / tracker.CHOICE).read_text())["key"]
    found = client.search_runs([client.get_experiment_by_name("moodcast").experiment_id], f"tags.`{stores.KEY}` = '{key}'")
    by_part = {run.data.tags[stores.PART]: run for run in found}
    assert len(by_part) == len(found), "each part is one run"
    return client, by_part


def history(client: MlflowClient, run: Any, name: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run.info.run_id, name)]
