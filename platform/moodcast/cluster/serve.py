"""Serving on a local Ray: what `moodcast serve`, the demo and the tests share. The application itself is serve_apps.podcast."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray import serve
from ray._private import ray_constants
from ray.serve._private import replica
from rich.console import Console

from moodcast import pipelines, podcast, transcribe
from moodcast.bundle import load
from moodcast.cluster import local
from moodcast.cluster.process import let_children_end
from moodcast.embedded import Embedded
from moodcast.service.settings import from_environment

APP = "serve_apps.podcast:build"
NAME = "moodcast"
GRACE_S = 20  # Ray Serve's own, for a replica that is to end
LOOPBACK = local.LOOPBACK
OPENER = "add_port_to_grpc_server"  # by which a replica of Ray Serve opens its listener


def stay_on_loopback() -> None:
    """Where the application is described: a Ray that is started after this (`serve run`) listens on loopback alone.

    Nothing happens where Ray is up already or RAY_ADDRESS names a cluster: that one listens where its owner wanted.
    """
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return
    for name, value in local.SETTINGS.items():
        os.environ.setdefault(name, value)
    ray_constants.ENABLE_RAY_CLUSTER = False  # Ray's command line has imported Ray before it imports the application


def set_up_replica() -> None:
    """In the constructor of a deployment: what else its replica needs on a local Ray."""
    _keep_on_loopback()
    let_children_end()


def _keep_on_loopback() -> None:
    """The replica's own listener stays on loopback where the whole Ray does.

    Every replica of Ray Serve 2.60 opens a gRPC server for calls between deployments on all interfaces, whatever the node's address
    is, and that server unpickles what it is sent. It opens after the constructor, by a function that is narrowed here.
    Raises RuntimeError where this Ray has no such function: then nobody has looked where its replicas listen.
    """
    if not local.on_loopback():
        return
    opened = getattr(replica, OPENER, None)
    if opened is None:
        raise RuntimeError(f"moodcast does not know where replicas of Ray {ray.__version__} listen; use the Ray of constraints.txt")
    if not hasattr(opened, "narrowed"):

        def narrowed(server: Any, address: str) -> Any:
            return opened(server, address.replace("[::]", LOOPBACK))

        narrowed.narrowed = True  # type: ignore[attr-defined]
        setattr(replica, OPENER, narrowed)


@contextmanager
def running(
    host: str = LOOPBACK, port: int = 8000, quiet: bool = True, app: str = APP, settings: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Inside, the application answers at the URL that comes: on the Ray that is up, the one of RAY_ADDRESS, or a fresh local one.

    settings: fields of moodcast.service.settings.Settings over those of the environment; None leaves a field alone.
    Raises ValueError, before Ray starts, where settings do not fit, the port is taken, or a bundle or a transcriber cannot be opened.
    """
    given = {name: str(value) for name, value in (settings or {}).items() if value is not None}
    chosen = from_environment(given)
    check_port(host, port)
    podcast.load_listener(chosen.bundle, verify=False)
    Embedded.of(load(chosen.voiceprint, verify=False))
    if chosen.diarizer:
        pipelines.check(chosen.diarizer, chosen.trust_checkpoint)
    if chosen.transcriber:
        transcribe.check(chosen.transcriber, chosen.language or None)
    module, _, name = app.partition(":")
    shared = ray.is_initialized()  # a Ray of this process, which outlives us: Serve is ours to end; else the application alone
    with local.cluster(quiet=quiet):
        logging.getLogger("ray.serve").setLevel(logging.WARNING if quiet else logging.INFO)
        try:
            serve.start(http_options={"host": host, "port": port})
        except Exception:
            check_port(host, port)  # somebody else may have taken it since, and that can be said plainly
            raise
        try:
            serve.run(getattr(importlib.import_module(module), name)(given), name=NAME)
            yield url_of(host, port)
        finally:
            if shared:
                serve.shutdown()  # type: ignore[no-untyped-call]
            else:
                serve.delete(NAME)


def run_forever(host: str = LOOPBACK, port: int = 8000, settings: Mapping[str, str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM, both of which end it cleanly. Says where it listens and what to try.

    settings: as for `running`. Raises ValueError for one that does not fit, before anything is said to start.
    """
    from_environment(settings)
    screen = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    screen.print("starting a local Ray and loading the models ...")
    try:
        with local.interruptible(), running(host, port, quiet=False, settings=settings) as url, local.interruptible():
            screen.print(f"[bold]moodcast listens on {url}[/bold] ({time.monotonic() - started:.0f} s); stop it with Ctrl-C")
            screen.print(f"  curl -F file=@talk.mp3 {url}/v1/timeline\n  the interface: {url}/docs")
            try:
                while True:
                    signal.pause()
            except KeyboardInterrupt:
                screen.print(f"stopping; what is under way has {GRACE_S} s to end")
                raise
    except KeyboardInterrupt:
        screen.print("stopped")


def check_port(host: str, port: int) -> None:
    """Raises ValueError where nothing can listen on host:port, with a port that is free."""
    try:
        _bind(host, port)
    except OSError as error:
        reason = error.strerror or error
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ValueError(f"--host {host} is no address of this machine ({reason}); 127.0.0.1 is, and 0.0.0.0 is all of them") from None
        raise ValueError(f"cannot listen on {host}:{port} ({reason}); try another one, for example --port {free_port()}") from None


def free_port(host: str = LOOPBACK, preferred: int = 0) -> int:
    """`preferred` where it is free, else a port that the system chooses."""
    try:
        return _bind(host, preferred)
    except OSError:
        return _bind(host, 0)


def url_of(host: str, port: int) -> str:
    """The URL of a server that listens on host:port; one on every interface is reached by loopback."""
    name = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _bind(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])
