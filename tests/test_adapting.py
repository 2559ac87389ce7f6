"""The trunk that adapting methods share: statistics of each domain, both fronts, and that adaptation does what it should on toys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moodcast import bundle
from moodcast.adapting import SOURCE, TARGET, Front, ramp_up
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.methods.mcc import Mcc
from moodcast.methods.mean_teacher import MeanTeacher, one_hot
from moodcast.methods.shot import Shot, centroids, nearest
from moodcast.methods.target_norm import TargetNorm
from moodcast.nn import functionals
from moodcast.run import Run, Train, build
from moodcast.step import Trainer
from tests.methods.test_contract import CLASSES, RATE, Toy, answers, ask, assert_same, item, sound

PLAN = ChunkPlan(length_s=1.0, hop_s=0.5)
STATISTICS = Front(kind="functionals", width=8)


def run_of(config: Any, **train: Any) -> Run:
    return Run(method=config, labels=Labels(CLASSES), chunks=PLAN, train=Train(**{"epochs": 2, "batch_size": 8, **train}))


def fitted(config: Any) -> tuple[Any, Toy, Toy]:
    run = run_of(config)
    source, target = Toy(PLAN), Toy(PLAN, num=12, seed=100, labelled=False)
    sides = (source, target) if config is not None and "source" in type(build(run)).streams else (target,)
    trainer = Trainer(build(run), run.train, sides[0], None, 1, 0, *sides[1:])
    trainer.fit_once()
    return trainer.method.eval(), source, target


def every(data: Toy) -> Batch:
    return next(iter(data.batches([np.arange(len(data))])))


def test_statistics_are_those_of_each_domain() -> None:
    method, source, target = fitted(TargetNorm.Config(front=STATISTICS))
    hears = method.trunk.hears
    for at, data in ((SOURCE, source), (TARGET, target)):
        found = torch.stack([torch.from_numpy(functionals.plain(wave, RATE, hears.filters)) for wave in waves_of(data)])
        torch.testing.assert_close(method.trunk.centre[at], found.mean(0), atol=1e-3, rtol=1e-3)
        spread = found.std(0, correction=0)
        torch.testing.assert_close(method.trunk.scale[at][spread > 0.01], spread[spread > 0.01], atol=1e-3, rtol=1e-2)


def waves_of(data: Toy) -> list[NDArray[np.float32]]:
    return [sound(data.seed + i, i % 4, 0.8) for i in range(len(data))]


def test_bands_of_log_mel_frames_are_standard_in_their_own_domain() -> None:
    method, _, target = fitted(TargetNorm.Config())
    sums = method.trunk.hears.sums(every(target)).sum(0)
    first, second = (part / sums[-1] for part in sums[:-1].chunk(2))
    torch.testing.assert_close(method.trunk.centre[TARGET].double(), first, atol=1e-4, rtol=0)
    torch.testing.assert_close(method.trunk.scale[TARGET].double(), (second - first**2).sqrt(), atol=1e-3, rtol=0)


def test_the_source_and_the_target_are_heard_each_through_its_own_unless_told_otherwise() -> None:
    batch = every(Toy(PLAN))
    method, _, _ = fitted(TargetNorm.Config(front=STATISTICS))
    assert not torch.allclose(method.on_source(batch).emotion, method(batch).emotion, atol=1e-3)
    plain, _, _ = fitted(TargetNorm.Config(front=replace(STATISTICS, standardise="source")))
    assert torch.equal(plain.on_source(batch).emotion, plain(batch).emotion)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_under_statistics_an_answer_is_the_same_alone_in_a_batch_and_with_what_was_kept(layers: int) -> None:
    method, _, _ = fitted(Mcc.Config(front=replace(STATISTICS, layers=layers)))
    seconds = [1.3, 2.4, 0.41, 0.03]
    waves = [sound(i, i % 4, length) for i, length in enumerate(seconds)]
    together = collate(waves, PLAN, RATE)
    found = ask(method, together)
    assert_same(answers(ask(method, replace(together, frozen=method.frozen(together)))), answers(found))
    for index, wave in enumerate(waves):
        alone = collate([wave], PLAN, RATE)
        assert_same(item(found, index, 1), item(ask(method, alone), 0, 1))


@pytest.mark.parametrize("config", [Mcc.Config(front=STATISTICS), Shot.Config(front=STATISTICS)], ids=["mcc", "shot"])
def test_under_statistics_a_bundle_answers_as_the_method_that_was_saved(config: Any, tmp_path: Path) -> None:
    method, _, _ = fitted(config)
    loaded = bundle.load(bundle.save(tmp_path / "bundle", method, run_of(config))).method
    assert_same(answers(ask(loaded, every(Toy(PLAN)))), answers(ask(method.eval(), every(Toy(PLAN)))))


def test_kept_statistics_are_named_by_what_decides_them_and_frames_are_not_kept() -> None:
    one, two = (build(run_of(config)) for config in (TargetNorm.Config(front=STATISTICS), Mcc.Config(front=STATISTICS)))
    assert one.frozen_name() == two.frozen_name() != ""
    assert build(run_of(TargetNorm.Config())).frozen_name() == ""


# ------------------------------------------------------------------------------------------------ adaptation


@dataclass
class Clouds:
    """Four clouds of points in the place of statistics; those of the target are turned, wider and elsewhere."""

    num: int
    seed: int
    target: bool

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.label = np.arange(self.num) % 4
        points = 4.0 * np.eye(4)[self.label] + rng.normal(size=(self.num, 4))
        if self.target:
            turn = np.array([[np.cos(0.8), -np.sin(0.8)], [np.sin(0.8), np.cos(0.8)]])
            points[:, :2] = points[:, :2] @ turn
            points = 20.0 + 4.0 * points
        size = functionals.num_plain(40)
        self.found = np.zeros((self.num, 1, size), dtype=np.float32)
        self.found[:, 0, :4] = points

    def __len__(self) -> int:
        return self.num

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [str(i) for i in indices]

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
        for at in plan:
            size = len(at)
            target = None if self.target else torch.from_numpy(np.eye(4, dtype=np.float32)[self.label[at]])
            weight = None if self.target else torch.ones(size)
            frozen = torch.from_numpy(self.found[at])
            yield Batch(torch.zeros(size, 1, 1), torch.ones(size, 1, dtype=torch.int64), torch.ones(size), target, weight, frozen)


def right(config: Any, begin: Any = None, **train: Any) -> tuple[float, Any]:
    """The share of target points that are answered rightly, and the method."""
    run = run_of(config, **{"epochs": 15, "batch_size": 32, "lr": 1e-2, **train})
    method = build(run)
    if begin is not None:
        method.load_state_dict({**method.state_dict(), **{k: v for k, v in begin.state_dict().items() if k.startswith("trunk.")}})
    sides = [Clouds(200, 0, target=False)] if "source" in method.streams else []
    trainer = Trainer(method, run.train, *[*sides, target := Clouds(160, 1, target=True)][:1], None, 1, 0, *([target] if sides else []))
    trainer.fit_once()
    for epoch in range(run.train.epochs):
        trainer.epoch(epoch)
    heard = Clouds(400, 2, target=True)
    answer = ask(method.eval(), next(iter(heard.batches([np.arange(400)])))).emotion
    return float((answer.argmax(1).numpy() == heard.label).mean()), method


def test_statistics_of_the_target_mend_a_shift_and_methods_that_look_at_answers_mend_more() -> None:
    raw, _ = right(TargetNorm.Config(front=replace(STATISTICS, standardise="source")))
    normed, begun = right(TargetNorm.Config(front=STATISTICS))
    confused, _ = right(Mcc.Config(front=STATISTICS))
    taught, _ = right(MeanTeacher.Config(front=STATISTICS))
    moved, _ = right(Shot.Config(front=STATISTICS), begun)
    assert raw < normed - 0.1
    assert confused > normed + 0.01
    assert taught > normed + 0.01
    assert moved > normed + 0.05


def test_the_head_of_shot_stays_as_it_was() -> None:
    _, begun = right(TargetNorm.Config(front=STATISTICS), epochs=3)
    _, moved = right(Shot.Config(front=STATISTICS), begun, epochs=3)
    for name, value in begun.trunk.head.state_dict().items():
        assert torch.equal(moved.trunk.head.state_dict()[name], value)
    assert torch.equal(moved.trunk.centre[SOURCE], begun.trunk.centre[SOURCE])


def test_centroids_follow_the_answers_and_then_the_labels_that_they_give() -> None:
    points = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.1, 1.0], [-0.1, 1.0], [1.0, 0.0]])
    sure = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.4, 0.6]])  # the last is answered wrongly
    found = centroids(points, sure)
    assert nearest(points, found).argmax(1).tolist() == [0, 0, 1, 1, 0]
    unit = torch.nn.functional.normalize(points, dim=1)
    torch.testing.assert_close(found[0], unit[[0, 1, 4]].mean(0))


def test_a_teacher_is_the_moving_average_of_the_pupil() -> None:
    method, _, _ = fitted(MeanTeacher.Config(front=STATISTICS, decay=0.5))
    assert all(torch.equal(method.teacher.own.state_dict()[name], value) for name, value in method.trunk.state_dict().items())
    with torch.no_grad():
        method.trunk.head[1].weight += 1.0
    before = method.teacher.own.head[1].weight.clone()
    method.teacher.steps.fill_(100)
    method.after_step(0.5)
    torch.testing.assert_close(method.teacher.own.head[1].weight, before + 0.5)
    method.train()
    assert method.trunk.training
    assert not method.teacher.training


def test_a_word_that_comes_to_count_rises_to_one_and_stays() -> None:
    found = [float(ramp_up(torch.tensor(progress), 0.3)) for progress in (0.0, 0.15, 0.3, 1.0)]
    assert found[0] == pytest.approx(np.exp(-5.0))
    assert found[1] == pytest.approx(np.exp(-1.25))
    assert found[2] == found[3] == 1.0
    assert float(ramp_up(torch.tensor(0.0), 0.0)) == 1.0
    assert one_hot(torch.tensor([[0.2, 0.8]]).log()).tolist() == [[0.0, 1.0]]


def test_weights_of_an_earlier_training_bring_no_progress_of_this_one() -> None:
    _, begun = right(MeanTeacher.Config(front=STATISTICS), epochs=1)
    assert begun.progress == 1.0
    run = run_of(MeanTeacher.Config(front=STATISTICS))
    Trainer(begun, run.train, Clouds(40, 0, target=False), target=Clouds(40, 1, target=True)).fit_once()
    assert begun.progress == 0.0
