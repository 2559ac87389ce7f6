"""The HTTP interface as a FastAPI application, without Ray: what computes stands behind `Backend`.

    POST /v1/timeline   audio in (multipart field "file", or the raw body), timeline out: JSON, CSV, RTTM, HTML or NDJSON as it comes
    GET  /v1/health     version, bundle, classes, limits, load; HEAD, too
    GET  /openapi.json, /docs

Errors are JSON: {"error": {"kind", "message", "what_to_do"}}; their statuses are in moodcast.service.errors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from moodcast import __version__, podcast
from moodcast.answer import Answer
from moodcast.audio import AudioError
from moodcast.diarize import Turn
from moodcast.refine import Refinement, refined
from moodcast.service import ndjson, reference
from moodcast.service.drain import Drained
from moodcast.service.errors import ServiceError, explain
from moodcast.service.gate import Gate
from moodcast.service.settings import Settings
from moodcast.service.upload import Options, Upload, read_upload
from moodcast.timeline import Segment, Timeline

Wave = NDArray[np.float32]
TEXTS = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "rttm": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
}
DRAINED = 10  # a refused body is read to its end where it has at most so many times what is allowed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """What computes: names and hash as they go into a timeline's provenance, the classes, and the rate that all models work at, Hz.

    transcriber: its name, where there is one; min_confidence and cooled: what the bundle asks for (`moodcast.refine.Refinement`).
    """

    bundle: str
    bundle_sha256: str
    diarizer: str
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    rate: int
    transcriber: str | None = None
    min_confidence: float = 0.0
    cooled: float = 1.0
    reads: bool = False  # whether answers also rest on what is said


class Backend(Protocol):
    """What computes behind the interface: two models, in process or far away. Cancelling a call should stop its work."""

    async def about(self) -> About:
        """What the models are; called often, so remember it."""

    async def diarize(self, wave: Wave, rate: int, hints: dict[str, int]) -> list[Turn]:
        """Who speaks when; hints: num_speakers, min_speakers, max_speakers where the client gave them."""

    async def feel(self, waves: list[Wave], texts: list[str | None] | None = None) -> list[Answer]:
        """The emotion of each stretch; texts: what is said in them, only where `about` says that it `reads`."""

    async def transcribe(self, waves: list[Wave]) -> list[str]:
        """What is said in each stretch; only asked where `about` names a transcriber."""

    async def counters(self) -> dict[str, float]:
        """Numbers about the models' work so far, for /v1/health."""


class Analyst:
    """One request from upload to segments: waits for a slot, decodes in a thread, then runs the pipeline on the backend."""

    def __init__(self, backend: Backend, settings: Settings) -> None:
        self.backend = backend
        self.settings = settings
        self.gate = Gate(settings.max_running, settings.max_waiting)
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")

    @asynccontextmanager
    async def opened(self, upload: Upload) -> AsyncIterator[tuple[Timeline, Wave]]:
        """A timeline without segments yet, and the decoded samples [N], while a slot is held."""
        about = await self.backend.about()
        async with self.gate.running(), AsyncExitStack() as stack:
            manager = podcast.open_wave(upload.data, about.rate, self.settings.max_hours)
            wave = await asyncio.get_running_loop().run_in_executor(self._decoders, manager.__enter__)
            stack.callback(manager.__exit__, None, None, None)
            yield _head(upload, about, self.refinement(upload.options, about), len(wave) / about.rate), wave

    def refinement(self, options: Options, about: About) -> Refinement:
        """What is done to raw answers: what the request says, else the settings, else the bundle."""
        how = options.refinement(self.settings.refinement)
        bound = about.min_confidence if how.min_confidence is None else how.min_confidence
        return replace(how, min_confidence=bound, cooled=about.cooled)

    def segments(self, wave: Wave, about: About, options: Options) -> AsyncIterator[Segment]:
        """The segments as they come, with raw answers; close the iterator to cancel."""

        def diarize(wave: Wave, rate: int) -> Awaitable[list[Turn]]:
            return self.backend.diarize(wave, rate, options.hints)

        return podcast.segments(
            wave,
            about.rate,
            diarize,
            self.backend.feel,
            transcribe=self.backend.transcribe if about.transcriber else None,
            reads=about.reads,
            attributes=about.attributes,
            in_flight=self.settings.in_flight,
        )


class HeldResponse(StreamingResponse):
    """A stream that holds something (a slot, decoded audio) and lets go when it ends, breaks or the client leaves."""

    def __init__(self, content: AsyncIterator[bytes], held: AsyncExitStack, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, then let go."""
        async with self.held:
            await super().__call__(scope, receive, send)


def build_app(backend: Backend, settings: Settings) -> FastAPI:
    """The application. It holds no state but the gate, so build one a process."""
    app = FastAPI(
        title="moodcast",
        version=__version__,
        description="Who felt what, when: speech emotion of a recording, speaker turn by speaker turn.",
        docs_url=None,  # the usual page loads scripts from elsewhere; ours is below
        redoc_url=None,
    )
    app.add_middleware(Drained, max_bytes=DRAINED * settings.max_bytes, max_s=settings.max_idle_s)
    analyst = Analyst(backend, settings)
    app.add_exception_handler(Exception, _refuse)
    app.add_exception_handler(ServiceError, _refuse)
    app.add_exception_handler(AudioError, _refuse)  # what is named is answered; what only Exception covers is raised again and logged
    app.add_exception_handler(ClientDisconnect, _refuse)
    app.add_exception_handler(HTTPException, _no_such_page)

    async def timeline(request: Request) -> Response:
        return await answer(request, analyst)

    async def health() -> dict[str, Any]:
        about = await backend.about()
        bundle = {"name": about.bundle, "sha256": about.bundle_sha256, "attributes": about.attributes, "rate": about.rate}
        load = {**analyst.gate.load, **await backend.counters()}
        limits = {"max_mb": settings.max_mb, "max_hours": settings.max_hours}
        return {
            "status": "ok",
            "version": __version__,
            "bundle": bundle,
            "classes": about.classes,
            "diarizer": about.diarizer,
            "transcriber": about.transcriber,
            "limits": limits,
            "load": load,
        }

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(reference.page(app.openapi(), str(request.base_url)))

    async def home() -> RedirectResponse:
        return RedirectResponse("docs")

    app.post(
        "/v1/timeline",
        summary="Who felt what, when",
        description=reference.TIMELINE,
        responses=reference.responses(),
        openapi_extra=reference.request_of(settings.max_mb),
        response_model=None,
    )(timeline)
    app.get("/v1/health", summary="Version, bundle, classes and load", response_description="it is up")(health)
    app.head("/v1/health", include_in_schema=False)(health)  # what watches services may ask without a body
    app.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)(docs)
    app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)(home)
    return app


async def answer(request: Request, analyst: Analyst) -> Response:
    """Answer POST /v1/timeline. Refusals that can be known before the first segment have their HTTP status; later ones end the stream."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(analyst.gate.admitted())
        upload = await read_upload(request, analyst.settings.max_bytes, analyst.settings.max_idle_s)
        head, wave = await stack.enter_async_context(analyst.opened(upload))
        about = await analyst.backend.about()
        how = analyst.refinement(upload.options, about)
        rows = analyst.segments(wave, about, upload.options)
        await stack.enter_async_context(aclosing(rows))  # type: ignore[type-var]
        if upload.options.stream:
            return HeldResponse(ndjson.lines(head, rows, how), stack.pop_all(), ndjson.MEDIA_TYPE)
        raw = head.model_copy(update={"segments": tuple([segment async for segment in rows])})
        return await asyncio.to_thread(_as_text, raw, how, upload, wave, about.rate)


def _as_text(raw: Timeline, how: Refinement, upload: Upload, wave: Wave, rate: int) -> Response:
    timeline, kind = refined(raw, how), upload.options.format
    if kind == "json":
        text = timeline.to_json(indent=None)
    elif kind == "csv":
        text = timeline.to_csv()
    elif kind == "rttm":
        text = timeline.to_rttm()
    else:
        text = timeline.to_html((wave, rate))
    return Response(text, media_type=TEXTS[kind])


def _head(upload: Upload, about: About, how: Refinement, duration_s: float) -> Timeline:
    uri = upload.options.name or PurePath((upload.filename or "").replace("\\", "/")).stem or podcast.name_of(upload.data)
    made_by = {"moodcast": __version__, "bundle": about.bundle, "bundle_sha256": about.bundle_sha256, "diarizer": about.diarizer}
    made_by |= {"transcriber": about.transcriber} if about.transcriber else {}
    made_by |= {**podcast.asked_for(**upload.options.hints), **how.provenance}
    return Timeline(uri=uri, duration_s=duration_s, classes=about.classes, provenance=made_by)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    refusal = explain(error)
    if refusal.status >= 500 and refusal.kind == "internal":
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers)


async def _no_such_page(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} {request.url.path}: {getattr(error, 'detail', 'not possible')}"
    refusal = ServiceError(status, "no_such_route", message, "see /docs")
    return JSONResponse(refusal.body(), status_code=status, headers=getattr(error, "headers", None))  # 405 says what is allowed
