"""A backend that answers what it is told, and how the tests of the interface ask it."""

from __future__ import annotations

import asyncio
import io
import json
import wave as wavefile
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from moodcast.answer import Answer
from moodcast.diarize import Turn
from moodcast.service.api import About, build_app
from moodcast.service.settings import Settings

Wave = NDArray[np.float32]
RATE = 16_000
TURNS = [Turn("anna", 0.2, 1.4), Turn("ben", 1.5, 3.0), Turn("anna", 3.1, 3.2)]


class Told:
    """A backend that answers what it is told: `turns`, and the loudness of a stretch as its emotion."""

    def __init__(self, turns: list[Turn] | None = None, error: Exception | None = None) -> None:
        self.turns = TURNS if turns is None else turns
        self.error = error
        self.hints: list[dict[str, int]] = []
        self.hold: asyncio.Event | None = None
        self.cancelled = 0

    async def about(self) -> About:
        return About("tiny", "f" * 64, "told", ("calm", "angry"), (), RATE)

    async def diarize(self, wave: Wave, rate: int, hints: dict[str, int]) -> list[Turn]:
        self.hints.append(hints)
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self.turns

    async def feel(self, waves: list[Wave]) -> list[Answer]:
        if self.error is not None:
            raise self.error
        levels = [min(1.0, float(np.abs(wave).max())) for wave in waves]
        return [Answer(("calm", "angry"), len(w) / RATE, np.array([1 - a, a], np.float32)) for w, a in zip(waves, levels, strict=True)]

    async def counters(self) -> dict[str, float]:
        return {"batches": 0}


def wav(wave: Wave, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    with wavefile.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def ask(backend: Told, method: str, path: str, settings: Settings | None = None, raised: bool = False, **request: Any) -> httpx.Response:
    """raised: what the application raises after its answer, for the server's log, comes through."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(build_app(backend, settings or Settings()), raise_app_exceptions=raised)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **request)

    return asyncio.run(go())


def post(sound: bytes | None, query: str = "", **request: Any) -> httpx.Response:
    backend = request.pop("backend", None) or Told()
    return ask(backend, "POST", f"/v1/timeline{query}", **({"content": sound} if sound is not None else {}), **request)


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


def refused(response: httpx.Response, status: int, kind: str, *words: str) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"kind", "message", "what_to_do"}, error
    assert error["kind"] == kind, error
    assert [word for word in words if word not in error["message"]] == [], error
    assert error["what_to_do"], error
