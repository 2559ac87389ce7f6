"""Temperature scaling: one number, fitted on speakers the method was not trained on, makes a bundle as sure as it is right.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, section 4.2. The temperature that minimises the
negative log-likelihood of the reference classes; the most probable class never changes. Shapes: N utterances, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

from moodcast import bundle as bundles
from moodcast.bundle import AS_IT_IS, Bundle, Calibration
from moodcast.cache import open_waves
from moodcast.manifest import Utterance

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

    It is that of the method itself, whatever calibration the bundle has now. root: where decoded audio is kept. Raises ValueError where
    the bundle was trained on speakers, dialogues or recordings of these rows: it is surer of them than of anybody new.
    """
    labels = bundle.run.labels
    chosen = [row for row in rows if row.split == split and labels.name(row) is not None]
    trained = {*bundle.provenance.speakers, *bundle.provenance.groups}
    if heard := sorted({row.corpus_speaker for row in chosen if trained & {row.corpus_speaker, row.corpus_group}}):
        raise ValueError(f"{bundle.name} was trained on {', '.join(heard[:12])}; a temperature is fitted on speakers it has never heard")
    if len(chosen) < FEWEST:
        return AS_IT_IS
    store = open_waves(chosen, bundle.rate, root, bundle.run.audio.max_hours)
    old = set(bundle.provenance.fingerprints)
    if same := [row.id for row, mark in zip(chosen, store.fingerprints, strict=True) if mark in old]:
        raise ValueError(f"{bundle.name} was trained on the recordings {', '.join(same[:12])} under these or other names; take new ones")
    plain = Bundle(bundle.run, bundle.method, bundle.provenance, {}, "", bundle.name)
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(store), BATCH):
        answers = plain.answer([store[i] for i in range(start, min(start + BATCH, len(store)))])
        found += [answer.emotion for answer in answers if answer.emotion is not None]
        if progress is not None:
            progress(min(start + BATCH, len(store)), len(store))
    if len(found) < len(chosen):
        return AS_IT_IS  # it answers no classes
    truth = [bundle.classes.index(str(labels.name(row))) for row in chosen]
    return of_answers(np.array(found, dtype=np.float64), truth, [row.corpus_speaker for row in chosen])


def of_answers(probabilities: Floats, truth: Sequence[int], speakers: Sequence[str]) -> Calibration:
    """The calibration of answers [N, K] that were not calibrated yet, to utterances with these classes and speakers (N each).

    None (temperature 1) for fewer than FEWEST. The speakers must not have been trained on.
    """
    if len(truth) < FEWEST:
        return AS_IT_IS
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64))
    return Calibration(temperature_of(logs, np.asarray(truth, dtype=np.int64)), len(truth), len(set(speakers)))


def store(folder: str | Path, calibration: Calibration, trust: tuple[str, ...] = ()) -> Path:
    """The bundle in `folder` with this calibration in place of its own: probe and SHA-256 are made anew, the card stays.

    Raises ValueError where no bundle lies there; one that ships with moodcast is not changed.
    """
    folder = Path(folder)
    if not (folder / bundles.SETTINGS).is_file():
        raise ValueError(f"{folder} is no folder with a bundle; one that ships with moodcast is copied first, then calibrated")
    bundle = bundles.load(folder, trust)
    card = (folder / bundles.CARD).read_text(encoding="utf-8") if (folder / bundles.CARD).is_file() else ""
    return bundles.save(folder, bundle.method, bundle.run, bundle.provenance, bundle.scores, card, calibration)
