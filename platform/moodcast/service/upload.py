"""Reading a request with limits: a raw body or a multipart form, counted while it arrives, and kept on disk: many may wait."""

from __future__ import annotations

import asyncio
import mmap
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import IO, Annotated, Any, Literal

from pydantic import TypeAdapter, ValidationError, WithJsonSchema
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from moodcast import voices
from moodcast.config import suggest
from moodcast.refine import Refinement
from moodcast.service.errors import ServiceError, bad_option, stalled, too_large

FILE = "file"
MAX_FIELDS = 20
MAX_FIELD_BYTES = 64 * 1024
FORM_SPARE_BYTES = 256 * 1024  # what the frame of a form may take beside the file
MAX_SPEAKERS = 50

# As the interface describes them; what does not fit is refused in words below.
People = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_SPEAKERS})]
Sureness = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
Smoothing = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^(median:([3579]|[1-9][13579]))?$"})]


@dataclass(frozen=True)
class Options:
    """What a client may ask of a timeline, in the query or in fields of the form.

    num_speakers, or bounds on it; adapt, smooth and min_confidence: what is done to answers, where the service's own way is not wanted;
    format of the answer; stream: NDJSON as segments come; name: what the timeline is called.
    """

    num_speakers: People | None = None
    min_speakers: People | None = None
    max_speakers: People | None = None
    adapt: bool | None = None
    smooth: Smoothing | None = None
    min_confidence: Sureness | None = None
    format: Literal["json", "csv", "rttm", "html"] = "json"
    stream: bool = False
    name: str | None = None

    @property
    def hints(self) -> dict[str, int]:
        """The speaker counts that were given, as a diarizer takes them."""
        given = {name: getattr(self, name) for name in ("num_speakers", "min_speakers", "max_speakers")}
        return {name: value for name, value in given.items() if value is not None}

    def refinement(self, usual: Refinement) -> Refinement:
        """What is done to answers. Raises ValueError for what it does not know."""
        given = {name: getattr(self, name) for name in ("adapt", "smooth", "min_confidence")}
        return replace(usual, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Upload:
    """A request that was read: the audio file, mapped into memory from a disk, the name it came with, and the options."""

    data: mmap.mmap
    filename: str | None
    options: Options


def read_options(given: Mapping[str, str]) -> Options:
    """Options from text. Raises ServiceError 422 for an unknown name (with the nearest known), a bad value, or speakers that contradict."""
    known = [f.name for f in fields(Options)]
    for name in given:
        if name not in known:
            raise bad_option(f"there is no option '{name}'.{suggest(name, known)}", f"options: {', '.join(known)}")
    try:
        options: Options = _OPTIONS.validate_python({name: value for name, value in given.items() if value != ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise bad_option(f"{name}={given[name]!r} does not fit: {first['msg']}") from None
    _check(options)
    return options


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Options by name. Raises ServiceError 422 where one came with two values: either would be a guess."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise bad_option(f"{name} came twice, as {found[name]!r} and as {value!r}", "give it once, in the query or in the form")
    return found


async def read_upload(request: Request, max_bytes: int, max_idle_s: float) -> Upload:
    """Read a request to its end, or refuse it as soon as it is known to be too large, or has sent nothing for so long.

    Raises ServiceError: 408 and 413 over the limits, 422 for options, a form without a file, or an empty body.
    """
    options = read_options(once(request.query_params.multi_items()))  # refuse these before a large body is read
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    limit = max_bytes + (FORM_SPARE_BYTES if is_form else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(max_bytes)
    pieces = counted(request.stream(), limit, max_bytes, max_idle_s)
    with tempfile.TemporaryFile() as kept:
        filename = None
        if is_form:
            filename, options = await _read_form(request, pieces, max_bytes, kept)
        else:
            async for piece in pieces:
                kept.write(piece)
        kept.flush()
        if not kept.tell():
            raise ServiceError(
                422, "empty", "the request holds no audio", "send a file as the body, or as the field 'file' of a multipart form"
            )
        return Upload(mmap.mmap(kept.fileno(), 0, access=mmap.ACCESS_READ), filename, options)


async def counted(pieces: AsyncIterator[bytes], limit: int, named: int, max_idle_s: float) -> AsyncGenerator[bytes, None]:
    """The pieces of a body. Raises ServiceError: 413, naming `named`, once they pass `limit` bytes, 408 where none comes for so long."""
    total = 0
    while True:
        try:
            async with asyncio.timeout(max_idle_s):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise stalled(max_idle_s) from None
        total += len(piece)
        if total > limit:
            raise too_large(named)
        yield piece


class WholeForm(MultiPartParser):
    """Knows whether the line came that ends a form: of one without it, the file that broke off is not among its fields."""

    ended = False

    def on_end(self) -> None:
        """Called by the parser at that line."""
        self.ended = True


async def _read_form(request: Request, pieces: AsyncGenerator[bytes, None], max_bytes: int, into: IO[bytes]) -> tuple[str | None, Options]:
    parser = WholeForm(request.headers, pieces, max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:  # KeyError: a content-type without a boundary
        reason = getattr(error, "message", "the content-type has no boundary")
        raise ServiceError(
            422, "bad_form", f"the multipart form cannot be read: {reason}", "let your HTTP library build the form"
        ) from None
    try:
        if not parser.ended:
            came = "the multipart form broke off before the line that ends it"
            raise ServiceError(422, "bad_form", came, "send it again, and let your HTTP library build the form")
        return await _take(form, request.query_params.multi_items(), max_bytes, into)
    finally:
        await form.close()


async def _take(form: FormData, query: Iterable[tuple[str, str]], max_bytes: int, into: IO[bytes]) -> tuple[str | None, Options]:
    file = form.get(FILE)
    if not isinstance(file, UploadFile):
        if file is not None:
            came = f"the field '{FILE}' of the form holds a text and no file"
            raise ServiceError(422, "no_file", came, f"send the file's content with a file name: curl -F {FILE}=@talk.mp3, with the @")
        names = ", ".join(sorted(form)) or "none"
        raise ServiceError(422, "no_file", f"the form has no file in its field '{FILE}' (fields: {names})", f"curl -F {FILE}=@talk.mp3 ...")
    options = read_options(once([*query, *((name, value) for name, value in form.multi_items() if isinstance(value, str))]))
    await asyncio.to_thread(shutil.copyfileobj, file.file, into)
    if into.tell() > max_bytes:
        raise too_large(max_bytes)
    return file.filename, options


def _check(options: Options) -> None:
    for name, value in options.hints.items():
        if not 1 <= value <= MAX_SPEAKERS:
            raise bad_option(f"{name}={value} is out of range", f"give 1 to {MAX_SPEAKERS} speakers")
    low, high = options.min_speakers or 1, options.max_speakers or MAX_SPEAKERS
    if low > high:
        raise bad_option(f"min_speakers={low} is more than max_speakers={high}", "swap them")
    try:
        voices.speaker_limits(options.num_speakers, options.min_speakers, options.max_speakers)
    except ValueError as error:
        raise bad_option(str(error), "give num_speakers alone, or leave it out") from None
    try:
        options.refinement(Refinement())
    except ValueError as error:
        raise bad_option(str(error)) from None
    if options.stream and options.format != "json":
        raise bad_option(f"stream=true gives NDJSON, not format={options.format}", "leave out stream or format")


_OPTIONS: TypeAdapter[Any] = TypeAdapter(Options)
