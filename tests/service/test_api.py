"""The interface: timelines, streams, options, what it says of itself; how many it takes at once, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from moodcast import __version__
from moodcast.answer import Answer
from moodcast.diarize import Turn
from moodcast.refine import Refinement, refined
from moodcast.service import api, ndjson
from moodcast.service.api import About, build_app
from moodcast.service.errors import ServiceError
from moodcast.service.settings import Settings
from moodcast.service.upload import read_options
from moodcast.timeline import Timeline
from tests.service.asking import RATE, Told, Wave, ask, lines_of, post, refused, wav


def test_a_raw_body_gives_a_timeline(sound: bytes) -> None:
    response = post(sound)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = Timeline.from_json(response.content)
    assert found.duration_s == 3.5
    assert found.classes == ("calm", "angry")
    assert [(s.speaker, s.start_s, s.stop_s, s.status) for s in found.segments] == [
        ("anna", 0.2, 1.4, "ok"),
        ("ben", 1.5, 3.0, "ok"),
        ("anna", 3.1, 3.2, "too_short"),
    ]
    assert found.segments[0].emotions["angry"] == pytest.approx(0.25, abs=1e-3)
    assert found.provenance == {"moodcast": __version__, "bundle": "tiny", "bundle_sha256": "f" * 64, "diarizer": "told"}


def test_a_form_gives_the_same_timeline_named_after_its_file(sound: bytes) -> None:
    form = post(None, files={"file": ("my talk.wav", sound, "audio/wav")})
    assert form.status_code == 200, form.text
    assert form.json()["uri"] == "my talk"
    assert form.json()["segments"] == post(sound).json()["segments"]


def test_options_may_stand_in_the_query_or_in_the_form(sound: bytes) -> None:
    backend = Told()
    post(sound, "?num_speakers=2", backend=backend)
    post(None, files={"file": ("a.wav", sound)}, data={"min_speakers": "2", "max_speakers": "3", "name": "show"}, backend=backend)
    assert backend.hints == [{"num_speakers": 2}, {"min_speakers": 2, "max_speakers": 3}]


@pytest.mark.parametrize(
    ("kind", "media_type", "beginning"),
    [("rttm", "text/plain", "SPEAKER "), ("csv", "text/csv", "start_s,stop_s,speaker"), ("html", "text/html", "<!doctype html>")],
)
def test_a_timeline_comes_in_the_format_asked_for(sound: bytes, kind: str, media_type: str, beginning: str) -> None:
    response = post(sound, f"?format={kind}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith(media_type)
    assert response.text.lower().startswith(beginning.lower())


def test_a_stream_holds_the_same_segments_between_a_first_and_a_last_line(sound: bytes) -> None:
    response = post(sound, "?stream=true")
    assert response.headers["content-type"].startswith("application/x-ndjson")
    head, *rows, end = lines_of(response)
    assert head["type"] == "timeline"
    assert end["type"] == "end"
    assert end["segments"] == len(rows) == 3
    whole = {name: value for name, value in head.items() if name != "type"}
    segments = [{name: value for name, value in row.items() if name != "type"} for row in rows]
    assert {**whole, "segments": segments} == post(sound).json()


class Biased(Told):
    """Answers of two emotions in turn, with a bias of the speaker; and it writes down how long each stretch is."""

    async def about(self) -> About:
        return About("tiny", "f" * 64, "told", ("calm", "angry"), (), RATE, transcriber="scribe", min_confidence=0.6)

    async def feel(self, waves: list[Wave]) -> list[Answer]:
        pairs = [(0.55, 0.45) if len(wave) > 0.4 * RATE else (0.02, 0.98) for wave in waves]
        return [Answer(("calm", "angry"), len(w) / RATE, np.array(p, np.float32)) for w, p in zip(waves, pairs, strict=True)]

    async def transcribe(self, waves: list[Wave]) -> list[str]:
        return [f"{len(wave) / RATE:.2f} s" for wave in waves]


ALTERNATING = [Turn("anna", i * 0.8, i * 0.8 + (0.5 if i % 2 else 0.3125)) for i in range(16)]


@pytest.fixture(scope="module")
def longer() -> bytes:
    t = np.arange(13 * RATE) / RATE
    return wav((0.25 * np.sin(2 * np.pi * 220 * t)).astype(np.float32))


def test_answers_are_withheld_below_what_the_bundle_asks_for_unless_the_request_says_less(longer: bytes) -> None:
    def statuses(query: str) -> list[str]:
        return [row["status"] for row in post(longer, query, backend=Biased(ALTERNATING)).json()["segments"]]

    assert statuses("?adapt=false") == ["ok", "low_confidence"] * 8
    assert statuses("?adapt=false&min_confidence=0.5") == ["ok"] * 16
    assert statuses("?adapt=false&min_confidence=0.99") == ["low_confidence"] * 16


def test_words_stand_in_the_segments_where_there_is_a_transcriber(longer: bytes) -> None:
    found = Timeline.from_json(post(longer, backend=Biased(ALTERNATING)).content)
    assert [row.text for row in found.segments][:2] == ["0.31 s", "0.50 s"]
    assert found.provenance["transcriber"] == "scribe"


def test_a_stream_says_at_its_end_what_changed_when_all_was_known(longer: bytes) -> None:
    query = "?adapt=true&min_confidence=0.6"
    head, *rows, end = lines_of(post(longer, f"{query}&stream=true", backend=Biased(ALTERNATING)))
    kinds = [row.pop("type") for row in rows]
    assert kinds[:16] == ["segment"] * 16
    assert set(kinds[16:-1]) == {"revision"}
    assert kinds[-1] == "adaptation"
    assert end["segments"] == 16
    assert {row["status"] for row in rows[:16]} == {"ok", "low_confidence"}
    segments = rows[:16]
    for row in rows[16:-1]:
        segments[row["index"]] = row["segment"]
    whole = Timeline.from_json(post(longer, query, backend=Biased(ALTERNATING)).content)
    head.pop("type")
    assert Timeline.from_json(json.dumps({**head, "segments": segments, "adaptation": rows[-1:]})) == whole
    assert whole.adaptation[0].mixed > 0
    assert whole.provenance["adapt"] == "speaker"


@pytest.mark.parametrize("query", ["?adapt=true", "?adapt=true&stream=true"])
def test_what_is_done_to_all_answers_of_one_does_not_keep_others_waiting(
    longer: bytes, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[threading.Thread] = []

    def seen(timeline: Timeline, how: Refinement) -> Timeline:
        where.append(threading.current_thread())
        return refined(timeline, how)

    for module in (api, ndjson):
        monkeypatch.setattr(module, "refined", seen)
    assert post(longer, query, backend=Biased(ALTERNATING)).status_code == 200
    assert len(where) == 1
    assert where[0] is not threading.main_thread()  # in which the loop runs


def test_nobody_speaking_gives_an_empty_timeline(sound: bytes) -> None:
    response = post(sound, backend=Told(turns=[]))
    assert response.status_code == 200
    assert response.json()["segments"] == []


def test_health_names_the_version_the_bundle_and_the_classes() -> None:
    found = ask(Told(), "GET", "/v1/health").json()
    assert found["status"] == "ok"
    assert found["version"] == __version__
    assert found["bundle"]["name"] == "tiny"
    assert found["bundle"]["sha256"] == "f" * 64
    assert found["classes"] == ["calm", "angry"]
    assert found["limits"] == {"max_mb": 200.0, "max_hours": 4.0}
    assert found["load"] == {"running": 0, "waiting": 0, "batches": 0}


def test_health_can_be_asked_without_a_body() -> None:
    response = ask(Told(), "HEAD", "/v1/health")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert [ask(Told(), "HEAD", page).status_code for page in ("/docs", "/openapi.json", "/")] == [200, 200, 307]
    assert set(ask(Told(), "GET", "/openapi.json").json()["paths"]["/v1/health"]) == {"get"}


def test_openapi_describes_every_option_and_answer() -> None:
    found = ask(Told(), "GET", "/openapi.json").json()
    assert found["openapi"].startswith("3.")
    call = found["paths"]["/v1/timeline"]["post"]
    options = {option["name"]: option["schema"] for option in call["parameters"]}
    assert set(options) == {
        *("num_speakers", "min_speakers", "max_speakers", "adapt", "smooth", "min_confidence", "format", "stream", "name")
    }
    assert options["format"]["enum"] == ["json", "csv", "rttm", "html"]
    assert options["num_speakers"] == {"type": "integer", "minimum": 1, "maximum": 50}
    assert options["min_confidence"] == {"type": "number", "minimum": 0, "maximum": 1}
    form = call["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert all(form[name].items() >= schema.items() for name, schema in options.items())
    assert call["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["file"]["format"] == "binary"
    assert {"200", "413", "415", "422", "503"} <= set(call["responses"])
    assert "Timeline" in json.dumps(call["responses"]["200"])
    assert "Timeline" in found["components"]["schemas"]


@pytest.mark.parametrize("smooth", ["", *(f"median:{width}" for width in (*range(12), 98, 99, 100, 101)), "median:", "mean:3", "median:3 "])
def test_openapi_lets_a_client_know_which_smoothing_there_is(smooth: str) -> None:
    call = ask(Told(), "GET", "/openapi.json").json()["paths"]["/v1/timeline"]["post"]
    pattern = next(option["schema"]["pattern"] for option in call["parameters"] if option["name"] == "smooth")
    try:
        read_options({"smooth": smooth})
    except ServiceError:
        assert not re.search(pattern, smooth)
    else:
        assert re.search(pattern, smooth)


def test_the_docs_load_nothing_from_elsewhere() -> None:
    page = ask(Told(), "GET", "/docs").text
    assert "num_speakers" in page
    assert "<script" not in page
    assert "src=" not in page
    assert '<link rel="icon" href="data:,">' in page, "else a browser asks for favicon.ico"
    assert "boolean; false unless given" in page
    assert "integer, 1 to 50" in page
    assert "https://" not in page


def serving(backend: Told, settings: Settings, work: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def go() -> Any:
        backend.hold = asyncio.Event()
        transport = httpx.ASGITransport(build_app(backend, settings), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await work(client)

    return asyncio.run(go())


def test_too_many_analyses_are_refused_at_once_and_the_others_are_all_answered(sound: bytes) -> None:
    backend = Told()

    async def work(client: httpx.AsyncClient) -> None:
        held = [asyncio.create_task(client.post("/v1/timeline", content=sound)) for _ in range(3)]
        while len(backend.hints) < 2:
            await asyncio.sleep(0.01)
        load = (await client.get("/v1/health")).json()["load"]
        assert (load["running"], load["waiting"]) == (2, 1)
        busy = await client.post("/v1/timeline", content=sound)
        refused(busy, 503, "busy")
        assert int(busy.headers["retry-after"]) > 0
        assert backend.hold is not None
        backend.hold.set()
        assert [response.status_code for response in await asyncio.gather(*held)] == [200, 200, 200]
        load = (await client.get("/v1/health")).json()["load"]
        assert (load["running"], load["waiting"]) == (0, 0)

    serving(backend, Settings(max_running=2, max_waiting=1), work)


@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_a_client_that_leaves_cancels_the_work_and_frees_its_place(sound: bytes, query: str) -> None:
    backend = Told()

    async def work(client: httpx.AsyncClient) -> None:
        task = asyncio.create_task(client.post(f"/v1/timeline{query}", content=sound))
        while not backend.hints:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        load = (await client.get("/v1/health")).json()["load"]
        assert (load["running"], load["waiting"]) == (0, 0)
        assert backend.cancelled == 1

    serving(backend, Settings(max_running=1, max_waiting=0), work)
