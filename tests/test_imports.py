"""Who may import whom: the table of docs/design.md, enforced over the source of every file, lazy imports included."""

from __future__ import annotations

import ast
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "platform" / "moodcast"
USERS = ("jobs", "serve_apps", "tune_spaces")

# Each line: these parts may import what stands beside them, of moodcast. "x.*" is any module below x; a part may always import itself
# and what lies beside it in the same folder, except in methods/ (no method imports another method).
FLOOR = {
    "config",
    "chunks",
    "audio",
    "carried",
    "containers",
    "extras",
    "lines",
    "manifest",
    "metrics",
    "labels",
    "simulate",
    "texts",
    "whole",
}
TORCH = {"features", "cache", "augment", "batch", "nn", "objectives", "speech", "voices", "segmentation"}
MODEL = FLOOR | TORCH | {"method", "run", "provenance"}
BUNDLE = MODEL | {"answer", "bundle", "weights"}
TOOLS = {"audit", "corpora", "order", "passes", "step", "scores", "baselines", "evaluate", "report", "sweep_page", "study", "hub", "export"}
TOOLS |= {"formats", "transfer", "diarize", "linking", "embedded", "timeline", "page", "pipelines", "status", "refine", "transcribe"}
EVERYTHING = BUNDLE | TOOLS | {"podcast", "service"}

MAY: dict[str, set[str]] = {
    "moodcast": set(),
    **{part: set() for part in FLOOR},
    "labels": {"manifest"},
    "manifest": {"texts", "whole"},
    "audio": {"containers"},
    "simulate": {"audio", "chunks", "manifest"},
    **{part: FLOOR for part in TORCH},
    "method": {"batch", "chunks"},
    "adapting": {"method", "nn", "objectives", "features", "batch", "chunks"},
    "attributes": {"method", "nn", "objectives", "batch"},
    "methods": {"adapting", "attributes", "method", "nn", "objectives", "augment", "features", "batch", "chunks"},
    "provenance": set(),
    "run": {"method", "chunks", "audio", "augment", "config", "labels"},
    "answer": {"batch"},
    "weights": set(),
    "bundle": MODEL | {"answer", "weights"},
    "audit": FLOOR | {"cache"},
    "corpora": FLOOR | {"cache"},
    "order": {"labels", "manifest"},
    "passes": {"batch", "method", "order"},
    "step": BUNDLE | {"order", "passes", "sharding"},
    "sharding": {"method"},
    "scores": {"metrics", "manifest"},
    "transfer": FLOOR | {"audit", "scores"},
    "baselines": MODEL | {"scores"},
    "report": FLOOR | {"scores", "page"},
    "sweep_page": FLOOR | {"page"},
    "hub": BUNDLE,
    "export": BUNDLE,
    "evaluate": BUNDLE | {"audit", "scores", "baselines", "study"},
    "study": BUNDLE | {"diarize", "timeline", "status"},
    "diarize": {"texts"},
    "linking": {"voices"},
    "embedded": BUNDLE | {"diarize", "linking"},
    "timeline": BUNDLE | {"page"},
    "formats": FLOOR | {"timeline"},
    "page": FLOOR | {"timeline"},
    "pipelines": BUNDLE | {"diarize", "embedded"},
    "status": {"chunks", "diarize", "timeline"},
    "refine": {"study", "timeline"},
    "transcribe": FLOOR | {"nn"},
    "podcast": BUNDLE | {"diarize", "embedded", "timeline", "pipelines", "status", "refine", "transcribe"},
    "service": BUNDLE | {"diarize", "timeline", "page", "podcast", "refine"},
    "cluster": EVERYTHING | {"attributes"},
    "cli": EVERYTHING | {"cluster", "moodcast"},
    "jobs": FLOOR
    | {"study", "methods", "adapting", "method", "nn", "objectives", "run", "cluster", "augment", "features", "segmentation", "speech"},
    "serve_apps": FLOOR
    | {"answer", "bundle", "podcast", "diarize", "embedded", "segmentation", "pipelines", "transcribe", "timeline", "service", "cluster"},
    "tune_spaces": set(),
}
# Arrows against the stream, allowed only inside a function (or for type checkers): the two doors that a user knows.
LATE = {"moodcast": {"bundle"}, "bundle": {"podcast", "timeline", "study"}}
# Libraries that only some parts may import: the floor stays light, and Ray stays in one folder.
LIBRARIES = {
    "ray": {"cluster", "serve_apps", "tune_spaces"},
    "torch": set(MAY) - (FLOOR - {"metrics"}) - {"moodcast", "page", "cli", "tune_spaces"},
}


def imported(tree: ast.Module, package: str) -> Iterator[tuple[int, str, bool]]:
    """Every module named by an import statement anywhere in the file, its line, and whether it waits inside a block;
    `from a import b` gives "a.b".
    """
    for node in ast.walk(tree):
        late = node not in tree.body
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            yield from ((node.lineno, f"{base}.{alias.name}", late) for alias in node.names)


def part_of(module: str) -> str:
    """The row of the table a module belongs to: "moodcast.nn.pool" -> "nn", "jobs.erm" -> "jobs", "moodcast.load" -> "bundle"."""
    first, *rest = module.split(".")
    if first != "moodcast" or not rest:
        return first
    return {"load": "bundle", "__version__": "moodcast"}.get(rest[0], rest[0])


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What `module` imports and should not, as sentences."""
    part = part_of(module)
    if part not in MAY:
        return [f"{module} is in no row of the table of who may import whom; give it one in tests/test_imports.py and docs/design.md"]
    found = []
    for line, name, late in imported(ast.parse(source), module if is_package else module.rpartition(".")[0]):
        top, target = name.split(".")[0], part_of(name)
        if top in LIBRARIES and part not in LIBRARIES[top]:
            found.append(f"{module}:{line} imports {top}; only {sorted(LIBRARIES[top])} may")
        elif part == "tune_spaces" and top == "ray" and not name.startswith("ray.tune"):
            found.append(f"{module}:{line} imports {name}; a space names paths and needs ray.tune alone")
        elif top in USERS and top != part:
            found.append(f"{module}:{line} imports {name}; nobody imports {top}")
        elif part == "serve_apps" and name.startswith("moodcast.cluster.") and not name.startswith("moodcast.cluster.serve"):
            found.append(f"{module}:{line} imports {name}; a server needs nothing of training")
        elif top == "moodcast" and target == part == "methods" and not is_package and not f"{name}.".startswith(f"{module}."):
            found.append(f"{module}:{line} imports {name}; no method imports another method")
        elif late and target in LATE.get(part, ()):
            continue
        elif top == "moodcast" and target not in ("moodcast", part) and target not in MAY[part]:
            found.append(f"{module}:{line} imports {name}; {part} may import {sorted(MAY[part]) or 'nothing'} of moodcast")
    return found


def sources() -> list[tuple[str, Path]]:
    """Every source file of the package and its users with its module name."""
    roots = [(ROOT / "platform", PACKAGE), *((ROOT, ROOT / user) for user in USERS)]
    files = [(base, path) for base, folder in roots for path in sorted(folder.rglob("*.py"))]
    return [(".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"), path) for base, path in files]


@pytest.mark.parametrize(("module", "path"), sources(), ids=[module for module, _ in sources()])
def test_a_file_imports_only_what_it_may(module: str, path: Path) -> None:
    assert violations(path.read_text(), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("moodcast.chunks", "from moodcast.batch import collate", "chunks may import nothing"),
        ("moodcast.manifest", "def late():\n    import moodcast.bundle", "manifest:2 imports moodcast.bundle"),
        ("moodcast.bundle", "import ray", "bundle:1 imports ray"),
        ("moodcast.podcast", "from ray import serve", "podcast:1 imports ray"),
        ("moodcast.chunks", "import torch", "chunks:1 imports torch"),
        ("moodcast.methods.mine", "from moodcast.methods.erm import Erm", "no method imports another method"),
        ("moodcast.methods.mine", "from . import erm", "no method imports another method"),
        ("moodcast.methods.mine", "from moodcast.bundle import load", "methods may import"),
        ("moodcast.methods.mine", "from moodcast import load", "methods may import"),
        ("moodcast.nn.pool", "from ..bundle import load", "nn may import"),
        ("moodcast.cluster.train", "import jobs.erm", "nobody imports jobs"),
        ("serve_apps.podcast", "from moodcast.cluster.train import fit", "needs nothing of training"),
        ("serve_apps.podcast", "from jobs import erm", "nobody imports jobs"),
        ("tune_spaces.erm", "from ray import train", "ray.tune alone"),
        ("tune_spaces.erm", "from moodcast.run import Run", "tune_spaces may import nothing"),
        ("moodcast.bundle", "from moodcast import podcast", "bundle may import"),
        ("moodcast", "from moodcast.bundle import load", "moodcast may import nothing"),
        ("moodcast.newcomer", "import json", "in no row of the table"),
    ],
)
def test_a_planted_violation_is_caught(module: str, source: str, complaint: str) -> None:
    found = violations(source, module)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("moodcast.methods.mine", "from moodcast.method import Method\nfrom moodcast.nn.pool import AttentiveStats\nimport torch"),
        ("moodcast.cluster.train", "import ray.train\nfrom moodcast.step import Trainer"),
        ("moodcast.bundle", "from moodcast import __version__, config"),
        ("moodcast.bundle", "def timeline():\n    from moodcast import podcast"),
        ("jobs.erm", "from moodcast.methods.erm import Erm\nfrom moodcast.cluster.job import main\nfrom moodcast.run import Run"),
        ("serve_apps.podcast", "from ray import serve\nfrom moodcast import load"),
        ("tune_spaces.erm", "from ray import tune"),
    ],
)
def test_what_the_table_allows_passes(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_the_standard_library_platform_is_not_hidden() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert platform.system() in ("Linux", "Darwin", "Windows")


def test_every_source_file_was_seen() -> None:
    modules = {module for module, _ in sources()}
    assert {"moodcast", "moodcast.chunks", "moodcast.run", "moodcast.cluster", "jobs", "serve_apps"} <= modules


WITHOUT_RAY = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "psutil", "optuna", "tenacity", "multipart", "tensorboard"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from moodcast.cli.words import explain

for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not (explain(error) or "").endswith("pip install 'moodcast[ray]'"):
            print(name, repr(error))
"""


def test_where_ray_is_not_installed_every_part_of_the_cluster_says_how_to_get_it() -> None:
    names = [f"moodcast.cluster.{path.stem}" for path in sorted((PACKAGE / "cluster").glob("[a-z]*.py"))]
    done = subprocess.run([sys.executable, "-c", WITHOUT_RAY, *names], capture_output=True, text=True, check=True)
    assert len(names) > 20
    assert done.stdout == ""
