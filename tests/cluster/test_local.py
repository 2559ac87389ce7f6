from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.listeners import addresses, beyond_loopback, descendants

pytestmark = pytest.mark.ray
CLIENT = """
import ray
from moodcast.cluster import local
with local.cluster():
    assert int(ray.cluster_resources()["CPU"]) == 3
    print(ray.get(ray.remote(lambda: 42).remote()))
"""
STRANGER = """
import sys
from ray._raylet import GcsClient
GcsClient(address=sys.argv[1]).internal_kv_put(b"key", b"value", True, None, timeout=5)
"""


@pytest.fixture
def own_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that no other test writes to; its path is short, because Ray puts sockets there."""
    with tempfile.TemporaryDirectory(prefix="mc-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_a_local_ray_listens_on_loopback_alone_and_is_gone_afterwards(own_temp: Path) -> None:
    import ray

    from moodcast.cluster import local

    environment, children = dict(os.environ), descendants(os.getpid())
    with local.cluster(num_cpus=3):
        assert list(own_temp.glob("moodcast-*"))
        assert int(ray.cluster_resources()["CPU"]) == 3
        assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()) == "token"
        assert addresses(descendants(os.getpid()))
        assert beyond_loopback(os.getpid()) == set()
        with local.cluster(num_cpus=7):  # the one that is up is used, and left up
            assert int(ray.cluster_resources()["CPU"]) == 3
        assert ray.is_initialized()
        # and what RAY_ADDRESS names is used by others, and left up
        known = {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        client = subprocess.run([sys.executable, "-c", CLIENT], env=known, capture_output=True, text=True, timeout=60)
        assert client.stdout.strip() == "42", client.stderr
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
        for pid in descendants(os.getpid()) - children:
            os.kill(pid, signal.SIGTERM)  # as a scheduler does, to all that a command has started: ending it is the command's
        assert ray.get(ray.remote(lambda: 2).remote()) == 2
        started = [psutil.Process(pid) for pid in descendants(os.getpid()) - children]
    _, left = psutil.wait_procs(started, timeout=5)  # whoever took them over
    assert not left
    assert not ray.is_initialized()
    assert dict(os.environ) == environment
    assert not list(own_temp.glob("moodcast-*"))
    assert descendants(os.getpid()) <= children


def test_a_local_ray_lets_nobody_in_without_its_token_and_the_next_one_of_a_process_has_another(
    own_temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from moodcast.cluster import local

    (own_temp / "token").write_text(mine := "0123456789abcdef" * 4)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(own_temp / "token"))
    tokens = {mine}
    for _ in range(2):
        with local.cluster(num_cpus=1):
            token = ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
            others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")} | {"HOME": str(own_temp)}
            for more, said in (
                ({"RAY_AUTH_MODE": "disabled"}, "AuthenticationError"),
                ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}, ""),
            ):
                command = [sys.executable, "-c", STRANGER, ray.get_runtime_context().gcs_address]
                stranger = subprocess.run(command, env={**others, **more}, capture_output=True, text=True, timeout=60)
                assert bool(stranger.returncode) == bool(said)
                assert said in stranger.stderr
        tokens.add(token)
    assert len(tokens) == 3
    ray.init(address="local", num_cpus=1, include_dashboard=False)  # one of the user's own, afterwards, with the token of the file
    try:
        assert ray.get(ray.remote(lambda: os.environ.get("RAY_AUTH_TOKEN")).remote()) is None
    finally:
        ray.shutdown()


DRIVER = """
import os, sys
from moodcast.cluster import local
with local._temp_dir() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(own_temp: Path) -> None:
    from moodcast.cluster import local

    for name in ("moodcast-push-1", "other"):  # of another part of moodcast, and of another program
        (own_temp / name).mkdir()
    with local._temp_dir() as mine:
        known = {**os.environ, "TMPDIR": str(own_temp)}
        drivers = [
            subprocess.Popen([sys.executable, "-c", DRIVER], env=known, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        folders = []
        for driver in drivers:
            assert driver.stdout is not None
            folders.append(Path(driver.stdout.readline().strip()))
        dead, alive = folders
        assert dead.is_dir()
        drivers[0].kill()
        drivers[0].wait()
        with local._temp_dir() as another:
            assert not dead.exists()
            assert all(folder.is_dir() for folder in (mine, alive, another))
        drivers[1].communicate("")
    assert sorted(path.name for path in own_temp.iterdir()) == ["moodcast-push-1", "other"]


def test_importing_the_folder_of_ray_says_what_ray_must_know_before_it_is_imported() -> None:
    code = "import os, moodcast.cluster; print(*map(os.environ.get, ['RAY_USAGE_STATS_ENABLED', 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER']))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def told(**more: str) -> list[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env={**clean, **more}, capture_output=True, text=True, check=True).stdout.split()

    assert told() == ["0", "0"]
    assert told(RAY_ADDRESS="10.0.0.1:6379") == ["0", "None"]
