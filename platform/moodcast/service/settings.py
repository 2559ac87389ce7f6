"""Settings of the service: one frozen dataclass, read from the environment (MOODCAST_BUNDLE, MOODCAST_MAX_MB, ...)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from moodcast import config
from moodcast.refine import ADAPT, Refinement

PREFIX = "MOODCAST_"


@dataclass(frozen=True)
class Settings:
    """How the service answers. Every field is also the environment variable MOODCAST_<FIELD>.

    bundle, voiceprint: a folder or the name of a bundle that ships with moodcast: the emotion model and the speaker embeddings.
    diarizer: a pyannote.audio pipeline, by folder or hub id, instead of the embedded one; its checkpoints are pickles, so it is opened only
    where trust_checkpoint is true. transcriber: a speech recogniser of the Hugging Face hub, by folder or hub id, and language, the one
    spoken. No request can name any of these. adapt, smooth and min_confidence are what is done to answers (moodcast.refine) where a
    request does not say; without a min_confidence, that of the bundle holds.
    max_mb: the largest body of a request, in 10^6 bytes; max_idle_s: how long it may bring nothing, for a request holds its place while
    it is read; max_hours: the longest decoded audio.
    max_running: analyses that hold decoded audio at the same time; max_waiting: further ones that may queue, beyond it answers 503.
    in_flight: batches of turns (about 30 s each) that one analysis may have with the emotion model, so that a long podcast leaves room
    for a short one.
    batch_s: seconds of audio that the emotion model takes in one batch; batch_wait_s: how long it waits for a batch to fill.
    threads: torch threads of a model, 0 for one a CPU (at most 8). emotion_replicas: copies of the emotion model.
    """

    bundle: str = "default"
    voiceprint: str = "voiceprint"
    diarizer: str = ""
    trust_checkpoint: bool = False
    transcriber: str = ""
    language: str = ""
    adapt: bool = ADAPT
    smooth: str = ""
    min_confidence: float | None = None
    max_mb: float = 200.0
    max_idle_s: float = 30.0
    max_hours: float = 4.0
    max_running: int = 4
    max_waiting: int = 16
    in_flight: int = 4
    batch_s: int = 120
    batch_wait_s: float = 0.02
    threads: int = 0
    emotion_replicas: int = 1

    def __post_init__(self) -> None:
        for name in ("max_mb", "max_idle_s", "max_hours", "max_running", "in_flight", "batch_s", "emotion_replicas"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{PREFIX}{name.upper()} must be positive, got {getattr(self, name)}")
        for name in ("max_waiting", "batch_wait_s", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{PREFIX}{name.upper()} must not be negative, got {getattr(self, name)}")
        if self.trust_checkpoint and not self.diarizer:
            raise ValueError(
                f"{PREFIX}TRUST_CHECKPOINT is about the checkpoints of a pipeline: name one with {PREFIX}DIARIZER, or leave it out"
            )
        if self.language and not self.transcriber:
            raise ValueError(
                f"{PREFIX}LANGUAGE={self.language} is what a transcriber hears: name one with {PREFIX}TRANSCRIBER, or leave it out"
            )
        _ = self.refinement  # refuses what it does not know

    @property
    def refinement(self) -> Refinement:
        """What is done to answers where a request says nothing else."""
        return Refinement(self.adapt, self.smooth, self.min_confidence)

    @property
    def max_bytes(self) -> int:
        """The largest body of a request, bytes."""
        return round(self.max_mb * 1e6)

    @property
    def torch_threads(self) -> int:
        """`threads`, with 0 resolved for this machine, or for the quota of its container."""
        from joblib import cpu_count  # type: ignore[import-untyped]

        return self.threads or int(min(8, cpu_count()))


def from_environment(changes: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from MOODCAST_* variables; `changes` by field name win. Other MOODCAST_* variables are left to who reads them.

    A bundle's folder is made absolute, because the model's process may stand elsewhere.
    Raises ValueError for a value that does not fit or a change that names no field (with the nearest one that does).

    >>> from_environment({"max_hours": 1}, {"MOODCAST_MAX_MB": "5"}).max_mb
    5.0
    """
    given = os.environ if environment is None else environment
    found: dict[str, Any] = {f.name: given[PREFIX + f.name.upper()] for f in fields(Settings) if given.get(PREFIX + f.name.upper())}
    chosen = config.replace_at(Settings(), {**found, **(changes or {})})
    return replace(
        chosen,
        bundle=_absolute(chosen.bundle),
        voiceprint=_absolute(chosen.voiceprint),
        diarizer=_absolute(chosen.diarizer),
        transcriber=_absolute(chosen.transcriber),
    )


def _absolute(bundle: str) -> str:
    return str(Path(bundle).resolve()) if bundle and Path(bundle).is_dir() else bundle
