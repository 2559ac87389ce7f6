"""From a recording to its timeline, as plain coroutines without Ray: decode, diarize, feel turn by turn.

The two models come in as coroutines, so that the same road runs in process (`timeline`) and over Ray Serve deployments:

    diarize(wave, rate) -> turns     feel(waves) -> one answer a wave     transcribe(waves) -> one text a wave, where words are wanted

A bundle that reads is told what was said: `feel(waves, texts)`, where there is somebody who writes it down.

There is one segment a turn. A turn longer than the bundle's plan covers is split and merged inside the bundle, nowhere else; its chunk
rows lie inside the segment. Segments come as soon as they are known, with raw answers; what needs all of a speaker's turns is done to
the finished timeline (`refine`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moodcast import __version__, audio
from moodcast.answer import Answer
from moodcast.bundle import Bundle, load
from moodcast.chunks import samples_of
from moodcast.diarize import Diarizer, Turn
from moodcast.embedded import default_diarizer
from moodcast.pipelines import checked
from moodcast.refine import Refinement, refined, withheld
from moodcast.status import overlap_shares, status_of
from moodcast.timeline import ChunkRow, Segment, Status, Timeline

if TYPE_CHECKING:
    from moodcast.transcribe import Transcriber

BATCH_S = 30.0  # seconds of speech asked of `feel` at once; one turn may be longer

SPOKEN: tuple[Status, ...] = ("ok", "overlap")  # turns whose words are written down

T = TypeVar("T")
Wave = NDArray[np.float32]
Source = audio.Source | tuple[Wave, int]
Diarize = Callable[[Wave, int], Awaitable[list[Turn]]]
Feel = Callable[..., Awaitable[list[Answer]]]  # of the waves alone or, where `reads` is said, also of what is said in them
Transcribe = Callable[[list[Wave]], Awaitable[list[str]]]
OnSegment = Callable[[Segment], None]


async def segments(
    wave: Wave,
    rate: int,
    diarize: Diarize,
    feel: Feel,
    *,
    transcribe: Transcribe | None = None,
    reads: bool = False,
    attributes: Sequence[str] = (),
    batch_s: float = BATCH_S,
    in_flight: int = 2,
) -> AsyncIterator[Segment]:
    """Segments by start time, each as soon as it and those before it are known, with raw answers.

    wave: mono samples [N] at `rate` Hz. Turns go to `feel` in batches of about `batch_s` seconds, at most `in_flight` at once; where it
    `reads`, with what `transcribe` wrote down.
    Closing the iterator early cancels what is under way. Raises ValueError where a turn begins after the end of the recording.
    """
    turns = sorted(await diarize(wave, rate), key=lambda turn: (turn.start_s, turn.stop_s, turn.speaker))
    for turn in turns:
        if turn.start_s >= len(wave) / rate:
            raise ValueError(
                f"the turn of {turn.speaker} at {turn.start_s:.2f} s begins after the end of the recording ({len(wave) / rate:.2f} s); "
                "are these turns of another file?"
            )
    pending: deque[asyncio.Task[list[Segment]]] = deque()
    try:
        for batch in _batches(list(zip(turns, overlap_shares(turns), strict=True)), batch_s):
            if len(pending) >= in_flight:
                for segment in await pending.popleft():
                    yield segment
            pending.append(asyncio.create_task(_answered(batch, wave, rate, feel, transcribe, reads, tuple(attributes))))
        while pending:
            for segment in await pending.popleft():
                yield segment
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def analyze(
    source: Source,
    diarize: Diarize,
    feel: Feel,
    *,
    transcribe: Transcribe | None = None,
    reads: bool = False,
    refine: Refinement | None = None,
    classes: Sequence[str],
    attributes: Sequence[str] = (),
    rate: int = 16_000,
    uri: str | None = None,
    provenance: dict[str, str] | None = None,
    max_hours: float = 12.0,
    in_flight: int = 2,
    on_segment: OnSegment | None = None,
) -> Timeline:
    """The timeline of one recording: a path, the bytes of a file (in memory or mapped), or (samples, rate).

    rate: what all models work at, Hz. `on_segment` is called with each segment as it comes: raw, but for answers that are not sure enough.
    Raises moodcast.audio.AudioError for what is not audio.
    """
    how = refine or Refinement()
    with open_wave(source, rate, max_hours) as wave:
        found: list[Segment] = []
        coming = segments(wave, rate, diarize, feel, transcribe=transcribe, reads=reads, attributes=attributes, in_flight=in_flight)
        async with aclosing(coming) as rows:  # type: ignore[type-var]
            async for segment in rows:
                found.append(segment)
                if on_segment is not None:
                    on_segment(withheld(segment, how.min_confidence or 0.0))
        raw = Timeline(
            uri=uri or name_of(source),
            duration_s=len(wave) / rate,
            classes=tuple(classes),
            segments=tuple(found),
            provenance={"moodcast": __version__, **(provenance or {})},
        )
        return refined(raw, how)


def timeline(
    source: Source,
    bundle: Bundle,
    diarizer: Diarizer | None = None,
    *,
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    transcriber: Transcriber | None = None,
    refine: Refinement | None = None,
    uri: str | None = None,
    on_segment: OnSegment | None = None,
) -> Timeline:
    """`analyze` in process and without `await`, from scripts, notebooks and threads alike.

    diarizer: the embedded one where None is given. The number of speakers is estimated unless `num_speakers` is given, within
    `min_speakers` and `max_speakers` where those are. transcriber: what writes down what was said (`moodcast.transcribe`). refine: what
    is done to raw answers, where it is not the usual; without a `min_confidence` of its own, that of the bundle holds.
    """
    voices = checked(default_diarizer() if diarizer is None else diarizer)
    how, told = chosen(bundle, refine), bundle.in_conversations

    async def diarize(wave: Wave, rate: int) -> list[Turn]:
        return _asking(voices.diarize, wave, rate, num_speakers=num_speakers, min_speakers=min_speakers, max_speakers=max_speakers)

    async def feel(waves: list[Wave], texts: list[str | None] | None = None) -> list[Answer]:
        return _asking(told.answer, waves, texts)

    async def transcribe(waves: list[Wave]) -> list[str]:
        return _asking(transcriber.transcribe, waves, bundle.rate) if transcriber is not None else []

    return _finish(
        analyze(
            source,
            diarize,
            feel,
            transcribe=None if transcriber is None else transcribe,
            reads=bundle.reads,
            refine=how,
            classes=bundle.classes,
            attributes=bundle.run.labels.attributes,
            rate=bundle.rate,
            uri=uri,
            provenance={**provenance_of(bundle, voices, transcriber), **asked_for(num_speakers, min_speakers, max_speakers)},
            max_hours=bundle.run.audio.max_hours,
            in_flight=1,  # in one process a second batch only waits for the same cores
            on_segment=on_segment,
        )
    )


def chosen(bundle: Bundle, refine: Refinement | None = None) -> Refinement:
    """What is done to raw answers of a bundle: what is asked, with its own bound on confidence where none is, and how cool it is."""
    how = refine or Refinement()
    bound = bundle.calibration.min_confidence if how.min_confidence is None else how.min_confidence
    return replace(how, min_confidence=bound, cooled=bundle.calibration.cooled)


def provenance_of(bundle: Bundle, diarizer: Diarizer, transcriber: Transcriber | None = None) -> dict[str, str]:
    """What made a timeline: the bundle's name and SHA-256, the diarizer's name, and the transcriber's where there is one."""
    known = {"bundle": bundle.name, "bundle_sha256": bundle.sha256, "diarizer": getattr(diarizer, "name", type(diarizer).__name__)}
    return known if transcriber is None else {**known, "transcriber": transcriber.name}


def asked_for(num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None) -> dict[str, str]:
    """What was asked of the number of speakers, for a timeline's provenance; nothing where it was estimated freely."""
    given = {"num": num_speakers, "min": min_speakers, "max": max_speakers}
    words = [f"{name} {value}" for name, value in given.items() if value is not None]
    return {"speakers": ", ".join(words)} if words else {}


def load_listener(name: str, verify: bool = True) -> Bundle:
    """A bundle that answers emotions. Raises ValueError where it is none, or where what it names are voices (that of the diarizer)."""
    opened = load(name, verify=verify)
    if opened.run.labels.source == "speaker":
        raise ValueError(f"{name} tells voices apart, for the diarizer; it knows no emotions. Wanted default, or a bundle of yours")
    return opened


def name_of(source: Source) -> str:
    """What a recording is called in a timeline: the file's name without suffix, or "audio"; what is no UTF-8 in it becomes U+FFFD."""
    return os.fsencode(Path(source).stem).decode("utf-8", "replace") if isinstance(source, str | Path) else "audio"


@contextmanager
def open_wave(source: Source, rate: int, max_hours: float = 12.0) -> Iterator[Wave]:
    """The recording as mono samples [N] at `rate` Hz, decoded block by block into a temporary file mapped into memory.

    Hours of audio then cost disk, not memory. The samples are gone after the `with` block.
    """
    if isinstance(source, tuple):
        yield audio.convert(source[0], source[1], rate)
        return
    with tempfile.TemporaryFile() as file:
        for block in audio.stream(source, rate=rate, max_hours=max_hours):
            file.write(np.ascontiguousarray(block, dtype=np.float32).data)
        file.flush()
        yield np.memmap(file, dtype=np.float32, mode="r")


def _batches(turns: Sequence[tuple[Turn, float]], batch_s: float) -> Iterator[list[tuple[Turn, float]]]:
    """Consecutive turns, each with the share that others talk over, of at most `batch_s` seconds together; or a single longer one."""
    batch: list[tuple[Turn, float]] = []
    for turn, shared in turns:
        if batch and sum(t.duration_s for t, _ in batch) + turn.duration_s > batch_s:
            yield batch
            batch = []
        batch.append((turn, shared))
    if batch:
        yield batch


async def _answered(
    turns: list[tuple[Turn, float]],
    wave: Wave,
    rate: int,
    feel: Feel,
    transcribe: Transcribe | None,
    reads: bool,
    attributes: tuple[str, ...],
) -> list[Segment]:
    pieces = [wave[samples_of(turn.start_s, rate) : samples_of(turn.stop_s, rate)] for turn, _ in turns]
    statuses = [status_of(piece, rate, turn.speech, shared) for piece, (turn, shared) in zip(pieces, turns, strict=True)]
    fit = [status == "ok" for status in statuses]
    texts = await _asked(transcribe, pieces, [status in SPOKEN for status in statuses])
    said = [text for text, want in zip(texts, fit, strict=True) if want]
    answers = await _asked(partial(feel, texts=said) if reads and transcribe else feel, pieces, fit)
    found = []
    for (turn, _), piece, status, answer, text in zip(turns, pieces, statuses, answers, texts, strict=True):
        found.append(_segment(turn, len(piece) / rate, status, answer, text, attributes))
    return found


async def _asked(model: Callable[[list[Wave]], Awaitable[list[T]]] | None, pieces: list[Wave], wanted: list[bool]) -> list[T | None]:
    """What a model says of the wanted pieces, None for the others."""
    asked = [piece for piece, want in zip(pieces, wanted, strict=True) if want]
    answers = await model(asked) if asked and model is not None else []
    if model is not None and len(answers) != len(asked):
        raise RuntimeError(f"the model answered {len(answers)} of {len(asked)} stretches; wanted one answer each")
    coming = iter(answers)
    return [next(coming, None) if want else None for want in wanted]


def _segment(
    turn: Turn, duration_s: float, status: Status, answer: Answer | None, text: str | None, attributes: tuple[str, ...]
) -> Segment:
    values: dict[str, Any] = {"text": text or None}
    if answer is not None:
        values |= {"emotion": answer.label, "confidence": answer.confidence, "emotions": answer.emotions}
        values["chunks"] = tuple(_chunk_rows(turn.start_s, answer))
        values["modalities"] = answer.modalities
        if answer.attributes is not None and attributes:
            values["attributes"] = {name: float(x) for name, x in zip(attributes, answer.attributes, strict=True)}
    return Segment(
        speaker=turn.speaker, start_s=turn.start_s, stop_s=turn.start_s + duration_s, status=status, overlap=turn.overlap, **values
    )


def _chunk_rows(offset_s: float, answer: Answer) -> Iterator[ChunkRow]:
    for (start_s, stop_s), row in zip(answer.spans, answer.chunk_emotion if answer.chunk_emotion is not None else (), strict=False):
        emotions = {name: float(p) for name, p in zip(answer.classes, row, strict=True)}
        yield ChunkRow(start_s=offset_s + start_s, stop_s=offset_s + stop_s, emotions=emotions)


def _finish(work: Coroutine[Any, Any, Timeline]) -> Timeline:
    """Run a coroutine to its end, on a thread of its own where this one already runs an event loop (a notebook, a server)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(work)
    box: dict[str, Any] = {}

    def run() -> None:
        try:
            box["result"] = _run(work)
        except BaseException as error:
            box["error"] = error

    thread = threading.Thread(target=run, name="moodcast-timeline")
    thread.start()
    thread.join()
    if "error" in box:
        raise box["error"]
    result: Timeline = box["result"]
    return result


def _run(work: Coroutine[Any, Any, Timeline]) -> Timeline:
    """As `asyncio.run`, but Ctrl-C does not wait until a model has answered."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    except _Stopped:
        raise KeyboardInterrupt from None
    finally:
        try:
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


class _Stopped(Exception):
    """Ctrl-C, as an error that one task hands on to another."""


def _asking(model: Callable[..., T], *given: Any, **named: Any) -> T:
    """What a model answers, at once and on this thread."""
    try:
        return model(*given, **named)
    except KeyboardInterrupt:
        raise _Stopped from None
