"""The ground that everything stands on: pinned versions, what the wheel will hold, what a newcomer types."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!]*")


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def pins(root: Path) -> dict[str, str]:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in (line.split("==") for line in lines)}


def test_constraints_hold_names_and_versions_and_nothing_else(root: Path) -> None:
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert len(pinned) > 100
    assert [line for line in pinned if not PIN.fullmatch(line)] == []
    assert not any("://" in line for line in lines)


def test_every_direct_dependency_is_pinned_within_its_bounds(root: Path, project: dict) -> None:
    pinned = pins(root)
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    for line in wanted:
        requirement = Requirement(line)
        if requirement.name != "moodcast":
            version = pinned[requirement.name.lower().replace("_", "-").replace(".", "-")]
            assert requirement.specifier.contains(version), f"{line} is pinned to {version}"


def test_torch_and_torchaudio_are_of_one_release(root: Path) -> None:
    assert pins(root)["torch"] == pins(root)["torchaudio"]


def test_an_interpreter_that_is_too_old_is_refused_with_the_way_out(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.18" && exit 0\nexit 1\n')
    old.chmod(0o755)
    copy = tmp_path / "clone"
    (copy / "scripts").mkdir(parents=True)
    for name in ("scripts/set_up.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, copy / name)
    done = subprocess.run(
        ["sh", "scripts/set_up.sh"], cwd=copy, env={"PYTHON": str(old), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
    assert "Python 3.9.18" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (copy / ".venv").exists()


def test_a_second_set_up_installs_nothing_and_a_changed_pin_does(root: Path, tmp_path: Path) -> None:
    # A stand-in interpreter that writes down what it is asked, in a copy of the tree: what matters here is when pip is called.
    copy = tmp_path / "clone"
    (copy / "scripts").mkdir(parents=True)
    (copy / ".venv" / "bin").mkdir(parents=True)
    for name in ("scripts/set_up.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, copy / name)
    stand_in = copy / ".venv" / "bin" / "python"
    stand_in.write_text(f'#!/bin/sh\n[ "$1" = -m ] && echo "$*" >> {copy}/asked\nexit 0\n')
    stand_in.chmod(0o755)

    def set_up() -> int:
        (copy / "asked").write_text("")
        subprocess.run(["sh", "scripts/set_up.sh"], cwd=copy, check=True, capture_output=True)
        return (copy / "asked").read_text().count(" install ")

    assert set_up() == 2
    assert set_up() == 0
    with (copy / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert set_up() == 2


def test_an_environment_that_was_moved_is_made_anew_and_another_is_kept(root: Path, tmp_path: Path) -> None:
    # An interpreter that makes environments of nothing but itself, and writes down what it is asked.
    stand_in = tmp_path / "python3"
    made = 'mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "command = $0 -m venv --clear $(pwd -P)/.venv" > .venv/pyvenv.cfg'
    stand_in.write_text(f'#!/bin/sh\n[ "$1" = -m ] && echo "$2" >> {tmp_path}/asked\n[ "$2" = venv ] && {{ {made}; }}\nexit 0\n')
    stand_in.chmod(0o755)
    place = tmp_path / "a clone"
    (place / "scripts").mkdir(parents=True)
    for name in ("scripts/set_up.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, place / name)

    def asked() -> list[str]:
        (tmp_path / "asked").write_text("")
        env = {"PYTHON": "python3", "PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run(["sh", "scripts/set_up.sh"], cwd=place, env=env, check=True, capture_output=True)
        return (tmp_path / "asked").read_text().split()

    assert asked() == ["venv", "pip", "pip"]
    assert asked() == []
    (place / "constraints.txt").open("a").write("# changed\n")
    assert asked() == ["pip", "pip"]
    place = place.rename(tmp_path / "moved")
    assert asked() == ["venv", "pip", "pip"]
    assert asked() == []
    (theirs := (place / ".venv").rename(tmp_path / "theirs")).joinpath("mine").touch()
    (place / ".venv").symlink_to(theirs)
    (place / "constraints.txt").open("a").write("# changed\n")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        asked()
    assert b".venv is a link to" in refused.value.stderr
    assert (theirs / "mine").exists()


def test_no_file_of_the_project_names_a_place_of_one_machine(root: Path) -> None:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git clone")
    place = re.compile(rb"(?<![\w./])/(?:work|root|opt/wheels|home/\w+|Users/\w+)/")
    names = [name for name in found.stdout.split("\0") if name.endswith((".py", ".md", ".toml", ".yaml", ".json", ".sh", "Makefile"))]
    assert names
    assert [name for name in names if (root / name).exists() and place.search((root / name).read_bytes())] == []


def test_importing_moodcast_loads_nothing_heavy() -> None:
    heavy = "import sys, moodcast; print([m for m in ('torch', 'ray', 'numpy', 'pandas', 'sklearn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True).stdout.strip() == "[]"
