"""A local Ray the right way: on loopback alone, for those with its token, without telemetry, gone without a trace afterwards.

On Linux Ray rewrites 127.0.0.1 to the machine's own address and listens on every interface, unless the switch that
`moodcast.cluster` sets says that this is no cluster of several machines. Loopback is open to every account of the machine, and whoever
reaches a Ray runs code as its owner, so a token is asked for that only this process and its children know.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil  # type: ignore[import-untyped]
import ray
from joblib import cpu_count  # type: ignore[import-untyped]
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

LOOPBACK = "127.0.0.1"
PREFIX, LOCK = "moodcast-", ".held"  # of folders for temporary files, and the lock in each
MAX_TEMP_PATH = 40  # characters: Ray puts unix sockets below it, whose whole path may have 107
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often reports of training are taken; Ray's 2 s would delay every epoch
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # Serve's 5 s are too short on a busy machine: it kills its proxy and gives up
}
ALONE = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}  # a process for each group of workers that asks whether their machine is taken away


@contextmanager
def cluster(num_cpus: int | None = None, dashboard: bool = False, quiet: bool = True) -> Iterator[None]:
    """Inside, Ray is up: the one that is already up, the one that RAY_ADDRESS names, or else a fresh local one.

    A fresh one has `num_cpus` (default: all that this process may use), listens on loopback alone and is shut down and removed at the
    end; others are left as they were found. quiet keeps the workers' output out of this terminal (it is in Ray's logs).
    """
    if ray.is_initialized():
        yield
        return
    try:
        with _theirs(quiet) if os.environ.get("RAY_ADDRESS") else _ours(num_cpus, dashboard, quiet):
            yield
    finally:
        _forget_token()  # once the environment is as it was: whoever calls Ray next has a cluster of their own


@contextmanager
def _theirs(quiet: bool) -> Iterator[None]:
    with environment({name: value for name, value in SETTINGS.items() if name.startswith("RAY_TRAIN")}):
        _forget_token()
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=not quiet)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _ours(num_cpus: int | None, dashboard: bool, quiet: bool) -> Iterator[None]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # else Ray's own, in the home folder
    with environment({**SETTINGS, **ALONE, **token}), _temp_dir() as temp:
        try:
            _start(temp, num_cpus or usable_cpus(), dashboard, quiet)
            yield
        finally:
            _stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGTERM, which schedulers send, ends things as Ctrl-C does; afterwards both have the handlers of before.

    Ray and Ray Train put handlers of their own in place when they start and leave them there, so this is needed before and after.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_ctrl_c(number: int, frame: FrameType | None) -> None:
    signal.alarm(0)  # Ray's handler, where it was the first to be called, has set one that aborts the process: too soon for a clean end
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # what a script starts in the background ignores Ctrl-C, but not this
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def node_address() -> str:
    """The address that this machine has in the running Ray."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def on_loopback() -> bool:
    """Whether the running Ray is one machine that no other one can reach."""
    return node_address() == LOOPBACK


def usable_cpus() -> int:
    """Cores that this process may use, by its affinity and by the quota of its container."""
    return int(cpu_count())


def _start(temp: Path, num_cpus: int, dashboard: bool, quiet: bool) -> None:
    ray_constants.ENABLE_RAY_CLUSTER = False  # where Ray was imported before moodcast.cluster could set its environment
    _forget_token()
    with _sigterm_is_ours():
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=dashboard,
            dashboard_host=LOOPBACK,
            object_store_memory=256 * 2**20,
            log_to_driver=not quiet,
            logging_level=logging.WARNING,
            _temp_dir=str(temp),
        )
    if not on_loopback():
        raise RuntimeError(
            f"the local Ray would listen on {node_address()}; wanted loopback alone. Unset RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
        )


def _stop() -> None:
    """End the Ray that `_start` began, and what its processes have started, at once: none would hear the SIGTERM that Ray tries first."""
    node = ray._private.worker._global_node
    started: list[psutil.Process] = []
    if node is not None:
        for process in [one.process for some in node.all_processes.values() for one in some]:
            with suppress(psutil.NoSuchProcess):
                started += psutil.Process(process.pid).children(recursive=True)
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **how: kill(**{**how, "allow_graceful": False})
    ray.shutdown()
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def _sigterm_is_ours() -> Iterator[None]:
    """Processes that are started inside, and what they start in turn, never hear a SIGTERM, as Ray has it with SIGINT.

    Schedulers, `timeout` and systemd send it to all processes of a command at once; a Ray that obeyed would be gone before this process,
    which ends it, could say where things stand, and that would wait a minute for it in vain.
    """
    handler, alone = signal.getsignal(signal.SIGTERM), threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        if alone and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # not Ray's, which would end this process without a word
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forget_token() -> None:
    """Let Ray read anew whether a token is asked for, and which one: it keeps what it read for an earlier cluster of this process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the time being; those that the user has set stand, apart from the loopback switch."""
    before = {name: os.environ.get(name) for name in (*values, "PYTHONBREAKPOINT")}  # the last one Ray sets itself
    os.environ.update({name: value for name, value in values.items() if before[name] is None or name.endswith("OSX_CLUSTER")})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _temp_dir() -> Iterator[Path]:
    """A fresh folder with a short path, removed at the end even where Ray's last processes still write to it.

    A process that is killed cannot; its lock in the folder is gone with it, by which the next one knows.
    """
    import fcntl  # not on every system that may import this

    short = len(tempfile.gettempdir()) <= MAX_TEMP_PATH
    parent = Path(tempfile.gettempdir() if short else "/tmp")
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    half = folder / f"{LOCK}-not-yet"
    try:
        with half.open("w") as lock:
            with suppress(OSError):  # where nothing can be locked, nothing is taken for dead
                fcntl.flock(lock, fcntl.LOCK_EX)
                half.rename(folder / LOCK)  # there once it is held, so that nobody finds it free in between
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what our processes that were killed have left: folders of this user whose lock nobody holds. Those without one stay."""
    import fcntl

    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # held, of somebody else, without a lock, or gone meanwhile
            if folder.lstat().st_uid == os.getuid():
                with (folder / LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
