"""What every method owes its users, over every file in moodcast/methods: nothing is registered, a new file is found by walking the package.

B stretches, C chunks, K classes.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import moodcast.methods
from moodcast import bundle, step
from moodcast.batch import Batch, Prediction, as_bytes, collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method, find_method, method_name
from moodcast.nn.precision import has_encoders
from moodcast.run import Run, Train, build, run_from_dict, run_to_dict

RATE = 16_000
CLASSES = ("angry", "happy", "neutral", "sad")
PLANS = {
    "hopped": ChunkPlan(length_s=1.0, hop_s=0.5),
    "counted": ChunkPlan(length_s=0.5, count=5),
    "one": ChunkPlan(length_s=3.0, hop_s=3.0),
}
CLOSE = 1e-4


def found_methods() -> Iterator[type[Method]]:
    for module in pkgutil.walk_packages(moodcast.methods.__path__, "moodcast.methods."):
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(value, Method) and value.__module__ == module.name:
                yield value


METHODS = sorted(found_methods(), key=lambda method: method.__name__)
every_method = pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
LEARNING = [cls for cls in METHODS if cls.streams[0] != "target"]
every_learning_method = pytest.mark.parametrize("cls", LEARNING, ids=lambda cls: cls.__name__)
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())


def run_of(cls: type[Method], plan: ChunkPlan) -> Run:
    return Run(method=cls.Config(), labels=Labels(classes=CLASSES), chunks=plan)


def quiet(cls: type[Method], plan: ChunkPlan) -> Method:
    return build(run_of(cls, plan)).eval()


def sound(seed: int, kind: int = 0, seconds: float = 1.3) -> NDArray[np.float32]:
    """A buzz of harmonics whose pitch and movement depend on `kind`, in a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch = (110, 150, 210, 290)[kind] * (1 + 0.1 * np.sin(2 * np.pi * (2 + 2 * kind) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE + rng.uniform(0, 6)
    wave = sum(np.sin(k * phase) / k ** (0.5 + 0.5 * kind) for k in range(1, 12)) * (1 + 0.8 * np.sin(2 * np.pi * (3 + kind) * time))
    return (0.05 * wave + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def batch_of(plan: ChunkPlan, kinds: list[int], seconds: list[float] | None = None) -> Batch:
    waves = [sound(seed, kind, 1.3 if seconds is None else seconds[seed]) for seed, kind in enumerate(kinds)]
    rows = [Utterance(id=str(i), path="-", corpus="toy", emotion=CLASSES[kind], weight=1.0) for i, kind in enumerate(kinds)]
    return collate(waves, plan, RATE, Labels(classes=CLASSES), rows)


def read(cls: type[Method], batch: Batch) -> Batch:
    """The batch with what is said in each stretch, where the method takes text."""
    texts = [f"word {n} of these" for n in range(batch.size)]
    return dataclasses.replace(batch, text=as_bytes(texts)) if "text" in cls.inputs else batch


def answers(prediction: Prediction) -> dict[str, torch.Tensor]:
    return {f.name: value for f in dataclasses.fields(prediction) if (value := getattr(prediction, f.name)) is not None}


def item(prediction: Prediction, index: int, num_chunks: int) -> dict[str, torch.Tensor]:
    """What a prediction says of one stretch, its own chunks only."""
    return {
        name: value[index, :num_chunks] if name in ("chunk_emotion", "audio", "trace", "trace_std") else value[index]
        for name, value in answers(prediction).items()
    }


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], atol=CLOSE, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@torch.no_grad()
def ask(method: Method, batch: Batch) -> Prediction:
    return method(batch)


def fed(method: Method, batch: Batch) -> dict[str, Batch]:
    """A batch a stream; that of a target holds the sounds in another order, and no labels."""
    if method.streams == ("labelled",):
        return {"labelled": batch}
    values = {f.name: v.flip(0) for f in dataclasses.fields(batch) if (v := getattr(batch, f.name)) is not None}
    target = Batch(**{**values, "target": None, "weight": None})
    return {"source": batch, "target": target} if len(method.streams) == 2 else {"target": target}


def train_step(method: Method, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    optimiser.zero_grad()
    loss = method.total(method.losses(fed(method, batch)))
    loss.backward()
    optimiser.step()
    return loss.item()


def test_the_walk_finds_the_methods_that_exist():
    assert {"ChunkAttention", "Erm", "Voiceprint"} <= {cls.__name__ for cls in METHODS}


@every_method
def test_a_method_is_found_by_the_name_its_config_gives_and_its_run_survives_plain_data(cls):
    run = run_of(cls, PLANS["one"])
    assert find_method(method_name(run.method)) is cls
    assert run_from_dict(run_to_dict(run)) == run


@every_method
@every_plan
def test_answers_have_the_promised_shapes_and_are_log_probabilities(cls, plan):
    batch = batch_of(plan, [0, 1, 2])
    prediction = ask(quiet(cls, plan), batch)
    assert prediction.emotion is not None
    assert prediction.emotion.shape == (3, len(CLASSES))
    if prediction.chunk_emotion is not None:
        assert prediction.chunk_emotion.shape == (3, batch.chunks.shape[1], len(CLASSES))
    if prediction.embedding is not None:
        assert prediction.embedding.shape[0] == 3
        assert prediction.embedding.ndim == 2
    for name in ("emotion", "chunk_emotion"):
        if (value := getattr(prediction, name)) is not None:
            torch.testing.assert_close(value.exp().sum(-1), torch.ones(value.shape[:-1]))
    assert all(value.isfinite().all() for value in answers(prediction).values())


@every_method
@every_plan
def test_different_audio_gives_different_answers(cls, plan):
    prediction = ask(quiet(cls, plan), batch_of(plan, [0, 3]))
    assert (prediction.emotion[0] - prediction.emotion[1]).abs().max() > 1e-3


@every_method
@every_plan
def test_an_answer_is_the_same_alone_and_among_longer_and_shorter_batch_mates(cls, plan):
    method = quiet(cls, plan)
    seconds = [1.3, 2.4, 0.41, 0.03, 2.1]
    together = batch_of(plan, [0, 1, 2, 3, 0], seconds)
    prediction = ask(method, together)
    for index, (kind, length) in enumerate(zip([0, 1, 2, 3, 0], seconds, strict=True)):
        alone = collate([sound(index, kind, length)], plan, RATE)
        count = alone.chunks.shape[1]
        assert_same(item(prediction, index, count), item(ask(method, alone), 0, count))


@every_method
@every_plan
def test_padding_moves_nothing_neither_empty_chunks_nor_zeros_nor_what_lies_behind_the_length(cls, plan):
    method = quiet(cls, plan)
    batch = batch_of(plan, [0, 1], [1.3, 0.7])
    count = batch.chunks.shape[1]
    wanted = ask(method, batch)
    more_chunks = dataclasses.replace(
        batch,
        chunks=torch.nn.functional.pad(batch.chunks, (0, 0, 0, 3)),
        lengths=torch.nn.functional.pad(batch.lengths, (0, 3)),
    )
    behind = torch.arange(batch.chunks.shape[-1]) >= batch.lengths[..., None]
    rubbish = dataclasses.replace(batch, chunks=torch.where(behind, torch.full_like(batch.chunks, 0.3), batch.chunks))
    for changed in (more_chunks, rubbish):
        found = ask(method, changed)
        for index in range(2):
            assert_same(item(found, index, count), item(wanted, index, count))


@every_method
def test_evaluation_is_deterministic_and_takes_nothing_from_the_random_generator(cls):
    method, batch = quiet(cls, PLANS["hopped"]), batch_of(PLANS["hopped"], [0, 1])
    before = torch.random.get_rng_state()
    first = answers(ask(method, batch))
    assert torch.equal(torch.random.get_rng_state(), before)
    for name, value in answers(ask(method, batch)).items():
        assert torch.equal(value, first[name]), name


@every_method
def test_one_thread_and_two_threads_agree(cls):
    method, batch = quiet(cls, PLANS["hopped"]), batch_of(PLANS["hopped"], [0, 1, 2, 3], [2.0, 1.0, 0.4, 1.7])
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(answers(ask(method, batch)))
    finally:
        torch.set_num_threads(threads)
    assert_same(*found)


@pytest.mark.parametrize("cls", [cls for cls in METHODS if cls.streams == ("labelled",)], ids=lambda cls: cls.__name__)
def test_two_halves_of_a_batch_have_the_mean_gradient_of_the_whole(cls):
    """So that two workers with half a batch each learn what one does; randomness off. Losses between domains compare whole batches:
    of those methods two real ranks are asked, below.
    """
    method, plan = quiet(cls, PLANS["hopped"]), PLANS["hopped"]
    whole = batch_of(plan, [0, 1, 2, 3])
    whole = dataclasses.replace(whole, weight=torch.tensor([1.0, 0.2, 3.0, 0.5]))
    parts = [
        dataclasses.replace(whole, **{f.name: v[at] for f in dataclasses.fields(whole) if (v := getattr(whole, f.name)) is not None})
        for at in (slice(0, 2), slice(2, 4))
    ]

    def gradients(batches: list[Batch]) -> list[torch.Tensor]:
        method.zero_grad()
        for batch in batches:
            (method.total(method.losses(fed(method, batch))) / len(batches)).backward()
        return [p.grad.clone() for p in method.parameters() if p.requires_grad and p.grad is not None]

    for found, wanted in zip(gradients(parts), gradients([whole]), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


@every_method
def test_every_trainable_parameter_gets_a_gradient_and_moves_and_frozen_ones_do_not(cls):
    method = build(run_of(cls, PLANS["hopped"])).train()
    first, *others = method.parameters()
    first.requires_grad_(not others)  # frozen by the user
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    groups = method.parameter_groups()
    listed = {id(p) for group in groups for p in group["params"]}
    assert listed == {id(p) for p in method.parameters() if p.requires_grad}
    optimiser = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=0.1)
    torch.manual_seed(0)
    for _ in range(2):  # a second step reaches what a zero start hides
        train_step(method, read(cls, batch_of(PLANS["hopped"], [0, 1, 2, 3])), optimiser)
    for name, p in method.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, f"{name} got no gradient"
            assert p.grad.isfinite().all(), name
            assert not torch.equal(p, before[name]), f"{name} did not move"
        else:
            assert p.grad is None, name
            assert torch.equal(p, before[name]), f"{name} is frozen but moved"


@every_method
def test_loss_terms_are_scalars_with_a_weight_of_their_name(cls):
    method, batch = build(run_of(cls, PLANS["hopped"])).train(), batch_of(PLANS["hopped"], [0, 1])
    terms = method.losses(fed(method, batch))
    assert terms
    assert all(term.shape == () and term.isfinite() for term in terms.values())
    assert method.total(terms).isfinite()


@every_method
def test_encoders_in_bfloat16_leave_loss_terms_near_and_gradients_finite_and_float32(cls):
    """Where a method says that it has encoders; others compute the same whatever is asked."""
    found = {}
    for precision in ("float32", "bfloat16"):
        method, batch = build(run_of(cls, PLANS["hopped"])).train(), read(cls, batch_of(PLANS["hopped"], [0, 1, 2, 3]))
        torch.manual_seed(0)
        terms = step.LossModule(method, precision)(fed(method, batch))
        method.total(terms).backward()
        found[precision] = terms, [p.grad for p in method.parameters() if p.grad is not None]
    (terms, gradients), (rough, rough_gradients) = found["float32"], found["bfloat16"]
    assert all(term.dtype == torch.float32 for term in rough.values())
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in rough_gradients)
    for name, term in terms.items():
        torch.testing.assert_close(rough[name], term, atol=0.02, rtol=0.05, msg=lambda text, name=name: f"{name}: {text}")
    same = all(torch.equal(one, other) for one, other in zip(rough_gradients, gradients, strict=True))
    assert same != has_encoders(build(run_of(cls, PLANS["hopped"])))


@every_learning_method
def test_eight_utterances_are_learned_by_heart(cls):
    torch.manual_seed(0)
    plan = PLANS["counted"]
    method, kinds = build(run_of(cls, plan)), [0, 1, 2, 3, 0, 1, 2, 3]
    batch = batch_of(plan, kinds)
    optimiser = torch.optim.AdamW(method.parameter_groups(), lr=2e-3)
    right = torch.tensor(kinds)
    for count in range(1, 301):
        method.train()
        train_step(method, batch, optimiser)
        method.after_step(count / 300)
        if count % 10 == 0:
            answer = ask(method.eval(), batch).emotion
            if (answer.argmax(-1) == right).all() and answer.exp().gather(1, right[:, None]).min() > 0.6:
                return
    pytest.fail(f"after 300 steps: {answer.exp().gather(1, right[:, None]).flatten().tolist()}")


@every_method
def test_a_bundle_answers_as_the_method_that_was_saved(cls, tmp_path: Path):
    run = run_of(cls, PLANS["hopped"])
    method = build(run).train()
    optimiser = torch.optim.SGD(method.parameter_groups(), lr=0.1)
    train_step(method, batch_of(run.chunks, [0, 1, 2, 3]), optimiser)  # weights that the seed alone does not give
    method.after_step(0.7)
    waves = [sound(0, 0), sound(1, 3, 0.6)]
    folder = bundle.save(tmp_path / "bundle", method, run)
    loaded = bundle.load(folder)
    assert loaded.run == run
    assert_same(
        answers(ask(loaded.method, collate(waves, run.chunks, RATE))), answers(ask(method.eval(), collate(waves, run.chunks, RATE)))
    )
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in loaded.method.state_dict().items())


@dataclasses.dataclass(frozen=True)
class Toy:
    """Buzzes as training data of `step.Trainer`."""

    plan: ChunkPlan
    num: int = 16
    seed: int = 0
    labelled: bool = True

    def __len__(self) -> int:
        return self.num

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [str(i) for i in indices]

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
        for indices in plan:
            rows = [Utterance(id=str(i), path="-", corpus="toy", emotion=CLASSES[i % 4]) for i in indices]
            labels = Labels(classes=CLASSES) if self.labelled else None
            yield collate([sound(self.seed + int(i), int(i) % 4, 0.8) for i in indices], self.plan, RATE, labels, rows)


def trainer_of(cls: type[Method], train: Train, world: int = 1, rank: int = 0, **front) -> step.Trainer:
    """A trainer on toys; what hears a target hears others of them, without labels."""
    run, hears = run_of(cls, PLANS["one"]), "target" in cls.streams
    if front and hears:
        run = dataclasses.replace(run, method=dataclasses.replace(run.method, front=dataclasses.replace(run.method.front, **front)))
    sides = [Toy(PLANS["one"])] if cls.streams[0] != "target" else []
    sides += [Toy(PLANS["one"], num=12, seed=100, labelled=False)] if hears else []
    return step.Trainer(build(run), train, sides[0], None, world, rank, *sides[1:])


@every_method
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(cls):
    """A method that keeps something outside its weights and buffers fails here."""
    train = Train(epochs=2, batch_size=8)
    whole = trainer_of(cls, train)
    whole.fit_once()
    whole.epoch(0)
    state = copy.deepcopy(whole.state())
    whole.epoch(1)
    resumed = trainer_of(cls, train)
    resumed.load_state(state)
    resumed.epoch(1)
    assert step.weights_digest(resumed.method) == step.weights_digest(whole.method)
