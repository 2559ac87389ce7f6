"""The application on a real local Ray Serve, one instance for all tests here, with tiny bundles of random weights."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import wave as wavefile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import audio, bundle, podcast, segmentation
from moodcast.embedded import Embedded
from moodcast.timeline import Timeline
from tests.cluster.listeners import addresses, beyond_loopback, descendants

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

Wave = NDArray[np.float32]
RATE = 16_000


def wav(wave: Wave) -> bytes:
    out = io.BytesIO()
    with wavefile.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


@pytest.fixture(scope="module")
def url(bundles: dict[str, Path]) -> Iterator[str]:
    from moodcast.cluster import serve as serving

    settings = {"max_mb": 10, "max_hours": 0.05, "batch_wait_s": 0.8, "in_flight": 1, "threads": 1}
    models = {"bundle": bundles["emotion"], "voiceprint": bundles["voices"]}
    with serving.running(port=serving.free_port(), settings={**settings, **models}) as found:
        yield found


@pytest.fixture(scope="module")
def in_process(bundles: dict[str, Path]) -> Any:
    emotion, voices = bundle.load(bundles["emotion"]), bundle.load(bundles["voices"])
    diarizer = Embedded.of(voices, segmentation=segmentation.load())  # as `default_diarizer` has it
    return lambda sound, **options: podcast.timeline(sound, emotion, diarizer, **options)


def post(url: str, sound: bytes, query: str = "", **request: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/timeline{query}", content=sound, timeout=60, **request)


def load_of(url: str) -> dict[str, Any]:
    load: dict[str, Any] = httpx.get(f"{url}/v1/health", timeout=30).json()["load"]
    return load


def same(served: Timeline, expected: Timeline) -> None:
    """Same segments and times, numbers within 1e-4."""
    assert [(s.speaker, s.start_s, s.stop_s, s.status, s.emotion) for s in served.segments] == [
        (s.speaker, s.start_s, s.stop_s, s.status, s.emotion) for s in expected.segments
    ]
    assert (served.duration_s, served.classes, served.provenance) == (expected.duration_s, expected.classes, expected.provenance)
    for ours, theirs in zip(served.segments, expected.segments, strict=True):
        assert ours.emotions == pytest.approx(theirs.emotions, abs=1e-4)
        assert len(ours.chunks) == len(theirs.chunks)
        for a, b in zip(ours.chunks, theirs.chunks, strict=True):
            assert (a.start_s, a.stop_s) == (b.start_s, b.stop_s)
            assert a.emotions == pytest.approx(b.emotions, abs=1e-4)


def test_a_served_timeline_is_that_of_the_process(url: str, conversation: bytes, in_process: Any) -> None:
    expected = in_process(conversation)
    assert sum(segment.status == "ok" for segment in expected.segments) >= 3
    response = post(url, conversation)
    assert response.status_code == 200, response.text
    same(Timeline.from_json(response.content), expected)


def test_the_number_of_speakers_reaches_the_diarizer(url: str, conversation: bytes, in_process: Any) -> None:
    response = post(url, conversation, "?num_speakers=3")
    assert response.status_code == 200, response.text
    found = Timeline.from_json(response.content)
    assert len(found.speakers) == 3
    same(found, in_process(conversation, num_speakers=3))


def test_requests_at_the_same_time_share_batches_and_are_all_right(url: str, conversation: bytes, in_process: Any) -> None:
    wave = audio.read(conversation)
    clips = [wav(wave[round(start * RATE) : round((start + 2.5) * RATE)]) for start in (10.6, 12.0, 14.5, 18.3, 22.0, 24.0, 25.5, 11.3)]
    expected = [in_process(clip, num_speakers=1) for clip in clips]
    before = load_of(url)

    async def go() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            return list(await asyncio.gather(*(client.post(f"{url}/v1/timeline?num_speakers=1", content=clip) for clip in clips)))

    for response, wanted in zip(asyncio.run(go()), expected, strict=True):
        assert response.status_code == 200, response.text
        same(Timeline.from_json(response.content), wanted)
    after = load_of(url)
    asked = sum(segment.status == "ok" for wanted in expected for segment in wanted.segments)
    assert asked >= len(clips) - 1
    assert after["stretches"] - before["stretches"] == asked
    calls = after["calls"] - before["calls"]
    assert calls == sum(any(segment.status == "ok" for segment in wanted.segments) for wanted in expected)  # one a request
    assert after["batches"] - before["batches"] < calls  # so a batch mixed requests
    assert before["largest_batch"] == 1 < after["largest_batch"]


def test_a_stream_brings_segments_before_it_ends(url: str, conversation: bytes, in_process: Any) -> None:
    long = wav(np.tile(audio.read(conversation), 4))
    rows: list[tuple[float, dict[str, Any]]] = []
    with httpx.stream("POST", f"{url}/v1/timeline?stream=true", content=long, timeout=60) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/x-ndjson")
        for line in response.iter_lines():
            rows.append((time.monotonic(), json.loads(line)))
    kinds = [row["type"] for _, row in rows]
    assert kinds == ["timeline", *["segment"] * (len(rows) - 2), "end"]
    assert rows[-1][0] - rows[1][0] > 0.3  # the first segment came at least a batch before the end
    head = {name: value for name, value in rows[0][1].items() if name != "type"}
    segments = [{name: value for name, value in row.items() if name != "type"} for _, row in rows[1:-1]]
    same(Timeline.from_json(json.dumps({**head, "segments": segments})), in_process(long))


def leave_stream(url: str, sound: bytes) -> None:
    with httpx.stream("POST", f"{url}/v1/timeline?stream=true", content=sound, timeout=60) as response:
        lines = response.iter_lines()  # kept: httpx closes the stream with its iterator
        next(lines)
        assert load_of(url)["running"] == 1


def leave_before_the_answer(url: str, sound: bytes) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/timeline", content=sound, timeout=1.0)


@pytest.mark.parametrize("leave", [leave_stream, leave_before_the_answer])
def test_a_client_that_leaves_ends_the_work_for_it(url: str, conversation: bytes, leave: Callable[[str, bytes], None]) -> None:
    before = load_of(url)["stretches"]
    sound = wav(np.tile(audio.read(conversation), 5))
    leave(url, sound)
    deadline = time.monotonic() + 20
    stretches = -1
    while (load := load_of(url))["running"] or load["stretches"] != stretches:  # nothing runs and nothing more is asked
        stretches = load["stretches"]
        assert time.monotonic() < deadline, load
        time.sleep(1.5)
    assert stretches - before < 50  # of about 80: the rest was never asked


@pytest.mark.parametrize(
    ("sound", "query", "status", "kind"),
    [
        (bytes(11_000_000), "", 413, "too_large"),
        (b"just words " * 1000, "", 415, "not_audio"),
        (b"", "", 422, "empty"),
        ("truncated", "", 422, "unreadable"),
        ("long", "", 413, "too_long"),
        ("whole", "?num_speakers=0", 422, "bad_option"),
    ],
)
def test_refusals_come_through_serve_as_they_are(
    url: str, conversation: bytes, sound: bytes | str, query: str, status: int, kind: str
) -> None:
    named = {"truncated": conversation[: len(conversation) // 2], "whole": conversation}
    body = sound if isinstance(sound, bytes) else wav(np.zeros(200 * RATE, np.float32)) if sound == "long" else named[sound]
    response = post(url, body, query)
    assert response.status_code == status, response.text
    assert response.json()["error"]["kind"] == kind


def test_a_body_without_a_length_is_refused_while_it_arrives(url: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(400):
            yield bytes(100_000)

    try:
        response = httpx.post(f"{url}/v1/timeline", content=endless(), timeout=60)
    except (httpx.WriteError, httpx.RemoteProtocolError):
        return  # refused so early that the connection was closed under the sender
    assert response.status_code == 413
    assert "10 MB" in response.json()["error"]["message"]


def test_a_request_id_comes_back(url: str) -> None:
    response = httpx.get(f"{url}/v1/health", headers={"x-request-id": "mine-7"}, timeout=30)
    assert response.headers["x-request-id"] == "mine-7"


def test_health_openapi_and_docs_answer(url: str, bundles: dict[str, Path]) -> None:
    health = httpx.get(f"{url}/v1/health", timeout=30).json()
    assert health["bundle"]["sha256"] == bundle.load(bundles["emotion"]).sha256
    assert health["classes"] == ["angry", "happy", "neutral", "sad"]
    assert "/v1/timeline" in httpx.get(f"{url}/openapi.json", timeout=30).json()["paths"]
    assert "num_speakers" in httpx.get(url, follow_redirects=True, timeout=30).text


def test_every_listener_is_on_loopback(url: str) -> None:
    assert len(addresses(descendants(os.getpid()))) >= 8  # the proxy, three replicas, Ray's own
    assert beyond_loopback(os.getpid()) == set()


def test_a_model_that_dies_is_asked_again(url: str, conversation: bytes, in_process: Any) -> None:
    import ray

    names = [row["name"] for row in ray.util.list_named_actors(all_namespaces=True) if "#Emotion#" in row["name"]]
    assert len(names) == 1
    ray.kill(ray.get_actor(names[0], namespace="serve"), no_restart=True)
    response = post(url, conversation)
    assert response.status_code == 200, response.text
    same(Timeline.from_json(response.content), in_process(conversation))
