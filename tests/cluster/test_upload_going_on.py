"""What a job takes along that goes on with a run of the cluster, and what of this machine it cannot take along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import jobs.erm
import jobs.pretrained
from moodcast import augment
from moodcast.bundle import SETTINGS, SHIPPED
from moodcast.cluster import submit, upload
from moodcast.manifest import Utterance, write_manifest
from moodcast.run import Run

WHOLE = {path.parent.name for path in SHIPPED.glob(f"*/{SETTINGS}")}


class Sent:
    """A cluster that takes a job and notes which shipped bundles came with it."""

    def __init__(self) -> None:
        self.bundles: set[str] = set()

    def submit_job(self, **job: Any) -> None:
        there = Path(job["runtime_env"]["working_dir"]) / "moodcast" / "bundles"
        self.bundles = {path.name for path in there.iterdir() if path.is_dir()}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_manifest([Utterance("1", "/1.wav")], tmp_path / "m.csv")
    return tmp_path / "m.csv"


@pytest.mark.parametrize(
    ("resume", "start_from", "wanted"),
    [
        ("/shared/runs/one", None, WHOLE),  # its folder says which, and lies there
        ("/shared/runs/one", "voiceprint", {"voiceprint"}),
        ("auto", None, set()),  # all is said again
        (None, "voiceprint", {"voiceprint"}),
    ],
)
def test_a_run_that_goes_on_finds_the_shipped_bundle_that_it_started_from(
    resume: str | None, start_from: str | None, wanted: set[str], manifest: Path
) -> None:
    assert len(WHOLE) > 1
    cluster, run = Sent(), replace(jobs.erm.RUN, start_from=start_from)
    submit.submit(cast(Any, cluster), jobs.erm, run, [manifest], out="/shared/runs", name="one", resume=resume)
    assert cluster.bundles == wanted


def noisy(folder: str) -> Run:
    return replace(jobs.erm.RUN, augment=augment.Augment(noise=augment.Noise(share=0.5, folder=folder)))


def test_a_folder_of_this_machine_that_a_run_names_is_refused_before_it_is_sent(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    encoder = replace(jobs.pretrained.RUN, method=replace(jobs.pretrained.RUN.method, encoder="mine"))
    runs = {"method.encoder": encoder, "start_from": replace(jobs.erm.RUN, start_from="mine"), "augment.noise.folder": noisy("mine")}
    for number, (name, run) in enumerate(runs.items()):
        (there := tmp_path / f"there-{number}").mkdir()
        with pytest.raises(ValueError, match=f"^{name}=mine is a folder of this machine, .* name it by its absolute path there$"):
            upload.upload(there, jobs.erm, run, [manifest])


def test_what_lies_on_the_cluster_and_what_goes_along_may_be_named(tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()  # the package goes along
    for number, folder in enumerate((str(tmp_path), "jobs", "nowhere/here")):
        (there := tmp_path / f"there-{number}").mkdir()
        assert upload.upload(there, jobs.erm, noisy(folder), [manifest]) == ["manifests/0-m.parquet"]
