"""The interface described: what OpenAPI cannot guess from the code, and a /docs page that loads nothing from elsewhere."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import TypeAdapter

from moodcast.service.upload import FILE, Options
from moodcast.timeline import Timeline

TIMELINE = """Send a recording (wav, flac, ogg, opus, mp3, m4a, mp4, webm, ...) as the body or as the field "file" of a multipart form.
Options stand in the query or in fields of the form. With stream=true the answer is NDJSON: a line that describes the timeline, one line
a segment as they come, and a last line "end" (or "error"). Where answers are centred on speakers or smoothed, which needs all of them,
there follow before the end a line "revision" for each segment that changed (its index, and the whole segment) and a line "adaptation"
for each speaker."""

HELP = {
    "num_speakers": "how many people speak, where you know it; else it is estimated",
    "min_speakers": "at least so many speakers",
    "max_speakers": "at most so many speakers",
    "adapt": "centre answers on what is usual for each speaker, as far as their turns are of mixed emotions",
    "smooth": "median:N: smooth over N neighbouring chunks of a turn, and N turns of a speaker",
    "min_confidence": "no emotion below this confidence; else what the service or its bundle asks for",
    "format": "how the timeline comes; html is one page with the sound",
    "stream": "NDJSON, segments as they come",
    "name": "what the timeline is called; else the file's name",
}
REFUSALS = {
    408: "nothing of the upload came for a while",
    413: "the upload or the decoded audio is over the limit",
    415: "the upload is not audio",
    422: "an option does not fit, the upload is empty, cut or damaged",
    503: "too many analyses are under way; see Retry-After",
}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["kind", "message", "what_to_do"],
            "properties": {"kind": {"type": "string"}, "message": {"type": "string"}, "what_to_do": {"type": "string"}},
        }
    },
}


def request_of(max_mb: float) -> dict[str, Any]:
    """Parameters and body of POST /v1/timeline for OpenAPI."""
    schema = TypeAdapter(Options).json_schema()["properties"]
    options = {name: {**_without_null(schema[name]), "description": text} for name, text in HELP.items()}
    sound = {"type": "string", "format": "binary"}
    form = {"type": "object", "required": [FILE], "properties": {FILE: {**sound, "description": "the recording"}, **options}}
    parameters = [
        {"name": name, "in": "query", "required": False, "description": HELP[name], "schema": _without_null(schema[name])}
        for name in options
    ]
    content = {"multipart/form-data": {"schema": form}, "application/octet-stream": {"schema": sound}, "audio/*": {"schema": sound}}
    return {
        "parameters": parameters,
        "requestBody": {"required": True, "description": f"the recording, at most {max_mb:g} MB", "content": content},
    }


def responses() -> dict[int | str, dict[str, Any]]:
    """Answers of POST /v1/timeline for OpenAPI."""
    text = {"schema": {"type": "string"}}
    others = {kind: text for kind in ("text/csv", "text/plain", "text/html", "application/x-ndjson")}
    refused: dict[int | str, dict[str, Any]] = {
        status: {"description": why, "content": {"application/json": {"schema": ERROR_SCHEMA}}} for status, why in REFUSALS.items()
    }
    return {200: {"description": "the timeline", "model": Timeline, "content": others}, **refused}


def page(openapi: dict[str, Any], url: str) -> str:
    """The interface as one HTML page, from the OpenAPI document; url: where the service was reached, for the examples."""
    return _templates().get_template("reference.html.j2").render(api=openapi, url=url.rstrip("/"))


@functools.cache
def _templates() -> Environment:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(("html", "j2")))


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional value as that of the value: in a query it is there or not."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    return kinds[0] if kinds else {name: value for name, value in schema.items() if name != "title"}
