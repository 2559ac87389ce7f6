"""Utterance: one row of a manifest, a reference to audio and what is known about it; read and write Parquet, JSONL and CSV."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Utterance:
    """A span of a recording and its labels. Audio is read late; whatever is unknown is None.

    Times are seconds within the file; stop_s None means to its end. `group` is what must stay on one side of a split beside the
    speaker: a dialogue or a session. `emotion` is a canonical class name (see corpora/), `votes` are the raters' counts by class name,
    `attributes` values in [0, 1] by name, `words` and `phones` (label, start_s, stop_s).
    """

    id: str
    path: str
    start_s: float = 0.0
    stop_s: float | None = None
    corpus: str = ""
    language: str | None = None
    speaker: str | None = None
    group: str | None = None
    gender: str | None = None
    age: float | None = None
    split: str | None = None
    emotion: str | None = None
    votes: dict[str, float] | None = None
    attributes: dict[str, float] | None = None
    text: str | None = None
    words: tuple[tuple[str, float, float], ...] | None = None
    phones: tuple[tuple[str, float, float], ...] | None = None
    trace: str | None = None
    video: str | None = None
    clean: str | None = None
    weight: float = 1.0
    duration_s: float | None = None

    @property
    def corpus_speaker(self) -> str:
        """The speaker's name across corpora: "cremad/1001"; an unknown speaker is its own recording."""
        return f"{self.corpus}/{self.speaker or self.id}"

    @property
    def corpus_group(self) -> str:
        """What a split may not cut: the dialogue or session where there is one, else the speaker."""
        return f"{self.corpus}/{self.group}" if self.group else self.corpus_speaker
