from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import jobs.erm
from moodcast.cluster import upload
from moodcast.manifest import Utterance, read_manifest, write_manifest

ROWS = [Utterance(id=str(n), path=f"/data/corpus/{n}.wav", corpus="c", speaker=str(n), emotion="sad") for n in range(3)]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    write_manifest(ROWS, tmp_path / "mine.csv")
    return tmp_path / "mine.csv"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


def test_what_is_uploaded_is_code_and_manifests_and_small(there: Path, manifest: Path) -> None:
    names = upload.upload(there, jobs.erm, jobs.erm.RUN, [manifest, "cluster:/shared/other.parquet"])
    assert names == ["manifests/0-mine.parquet", "/shared/other.parquet"]
    assert read_manifest(there / names[0]) == ROWS
    assert (there / "moodcast" / "methods" / "erm.py").is_file()
    assert (there / "jobs" / "erm.py").is_file()
    assert not [path for path in there.rglob("*") if path.suffix in (".safetensors", ".pyc", ".wav")]
    assert upload.megabytes(there) < 2


def test_the_shipped_bundle_that_a_run_starts_from_goes_along_and_no_other(there: Path, manifest: Path) -> None:
    upload.upload(there, jobs.erm, replace(jobs.erm.RUN, start_from="default"), [manifest])
    assert [path.name for path in (there / "moodcast" / "bundles").iterdir() if path.is_dir()] == ["default"]


def test_a_module_of_the_user_goes_along_whole(tmp_path: Path, there: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "sentlab"
    lab.mkdir()
    (lab / "__init__.py").touch()
    (lab / "helper.py").write_text("EPOCHS = 3\n")
    (lab / "job.py").write_text("from jobs.erm import RUN\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    job = importlib.import_module("sentlab.job")
    upload.upload(there, job, job.RUN, [manifest])
    assert {path.name for path in (there / "sentlab").iterdir()} == {"__init__.py", "helper.py", "job.py"}
    before = upload.code_digest(there)
    (there / "sentlab" / "helper.py").write_text("EPOCHS = 4\n")
    assert upload.code_digest(there) != before
    del sys.modules["sentlab"], sys.modules["sentlab.job"]


def test_what_is_big_is_refused_by_name(tmp_path: Path, there: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "biglab"
    lab.mkdir()
    (lab / "__init__.py").write_text("from jobs.erm import RUN\n")
    (lab / "weights.bin").write_bytes(bytes(3_000_000))
    monkeypatch.syspath_prepend(str(tmp_path))
    job = importlib.import_module("biglab")
    with pytest.raises(
        ValueError, match=r"^[34]\.\d MB would be uploaded, wanted at most 2: biglab/weights\.bin 3\.0 MB, .*belong on storage"
    ):
        upload.upload(there, job, job.RUN, [manifest], max_mb=2)
    del sys.modules["biglab"]


def test_recordings_are_called_as_on_the_cluster() -> None:
    rows = [replace(ROWS[0], clean="/elsewhere/0.wav"), replace(ROWS[1], path="/database/1.wav")]
    moved = upload.elsewhere(rows, {"/data/": "/mnt/corpora/"})
    assert [(row.path, row.clean) for row in moved] == [("/mnt/corpora/corpus/0.wav", "/elsewhere/0.wav"), ("/database/1.wav", None)]
    with pytest.raises(ValueError, match="no path of the manifest begins with /dat; the first is /data/corpus/0.wav"):
        upload.elsewhere(ROWS, {"/dat": "/mnt"})


def test_a_file_that_holds_a_run_is_a_job_too(tmp_path: Path, there: Path, manifest: Path) -> None:
    (tmp_path / "winner.json").write_text("{}")
    upload.upload(there, tmp_path / "winner.json", jobs.erm.RUN, [manifest])
    assert (there / "winner.json").read_text() == "{}"
