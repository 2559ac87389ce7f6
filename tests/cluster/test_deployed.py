"""The manifests and the image of deploy/ against what Ray and the service make of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._common.usage import usage_lib

from moodcast.service.settings import from_environment

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CLUSTERS = {"rayjob": "rayClusterSpec", "rayservice": "rayClusterConfig"}


def spec(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / f"{name}.yaml").read_text())["spec"])


def groups(name: str) -> list[dict[str, Any]]:
    cluster = spec(name)[CLUSTERS[name]]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


@pytest.mark.parametrize("name", CLUSTERS)
def test_shared_memory_is_left_to_kuberay_which_gives_a_pod_as_much_as_its_memory(name: str) -> None:
    for group in groups(name):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
        mounts = {mount["mountPath"] for mount in container.get("volumeMounts", [])}
        assert "/dev/shm" not in mounts, "a smaller one than Ray's store wants puts the store on the disk"
        named = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert {volume["name"] for volume in group["template"]["spec"].get("volumes", [])} == named


def test_a_cluster_of_the_image_tells_nobody_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.removeprefix("ENV ") for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line.startswith("ENV ")]
    environment = dict(word.split("=", 1) for line in lines for word in shlex.split(line))
    monkeypatch.delenv(usage_lib.usage_constant.USAGE_STATS_ENABLED_ENV_VAR, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not usage_lib.usage_stats_enabled()


def test_a_model_of_the_service_computes_with_as_many_threads_as_its_pod_has_cpus() -> None:
    (app,) = yaml.safe_load(spec("rayservice")["serveConfigV2"])["applications"]
    (container,) = groups("rayservice")[1]["template"]["spec"]["containers"]
    assert from_environment(app["args"], {}).torch_threads == int(container["resources"]["limits"]["cpu"])
