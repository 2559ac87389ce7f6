"""Temperature scaling: one number, fitted on speakers the method was not trained on, makes a bundle as sure as it is right.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. The temperature that minimises the
negative log-likelihood of the reference classes; the most probable class never changes.

`fit` hears utterances as corpora have them; `fit_conversations` hears them as turns of conversations with rooms, noise and others in
between, which is what a podcast is, and can also choose the bound on confidence below which turns get no emotion.
Shapes: N utterances, K classes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from moodcast import bundle as bundles
from moodcast import weights
from moodcast.answer import Answer
from moodcast.bundle import AS_IT_IS, Bundle, Calibration
from moodcast.cache import open_waves
from moodcast.diarize import Turn
from moodcast.manifest import Utterance
from moodcast.provenance import ChosenOn, known_among, names_of
from moodcast.simulate import Scene
from moodcast.status import overlap_shares, status_of
from moodcast.study.coverage import Judged, bound_of
from moodcast.study.talks import SCENE, simulated
from moodcast.timeline import Segment

BOUNDS = (0.05, 20.0)  # of a temperature; what wants to lie outside is not a matter of temperature
FEWEST = 20  # utterances: with fewer, a temperature is chance
BATCH = 64

Floats = NDArray[np.float64]


def temperature_of(log_probs: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature for log-probabilities [N, K] with reference classes [N], within BOUNDS.

    Raises ValueError for no utterances or shapes that do not fit.
    """
    if log_probs.ndim != 2 or truth.shape != log_probs.shape[:1] or not len(truth):
        raise ValueError(f"a temperature is fitted on log-probabilities [N, K] and classes [N], got {log_probs.shape} and {truth.shape}")
    logs = np.maximum(log_probs, -50.0)  # a probability of zero would fix the temperature all alone

    def loss(log_temperature: float) -> float:
        cooled = logs / np.exp(log_temperature)
        return float((np.logaddexp.reduce(cooled, axis=1) - cooled[np.arange(len(truth)), truth]).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def fit(
    bundle: Bundle,
    rows: Sequence[Utterance],
    split: str = "dev",
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The calibration of a bundle on the utterances of `split` that have one of its classes; none (temperature 1) on fewer than FEWEST.

    The temperature is that of the method itself, whatever it is now; what the bundle knows of conversations stays. root: where decoded
    audio is kept. Raises ValueError where the bundle was trained on speakers, dialogues or recordings of these rows: it is surer of them
    than of anybody new.
    """
    labels = bundle.run.labels
    chosen = _unheard(bundle, rows, split)
    if len(chosen) < FEWEST:
        return AS_IT_IS
    store = open_waves(chosen, bundle.rate, root, bundle.run.audio.max_hours)
    _refuse_recordings(bundle, chosen, store.fingerprints)
    plain = Bundle(bundle.run, bundle.method, bundle.provenance, {}, "", bundle.name)
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(store), BATCH):
        texts = [row.text for row in chosen[start : start + BATCH]]
        answers = plain.answer([store[i] for i in range(start, min(start + BATCH, len(store)))], texts)
        found += [answer.emotion for answer in answers if answer.emotion is not None]
        if progress is not None:
            progress(min(start + BATCH, len(store)), len(store))
    if len(found) < len(chosen):
        return AS_IT_IS  # it answers no classes
    truth = [bundle.classes.index(str(labels.name(row))) for row in chosen]
    fitted = of_answers(np.array(found, dtype=np.float64), truth, [row.corpus_speaker for row in chosen])
    return replace(
        bundle.calibration,
        temperature=fitted.temperature,
        num_utterances=len(truth),
        num_speakers=fitted.num_speakers,
        fitted_on=ChosenOn(*names_of(chosen, store.fingerprints)),
    )


def fit_conversations(
    bundle: Bundle,
    rows: Sequence[Utterance],
    split: str = "dev",
    num: int = 24,
    accuracy: float | None = None,
    scene: Scene = SCENE,
    seed: int = 0,
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """The bundle's calibration, with that on turns of `num` simulated conversations of the speakers of `split`.

    Without one on fewer than FEWEST turns.

    accuracy: what the bound on confidence is to buy, as a share of answered seconds; None leaves all turns their emotion. root: where
    decoded audio is kept. Raises ValueError where the bundle was trained on these speakers or recordings, there are too few of them, or no
    bound gives that accuracy.
    """
    chosen = _unheard(bundle, rows, split)
    marks = open_waves(chosen, bundle.rate, root, bundle.run.audio.max_hours).fingerprints if chosen else []
    _refuse_recordings(bundle, chosen, marks)
    plain = Bundle(bundle.run, bundle.method, bundle.provenance, {}, "", bundle.name)
    found: list[tuple[Answer, Segment]] = []
    for number, talk in enumerate(simulated(chosen, bundle.run.labels, num, scene, seed, bundle.rate), start=1):
        rows_of = talk.reference.segments
        shares = overlap_shares([Turn(row.speaker, row.start_s, row.stop_s) for row in rows_of])
        heard = [
            (wave, row)
            for row, share in zip(rows_of, shares, strict=True)
            if status_of(wave := talk.samples(row), talk.rate, overlap=share) == "ok"
        ]
        answers = plain.answer([wave for wave, _ in heard]) if heard else []
        found += [(answer, row) for answer, (_, row) in zip(answers, heard, strict=True) if answer.emotion is not None]
        if progress is not None:
            progress(number, num)
    if len(found) < FEWEST:
        return replace(
            bundle.calibration, turn_temperature=None, num_turns=0, num_turn_speakers=0, min_confidence=0.0, turns_fitted_on=ChosenOn()
        )
    probabilities = np.array([answer.emotion for answer, _ in found], dtype=np.float64)
    truth = [bundle.classes.index(str(row.emotion)) for _, row in found]
    turns = of_answers(probabilities, truth, [row.speaker for _, row in found])
    fitted = replace(
        bundle.calibration,
        turn_temperature=turns.temperature,
        num_turns=turns.num_utterances,
        num_turn_speakers=turns.num_speakers,
        min_confidence=0.0,
        turns_fitted_on=ChosenOn(*names_of(chosen, marks)),
    )
    if accuracy is None:
        return fitted
    cooled = np.log(np.maximum(probabilities, 1e-12)) / turns.temperature
    sure = np.exp(cooled - np.logaddexp.reduce(cooled, axis=1, keepdims=True))
    judged = [
        Judged(str(row.emotion), dict(zip(bundle.classes, map(float, p), strict=True)), row.duration_s, True)
        for p, (_, row) in zip(sure, found, strict=True)
    ]
    return replace(fitted, min_confidence=bound_of(judged, accuracy))


def of_answers(probabilities: Floats, truth: Sequence[int], speakers: Sequence[str]) -> Calibration:
    """The calibration of answers [N, K] that were not calibrated yet, to utterances with these classes and speakers (N each).

    None (temperature 1) for fewer than FEWEST. The speakers must not have been trained on.
    """
    if len(truth) < FEWEST:
        return AS_IT_IS
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64))
    return Calibration(temperature_of(logs, np.asarray(truth, dtype=np.int64)), len(truth), len(set(speakers)))


def _unheard(bundle: Bundle, rows: Sequence[Utterance], split: str) -> list[Utterance]:
    """The rows of the split with classes of the bundle. Raises ValueError where it was trained on their speakers or dialogues."""
    chosen = [row for row in rows if row.split == split and bundle.run.labels.name(row) is not None]
    if heard := known_among(chosen, bundle.provenance.speakers, bundle.provenance.groups):
        raise ValueError(f"{bundle.name} was trained on {', '.join(heard[:12])}; a temperature is fitted on speakers it has never heard")
    return chosen


def _refuse_recordings(bundle: Bundle, rows: Sequence[Utterance], fingerprints: Sequence[str]) -> None:
    """Raises ValueError where the bundle was trained on the same sound, whatever it is called here."""
    old = set(bundle.provenance.fingerprints)
    if same := [row.id for row, mark in zip(rows, fingerprints, strict=True) if mark in old]:
        raise ValueError(f"{bundle.name} was trained on the recordings {', '.join(same[:12])} under these or other names; take new ones")


def changeable(folder: str | Path) -> Path:
    """The folder. Raises ValueError where no bundle lies there; one that ships with moodcast is not changed."""
    if not (Path(folder) / bundles.SETTINGS).is_file():
        raise ValueError(f"{folder} is no folder with a bundle; one that ships with moodcast is copied first, then calibrated")
    return Path(folder)


def store(folder: str | Path, calibration: Calibration, trust: tuple[str, ...] = ()) -> Path:
    """The bundle in `folder` with this calibration in place of its own: probe and SHA-256 are made anew, the rest stays.

    It is made in a folder beside and takes the place of the old one at once: whoever opens the bundle meanwhile finds either.

    Raises ValueError where no bundle lies there; one that ships with moodcast is not changed.
    """
    folder = changeable(folder)
    bundle = bundles.load(folder, trust)
    card = (folder / bundles.CARD).read_text(encoding="utf-8") if (folder / bundles.CARD).is_file() else ""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent) as place:
        about = (bundle.run, bundle.provenance, bundle.scores, card, calibration)
        half = bundles.save(Path(place) / folder.name, bundle.method, *about, apart=weights.names_apart(folder), before=folder)
        for made in weights.files_of(half):
            if made.read_bytes() != (folder / made.name).read_bytes():  # of another release of safetensors
                os.replace(made, folder / made.name)
        os.replace(half / bundles.SETTINGS, folder / bundles.SETTINGS)
    return folder
