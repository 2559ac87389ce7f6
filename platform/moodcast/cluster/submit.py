"""A training job on somebody's cluster, by Ray Jobs: submit, follow, look, stop. docs/cluster.md says how a cluster is set up for it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray
import requests
import tenacity
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from moodcast import __version__
from moodcast.cluster import stores, tracker, upload
from moodcast.cluster.options import workers_said
from moodcast.cluster.watch import PROGRESS_EVERY
from moodcast.run import Run

__all__ = [
    "AUTO",
    "JobDetails",
    "JobSubmissionClient",
    "Submitted",
    "connect",
    "follow",
    "known",
    "last_lines",
    "ours",
    "stop",
    "submit",
    "versions",
]

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the address of the dashboard
CHATTY = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging")
AUTO = "auto"
TIMEOUT_S = 10.0
BEGINNING_S = 60.0
AWAY_S = 60.0  # how long a cluster may not answer while its job is followed
STOP_S = 60  # how long a stopped job may take to say where it stands
PROGRESS = re.compile(r"^(epoch \d+/\d+  step \d+/\d+|computing features)  ")


@dataclass(frozen=True)
class Submitted:
    """A job that is on a cluster now: its id, the folder that the run will have there, megabytes that were sent, digest of the code."""

    id: str
    run: str
    sent_mb: float
    code: str


def connect(address: str | None) -> JobSubmissionClient:
    """The jobs of the cluster whose dashboard has this address ("http://HEAD:8265"; default: RAY_API_SERVER_ADDRESS).

    Raises ValueError where nothing is there, what is there is no dashboard, or it asks for a token that did not come.
    """
    given = address or os.environ.get(ADDRESS)
    if not given:
        raise ValueError(f"which cluster? --address http://HEAD:8265 (its dashboard), or the environment variable {ADDRESS}")
    url = given.rstrip("/") if "://" in given else f"http://{given}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{given} is no address of a dashboard; wanted http://HEAD:8265, and the head's name instead of HEAD")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=TIMEOUT_S).close()
    except OSError as error:
        raise ValueError(
            f"no cluster at {url}: {error.strerror or error}. Is it up (`ray status` on its head), is its dashboard on (ray[default] "
            "installed, not started with --include-dashboard=false), and is the port open to this machine?"
        ) from None
    try:
        with _without(ADDRESS, "RAY_ADDRESS"):  # Ray lets them override what was asked for
            return JobSubmissionClient(url)
    except AuthenticationError as error:
        raise ValueError(_about_token(url, str(error))) from None
    except (requests.exceptions.RequestException, ConnectionError, RuntimeError, KeyError, ValueError):
        raise ValueError(
            f"something listens at {url}, but it is no Ray dashboard; wanted the address that `ray start` prints for it, usually "
            "http://HEAD:8265 (6379 and 10001 are other doors of Ray)"
        ) from None


def submit(
    client: JobSubmissionClient,
    job: ModuleType | Path,
    run: Run,
    manifests: Sequence[str | Path],
    *,
    changes: Sequence[str] = (),
    out: str = "",
    name: str | None = None,
    resume: str | None = None,
    workers: int | tuple[int, int] = 1,
    gpu: bool | None = None,
    target: Sequence[str | Path] = (),
    options: Sequence[str] = (),
    track: Sequence[str] | None = None,
    moved: Mapping[str, str] | None = None,
    python: str = "python",
    max_mb: float = upload.MAX_MB,
    command: str = "",
) -> Submitted:
    """Send code and manifests and start `job` there: a module, or a file that holds a run.

    run: that of the job, with `changes` ("field=value") made, for what must come along.
    out: an absolute folder that every node of the cluster sees. name, resume, workers, gpu: as for `fit`, except that resume names a
    folder there. target: manifests of what is adapted to. options: further words for `moodcast train`. track: who is told. moved: see
    `moodcast.cluster.upload`. python: the interpreter of the cluster's machines. command: what a person types, for the messages of the
    job. Raises ValueError for what cannot be sent, and where the cluster does not take it.
    """
    plain = job.name if isinstance(job, Path) else job.__name__.removeprefix("jobs.")
    called = plain if isinstance(job, Path) or "." in job.__name__ else f"{plain}.py"  # a bare word would be a file of jobs/
    if resume in (None, AUTO) and not Path(out).is_absolute():
        raise ValueError(f"--out is where on the cluster the run goes: an absolute folder that every node sees, not {out or 'nothing'}")
    if not manifests and not target and not resume:
        raise ValueError("no manifest came; `moodcast prepare CORPUS FOLDER` writes one")
    short = job.stem if isinstance(job, Path) else plain.rpartition(".")[2]
    id_ = f"moodcast-{short.replace('_', '-')}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder = str(Path(out) / (name or id_)) if resume in (None, AUTO) else str(resume)
    with tempfile.TemporaryDirectory(prefix="moodcast-") as temporary, _quietly(*CHATTY):
        there = Path(temporary)
        names = upload.upload(there, job, run, [*manifests, *target], moved, max_mb, going_on=resume not in (None, AUTO))
        code, sent_mb = upload.code_digest(there), upload.megabytes(there)
        words = [python, "-m", "moodcast.cli", "train", called, *names[: len(manifests)], *changes, *options]
        words += ["--workers", workers_said(workers)]
        words += [word for name in names[len(manifests) :] for word in ("--target", name)]
        words += ["--resume", resume] if resume else []
        words += ["--out", out, "--name", name or id_] if resume in (None, AUTO) else []
        words += [] if gpu is None else ["--gpu" if gpu else "--no-gpu"]
        words += [] if track is None else ["--track", ",".join(track) or tracker.NONE]
        environment = {
            PROGRESS_EVERY: "5",
            "RAY_JOB_STOP_SIGNAL": "SIGINT",  # as Ctrl-C: the run says where it stands
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),
            "MOODCAST_COMMAND": command,
            "COLUMNS": "250",
            **_servers(),
        }
        _send(
            client,
            entrypoint=shlex.join(words),
            submission_id=id_,
            runtime_env={"working_dir": str(there), "env_vars": environment},
            metadata={"moodcast": __version__, "job": plain, "run": folder, "code": code, "workers": workers_said(workers)},
        )
    return Submitted(id_, folder, sent_mb, code)


def _servers() -> dict[str, str]:
    """Where MLflow is, as it is known here: no file of this machine, no address with a password, which all would see."""
    found = {name: os.environ.get(name, "") for name in (stores.URI, stores.EXPERIMENT)}
    if not found[stores.URI].startswith(("http://", "https://")) or "@" in found[stores.URI]:
        del found[stores.URI]
    return {name: value for name, value in found.items() if value}


def follow(client: JobSubmissionClient, id_: str, tell: Callable[[str, bool], None]) -> JobDetails:
    """Tell each line of the job's log as it comes, and whether it is one of progress, until the job has ended; how it ended.

    A connection that breaks is made anew, from where it broke.
    """
    known(client, id_)
    told: list[str] = []

    def one(line: str) -> None:
        told.append(line)
        tell(line, PROGRESS.match(line) is not None)

    while True:
        with _quietly(*CHATTY):
            asyncio.run(_tail(client, id_, len(told), one))
        details = _answered(client, id_)
        if details.status.is_terminal():
            return details
        time.sleep(1.0)


def _answered(client: JobSubmissionClient, id_: str) -> JobDetails:
    """`known`, of a cluster that may be away for a while."""
    away = tenacity.retry_if_exception_type(requests.exceptions.RequestException)
    try:
        return tenacity.Retrying(retry=away, wait=tenacity.wait_fixed(1.0), stop=tenacity.stop_after_delay(AWAY_S), reraise=True)(
            known, client, id_
        )
    except requests.exceptions.RequestException as error:
        raise ValueError(
            f"the cluster does not answer any more ({_first_line(error)}); the job goes on without us, and "
            f"`moodcast jobs logs {id_}` follows it again"
        ) from None


def known(client: JobSubmissionClient, id_: str) -> JobDetails:
    """What the cluster knows of a job. Raises ValueError where it has none of that id."""
    try:
        return client.get_job_info(id_)
    except RuntimeError as error:
        ids = ", ".join(str(job.submission_id) for job in ours(client))
        raise ValueError(f"the cluster has no job {id_}; it has {ids or 'none of moodcast'} ({_first_line(error)})") from None


def ours(client: JobSubmissionClient) -> list[JobDetails]:
    """The jobs that `submit` sent to this cluster, the latest first."""
    found = [job for job in client.list_jobs() if job.submission_id and "moodcast" in (job.metadata or {})]
    return sorted(found, key=lambda job: -(job.start_time or 0))


def stop(client: JobSubmissionClient, id_: str) -> JobDetails:
    """Interrupt a job and wait a while until it has ended; how it stands then. One that has ended already stays as it is."""
    if not known(client, id_).status.is_terminal():
        client.stop_job(id_)
        end = time.monotonic() + STOP_S + 10
        while not client.get_job_status(id_).is_terminal() and time.monotonic() < end:
            time.sleep(0.5)
    return known(client, id_)


def last_lines(client: JobSubmissionClient, id_: str, num: int = 1) -> list[str]:
    """The last lines of a job's log."""
    lines = [line for line in client.get_job_logs(id_).splitlines() if line.strip()]
    return lines[-num:]


def versions(client: JobSubmissionClient) -> str | None:
    """A sentence where the cluster's Ray is another than the one here, else None."""
    there = str(client._do_request("GET", "/api/version").json()["ray_version"])  # get_version() is that of the interface
    if there == ray.__version__:
        return None
    return f"the cluster runs Ray {there}, here is {ray.__version__}, which moodcast was tried with"


def _send(client: JobSubmissionClient, **job: Any) -> None:
    """Submit; a cluster that has only just begun has nobody yet who could take a job, and is asked again for a while."""
    end = time.monotonic() + BEGINNING_S
    while True:
        try:
            client.submit_job(**job)
            return
        except (RuntimeError, AuthenticationError) as error:
            if "No available agent" not in str(error) or time.monotonic() > end:
                raise ValueError(f"the cluster did not take the job: {_first_line(error)}") from error
            time.sleep(1.0)


async def _tail(client: JobSubmissionClient, id_: str, skip: int, tell: Callable[[str], None]) -> None:
    """Tell the lines of the log from line `skip` on, until the job or the connection ends."""
    rest, number = "", 0

    def one(line: str) -> None:
        nonlocal number
        number += 1
        if number > skip:
            tell(line)

    try:
        async for text in client.tail_job_logs(id_):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                one(line.rstrip("\r"))
    except (RuntimeError, OSError, aiohttp.ClientError):  # a server that hangs up is no OSError
        return
    if rest:
        one(rest)


def _about_token(url: str, error: str) -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return (
            f"the cluster at {url} asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file that holds it "
            "(or RAY_AUTH_TOKEN to the token itself)"
        )
    if error.startswith("Authentication required"):
        return f"the cluster at {url} asks for a token and none came: set RAY_AUTH_TOKEN_PATH to the file that holds it"
    return f"the cluster at {url} refuses the token that came; look at RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Environment variables taken away for the time being."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def _quietly(*names: str) -> Iterator[None]:
    """Loggers that tell at level INFO what nobody asked."""
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
