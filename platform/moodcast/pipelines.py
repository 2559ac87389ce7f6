"""Who speaks when, by any pyannote.audio pipeline: its hub id or a local folder, heard in memory, with overlaps kept.

    open_pipeline("pyannote/speaker-diarization-community-1", trust_checkpoint=True)      # a token, where one is needed: HF_TOKEN
    open_pipeline("folder/with/config.yaml", trust_checkpoint=True)

A checkpoint of pyannote.audio is a pickle, which runs whatever its maker put into it, and its config.yaml names the classes that are made.
So neither is opened unless the user says that its maker is trusted; a service takes that from its settings, never from a request.
Telemetry is switched off before the library is imported, and pipelines that would send the sound to a company's server are refused.

`Checked` puts beside each turn of any diarizer how much speech a detector hears in it, so that music is not answered as an emotion.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml  # type: ignore[import-untyped]
from numpy.typing import NDArray

from moodcast import audio, speech, voices
from moodcast.diarize import Diarizer, Turn, mark_overlap
from moodcast.embedded import SEGMENTATION, VOICEPRINT, Embedded, default_diarizer, segmented

Wave = NDArray[np.float32]
OnProgress = Callable[[str, float, float], None]  # step, how much of it is done, of how much
CONFIG = "config.yaml"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
WEIGHTS = (".bin", ".npz", ".ckpt", ".pt", ".safetensors")
REMOTE = "pyannoteai"  # the module whose pipelines are another machine's
HEARD = 0.5  # probability from which a frame of 32 ms counts as speech

# Read by pyannote.audio and by the hub's client when they are imported, which happens below, and late.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


class Pyannote:
    """A loaded pyannote.audio pipeline as a Diarizer. Make one with `open_pipeline`; threads take turns.

    on_progress: called with the step ("segmentation", "embeddings", ...), how much of it is done and of how much.
    """

    def __init__(self, pipeline: Any, name: str, on_progress: OnProgress | None = None) -> None:
        self.pipeline = pipeline
        self.name = name
        self.on_progress = on_progress
        self._lock = threading.Lock()

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """Turns by start time, overlapping where people do, cut at the end of the recording.

        Raises ValueError where the wanted numbers of speakers contradict each other.
        """
        voices.speaker_limits(num_speakers, min_speakers, max_speakers)
        given = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
        wanted = {name: value for name, value in given.items() if value is not None}
        samples = torch.from_numpy(wave if wave.flags.writeable else wave.copy())[None]
        with self._lock:
            found = self.pipeline({"waveform": samples, "sample_rate": rate, "uri": "audio"}, hook=self._tell, **wanted)
        return turns_of(found, len(wave) / rate, self.name)

    def _tell(self, step: str, *_: Any, total: float | None = None, completed: float | None = None, **__: Any) -> None:
        if self.on_progress is not None and total and completed is not None:
            self.on_progress(step, completed, total)


class Checked:
    """Another diarizer, with the share of speech in each of its turns where it has not looked itself."""

    def __init__(self, diarizer: Diarizer) -> None:
        self.diarizer = diarizer
        self.name = getattr(diarizer, "name", type(diarizer).__name__)
        self.detector = speech.SpeechDetector()

    def diarize(
        self, wave: Wave, rate: int, *, num_speakers: int | None = None, min_speakers: int | None = None, max_speakers: int | None = None
    ) -> list[Turn]:
        """The other's turns, in its order."""
        turns = self.diarizer.diarize(wave, rate, num_speakers=num_speakers, min_speakers=min_speakers, max_speakers=max_speakers)
        if not turns or all(turn.speech is not None for turn in turns):
            return turns
        heard = wave if rate == speech.RATE else audio.convert(wave, rate, speech.RATE)
        return with_speech(turns, self.detector.probabilities(heard))


def checked(diarizer: Diarizer) -> Diarizer:
    """The diarizer behind `Checked`, unless its turns are those of a speech detector anyway."""
    return diarizer if isinstance(diarizer, Embedded | Checked) else Checked(diarizer)


def with_speech(turns: Sequence[Turn], probabilities: NDArray[np.float32]) -> list[Turn]:
    """The turns, each with the share of its frames in which somebody is heard; probabilities [T] as `speech.SpeechDetector` gives them."""
    found = []
    for turn in turns:
        first = int(turn.start_s / speech.FRAME_S)
        inside = probabilities[first : max(first + 1, round(turn.stop_s / speech.FRAME_S))]
        found.append(replace(turn, speech=float(np.mean(inside >= HEARD)) if len(inside) else 0.0))
    return found


def open_diarizer(source: str | Path | None, *, trust_checkpoint: bool = False, voiceprint: str | Path = VOICEPRINT) -> Diarizer:
    """What a user names as a diarizer: a folder of jobs/segmentation.py for the embedded one, or a pipeline as `open_pipeline` takes it.

    Nothing named is the embedded one as it ships. voiceprint: the bundle by which the embedded one tells voices apart; a pipeline brings
    its own.
    """
    if not source:
        return default_diarizer(voiceprint)
    source = os.path.expanduser(source)  # a shell leaves --diarizer=~/mine as it is
    if holds_segmentation(source):
        return segmented(source, voiceprint)
    return open_pipeline(source, trust_checkpoint=trust_checkpoint)


def holds_segmentation(source: str | Path) -> bool:
    """Whether what a user names as a diarizer is the embedded one with another segmentation, and no pipeline."""
    return (Path(os.path.expanduser(source)) / SEGMENTATION).is_file()


def open_pipeline(source: str | Path, *, trust_checkpoint: bool = False, on_progress: OnProgress | None = None) -> Pyannote:
    """A pipeline by hub id ("owner/name" or "owner/name@revision") or local folder with config.yaml; on the GPU where there is one.

    Raises ValueError, in a sentence that says what to do: not trusted, not there, gated, damaged, no diarization; ModuleNotFoundError
    where pyannote.audio is not installed.
    """
    source = str(source)
    check(source, trust_checkpoint)
    local = Path(source).is_dir()
    _refuse_missing()
    name, _, revision = (source, "", "") if local else source.partition("@")
    with _explained(source):
        config = Path(name) / CONFIG if local else Path(_fetched(name, CONFIG, revision or None))
        _refuse_remote(config, source)
        from pyannote.audio import Pipeline

        pipeline: Any = Pipeline.from_pretrained(name, revision=revision or None)
    if not {"num_speakers", "hook"} <= set(inspect.signature(pipeline.apply).parameters):
        raise ValueError(f"{source} is a pyannote.audio pipeline, but none that says who speaks when; wanted one for speaker diarization")
    if torch.cuda.is_available():
        pipeline.to(torch.device("cuda"))
    mark = _digest(Path(name)) if local else config.parent.name[:12]
    return Pyannote(pipeline, f"pyannote/{Path(name).resolve().name if local else name}/{mark}", on_progress)


def check(source: str, trust_checkpoint: bool) -> None:
    """What can be refused before anything is loaded: a name that is none, a folder without a pipeline, a maker who is not trusted."""
    local = Path(source).is_dir()
    if holds_segmentation(source):
        return  # weights of safetensors: nothing that runs
    if not local and not HUB_NAME.fullmatch(source):
        raise ValueError(
            f"{source!r} is no diarizer: wanted a folder with {CONFIG} or {SEGMENTATION}, "
            "or the hub id of a pyannote.audio pipeline (owner/name)"
        )
    if local and not (Path(source) / CONFIG).is_file():
        raise ValueError(f"{source} is no pyannote.audio pipeline: it has no {CONFIG}; wanted a folder with one and the weights it names")
    if not trust_checkpoint:
        raise ValueError(
            f"{source} holds pickled checkpoints, which run whatever their maker put into them; "
            "if you trust its maker, say so with --trust-checkpoint (of a service: MOODCAST_TRUST_CHECKPOINT=true)"
        )


def turns_of(found: Any, duration_s: float, name: str = "the pipeline") -> list[Turn]:
    """What a pipeline answered as turns within the recording, overlaps marked. Raises ValueError for what is no diarization."""
    answer = found[0] if isinstance(found, tuple) else found  # a separation comes with its sources
    annotation: Any = getattr(answer, "speaker_diarization", answer)
    if not hasattr(annotation, "itertracks"):
        raise ValueError(f"{name} answered {type(found).__name__}, which says nobody's turns; wanted a pipeline for speaker diarization")
    spans = [(str(who), max(0.0, span.start), min(span.end, duration_s)) for span, _, who in annotation.itertracks(yield_label=True)]
    return mark_overlap([Turn(who, start, stop) for who, start, stop in spans if stop > start])


def _refuse_missing() -> None:
    """Raises ModuleNotFoundError where pyannote.audio is not installed, before anything is fetched for it."""
    try:
        found = importlib.util.find_spec("pyannote.audio")
    except ModuleNotFoundError:
        found = None
    if found is None:
        message = "a pipeline of pyannote.audio was named, which is not installed: pip install 'moodcast[pyannote]'"
        raise ModuleNotFoundError(message, name="pyannote.audio")


def _fetched(name: str, file: str, revision: str | None) -> str:
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(name, file, revision=revision))


def _refuse_remote(config: Path, source: str) -> None:
    """Raises ValueError for a config that is none, or one that names another machine."""
    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        named = str(settings["pipeline"]["name"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"the {CONFIG} of {source} describes no pyannote.audio pipeline ({' '.join(str(error).split())[:120]})") from None
    if REMOTE in named.lower():
        raise ValueError(
            f"{source} sends the recording to a server of pyannoteAI; moodcast sends nothing anywhere, take a pipeline that runs here"
        )


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """What hub, network, disk and checkpoint refuse, as a ValueError of one sentence; what the library prints meanwhile is not shown."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = " ".join(str(error).split())[:240].rstrip(".") or type(error).__name__
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if "GatedRepoError" in kinds:
            what = "is gated: accept its conditions on its page of the hub, then put a token into HF_TOKEN"
        elif kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled"} or _of_the_network(error):
            what = "is not on this machine and the hub cannot be reached: fetch it once where there is a network, or name a local folder"
        elif kinds & {"RepositoryNotFoundError", "HfHubHTTPError"}:
            what = "is not to be had from the hub: check the name, and put a token into HF_TOKEN where it is private"
        elif isinstance(error, FileNotFoundError):
            what = "lacks a part that its config.yaml names: take a whole copy"
        elif type(error) is ValueError and source in str(error):
            raise
        else:
            what = f"cannot be opened as a pyannote.audio pipeline ({type(error).__name__}): take a fresh copy, made by pyannote.audio 4"
        raise ValueError(f"{source} {what} ({reason})") from error


def _of_the_network(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests") or isinstance(error, ConnectionError)


def _digest(folder: Path) -> str:
    """Of a local pipeline: its config and its weights."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and (p.name == CONFIG or p.suffix in WEIGHTS)):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
