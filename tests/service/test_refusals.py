"""What the interface refuses: bodies, files and options that do not fit, each with its kind and what to do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from moodcast import voices
from moodcast.service.errors import ServiceError
from moodcast.service.settings import Settings
from moodcast.service.upload import read_options
from tests.service.asking import Told, ask, lines_of, post, refused


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("smooth=mean:3", "median:N"),
        ("smooth=median:99999999999", "3 to 99"),  # as many rows would be made of them
        ("min_confidence=7", "between 0 and 1"),
        ("adapt=perhaps", "adapt"),
    ],
)
def test_what_cannot_be_done_to_answers_is_refused(sound: bytes, query: str, word: str) -> None:
    refused(post(sound, f"?{query}"), 422, "bad_option", word)


@pytest.mark.parametrize("name", ["diarizer", "trust_checkpoint", "transcriber", "bundle"])
def test_a_request_cannot_name_what_is_loaded(sound: bytes, name: str) -> None:
    refused(post(sound, f"?{name}=owner/name"), 422, "bad_option", f"there is no option '{name}'")


def test_an_error_in_a_stream_is_its_last_line_and_leaks_nothing(sound: bytes) -> None:
    response = post(sound, "?stream=true", backend=Told(error=RuntimeError("the secret path /etc/x")))
    assert response.status_code == 200
    *_, last = lines_of(response)
    assert last["type"] == "error"
    assert last["error"]["kind"] == "internal"
    assert "secret" not in response.text


def test_an_unforeseen_error_is_a_500_that_leaks_nothing(sound: bytes) -> None:
    response = post(sound, backend=Told(error=RuntimeError("the secret path /etc/x")))
    refused(response, 500, "internal")
    assert "secret" not in response.text


def test_a_body_over_the_limit_is_refused_whatever_its_headers_say(sound: bytes) -> None:
    small = Settings(max_mb=0.05)
    refused(post(sound, settings=small), 413, "too_large", "0.05 MB")

    async def unannounced() -> Any:
        for _ in range(100):
            yield sound[:1000]

    refused(post(None, content=unannounced(), settings=small), 413, "too_large", "0.05 MB")
    refused(post(None, files={"file": ("a.wav", sound)}, settings=small), 413, "too_large", "0.05 MB")


def test_a_form_may_be_as_large_as_its_file_may_and_no_file_larger(sound: bytes) -> None:
    exact = Settings(max_mb=len(sound) / 1e6)
    assert post(None, files={"file": ("a.wav", sound)}, settings=exact).status_code == 200
    tight = Settings(max_mb=(len(sound) - 1) / 1e6)
    refused(post(None, files={"file": ("a.wav", sound)}, settings=tight), 413, "too_large")


@pytest.mark.parametrize("kind", ["body", "form"])
def test_a_body_of_which_nothing_more_comes_gives_its_place_back(sound: bytes, kind: str) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' if kind == "form" else b""
    headers = {"content-type": "multipart/form-data; boundary=x"} if kind == "form" else {}

    async def silent() -> Any:
        yield head + sound[:1000]
        await asyncio.sleep(60)

    refused(post(None, content=silent(), headers=headers, settings=Settings(max_idle_s=0.05)), 408, "stalled", "for 0.05 s")


def test_a_slow_body_that_goes_on_is_read_to_its_end(sound: bytes) -> None:
    async def slow() -> Any:
        for place in range(0, len(sound), len(sound) // 4 + 1):
            await asyncio.sleep(0.1)
            yield sound[place : place + len(sound) // 4 + 1]

    assert post(None, content=slow(), settings=Settings(max_idle_s=0.3)).status_code == 200


def test_reading_stops_at_the_limit(sound: bytes) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1000
            yield b"\0" * 1000

    refused(post(None, content=endless(), settings=Settings(max_mb=0.05)), 413, "too_large")
    assert sent <= 52_000


def test_audio_that_is_too_long_is_refused(sound: bytes) -> None:
    response = post(sound, settings=Settings(max_hours=1 / 3600))
    refused(response, 413, "too_long", "wanted at most")
    assert "max_hours" not in response.text, "a client has no such setting"
    assert "in parts" in response.json()["error"]["what_to_do"]


def test_a_refusal_is_no_failure_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    response = post(b"no sound " * 100, raised=True)
    refused(response, 415, "not_audio")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_text_where_the_file_belongs_says_so(sound: bytes) -> None:
    refused(post(None, files={"file": (None, b"talk")}), 422, "no_file", "a text and no file")


@pytest.mark.parametrize("junk", [b"{}", b"hello " * 1000, b"\x89PNG\r\n\x1a\n" + bytes(500), b"#EXTM3U\n/etc/passwd\n"])
def test_what_is_not_audio_is_415(junk: bytes) -> None:
    refused(post(junk), 415, "not_audio")


def test_a_truncated_file_is_422(sound: bytes) -> None:
    response = post(sound[: len(sound) // 2])
    refused(response, 422, "unreadable", "cut short or damaged", "export it again")
    assert "stop_s" not in response.text, "a client has no such option"


def test_an_empty_body_and_an_empty_file_are_422(sound: bytes) -> None:
    refused(post(b""), 422, "empty")
    refused(post(None, files={"file": ("a.wav", b"")}), 422, "empty")


def test_a_form_without_a_file_says_which_fields_it_has(sound: bytes) -> None:
    refused(post(None, files={"audio": ("a.wav", sound)}), 422, "no_file", "fields: audio")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_broken_form_is_422(content_type: str) -> None:
    response = post(b"no form at all", headers={"content-type": content_type})
    assert response.status_code == 422
    assert response.json()["error"]["kind"] in ("bad_form", "no_file")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?num_speaker=2", "Did you mean 'num_speakers'?"),
        ("?num_speakers=two", "num_speakers='two'"),
        ("?num_speakers=0", "num_speakers=0 is out of range"),
        ("?num_speakers=51", "num_speakers=51 is out of range"),
        ("?min_speakers=3&max_speakers=2", "min_speakers=3 is more than max_speakers=2"),
        ("?num_speakers=5&max_speakers=2", "num_speakers=5 came with max_speakers=2"),
        ("?num_speakers=2&min_speakers=1&max_speakers=3", "num_speakers=2 came with min_speakers=1 and max_speakers=3"),
        ("?num_speakers=2&min_speakers=2", "give the number of speakers or bounds on it, not both"),
        ("?num_speakers=2&num_speakers=3", "num_speakers came twice, as '2' and as '3'"),
        ("?format=xml", "format='xml'"),
        ("?stream=maybe", "stream='maybe'"),
        ("?stream=true&format=rttm", "not format=rttm"),
    ],
)
def test_an_option_that_does_not_fit_is_422(sound: bytes, query: str, words: str) -> None:
    refused(post(sound, query), 422, "bad_option", words)


def test_an_option_with_one_value_in_the_query_and_another_in_the_form_is_422(sound: bytes) -> None:
    def both(other: str) -> Any:
        return post(None, "?num_speakers=2", files={"file": ("a.wav", sound)}, data={"num_speakers": other})

    refused(both("3"), 422, "bad_option", "num_speakers came twice, as '2' and as '3'")
    assert both("2").status_code == 200


@pytest.mark.parametrize("num", [None, 2])
@pytest.mark.parametrize("low", [None, 1, 30])
@pytest.mark.parametrize("high", [None, 3, 40])
def test_what_is_let_through_of_speakers_no_diarizer_refuses(num: int | None, low: int | None, high: int | None) -> None:
    given = {"num_speakers": num, "min_speakers": low, "max_speakers": high}
    try:
        voices.speaker_limits(**given)
    except ValueError:
        with pytest.raises(ServiceError) as refusal:
            read_options({name: str(value) for name, value in given.items() if value is not None})
        assert (refusal.value.status, refusal.value.kind) == (422, "bad_option")
    else:
        told = read_options({name: str(value) for name, value in given.items() if value is not None})
        assert told.hints == {name: value for name, value in given.items() if value is not None}


def test_a_bad_option_is_refused_before_the_body_is_read() -> None:
    async def untouched() -> Any:
        pytest.fail("the body was read")
        yield b""

    refused(post(None, "?num_speakers=0", content=untouched()), 422, "bad_option")


def test_an_unknown_page_is_a_refusal_of_the_same_form() -> None:
    refused(ask(Told(), "GET", "/nothing"), 404, "no_such_route", "/nothing")
    refused(wrong := ask(Told(), "GET", "/v1/timeline"), 405, "no_such_route")
    assert wrong.headers["allow"] == "POST"
