"""Timeline: who felt what, when; its checked JSON form, as CSV, RTTM and one HTML page; other tools' formats are in `formats`.

A timeline has one segment a speaker turn and, where the bundle answers by the chunk, chunk rows inside. Times are seconds from the start
of the recording, rounded to milliseconds; probabilities are rounded to six decimals. docs/timeline.md describes every field.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from moodcast.texts import one_word

if TYPE_CHECKING:
    from pathlib import Path

    from pyannote.core import Annotation  # type: ignore[import-untyped]

SCHEMA: Literal["moodcast.timeline/1"] = "moodcast.timeline/1"
Status = Literal["ok", "too_short", "silence", "non_speech", "overlap", "low_confidence"]
STATUSES: tuple[str, ...] = get_args(Status)

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(lambda value: round(value, 3))]
Finite = Annotated[float, Field(allow_inf_nan=False)]  # JSON has no word for the others
Probability = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False), AfterValidator(lambda value: min(1.0, round(value, 6)))]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class _Span(_Row):
    start_s: Seconds
    stop_s: Seconds

    @model_validator(mode="after")
    def _forwards(self) -> _Span:
        if self.stop_s < self.start_s:
            raise ValueError(f"stop_s {self.stop_s} lies before start_s {self.start_s}")
        return self

    @property
    def duration_s(self) -> float:
        """Seconds from start to stop."""
        return round(self.stop_s - self.start_s, 3)


class ChunkRow(_Span):
    """What the bundle heard in one chunk of a turn: probability by class. Chunks of a turn may overlap each other.

    raw: the probabilities before they were centred on the speaker or smoothed; empty where nothing was done to them.
    """

    emotions: dict[str, Probability]
    raw: dict[str, Probability] = Field(default_factory=dict)


class Segment(_Span):
    """One speaker turn.

    emotion: the most probable class, None unless status is "ok"; emotions: probability by class; confidence: the probability of the
    most probable class; attributes: values in [0, 1] by name; modalities: what the answer rests on; overlap: the diarizer hears someone
    else too. raw: the probabilities before they were centred on the speaker or smoothed; empty where nothing was done to them.

    A turn is not answered where it is "too_short", "silence", "non_speech" (a speech detector hears nobody) or mostly "overlap"; one of
    "low_confidence" keeps probabilities and confidence.
    """

    speaker: str
    emotion: str | None = None
    emotions: dict[str, Probability] = Field(default_factory=dict)
    raw: dict[str, Probability] = Field(default_factory=dict)
    attributes: dict[str, Finite] = Field(default_factory=dict)
    confidence: Probability | None = None
    status: Status = "ok"
    modalities: tuple[str, ...] = ("audio",)
    text: str | None = None
    overlap: bool = False
    chunks: tuple[ChunkRow, ...] = ()


class Adaptation(_Row):
    """What was found usual for a speaker, and how far it was believed; see `moodcast.study.speaker`.

    turns: how many answers it was learnt from; centre: mean log-probability by class, less its mean over classes; information: how much
    the turns differ, nats; mixed: the guard's verdict, 0 where answers stay as they are, 1 where all of the centre is taken away;
    why: the verdict in words.
    """

    speaker: str
    turns: int
    centre: dict[str, Finite]
    information: Finite
    mixed: Probability
    why: str


class Timeline(_Row):
    """The segments of one recording by start time, and what made them (`provenance`: bundle, its SHA-256, diarizer, version).

    adaptation: what is usual for each speaker, where answers were to be centred on it.
    """

    schema_: Literal["moodcast.timeline/1"] = Field(default=SCHEMA, alias="schema")
    uri: str
    duration_s: Seconds
    classes: tuple[str, ...]
    segments: tuple[Segment, ...] = ()
    adaptation: tuple[Adaptation, ...] = ()
    provenance: dict[str, str] = Field(default_factory=dict)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speakers in the order in which they are first heard."""
        return tuple(dict.fromkeys(segment.speaker for segment in self.segments))

    def to_dict(self) -> dict[str, Any]:
        """The timeline as plain data, as in `to_json`."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self, indent: int | None = 1) -> str:
        """The versioned JSON form; `from_json` reads it back to an equal timeline."""
        return self.model_dump_json(by_alias=True, indent=indent) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Timeline:
        """Read the JSON form. Raises ValueError for another schema, unknown fields or values out of range."""
        try:
            text = text.decode(json.detect_encoding(text)) if isinstance(text, bytes) else text  # editors may write a byte order mark
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"not a timeline: the text is not JSON ({error})") from error
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            raise ValueError(f"not a timeline that this moodcast reads: schema {schema!r}, wanted {SCHEMA!r}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"not a valid timeline: {where}: {first['msg']} ({error.error_count()} problems in all)") from error

    def to_csv(self) -> str:
        """One row a segment: times, speaker, emotion, confidence, status, then a column per class and per attribute.

        Where answers were centred on speakers or smoothed, `raw_CLASS` are the probabilities before that.
        """
        attributes = sorted({name for segment in self.segments for name in segment.attributes})
        raw = self.classes if any(segment.raw for segment in self.segments) else ()
        head = ["start_s", "stop_s", "speaker", "emotion", "confidence", "status", "overlap", "text", "modalities"]
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow([*head, *(f"p_{name}" for name in self.classes), *(f"raw_{name}" for name in raw), *attributes])
        for segment in self.segments:
            row: list[Any] = [f"{segment.start_s:.3f}", f"{segment.stop_s:.3f}", _plain_cell(segment.speaker), segment.emotion]
            row += [segment.confidence, segment.status, int(segment.overlap), _plain_cell(segment.text), "+".join(segment.modalities)]
            row += [segment.emotions.get(name) for name in self.classes] + [segment.raw.get(name) for name in raw]
            rows.writerow(row + [segment.attributes.get(name) for name in attributes])
        return table.getvalue()

    def to_annotation(self) -> Annotation:
        """The speaker turns for pyannote; white space in names, which RTTM cannot hold, becomes an underscore."""
        from pyannote.core import Annotation
        from pyannote.core import Segment as Stretch

        annotation = Annotation(uri=one_word(self.uri))
        for index, segment in enumerate(self.segments):
            if segment.duration_s > 0:
                annotation[Stretch(segment.start_s, segment.stop_s), index] = one_word(segment.speaker)
        return annotation

    def to_rttm(self) -> str:
        """The speaker turns as RTTM (NIST RT-09): `SPEAKER uri 1 start duration <NA> <NA> speaker <NA> <NA>`."""
        text = io.StringIO()
        self.to_annotation().write_rttm(text)
        return text.getvalue()

    def to_html(self, audio: str | Path | bytes | tuple[NDArray[np.float32], int] | None = None) -> str:
        """One page: lanes by speaker coloured by emotion. A Path, bytes or samples are put inside as sound, a str is the address of a file.

        See `moodcast.page.render`.
        """
        from moodcast.page import render

        return render(self, audio)


def _plain_cell(text: str | None) -> str | None:
    """A spreadsheet runs a cell that begins like a formula; names and words come from files, so such a cell gets a leading quote."""
    return "'" + text if text and text[0] in "=+-@\t\r" else text
