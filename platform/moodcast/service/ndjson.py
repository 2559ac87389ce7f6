"""NDJSON: a timeline as lines, so that a client reads segments while the rest is still being heard.

    {"type": "timeline", "schema": ..., "uri": ..., "duration_s": ..., "classes": [...], "provenance": {...}}
    {"type": "segment", "start_s": ..., "stop_s": ..., "speaker": ..., ...}        one a turn, as in the JSON form
    {"type": "revision", "index": 3, "segment": {...}}                             what changed when all turns were known, if asked for
    {"type": "adaptation", "speaker": ..., "mixed": ..., "why": ..., ...}          one a speaker, likewise
    {"type": "end", "segments": 12, "took_s": 3.4}                                 or {"type": "error", "error": {...}}

The last line is always "end" or "error": a stream without it was cut.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from moodcast.refine import Refinement, refined, withheld
from moodcast.service.errors import explain
from moodcast.timeline import Segment, Timeline

MEDIA_TYPE = "application/x-ndjson"

log = logging.getLogger(__name__)


async def lines(head: Timeline, segments: AsyncIterator[Segment], how: Refinement | None = None) -> AsyncIterator[bytes]:
    """The lines of a stream: `head` (a timeline without segments), each segment as it comes, what `how` changes once all are known,
    then the end or what went wrong.
    """
    started = time.monotonic()
    yield line("timeline", {name: value for name, value in head.to_dict().items() if name != "segments"})
    how, raw, count = how or Refinement(), [], 0
    try:
        async for segment in segments:
            raw.append(segment)
            yield line("segment", withheld(segment, how.min_confidence or 0.0).model_dump(mode="json"))
            count += 1
        whole = head.model_copy(update={"segments": tuple(raw)})
        final = await asyncio.to_thread(refined, whole, how)  # seconds for hours of talk, in which others are answered
        for index, (before, after) in enumerate(zip(raw, final.segments, strict=True)):
            if withheld(before, how.min_confidence or 0.0) != after:
                yield line("revision", {"index": index, "segment": after.model_dump(mode="json")})
        for one in final.adaptation:
            yield line("adaptation", one.model_dump(mode="json"))
    except Exception as error:
        refusal = explain(error)
        if refusal.status >= 500:
            log.exception("an analysis failed after %d segments", count)
        yield line("error", refusal.body())
    else:
        yield line("end", {"segments": count, "took_s": round(time.monotonic() - started, 3)})


def line(kind: str, data: dict[str, Any]) -> bytes:
    """One line of NDJSON."""
    return json.dumps({"type": kind, **data}, ensure_ascii=False, allow_nan=False).encode() + b"\n"
