"""The manifests of deploy/ are what KubeRay and moodcast understand: no key that either does not know."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from moodcast import config
from moodcast.cli.words import find_job, sort_words
from moodcast.cluster import tracker
from moodcast.service.settings import from_environment

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = Path(os.environ.get("MOODCAST_SCHEMAS", ROOT.parent / "shared" / "schemas"))
KINDS = {"rayjob": "kuberay_rayjobs_v1.json", "rayservice": "kuberay_rayservices_v1.json"}


def manifest(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "deploy" / f"{name}.yaml").read_text()))


def unknown(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Keys that the schema does not name: Kubernetes would drop them without a word."""
    if isinstance(value, list):
        for item in value:
            yield from unknown(item, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from unknown(inner, schema["properties"][key], f"{path}.{key}")


@pytest.mark.parametrize("name", KINDS)
def test_a_manifest_fits_the_schema_of_kuberay_and_has_no_key_that_it_does_not_know(name: str) -> None:
    if not (SCHEMAS / KINDS[name]).is_file():
        pytest.skip(f"KubeRay's schema is not in {SCHEMAS}; MOODCAST_SCHEMAS names the folder that has it")
    schema = json.loads((SCHEMAS / KINDS[name]).read_text())
    given = manifest(name)
    assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(given)] == []
    assert list(unknown(given, schema)) == []
    given["spec"]["replicsa"] = 1
    assert list(unknown(given, schema)) == [".spec.replicsa"]


def test_the_job_runs_a_command_that_moodcast_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verb, *words = shlex.split(manifest("rayjob")["spec"]["entrypoint"])[1:]
    assert verb == "train"
    job, *rest = words
    plain = [word for word in rest[: rest.index("--workers")] if "=" in word]
    assert config.replace_at(find_job(job).RUN, config.parse_overrides(sort_words(plain)[1])).train.epochs == 20
    workers = manifest("rayjob")["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"]
    assert rest[rest.index("--workers") + 1] == str(workers)
    assert set(yaml.safe_load(manifest("rayjob")["spec"]["runtimeEnvYAML"])) == {"env_vars"}


def test_the_service_is_one_that_ray_serve_and_moodcast_understand() -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(manifest("rayservice")["spec"]["serveConfigV2"]))
    (app,) = schema.applications
    assert app.import_path == "serve_apps.podcast:build"
    assert from_environment(app.args).max_mb == 200.0


def test_manifests_and_image_name_the_ray_that_moodcast_was_tried_with() -> None:
    pinned = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert manifest("rayjob")["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    assert manifest("rayservice")["spec"]["rayClusterConfig"]["rayVersion"] == pinned[1]
    assert f"rayproject/ray:{pinned[1]}-" in (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.parametrize(("name", "cluster"), [("rayjob", "rayClusterSpec"), ("rayservice", "rayClusterConfig")])
def test_a_cluster_asks_for_a_token_and_has_as_many_workers_as_it_says(name: str, cluster: str) -> None:
    spec = manifest(name)["spec"][cluster]
    assert spec["authOptions"] == {"mode": "token"}, "who reaches a Ray without one runs code on it"
    assert "enableInTreeAutoscaling" not in spec
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == group["replicas"] == group["maxReplicas"], "without the autoscaler nothing moves between them"


def of_extras(names: str) -> set[str]:
    """The extras "ray,all", with those that they consist of."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found: set[str] = set()
    for name in names.split(","):
        inner = [match[1] for line in known[name] if (match := re.fullmatch(r"moodcast\[(.+)\]", line))]
        found = found.union({name}, *map(of_extras, inner))
    return found


@pytest.mark.parametrize("name", tracker.TRACKERS)
def test_the_image_brings_what_a_tracker_says_that_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"--track {name} needs") as told:
        tracker.chosen(name)
    needed = re.search(r"moodcast\[(\w+)\]", str(told.value))
    installed = re.search(r"'\.\[(.+?)\]'", (ROOT / "deploy" / "Dockerfile").read_text())
    assert needed is not None
    assert installed is not None
    assert needed[1] in of_extras(installed[1])


def test_the_image_is_given_what_an_installation_is_made_of_and_nothing_else() -> None:
    given = {line[1:] for line in (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {Path(path).parts[0] for path in settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert given == packages | {settings["project"]["readme"], *settings["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert all((ROOT / name).exists() for name in given)


def test_what_builds_moodcast_is_pinned_in_the_image_as_everywhere(root: Path) -> None:
    builders = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    pinned = {line.partition("==")[0] for line in (root / "constraints.txt").read_text().splitlines()}
    installs = re.findall(r"pip install (.*?)(?: \\\n|\n)", (root / "deploy" / "Dockerfile").read_text())
    assert installs, "the image installs moodcast"
    assert all("--constraint constraints.txt" in line for line in installs)
    assert {re.split(r"[><=]", builder)[0] for builder in builders} <= set(installs[0].split()) & pinned
    assert "--no-build-isolation" in installs[-1]
