"""The protocol of transfer: what is kept of a target, who may look at its labels, and that no method can.

The last part trains every method that hears a target: labels of the target change no weight, those of the source and the target's sound do.
"""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from moodcast import manifest
from moodcast.adapting import Adapting, Front
from moodcast.batch import Batch
from moodcast.chunks import ChunkPlan
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.train import heard_of
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.erm import Erm
from moodcast.methods.target_norm import TargetNorm
from moodcast.objectives.classes import labelled
from moodcast.order import balance_weights
from moodcast.run import Audio, Run, Train, build
from moodcast.step import Trainer, weights_digest
from moodcast.transfer import KEPT, SealedLabels, TransferTask, sealed
from tests.audit.planted import note_copies, with_wave
from tests.cluster.tiny import CLASSES, tiny_corpus
from tests.methods.test_contract import METHODS

LABELS = Labels(CLASSES)
HEARING = [cls for cls in METHODS if cls.streams == ("source", "target")]
every_hearing_method = pytest.mark.parametrize("cls", HEARING, ids=lambda cls: cls.__name__)


def row(name: str, speaker: str, split: str | None = "train", corpus: str = "target", **known: Any) -> Utterance:
    return Utterance(id=name, path=f"{name}.wav", corpus=corpus, speaker=speaker, split=split, **{"emotion": "high", **known})


SOURCE = [row("a", "s0", corpus="source"), row("b", "s1", "dev", corpus="source", emotion="low")]
TARGET = [row("c", "t0"), row("d", "t1", "test", emotion="low"), row("e", "t2", "dev")]


def test_of_a_sealed_row_nothing_is_left_that_says_what_is_felt() -> None:
    full = Utterance(
        id="x",
        path="x.wav",
        corpus="c",
        speaker="s",
        group="g",
        gender="female",
        age=30.0,
        emotion="sad",
        votes={"sad": 2.0},
        attributes={"arousal": 0.1},
        text="how sad",
        words=(("how", 0.0, 0.1),),
        phones=(("h", 0.0, 0.1),),
        trace="x.npy",
        video="x.mp4",
        clean="x.flac",
        weight=2.0,
        duration_s=1.5,
    )
    [kept] = sealed([full])
    told = {f.name for f in dataclasses.fields(kept) if getattr(kept, f.name) != f.default and getattr(kept, f.name) is not None}
    assert told <= set(KEPT)
    assert (kept.id, kept.path, kept.speaker, kept.group, kept.duration_s) == ("x", "x.wav", "s", "g", 1.5)
    assert LABELS.target(kept) is None
    assert replace(LABELS, source="votes").target(kept) is None


def test_train_is_adapted_to_test_is_answered_and_dev_is_left_alone() -> None:
    task = TransferTask.of(SOURCE, TARGET)
    assert [one.id for one in task.adapt] == ["c"]
    assert [one.id for one in task.test] == ["d"]
    assert all(one.emotion is None for one in (*task.adapt, *task.test))
    assert [one.emotion for one in task.unsealed()] == ["high"]
    assert [one.emotion for one in task.source] == ["high", "low"]


def test_a_target_without_splits_is_adapted_to_as_a_whole() -> None:
    task = TransferTask.of(SOURCE, [replace(one, split=None) for one in TARGET])
    assert [one.id for one in task.adapt] == ["c", "d", "e"]
    assert task.test == ()


def test_a_transductive_task_must_be_asked_for_and_adapts_to_what_it_answers() -> None:
    task = TransferTask.of(SOURCE, TARGET, transductive=True)
    assert task.transductive
    assert [one.id for one in task.adapt] == [one.id for one in task.test] == ["d"]


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        (SOURCE, [row("c", "t0"), row("d", "t0", "test")], "t0"),
        ([*SOURCE, row("f", "t1")], TARGET, "t1"),  # a source speaker that is to be answered
        ([*SOURCE, row("f", "t0", "dev")], TARGET, "t0"),  # one that epochs are chosen on and that is adapted to
        (SOURCE, [row("c", "t0", group="g"), row("d", "t1", "test", group="g")], "g"),
        (SOURCE, [row("d", "t1", "test")], "nothing to adapt to"),
        (SOURCE, [row("c", "t0"), row("d", "t1", None)], "have no split"),
    ],
)
def test_a_task_that_leaks_or_has_nothing_to_adapt_to_is_refused(source: list[Utterance], target: list[Utterance], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        TransferTask.of(source, target)


def test_a_recording_is_not_both_source_and_target_unless_that_is_let_through() -> None:
    both = [SOURCE[0], row("c", "t0")]
    with pytest.raises(ValueError, match=r"1 of 2 rows of the target are rows of the source, too \(a\).*train.allow_leaks=true"):
        TransferTask.of(SOURCE, [replace(one, split=None) for one in both])
    assert len(TransferTask.of(SOURCE, both, allow_leaks=True).adapt) == 2
    part = replace(SOURCE[0], id="part", start_s=1.0, stop_s=2.0)  # another stretch of that file
    assert len(TransferTask.of(SOURCE, [part]).adapt) == 1
    apart = [*SOURCE, row("z", "s9", "test", corpus="source")]
    assert [one.id for one in TransferTask.of(apart, [apart[2]], transductive=True).adapt] == ["z"]  # never heard with its label


def test_a_copy_that_an_audit_found_is_not_both_source_and_target_unless_that_is_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))
    labelled, copy, tested = (
        with_wave(replace(one, path=str(tmp_path / one.path)), f"{one.id}.wav", np.full(4_000, 0.1 * n, dtype=np.float32))
        for n, one in enumerate((SOURCE[0], TARGET[0], TARGET[1]), start=1)
    )
    note_copies(labelled, copy)
    with pytest.raises(ValueError, match=r"1 of 1 rows .* of the source, too, in another form.*\(c.wav\).*train.allow_leaks=true"):
        TransferTask.of([labelled], [copy])
    assert len(TransferTask.of([labelled], [copy], allow_leaks=True).adapt) == 1
    assert len(TransferTask.of([], [copy, tested]).adapt) == 1
    note_copies(copy, tested)
    with pytest.raises(ValueError, match=r"in another form.*in test, train.*--allow-leaks lets them through"):
        TransferTask.of([], [copy, tested], how="--allow-leaks")


def test_scores_open_the_labels_of_rows_that_have_a_class() -> None:
    task = TransferTask.of(SOURCE, [*TARGET, row("g", "t3", "test", emotion="other"), row("h", "t4", "test", emotion="high")])
    answers = task.answers(LABELS, np.array([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]]))
    assert answers.truth.tolist() == [1, 0]
    assert answers.guess.tolist() == [1, 0]
    assert answers.speakers == ["target/t1", "target/t4"]
    with pytest.raises(ValueError, match="one each"):
        task.answers(LABELS, np.zeros((1, 2)))


def test_sealed_labels_say_nothing_and_do_not_leave_the_process() -> None:
    task = TransferTask.of(SOURCE, TARGET)
    assert "high" not in repr(task.test)
    assert "low" not in repr(SealedLabels(TARGET)) + repr(task)[repr(task).index("adapt=") :]
    with pytest.raises(TypeError, match="sealed"):
        pickle.dumps(task)


def test_a_target_is_asked_for_where_a_method_hears_one_and_refused_where_none_does() -> None:
    plain = Run(method=Erm.Config())
    adapting = Run(method=HEARING[0].Config())
    with pytest.raises(ValueError, match="--target"):
        heard_of(adapting, SOURCE, None)
    with pytest.raises(ValueError, match="--unseal"):
        heard_of(plain, SOURCE, TARGET)
    with pytest.raises(ValueError, match="only without labels"):
        heard_of(adapting, SOURCE, TARGET, unsealed=True)
    heard = heard_of(adapting, SOURCE, TARGET)
    assert [one.emotion for one in heard.target] == [None]
    bound = heard_of(plain, SOURCE, TARGET, unsealed=True)
    assert [one.emotion for one in bound.rows] == ["high", "low", "high"]
    assert bound.notes == {"transductive": False, "unsealed": ["target"]}


# ------------------------------------------------------------------------------------------- every method


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Utterance]]:
    """A source, a target and, under the names of the target, other sounds."""
    folder = tmp_path_factory.mktemp("domains")
    known = {}
    for name, num in (("source", 24), ("target", 16), ("other", 32)):
        made = tiny_corpus(folder / name, num, 8)
        if name == "other":
            made = made[16:]
        corpus = "source" if name == "source" else "target"
        own = [replace(one, id=f"{corpus}{i}", corpus=corpus, split="train") for i, one in enumerate(made)]
        known[name] = own if corpus == "source" else [replace(one, split="test" if i % 8 == 7 else "train") for i, one in enumerate(own)]
    return known


def trained(cls: type[Any], source: Sequence[Utterance], target: Sequence[Utterance], root: Path, **front: Any) -> str:
    """The digest of the weights after two epochs, by way of what a worker does: the task, sealed rows, stretches, the trainer."""
    small = {"width": 8, "channels": 4, "num_mels": 16}
    run = Run(
        method=cls.Config(front=Front(**{**small, **front})) if issubclass(cls, Adapting) else cls.Config(),
        labels=LABELS,
        audio=Audio(rate=8_000),
        chunks=ChunkPlan(length_s=0.5, hop_s=0.5),
        train=Train(epochs=2, batch_size=8, lr=1e-2),
    )
    heard = heard_of(run, source, target)
    manifest.write_manifest(heard.target, root / "target.parquet")
    known = CachedStretches(heard.rows, run, root)
    other = CachedStretches(manifest.read_manifest(root / "target.parquet"), run, root, labelled=False)
    weights = balance_weights([known.rows[i] for i in known.owners], run.labels, run.train.balance)
    trainer = Trainer(build(run, ("tests",)), run.train, known, weights, target=other)
    trainer.fit_once()
    for epoch in range(run.train.epochs):
        trainer.epoch(epoch)
    return weights_digest(trainer.method)


class Peeking(TargetNorm):
    """Looks for labels where there must be none."""

    @dataclass(frozen=True)
    class Config(TargetNorm.Config):
        """Its own, by which it is found."""

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        batch = batches["target"]
        return {"classes": labelled(self(batch).emotion, batch.target)}


def test_a_method_that_looks_for_labels_of_the_target_finds_none(rows: dict[str, list[Utterance]], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no target"):
        trained(Peeking, rows["source"], rows["target"], tmp_path)


FRAMES_ONLY = ("LayerAnchor", "VqAdapt")  # they need frames or layers, and say so


def shuffled(rows: Sequence[Utterance]) -> list[Utterance]:
    """The rows with the labels of one another: every class is somebody else's."""
    return [replace(one, emotion=CLASSES[1 - CLASSES.index(str(one.emotion))], votes={"high": 3.0}, text="high") for one in rows]


@every_hearing_method
@pytest.mark.parametrize("kind", ["log_mel", "functionals"])
def test_labels_of_the_target_change_no_weight_while_those_of_the_source_and_its_sound_do(
    cls: type[Any], kind: str, rows: dict[str, list[Utterance]], tmp_path: Path
) -> None:
    if kind == "functionals" and not issubclass(cls, Adapting):
        pytest.skip("has no front to choose")
    if kind == "functionals" and cls.__name__ in FRAMES_ONLY:
        with pytest.raises(ValueError, match="front.kind=log_mel"):
            trained(cls, rows["source"], rows["target"], tmp_path, kind=kind)
        return
    source, target, other = rows["source"], rows["target"], rows["other"]
    plain = trained(cls, source, target, tmp_path, kind=kind)
    assert trained(cls, source, shuffled(target), tmp_path, kind=kind) == plain
    assert trained(cls, shuffled(source), target, tmp_path, kind=kind) != plain
    swapped = [replace(one, path=sound.path) for one, sound in zip(target, other, strict=True)]
    assert trained(cls, source, swapped, tmp_path, kind=kind) != plain
    answered = [replace(one, path=sound.path) if one.split == "test" else one for one, sound in zip(target, other, strict=True)]
    assert trained(cls, source, answered, tmp_path, kind=kind) == plain  # what will be answered is not heard
