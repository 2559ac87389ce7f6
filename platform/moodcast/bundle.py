"""Bundle: a trained method as a folder that any moodcast can open, trust and serve.

    bundle.json          format, the whole Run, calibration, scores, provenance, probe answers, SHA-256
    weights.safetensors  parameters and buffers
    encoder/*.json       what describes a Hugging Face encoder, where the method has one
    README.md            the model card

Nothing in it is executable. The SHA-256 over settings and weights refuses edits; a stored answer to a signal made by code (the probe)
refuses drift of code or libraries.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from moodcast import __version__, audio, config, weights
from moodcast.answer import Answer, answer_of, merged, tempered
from moodcast.batch import Prediction, collate
from moodcast.carried import read_files, write_files
from moodcast.chunks import samples_of, split_evenly
from moodcast.method import Method, device_of
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build, run_from_dict, run_to_dict
from moodcast.weights import WEIGHTS

if TYPE_CHECKING:
    from moodcast.study.speaker import Usual
    from moodcast.timeline import Timeline

FORMAT = 4
READABLE = (1, 2, 3, 4)  # format 1 knew no calibration, format 2 none of turns, format 3 not on whom it was fitted
SETTINGS, CARD = "bundle.json", "README.md"
WITHIN = "bundle"  # the folder of a training run in which its bundle lies
SHIPPED = Path(__file__).parent / "bundles"
MAX_SETTINGS_BYTES = 64 * 2**20
PROBE_TOLERANCE = 1e-3  # of probabilities and of unit-length embeddings; threads and kernels differ by about 1e-6
MAX_BATCH_S = 120.0  # seconds of chunks, padding and overlap included, in one forward pass: bounds memory whatever is asked

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """How sure a bundle may be: log-probabilities are divided by `temperature` and normalised again before they are served.

    1 leaves them as the method gave them, above 1 is less sure; the most probable class stays (`moodcast.study.calibrate` fits it).
    It was fitted on num_utterances of num_speakers whom the method was not trained on. In a conversation, with rooms, noise and others
    in between, a method is rightly less sure: turn_temperature takes the place of `temperature` there (None: the same), fitted on
    num_turns of num_turn_speakers, and turns whose most probable class is less probable than min_confidence are not given an emotion
    (0: all are). fitted_on, turns_fitted_on: those utterances, where somebody named them afterwards (`study.calibrate`): on them a bundle
    looks more honest than it is.
    """

    temperature: float = 1.0
    num_utterances: int = 0
    num_speakers: int = 0
    min_confidence: float = 0.0
    turn_temperature: float | None = None
    num_turns: int = 0
    num_turn_speakers: int = 0
    fitted_on: ChosenOn = ChosenOn()
    turns_fitted_on: ChosenOn = ChosenOn()

    def __post_init__(self) -> None:
        for temperature in (self.temperature, self.turn_temperature):
            if temperature is not None and not 0 < temperature < float("inf"):
                raise ValueError(f"a temperature must be positive and finite, got {temperature}")
        if not 0 <= self.min_confidence < 1:
            raise ValueError(f"a bound on confidence lies in [0, 1), got {self.min_confidence}")

    @property
    def cooled(self) -> float:
        """How many times cooler answers to turns are than those to utterances."""
        return 1.0 if self.turn_temperature is None else self.turn_temperature / self.temperature


AS_IT_IS = Calibration()


class Bundle:
    """A loaded bundle, in eval mode. Make one with `load`."""

    def __init__(
        self,
        run: Run,
        method: Method,
        provenance: Provenance,
        scores: Mapping[str, Any],
        sha256: str,
        name: str,
        calibration: Calibration = AS_IT_IS,
    ) -> None:
        self.run = run
        self.method = method.eval()
        self.provenance = provenance
        self.scores = dict(scores)
        self.sha256 = sha256
        self.name = name
        self.calibration = calibration

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names in the order of every K axis."""
        return self.run.labels.classes

    @property
    def rate(self) -> int:
        """The sample rate that the bundle works at, Hz."""
        return self.run.audio.rate

    @property
    def reads(self) -> bool:
        """Whether answers also rest on what is said, where that is known."""
        return "text" in self.method.inputs

    @property
    def in_conversations(self) -> Bundle:
        """The same, but as sure as it may be of turns of a conversation."""
        asked = self.calibration.turn_temperature
        if asked is None or asked == self.calibration.temperature:
            return self
        calibration = replace(self.calibration, temperature=asked)
        return Bundle(self.run, self.method, self.provenance, self.scores, self.sha256, self.name, calibration)

    def predict(self, source: str | Path | bytes | tuple[Wave, int], text: str | None = None) -> Answer:
        """The answer for one recording: a path, the bytes of a file, or (samples, rate); text: what is said in it, for a bundle that reads.

        Raises moodcast.audio.AudioError for what is not audio, ValueError for an empty or not finite array.
        """
        if isinstance(source, tuple):
            wave = audio.convert(source[0], source[1], self.rate)
        else:
            wave = audio.read(source, rate=self.rate, max_hours=self.run.audio.max_hours)
        return self.answer([wave], [text])[0]

    def predict_speaker(
        self, sources: Sequence[str | Path | bytes | tuple[Wave, int]], known_mixed: bool = False
    ) -> tuple[list[Answer], Usual]:
        """Answers for recordings of one speaker, centred on that speaker where their emotions are mixed; and what was found usual.

        known_mixed: they are, whatever the guard would say. See `moodcast.study.speaker`. Raises as `predict` does, and ValueError where
        the bundle answers no classes.
        """
        from moodcast.study import speaker

        return speaker.adapt_answers([self.predict(source) for source in sources], known_mixed=known_mixed)

    def timeline(self, source: str | Path | bytes, **options: Any) -> Timeline:
        """Who felt what, when: diarize, then answer turn by turn. Options as in `moodcast.podcast.timeline`."""
        from moodcast import podcast

        return podcast.timeline(source, self, **options)

    def answer(self, waves: Sequence[Wave], texts: Sequence[str | None] | None = None) -> list[Answer]:
        """Answers for stretches, mono float32 at `rate`; the same alone and in a batch (1e-4).

        A stretch longer than the plan's `max_s` is split evenly and what the pieces give is merged by duration. texts: what is said in
        each, where that is known; only a bundle that reads takes note, and it answers without, too. A piece is read with all of it.
        """
        said = list(texts) if texts is not None and self.reads else [None] * len(waves)
        if len(said) != len(waves):
            raise ValueError(f"{len(waves)} stretches came with {len(said)} texts; wanted one each, None where it is not known")
        longest = samples_of(self.run.chunks.max_s, self.rate)
        pieces: list[tuple[int, int, Wave]] = []  # which stretch, where in it, samples
        for index, wave in enumerate(waves):
            if wave.ndim != 1 or not len(wave):
                raise ValueError(f"stretch {index} has shape {wave.shape}; wanted mono samples [N], at least one")
            pieces += [(index, start, wave[start:stop]) for start, stop in split_evenly(len(wave), longest)]
        by_length = sorted(range(len(pieces)), key=lambda i: len(pieces[i][2]))
        found: list[Answer | None] = [None] * len(pieces)
        for group in self._groups(by_length, pieces):
            heard = [said[pieces[i][0]] for i in group]
            prediction = self.raw([pieces[i][2] for i in group], heard)
            for row, i in enumerate(group):
                one = self._answer_of(prediction, row, pieces[i][2], pieces[i][1])
                found[i] = replace(one, modalities=("audio", "text")) if (heard[row] or "").strip() else one
        parts: list[list[Answer]] = [[] for _ in waves]
        for (index, _, _), answer in zip(pieces, found, strict=True):
            if answer is not None:
                parts[index].append(answer)
        return [merged(answers) for answers in parts]

    @torch.inference_mode()
    def raw(self, waves: Sequence[Wave], texts: Sequence[str | None] | None = None) -> Prediction:
        """The method's answer for stretches of at most `max_s`, in one forward pass, calibrated."""
        batch = collate(waves, self.run.chunks, self.rate, texts=texts).to(device_of(self.method))
        return tempered(self.method(batch), self.calibration.temperature)

    def _groups(self, order: list[int], pieces: list[tuple[int, int, Wave]]) -> Iterator[list[int]]:
        """Consecutive indices whose chunks, padded as `collate` pads them, stay below MAX_BATCH_S; `order` goes from short to long."""
        plan = self.run.chunks
        group: list[int] = []
        for i in order:
            chunks = (len(group) + 1) * len(plan.spans(len(pieces[i][2]), self.rate))
            if group and chunks * plan.length_s > MAX_BATCH_S:
                yield group
                group = []
            group.append(i)
        if group:
            yield group

    def _answer_of(self, prediction: Prediction, row: int, wave: Wave, offset: int) -> Answer:
        heard = self.run.chunks.spans(len(wave), self.rate)
        spans = tuple(((offset + start) / self.rate, (offset + stop) / self.rate) for start, stop in heard)
        return answer_of(prediction, row, self.classes, len(wave) / self.rate, spans)


def save(
    folder: str | Path,
    method: Method,
    run: Run,
    provenance: Provenance | None = None,
    scores: Mapping[str, Any] | None = None,
    card: str = "",
    calibration: Calibration = AS_IT_IS,
    apart: Collection[str] = (),
    before: Path | None = None,
) -> Path:
    """Write a bundle; the folder may exist and its bundle is replaced. Training goes on untouched (mode and random state are kept).

    apart, before: of a checkpoint, which weights lie in a file of their own, and with whom it may be shared (`weights.write`).
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if device_of(method).type != "cpu":
        method = copy.deepcopy(method).to("cpu")  # the probe is answered where every bundle can be opened
    weights.write(path, method.state_dict(), apart, before)
    was_training = method.training
    probe = {"float32": _probe(Bundle(run, method, Provenance(), {}, "", path.name, calibration))}
    method.train(was_training)
    made_with = {"moodcast": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    known = provenance or Provenance()
    settings: dict[str, Any] = {
        "format": FORMAT,
        "run": run_to_dict(run),
        "calibration": asdict(calibration),
        "files": write_files(path, method.files()),
        "scores": dict(scores or {}),
        "provenance": {**asdict(known), "made_with": {**made_with, **known.made_with}},
        "probe": probe,
    }
    _seal(path, json.loads(json.dumps(settings)))  # what is hashed is what will be read back
    plain = " ".join(["Nobody has written its model card yet.", method.terms()]).rstrip()
    (path / CARD).write_text(card or f"# A moodcast bundle\n\n{plain}\n", encoding="utf-8")  # half-made folders have other names
    return path


def round_to_half(method: Method) -> None:
    """Each float32 matrix that float16 can hold to the nearest numbers of that, in place: `save` writes half of the bytes."""
    for value in method.state_dict().values():
        half = value.half()
        if value.dtype == torch.float32 and value.dim() > 1 and bool(half.isfinite().all()):
            value.copy_(half)


def join(folder: Path) -> None:
    """Put the weights of a copy of a checkpoint into one file, as every bundle has them that others open."""
    if not (folder / weights.FROZEN).is_file():
        return
    weights.write(folder, weights.read(folder))
    _seal(folder, _settings(folder))


def _seal(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings with the SHA-256 over them and the weights that lie there."""
    settings["sha256"] = digest(settings, *weights.files_of(folder))
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def refuse_others(folder: Path) -> None:
    """Raise ValueError where a bundle written into this folder would take the place of files that are no bundle's."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / SETTINGS).is_file()):
        raise ValueError(f"{folder} is there and holds no {SETTINGS}: a bundle would write over what is; choose another folder")


def load(path: str | Path = "default", trust: tuple[str, ...] = (), verify: bool = True) -> Bundle:
    """Open a bundle: a folder, or the name of one that ships with moodcast ("default").

    trust: packages beside moodcast.methods whose methods may be imported. verify=False skips the probe, never the hash.
    Raises ValueError where a file is missing, was edited, is of a newer format, or answers the probe otherwise than when it was saved.
    """
    folder = folder_of(path)
    settings = _settings(folder)
    if settings.get("sha256") != digest(settings, *weights.files_of(folder)):
        raise ValueError(f"{folder}: settings or weights were changed after the bundle was saved (SHA-256 differs); take a fresh copy")
    try:
        run = run_from_dict(settings["run"], trust)
        files = read_files(folder, settings.get("files", {}))
        provenance = config.from_dict(Provenance, settings["provenance"], "provenance.")
        calibration = config.from_dict(Calibration, settings.get("calibration", {}), "calibration.")
        scores, probe = dict(settings["scores"]), dict(settings["probe"]["float32"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / SETTINGS} lacks a part, or holds another thing there ({error}); take a fresh copy") from error
    method = build(run, trust, files)
    try:
        method.load_state_dict(weights.read(folder))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: the weights do not fit the method {settings['run']['method']['class']}: {error}") from error
    bundle = Bundle(run, method, provenance, scores, settings["sha256"], name_of(folder), calibration)
    if verify:
        _check_probe(bundle, probe, folder)
    return bundle


def carried(folder: str | Path) -> dict[str, str]:
    """The texts that travel in a bundle, such as an encoder's config, "folder/name.json" -> text."""
    return read_files(Path(folder), _settings(Path(folder)).get("files", {}))


def probe_signal(rate: int, seconds: float = 2.3) -> Wave:
    """A voice-like signal made by code: gliding harmonics under a syllable envelope. Mono [N], the same everywhere."""
    t = np.arange(samples_of(seconds, rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 0.9 * t)) / rate
    voice = sum((np.sin(k * phase) / k for k in range(1, 13)), start=np.zeros_like(t))
    return (0.1 * voice * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * t))).astype(np.float32)


def _probe(bundle: Bundle) -> dict[str, list[float]]:
    answer = bundle.answer([probe_signal(bundle.rate)])[0]
    given = {"emotion": answer.emotion, "attributes": answer.attributes, "embedding": answer.embedding}
    return {name: [float(x) for x in value] for name, value in given.items() if value is not None}


def _check_probe(bundle: Bundle, stored: Mapping[str, list[float]], folder: Path) -> None:
    now = _probe(bundle)
    if now.keys() != stored.keys():
        raise ValueError(f"{folder}: the probe answered {sorted(now)}, when saved {sorted(stored)}; the method's code has changed")
    drift = max((float(np.abs(np.subtract(now[name], stored[name])).max()) for name in now), default=0.0)
    if not drift <= PROBE_TOLERANCE:
        raise ValueError(
            f"{folder}: the probe answer differs by {drift:.2g} from when it was saved (allowed {PROBE_TOLERANCE:g}); code or libraries "
            f"have drifted since moodcast {bundle.provenance.made_with}. Use those versions, or verify=False if you accept other answers"
        )


def folder_of(path: str | Path) -> Path:
    """The folder of a bundle: a path, or the name of one that ships with moodcast. Raises ValueError where none lies there."""
    shipped = SHIPPED / str(path)
    named = Path(os.path.expanduser(path))  # a shell leaves --bundle=~/mine as it is
    folder = shipped if str(path).isidentifier() and shipped.is_dir() and not named.exists() else named
    if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
        names = sorted(p.name for p in SHIPPED.iterdir() if (p / SETTINGS).is_file()) if SHIPPED.is_dir() else []
        inside = folder / WITHIN
        meant = f" Did you mean {inside}?" if (inside / SETTINGS).is_file() else config.suggest(str(path), names)
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():  # see hub.py
            meant = f" If moodcast pushed it, `moodcast pull {path} NEW` makes a bundle of it."
        raise ValueError(
            f"{path} is not a bundle: wanted a folder with {SETTINGS} and {WEIGHTS}, or one that ships with moodcast "
            f"({', '.join(names)}).{meant}"
        )
    return folder


def name_of(folder: Path) -> str:
    """What a bundle is called: its folder, or the run's where it lies in a run: runs/first/bundle is "first".

    >>> name_of(Path("runs/first/bundle")), name_of(Path("shared/mine"))
    ('first', 'mine')
    """
    place = Path(os.path.abspath(folder))
    return place.parent.name if place.name == WITHIN else place.name


def _settings(folder: Path) -> dict[str, Any]:
    size = (folder / SETTINGS).stat().st_size
    if size > MAX_SETTINGS_BYTES:
        raise ValueError(f"{folder / SETTINGS} has {size} bytes, more than the {MAX_SETTINGS_BYTES} that a bundle may have")
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{folder / SETTINGS} is not JSON: {error}") from error
    version = settings.get("format") if isinstance(settings, dict) else None
    if version not in READABLE:
        raise ValueError(f"{folder}: bundle format {version!r}; this moodcast ({__version__}) reads formats {READABLE}. Update moodcast")
    return dict(settings)


def digest(settings: Mapping[str, Any], *files: Path) -> str:
    """SHA-256 over the canonical settings (without the digest itself) and the bytes of the weights, file after file."""
    canonical = json.dumps({k: v for k, v in settings.items() if k != "sha256"}, sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode())
    for path in files:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
