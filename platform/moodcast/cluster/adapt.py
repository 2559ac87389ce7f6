"""A trained bundle moves to recordings without labels; what it was trained on is not needed. Without Ray.

Two ways. "statistics": what standardises a method's inputs is taken anew from the recordings (`Method.take_statistics`), and mixed with
what was there before, the more the fewer they are (Schneider et al., "Improving robustness against common corruptions by covariate shift
adaptation", NeurIPS 2020, eq. 3). "sharpen": after that, gains and offsets alone are trained (Wang et al., "Tent", ICLR 2021) so that
answers are surer while every class stays in use (Liang et al., "SHOT", ICML 2020, eqs. 3-4) and none goes far from what it was.

Both suppose that the recordings are mixed in emotion, as what the bundle learned from was: where nearly all are of one kind, the second
moves answers to classes that are not there. `checked` says what can be seen without labels, and what speaks against the result.
Shapes: N stretches, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moodcast import metrics
from moodcast.augment import Augment
from moodcast.batch import Batch, Prediction
from moodcast.bundle import Bundle
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features, kept
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.method import Weights as LossWeights
from moodcast.objectives import domain
from moodcast.objectives.classes import divergence
from moodcast.passes import TrainingView, predict
from moodcast.provenance import AdaptedTo
from moodcast.run import Train
from moodcast.step import Trainer
from moodcast.transfer import sealed

Floats = NDArray[np.float64]
How = Literal["statistics", "sharpen"]
FEWEST = 16  # stretches: below that, statistics are chance
OLD = 16.0  # how many stretches the statistics of before count for
LOST = 0.7  # the number of classes in use may not fall below this share of what it was
WORSE = 0.03  # of UAR on the source's dev side


@dataclass(frozen=True)
class Weights(LossWeights):
    """information: entropy of the answers less that of their mean; anchor: how far answers go from those of before."""

    classes: float = 0.0
    information: float = 1.0
    anchor: float = 1.0


class Sharpened(Method):
    """A method while it is moved; what is kept is the method inside."""

    streams = ("target",)

    @dataclass(frozen=True)
    class Config(Method.Config):
        """What is weighed."""

        weights: Weights = Weights()

    def __init__(self, config: Config, inner: Method) -> None:
        super().__init__(config, replace(inner.spec, attributes=()))  # they move with the rest, and are no part of what is weighed
        self.inner = inner
        self.before: Method | None = None

    def train(self, mode: bool = True) -> Sharpened:
        """The method inside stays as it is served: no dropout between answers that are to be compared."""
        super().train(mode)
        self.inner.eval()
        return self

    def forward(self, batch: Batch) -> Prediction:
        """The method's answer."""
        answer: Prediction = self.inner(batch)
        return answer

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """information and anchor, both of the answers to the recordings."""
        batch = batches["target"]
        now = _logs(self.inner(batch))
        with torch.no_grad():
            before = _logs((self.before or self.inner)(batch))
        return {"information": domain.information(now), "anchor": divergence(now, before.exp())}

    def begin(self) -> None:
        """Remember the method as it is now, and let only gains and offsets move."""
        self.before = None
        kept = copy.deepcopy(self.inner).requires_grad_(False).eval()
        object.__setattr__(self, "before", kept)  # no part of this module: neither trained nor put into training mode
        for parameter in self.inner.parameters():
            parameter.requires_grad_(parameter.ndim <= 1)


@dataclass(frozen=True)
class Check:
    """What can be seen without labels of answers before and after, and on the source's dev side where that was given.

    classes_in_use: e to the entropy of the mean answer, 1 to K; sureness: the mean probability of the answer; changed: the share of
    recordings whose answer is another. why: what speaks against the adapted bundle; empty where nothing does.
    """

    num_recordings: int
    classes_in_use: tuple[float, float]
    sureness: tuple[float, float]
    changed: float
    counts: tuple[dict[str, int], dict[str, int]]
    source_uar: tuple[float, float] | None = None
    why: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapted:
    """The adapted bundle, not yet saved, and what is known of it."""

    bundle: Bundle
    how: How
    check: Check
    notes: list[str] = field(default_factory=list)


def adapt(
    bundle: Bundle,
    rows: Sequence[Utterance],
    how: How = "statistics",
    *,
    source: Sequence[Utterance] = (),
    epochs: int = 5,
    lr: float = 3e-4,
    seed: int = 0,
    root: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Adapted:
    """Move a bundle to the sound of `rows`, whose labels are not looked at.

    source: labelled rows of what it was trained on, whose split "dev" (all, where there is none) must not be answered worse. root: where
    decoded audio is kept. progress(share, what) is called now and then. Raises ValueError for too few recordings, a bundle that answers no
    classes, or a way that this method does not have.
    """
    tell = progress or (lambda share, what: None)
    tell(0.0, "reading audio")
    train = Train(epochs=epochs, batch_size=32, lr=lr, weight_decay=0.0, seed=seed, balance="none")
    run = replace(bundle.run, augment=Augment(), train=train)  # recordings are heard as they are
    data = CachedStretches(sealed(rows), run, root, labelled=False)
    if len(data) < FEWEST:
        raise ValueError(
            f"{len(data)} stretches of speech are too few to adapt to: wanted {FEWEST} or more (a stretch is a recording, or a piece "
            f"of one of at most {run.chunks.max_s:g} s)"
        )
    tell(0.1, "listening")
    if name := kept(run, bundle.method):  # what never trains is asked for once, not in every pass and epoch
        keep_features(bundle.method, [data], name, root)
    before = _answers(bundle.method, data)
    moved = Sharpened(Sharpened.Config(), copy.deepcopy(bundle.method))
    taken = _take_statistics(moved, data)
    notes = [f"statistics of its inputs taken from {len(data)} stretches"] if taken else []
    if how == "sharpen":
        moved.begin()
        trainer = Trainer(moved, run.train, data)
        if trainer.optimizer is None:
            raise ValueError(f"{type(bundle.method).__name__} has no gains and offsets: there is nothing in it to sharpen")
        for epoch in range(epochs):
            tell(0.3 + 0.6 * epoch / epochs, "adapting")
            trainer.epoch(epoch)
        notes.append(f"gains and offsets trained for {epochs} epochs of {trainer.steps} steps, learning rate {lr:g}")
    elif not taken:
        name = type(bundle.method).__name__
        raise ValueError(f"{name} keeps no statistics of its inputs: there is nothing to take anew without training; --how sharpen trains")
    inner = moved.inner.requires_grad_(True).eval()
    tell(0.9, "checking")
    check = checked(bundle, inner, before, _answers(inner, data), data, source, root)
    known = replace(bundle.provenance, adapted_to=_heard(bundle.provenance.adapted_to, data))
    scored = {"before_adaptation": bundle.scores} if bundle.scores else {}
    return Adapted(Bundle(bundle.run, inner, known, scored, "", bundle.name, bundle.calibration), how, check, notes)


def checked(
    bundle: Bundle,
    method: Method,
    before: Floats,
    after: Floats,
    data: CachedStretches,
    source: Sequence[Utterance] = (),
    root: Path | None = None,
) -> Check:
    """Compare answers [N, K] before and after, without labels; and those to the source's dev side, with them."""
    used = [float(np.exp(-(mean * np.log(mean + 1e-12)).sum())) for mean in (before.mean(0), after.mean(0))]
    counts = [{name: int((found.argmax(1) == k).sum()) for k, name in enumerate(bundle.classes)} for found in (before, after)]
    why, remarks = [], []
    if used[1] < LOST * used[0]:
        why.append(f"answers crowd into fewer classes: {used[1]:.1f} in use instead of {used[0]:.1f}")
    gone = [name for name in bundle.classes if counts[1][name] == 0 and counts[0][name] >= 0.05 * len(before)]
    if gone:
        why.append(f"nothing is answered {', '.join(gone)} any more")
    uar = _source_uar(bundle, method, source, root)
    if uar is not None and uar[1] < uar[0] - WORSE:
        why.append(f"on the source's dev side UAR falls from {100 * uar[0]:.1f} to {100 * uar[1]:.1f} %")
    speakers = {row.corpus_speaker for row in data.rows if row.speaker is not None}
    if len(speakers) == 1:
        remarks.append("all recordings are of one speaker: what is usual for that voice is now taken for neutral")
    if max(before.mean(0)) > 0.6:
        remarks.append("most recordings sounded alike in emotion before; if that is so, statistics of them are not those of mixed speech")
    if bundle.run.labels.attributes:
        remarks.append(f"{', '.join(bundle.run.labels.attributes)} moved along, and nothing here says whether for better or worse")
    return Check(
        num_recordings=len(before),
        classes_in_use=(used[0], used[1]),
        sureness=(float(before.max(1).mean()), float(after.max(1).mean())),
        changed=float((before.argmax(1) != after.argmax(1)).mean()),
        counts=(counts[0], counts[1]),
        source_uar=uar,
        why=tuple(why),
        remarks=tuple(remarks),
    )


def _source_uar(bundle: Bundle, method: Method, source: Sequence[Utterance], root: Path | None) -> tuple[float, float] | None:
    """UAR on the source's dev side, before and after; None where no source was given."""
    labels = bundle.run.labels
    known = [row for row in source if labels.name(row) is not None]
    dev = [row for row in known if row.split == "dev"] or known
    if not source:
        return None
    if not dev:
        came = ", ".join(sorted({str(row.emotion) for row in source}))
        raise ValueError(f"--source names no recording with a class of the bundle ({', '.join(bundle.classes)}); labels that came: {came}")
    data = CachedStretches(dev, bundle.run, root)
    truth = np.array([bundle.classes.index(str(labels.name(row))) for row in dev])
    found = []
    for one in (bundle.method, method):
        guess = predict(one, data, data.owners, data.seconds, 32, answer=one.on_source)[0].argmax(1)
        found.append(float(metrics.uar(metrics.confusion(truth.tolist(), guess.tolist(), len(bundle.classes)))))
    return found[0], found[1]


def _take_statistics(moved: Sharpened, data: CachedStretches) -> bool:
    """New statistics, mixed with those of before by how many stretches both stand for."""
    old = {name: value.clone() for name, value in moved.inner.named_buffers() if value.is_floating_point()}
    taken = moved.inner.take_statistics(TrainingView(moved, data, 32))
    share = len(data) / (len(data) + OLD)
    for name, value in moved.inner.named_buffers():
        if name in old:
            value.copy_(torch.lerp(old[name], value, share))
    return taken


def _answers(method: Method, data: CachedStretches) -> Floats:
    return predict(method, data, data.owners, data.seconds, 32)[0]


def _logs(prediction: Prediction) -> Tensor:
    if prediction.emotion is None:
        raise ValueError("this bundle answers no emotion, so there is nothing to adapt")
    return prediction.emotion


def _heard(before: AdaptedTo, data: CachedStretches) -> AdaptedTo:
    """Whom the bundle has heard without labels, with these recordings."""
    rows = data.rows

    def more(own: Sequence[str], new: set[str]) -> tuple[str, ...]:
        return tuple(sorted({*own, *new}))

    return replace(
        before,
        corpora=more(before.corpora, {row.corpus for row in rows}),
        speakers=more(before.speakers, {row.corpus_speaker for row in rows}),
        groups=more(before.groups, {row.corpus_group for row in rows}),
        fingerprints=more(before.fingerprints, set(data.store.fingerprints)),
        hours=round(before.hours + float(data.seconds.sum()) / 3600, 3),
    )
