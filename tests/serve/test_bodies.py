"""Bodies that are refused while they come, and forms that break off, by real clients at a real server."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from moodcast.service import drain
from moodcast.service.api import build_app
from moodcast.service.settings import Settings
from tests.service.asking import Told, post, refused, wav

SMALL = Settings(max_mb=1.0)
LARGE = bytes(9_000_000)
FORM = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


@contextmanager
def serving(settings: Settings, backend: Told | None = None) -> Iterator[tuple[str, int]]:
    server = uvicorn.Server(uvicorn.Config(build_app(backend or Told(), settings), port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def by_urllib(at: tuple[str, int], path: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """It asks for the connection to be closed, and sends all of a body before it reads."""
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(f"http://{at[0]}:{at[1]}{path}", data=body, timeout=30)
    return told.value.code, json.loads(told.value.read())["error"]


def test_urllib_reads_every_refusal_of_a_large_body() -> None:
    wanted = {
        "/v1/timeline": (413, "too_large"),
        "/v1/timeline?num_speaker=2": (422, "bad_option"),
        "/v1/nothing": (404, "no_such_route"),
    }
    with serving(SMALL) as at:
        for path, (status, kind) in wanted.items():
            code, error = by_urllib(at, path, LARGE)
            assert (code, error["kind"]) == (status, kind)


def test_urllib_reads_that_the_service_is_busy_and_when_to_come_again() -> None:
    backend = Told()
    backend.hold = asyncio.Event()
    sound = wav(np.zeros(16_000, np.float32))
    with serving(Settings(max_running=1, max_waiting=0), backend) as at:
        with socket.create_connection(at) as first:  # it holds the only place until it leaves
            first.sendall(begun(len(sound)) + sound)
            while not backend.hints:
                time.sleep(0.01)
            code, error = by_urllib(at, "/v1/timeline", LARGE)
        backend.hold = None
    assert (code, error["kind"]) == (503, "busy")


def begun(length: int) -> bytes:
    return f"POST /v1/timeline HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n".encode()


def test_a_client_that_looks_before_it_has_sent_all_is_told_at_once() -> None:
    with serving(SMALL) as at, socket.create_connection(at, timeout=5) as client:
        client.sendall(begun(len(LARGE)) + LARGE[:1000])
        answer = b""
        while b"MOODCAST_MAX_MB" not in answer:
            answer += client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_what_is_read_of_a_refused_body_is_bounded_in_bytes_and_in_time() -> None:
    with serving(Settings(max_mb=0.05, max_idle_s=0.5)) as at:
        with socket.create_connection(at, timeout=5) as endless:
            endless.sendall(begun(10**9))
            with pytest.raises(OSError, match="reset|[Bb]roken pipe"):
                endless.sendall(bytes(100_000_000))
        with socket.create_connection(at, timeout=5) as silent:
            silent.sendall(begun(10**9))
            began = time.monotonic()
            while silent.recv(4096):
                pass
            assert 0.4 < time.monotonic() - began < 4


def kept_open(client: socket.socket) -> bool:
    """Whether the connection of a client that was refused, and still has to send, stays open."""
    client.sendall(begun(10**9))
    assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
    client.settimeout(0.3)
    try:
        while client.recv(4096):
            pass
    except TimeoutError:
        return True
    return False


def test_of_refused_bodies_only_some_are_read_at_a_time_and_who_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "MAX_AT_A_TIME", 1)
    with serving(Settings(max_mb=0.05, max_idle_s=60.0)) as at:
        with socket.create_connection(at, timeout=5) as first, socket.create_connection(at, timeout=5) as second:
            assert kept_open(first)
            assert not kept_open(second)
        end, free = time.monotonic() + 10, False
        while not free and time.monotonic() < end:
            with socket.create_connection(at, timeout=5) as third:
                free = kept_open(third)
        assert free


@pytest.mark.parametrize(
    "body",
    [
        FILE + b"RIFF",  # in the middle of the file
        FILE + b"RIFF\r\n--",
        FILE + b"RIFF\r\n--x\r\nContent-Dispo",  # after it, in the next field
        PART % (b"name", b"talk"),
        b"--x\r\n",
    ],
)
def test_a_form_that_breaks_off_is_told_so(body: bytes) -> None:
    refused(post(body, headers=FORM), 422, "bad_form", "broke off before the line that ends it")


def test_a_form_that_is_whole_is_read_and_one_without_a_file_says_so() -> None:
    sound = wav(np.random.default_rng(0).uniform(-0.3, 0.3, 4 * 16_000).astype(np.float32))
    response: httpx.Response = post(FILE + sound + b"\r\n--x--\r\n", headers=FORM)
    assert response.status_code == 200, response.text
    refused(post(PART % (b"name", b"talk") + b"--x--", headers=FORM), 422, "no_file", "fields: name")
