"""What a Ray job takes along to a cluster: the package, the jobs, a lab's own module, the manifests; small, and checked. Without Ray.

The folder becomes the job's working directory, which Ray unpacks on every node and puts before everything installed there: whatever
moodcast the cluster's image holds, driver and workers run the code that was sent. Recordings stay where they are.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import moodcast
from moodcast.bundle import SETTINGS
from moodcast.config import leaves
from moodcast.manifest import Utterance, read_manifest, write_manifest
from moodcast.method import method_name
from moodcast.run import Run

MAX_MB = 25.0  # Ray takes at most 100 MiB; code and manifests are far smaller, so what is bigger is there by mistake
THERE = "cluster:"  # begins the name of a manifest that lies on the cluster
MANIFESTS = "manifests"
PLACES = ("encoder", "text", "folder", "start_from")  # fields of a run that may name a folder end so
UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def upload(
    folder: Path,
    job: ModuleType | Path,
    run: Run,
    manifests: Sequence[str | Path],
    moved: Mapping[str, str] | None = None,
    max_mb: float = MAX_MB,
    going_on: bool = False,
) -> list[str]:
    """Fill the empty `folder` with what the job needs; the manifests' names in it.

    job: a module, or a file with a run, which is copied. moved: how the beginnings of paths are called on the cluster. Manifests
    "cluster:/path" are there already and are named as they are. going_on: with a run of the cluster, whose folder knows what it starts
    from, while `run` may not.
    Raises ValueError for manifests that cannot be read, for folders of this machine that the run names and nobody sends, and for a folder
    that becomes bigger than `max_mb`, with what is big in it.
    """
    bundled = Path(moodcast.__file__).parent / "bundles"

    def ignored(where: str, names: list[str]) -> set[str]:
        """Of the bundles that ship with the package only those go along that the run starts from, or may have started from."""
        if Path(where) != bundled:
            return UNWANTED(where, names)
        may = {name for name in names if (bundled / name / SETTINGS).is_file()} if going_on and run.start_from is None else {run.start_from}
        return {*names} - may

    if isinstance(job, Path):
        shutil.copy2(job, folder / job.name)
    own = [] if isinstance(job, Path) else [job.__name__]
    for module in sorted({"moodcast", "jobs", *(name.partition(".")[0] for name in (*own, method_name(run.method)))}):
        for source in _sources(module):
            if source.is_dir():
                shutil.copytree(source, folder / source.name, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy2(source, folder / source.name)
    _check_places(run, folder)
    here = [str(manifest) for manifest in manifests if not str(manifest).startswith(THERE)]
    read = [read_manifest(manifest) for manifest in here]
    rows = iter(elsewhere([row for part in read for row in part], moved or {}))
    names = {name: f"{MANIFESTS}/{number}-{Path(name).stem}.parquet" for number, name in enumerate(here)}
    for name, part in zip(here, read, strict=True):
        write_manifest([next(rows) for _ in part], folder / names[name])
    check_size(folder, max_mb)
    return [names.get(name) or name.removeprefix(THERE) for name in map(str, manifests)]


def _check_places(run: Run, folder: Path) -> None:
    for name, value in leaves(run).items():
        given = name.rpartition(".")[2] in PLACES and isinstance(value, str) and bool(value)
        if given and Path(value).is_dir() and not Path(value).is_absolute() and not (folder / value).exists():
            raise ValueError(
                f"{name}={value} is a folder of this machine, and code and manifests alone are sent; put it on storage that every node of "
                "the cluster mounts, and name it by its absolute path there"
            )


def elsewhere(rows: Sequence[Utterance], moved: Mapping[str, str]) -> list[Utterance]:
    """Rows whose paths are absolute, and called as on the cluster where they begin with a key of `moved`.

    Raises ValueError for a beginning that no path has.
    """
    unused = set(moved)

    def there(path: str | None) -> str | None:
        if path is None:
            return None
        absolute = str(Path(path).absolute())
        for here, other in moved.items():
            start = str(Path(here).absolute())
            if absolute == start or absolute.startswith(start.rstrip("/") + "/"):
                unused.discard(here)
                return other.rstrip("/") + absolute[len(start.rstrip("/")) :]
        return absolute

    out = [replace(row, path=str(there(row.path)), trace=there(row.trace), video=there(row.video), clean=there(row.clean)) for row in rows]
    if unused and rows:
        raise ValueError(f"no path of the manifest begins with {', '.join(sorted(unused))}; the first is {Path(rows[0].path).absolute()}")
    return out


def check_size(folder: Path, max_mb: float = MAX_MB) -> None:
    """Raises ValueError where the files of a folder are more than `max_mb` together; it names the biggest."""
    sizes = {path: path.stat().st_size for path in _files(folder)}
    total = sum(sizes.values())
    if total <= max_mb * 1e6:
        return
    big = sorted(sizes, key=lambda path: -sizes[path])[:5]
    listed = ", ".join(f"{path.relative_to(folder)} {sizes[path] / 1e6:.1f} MB" for path in big)
    raise ValueError(
        f"{total / 1e6:.1f} MB would be uploaded, wanted at most {max_mb:g}: {listed}. Code and manifests are uploaded; weights and "
        f"recordings belong on storage that the cluster sees, and a manifest that lies there is named {THERE}/its/path"
    )


def code_digest(folder: Path) -> str:
    """16 hexadecimal digits over the names and contents of all Python files of a folder: equal means the same code."""
    digest = hashlib.sha256()
    for path in _files(folder):
        if path.suffix == ".py":
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def megabytes(folder: Path) -> float:
    """The size of all files of a folder."""
    return sum(path.stat().st_size for path in _files(folder)) / 1e6


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sources(module: str) -> list[Path]:
    """The folders of a top-level package, or the file of a module."""
    loaded = sys.modules.get(module) or __import__(module)
    if hasattr(loaded, "__path__"):
        return [Path(part) for part in loaded.__path__]
    return [Path(str(loaded.__file__))]
