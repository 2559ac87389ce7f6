from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from moodcast.batch import Batch, Prediction
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method, Spec, View
from moodcast.order import balance_weights, epoch_batches, num_steps, stream_batches
from moodcast.passes import TrainingView, predict_emotion
from moodcast.run import Train
from moodcast.step import Diverged, LossModule, Trainer, lr_factor, seed_everything, train_step, weights_digest
from tests.ranks import on_ranks

SPEC = Spec(("a", "b", "c"), (), 100, ChunkPlan(length_s=0.05, hop_s=0.05))


class Points:
    """N stretches of one chunk of five samples; the class follows from them."""

    def __init__(self, num: int = 37) -> None:
        rng = np.random.default_rng(3)
        self.values = rng.standard_normal((num, 5)).astype(np.float32)
        self.target = np.eye(3, dtype=np.float32)[self.values[:, :3].argmax(1)]

    def __len__(self) -> int:
        return len(self.values)

    def names(self, indices: Any) -> list[str]:
        return [f"u{i}" for i in indices]

    def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
        for indices in plan:
            size = len(indices)
            chunks = torch.from_numpy(self.values[indices])[:, None]
            target = torch.from_numpy(self.target[indices])
            yield Batch(chunks, torch.full((size, 1), 5), torch.full((size,), 0.05), target, torch.ones(size))


class Net(Method):
    """Two linear layers with dropout, a running mean, and hooks that can be switched on."""

    @dataclass(frozen=True)
    class Config(Method.Config):
        dropout: float = 0.0
        thaw_at: int = 0
        bad_at: int = -1
        only_first: int = 0

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.first = nn.Linear(5, 6)
        self.last = nn.Sequential(nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(6, 3))
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("count", torch.zeros(()))
        self.first.requires_grad_(config.thaw_at == 0)

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(emotion=self.last(self.first(batch.chunks[:, 0])).log_softmax(-1))

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        batch = batches["labelled"]
        self.drawn_in_step = torch.rand(())
        if self.training:
            self.mean += batch.chunks.mean((0, 1))
        bad = float("inf") if int(self.count) == self.config.bad_at else 1.0
        return {"classes": -(batch.target * self(batch).emotion).sum(-1).mean() * bad}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.first.parameters()), "lr_scale": 0.1}, {"params": list(self.last.parameters())}]

    def start_epoch(self, epoch: int, view: View) -> None:
        self.drawn_by_hook = torch.rand(())
        if epoch == self.config.thaw_at:
            self.first.requires_grad_(True)
        if self.config.only_first:
            weights = torch.zeros(len(view.features(lambda batch: batch.chunks[:, 0, 0])))
            weights[: self.config.only_first] = 1.0
            view.set_weights(weights)

    def after_step(self, progress: float) -> None:
        self.count += 1


def net(**config: Any) -> Net:
    torch.manual_seed(0)
    return Net(Net.Config(**config), SPEC)


# ------------------------------------------------------------------------------------------------- order


@given(st.integers(1, 60), st.integers(1, 6), st.sampled_from([1, 2, 3]), st.integers(0, 5), st.booleans())
def test_any_number_of_ranks_sees_the_same_global_batches(shares: int, each: int, world: int, epoch: int, weighted: bool) -> None:
    num, batch_size = shares * world, each * world
    weights = np.arange(1, num + 1, dtype=float) if weighted else None
    whole = epoch_batches(num, batch_size, 7, epoch, weights=weights)
    parts = [epoch_batches(num, batch_size, 7, epoch, world, rank, weights) for rank in range(world)]
    assert len(whole) == num_steps(num, batch_size)
    for g, batch in enumerate(whole):
        shards = [part[g] for part in parts]
        assert len({len(shard) for shard in shards}) == 1
        assert np.stack(shards, axis=1).ravel().tolist() == batch.tolist()
        assert np.stack([part.draws[g] for part in parts], axis=1).ravel().tolist() == whole.draws[g].tolist()
    seen: Counter[int] = Counter()
    for batch, draws in zip(whole, whole.draws, strict=True):
        for i, before in zip(batch.tolist(), draws.tolist(), strict=True):
            assert before == seen[i]
            seen[i] += 1


@given(st.integers(1, 80), st.integers(1, 20))
def test_an_epoch_shows_each_stretch_at_most_once_and_drops_less_than_a_batch(num: int, batch_size: int) -> None:
    seen = np.concatenate(epoch_batches(num, batch_size, 0, 0))
    assert len(set(seen.tolist())) == len(seen)
    assert len(seen) == (num if num < batch_size else num - num % batch_size)


def test_the_order_is_the_same_when_asked_again_and_another_in_the_next_epoch() -> None:
    first, again, other = (np.concatenate(epoch_batches(100, 10, 4, epoch)).tolist() for epoch in (2, 2, 3))
    assert first == again
    assert first != other


def test_a_single_small_batch_shrinks_to_what_the_workers_can_share() -> None:
    assert [[len(batch) for batch in epoch_batches(7, 32, 0, 0, world=2, rank=rank)] for rank in range(2)] == [[3], [3]]


@pytest.mark.parametrize(("num", "batch_size", "world", "wanted"), [(100, 9, 2, "multiple of 2"), (1, 8, 2, "too few for 2 workers")])
def test_what_cannot_be_shared_equally_is_refused(num: int, batch_size: int, world: int, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        epoch_batches(num, batch_size, 0, 0, world)


def rows(*pairs: tuple[str, str]) -> list[Utterance]:
    return [Utterance(id=str(i), path="", corpus=corpus, emotion=emotion) for i, (corpus, emotion) in enumerate(pairs)]


def test_balanced_classes_are_drawn_equally_often() -> None:
    labels = Labels(("angry", "sad"))
    table = rows(*[("x", "angry")] * 90, *[("x", "sad")] * 10)
    assert balance_weights(table, labels, "none") is None
    weights = balance_weights(table, labels, "class")
    drawn = np.concatenate([np.concatenate(epoch_batches(100, 10, 0, epoch, weights=weights)) for epoch in range(60)])
    assert abs((drawn >= 90).mean() - 0.5) < 0.03


def test_corpora_are_balanced_too_where_asked() -> None:
    table = rows(*[("big", "angry")] * 60, *[("big", "sad")] * 20, *[("small", "angry")] * 5, *[("small", "sad")] * 15)
    weights = balance_weights(table, Labels(("angry", "sad")), "corpus_class")
    assert weights is not None
    groups = [weights[:60].sum(), weights[60:80].sum(), weights[80:85].sum(), weights[85:].sum()]
    assert np.allclose(groups, 1.0)


def test_corpora_alone_are_balanced_too() -> None:
    table = rows(*[("big", "angry")] * 60, *[("small", "angry")] * 5, *[("small", "sad")] * 15)
    weights = balance_weights(table, Labels(("angry", "sad")), "corpus")
    assert weights is not None
    assert np.allclose([weights[:60].sum(), weights[60:].sum()], 1.0)
    assert np.allclose(weights[60:], weights[60])  # whatever the class


def test_votes_decide_the_class_that_is_balanced() -> None:
    row = Utterance(id="1", path="", emotion="sad", votes={"angry": 3.0, "sad": 1.0})
    other = Utterance(id="2", path="", emotion="sad")
    weights = balance_weights([row, other], Labels(("angry", "sad"), source="votes"), "class")
    assert weights is not None
    assert weights.tolist() == [1.0, 1.0]


# --------------------------------------------------------------------------------------------- one step


def test_the_learning_rate_rises_in_a_line_and_falls_as_half_a_cosine() -> None:
    factors = [lr_factor(step, 100, 0.1) for step in range(100)]
    assert np.allclose(factors[:10], np.arange(1, 11) / 10)
    assert np.allclose(factors[10:], [(1 + np.cos(np.pi * k / 90)) / 2 for k in range(90)])
    assert lr_factor(0, 100, 0.0) == 1.0


def test_a_group_has_its_own_share_of_the_learning_rate() -> None:
    trainer = Trainer(net(), Train(epochs=1, batch_size=37, lr=1e-2, warmup_share=0.0), Points())
    trainer.epoch(0)
    assert trainer.optimizer is not None
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])


def test_one_step_is_adamw_on_the_clipped_gradient_of_the_weighted_sum() -> None:
    ours, theirs, batch = net(), net(), next(iter(Points().batches([np.arange(8)])))
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-2, weight_decay=0.1)
    train_step(LossModule(ours), ours, optimizer, {"labelled": batch}, clip_norm=0.01)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1)
    theirs.losses({"labelled": batch})["classes"].backward()
    nn.utils.clip_grad_norm_(theirs.parameters(), 0.01)
    optimizer.step()
    assert weights_digest(ours) == weights_digest(theirs)


@pytest.mark.parametrize("accumulate", [2, 4, 5, 100])
def test_a_step_in_parts_is_the_step_of_the_whole(accumulate: int) -> None:
    parts, whole = net(), net()
    (batch,) = Points().batches([np.arange(8)])
    for method, count in ((parts, accumulate), (whole, 1)):
        optimizer = torch.optim.SGD(method.parameters(), lr=0.5)
        told = train_step(LossModule(method), method, optimizer, {"labelled": batch}, 5.0, count)
        assert told["loss"] == told["classes"]
        method.told = told["loss"]
    assert float(parts.told) == pytest.approx(float(whole.told), abs=1e-6)
    for name, value in parts.named_parameters():
        assert torch.allclose(value, dict(whole.named_parameters())[name], atol=1e-6), name
    assert not torch.equal(parts.first.weight, net().first.weight)


def test_a_part_that_is_no_number_stops_the_step() -> None:
    class Once(Net):
        def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
            terms = super().losses(batches)
            return {"classes": terms["classes"] * (math.nan if batches["labelled"].chunks[0, 0, 0] == Points().values[0, 0] else 1.0)}

    method = Once(Net.Config(), SPEC)
    before = weights_digest(method.first)
    (batch,) = Points().batches([np.arange(8)])
    with pytest.raises(Diverged, match="the loss is nan"):
        train_step(LossModule(method), method, torch.optim.SGD(method.parameters(), lr=0.5), {"labelled": batch}, 5.0, 4)
    assert weights_digest(method.first) == before


def test_a_loss_that_is_no_number_stops_before_anything_moves_and_names_the_place() -> None:
    data, method = Points(), net(bad_at=3)
    trainer = Trainer(method, Train(epochs=5, batch_size=16), data)
    trainer.epoch(0)
    with pytest.raises(Diverged, match=r"epoch 1, step 1: the loss is (inf|nan).*utterances u\d+, u\d+") as stopped:
        trainer.epoch(1)
    named = str(stopped.value).partition("utterances ")[2].partition(";")[0].split(", ")
    assert named == data.names(epoch_batches(37, 16, 0, 1)[1])
    assert int(method.count) == 3
    assert all(torch.isfinite(p).all() for p in method.parameters())


def test_a_gradient_that_is_no_number_stops_before_anything_moves() -> None:
    class Steep(Net):
        def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
            return {"classes": (self.first.weight.sum() * 0.0).sqrt()}  # zero, with an infinite slope

    method = Steep(Net.Config(), SPEC)
    trainer, before = Trainer(method, Train(epochs=1, batch_size=8), Points()), weights_digest(method)
    with pytest.raises(Diverged, match=r"epoch 0, step 0: the norm of the gradient is (inf|nan); utterances u"):
        trainer.epoch(0)
    assert weights_digest(method) == before


class Pulled(Net):
    """Learns the source, and is pulled by what it hears of the target."""

    streams = ("source", "target")

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        assert batches["target"].target is None
        pull = self.first(batches["target"].chunks[:, 0]).square().mean()
        return {"classes": super().losses({"labelled": batches["source"]})["classes"] + pull}


class Unlabelled(Points):
    """The same without what is known of them, and a list of who was asked for."""

    def __init__(self, num: int) -> None:
        super().__init__(num)
        self.asked: list[list[int]] = []

    def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
        for indices, batch in zip(plan, super().batches(plan, epoch), strict=True):
            self.asked.append(indices.tolist())
            yield replace(batch, target=None, weight=None)


def pulled(train: Train, target: int = 11, state: Mapping[str, Any] | None = None) -> tuple[Trainer, Unlabelled]:
    torch.manual_seed(0)
    other = Unlabelled(target)
    trainer = Trainer(Pulled(Net.Config(dropout=0.3), SPEC), train, Points(), target=other)
    if state is not None:
        trainer.load_state(state)
    return trainer, other


def test_a_method_of_two_streams_wants_the_stretches_of_both_and_others_those_of_one() -> None:
    with pytest.raises(ValueError, match=r"streams \('source', 'target'\); stretches of one came"):
        Trainer(Pulled(Net.Config(), SPEC), Train(), Points())
    with pytest.raises(ValueError, match="stretches of two came"):
        Trainer(net(), Train(), Points(), target=Points())


@pytest.mark.parametrize("size", [3, 11, 90])
def test_a_target_of_any_length_is_gone_through_evenly_and_a_resumed_run_hears_the_same(size: int) -> None:
    train = Train(epochs=3, batch_size=8)
    whole, other = pulled(train, size)
    whole.epoch(0)
    state = copy.deepcopy(whole.state())
    whole.epoch(1)
    whole.epoch(2)
    counts = Counter(i for asked in other.asked for i in asked)
    assert len(other.asked) == 3 * num_steps(37, 8)
    assert max(counts.values()) - min(counts[i] for i in range(size)) <= 1
    resumed, again = pulled(train, size, state)
    resumed.epoch(1)
    resumed.epoch(2)
    assert again.asked == other.asked[4:]
    assert weights_digest(resumed.method) == weights_digest(whole.method)


@given(st.integers(1, 50), st.integers(1, 5), st.sampled_from([1, 2, 3]), st.integers(0, 4), st.integers(1, 6))
def test_any_number_of_ranks_sees_the_same_batches_of_a_target(shares: int, each: int, world: int, epoch: int, steps: int) -> None:
    num, size = shares * world, each * world
    whole = stream_batches(num, size, 7, epoch, steps)
    parts = [stream_batches(num, size, 7, epoch, steps, world, rank) for rank in range(world)]
    assert len(whole) == steps
    for g, batch in enumerate(whole):
        assert len(batch) == min(size, num)
        assert np.stack([part[g] for part in parts], axis=1).ravel().tolist() == batch.tolist()
        assert np.stack([part.draws[g] for part in parts], axis=1).ravel().tolist() == whole.draws[g].tolist()


def test_the_order_of_a_target_is_not_that_of_the_source() -> None:
    first, second = epoch_batches(40, 40, 0, 0)[0].tolist(), stream_batches(40, 40, 0, 0, 1)[0].tolist()
    assert sorted(first) == sorted(second)
    assert first != second


def test_hooks_see_each_stream_by_its_name() -> None:
    trainer, _ = pulled(Train(epochs=1, batch_size=8), 11)
    view = trainer.view()
    first = lambda batch: batch.chunks[:, 0]  # noqa: E731
    assert len(view.features(first)) == len(view.features(first, "source")) == 37
    assert torch.equal(view.features(first, "target"), torch.from_numpy(Points(11).values))
    with pytest.raises(ValueError, match="has no stream 'labelled'"):
        view.features(first, "labelled")


# ------------------------------------------------------------------------------------- epochs and resuming


def test_training_learns() -> None:
    method, data = net(), Points(200)
    trainer = Trainer(method, Train(epochs=30, batch_size=20, lr=3e-2), data)
    losses = [trainer.epoch(epoch)["loss"] for epoch in range(30)]
    assert losses[-1] < 0.3 * losses[0]
    emotion = predict_emotion(method, data, np.arange(200), np.ones(200), 50)
    assert (emotion.argmax(1) == data.target.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("thaw_at", [0, 1, 3])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(thaw_at: int, tmp_path: Path) -> None:
    settings, data = Train(epochs=5, batch_size=8), Points()
    undisturbed = Trainer(net(dropout=0.4, thaw_at=thaw_at), settings, data)
    for epoch in range(5):
        undisturbed.epoch(epoch)
    broken = Trainer(net(dropout=0.4, thaw_at=thaw_at), settings, data)
    for epoch in range(2):
        broken.epoch(epoch)
    torch.save(broken.state(), tmp_path / "state.pt")
    torch.rand(17)  # whatever else happens in between
    torch.manual_seed(99)
    resumed = Trainer(Net(Net.Config(dropout=0.4, thaw_at=thaw_at), SPEC), settings, data)
    resumed.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for epoch in range(2, 5):
        resumed.epoch(epoch)
    assert weights_digest(resumed.method) == weights_digest(undisturbed.method)
    assert int(resumed.method.count) == 20


def test_what_thaws_in_a_later_epoch_trains_from_then_on() -> None:
    method = net(thaw_at=2)
    trainer, before = Trainer(method, Train(epochs=3, batch_size=8), Points()), method.first.weight.clone()
    trainer.epoch(0)
    trainer.epoch(1)
    assert torch.equal(method.first.weight, before)
    assert trainer.optimizer is not None
    held = trainer.optimizer.state[method.last[2].weight]["step"].clone()
    trainer.epoch(2)
    assert not torch.equal(method.first.weight, before)
    assert trainer.optimizer.state[method.last[2].weight]["step"] == held + 4  # the optimiser's memory was kept


def test_a_hook_decides_what_an_epoch_draws() -> None:
    class Spy(Points):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[int] = []

        def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
            self.seen += [int(i) for indices in plan for i in indices]
            return super().batches(plan, epoch)

    data = Spy()
    trainer = Trainer(net(only_first=5), Train(epochs=1, batch_size=8), data)
    data.seen.clear()
    trainer.epoch(0)
    assert data.seen[:37] == list(range(37))  # the hook's own look, in manifest order
    assert set(data.seen[37:]) <= set(range(5))


def test_an_epoch_trains_in_training_mode_whatever_came_before() -> None:
    method = net()
    trainer = Trainer(method, Train(epochs=1, batch_size=8), Points())
    method.eval()
    trainer.epoch(0)
    assert method.mean.abs().sum() > 0  # which only training mode changes


@pytest.mark.parametrize("bad", [[1.0] * 36, [-1.0] + [1.0] * 36, [0.0] * 37, [float("nan")] * 37])
def test_sampling_weights_that_cannot_be_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="37 finite numbers"):
        TrainingView(net(), Points(), 8).set_weights(torch.tensor(bad))


def test_closed_form_parts_are_fitted_once_and_a_method_without_weights_takes_no_steps() -> None:
    class Centre(Net):
        def fit_once(self, view: View) -> None:
            self.mean.copy_(view.features(lambda batch: batch.chunks[:, 0]).mean(0))

    method = Centre(Net.Config(thaw_at=99), SPEC).requires_grad_(False)
    trainer = Trainer(method, Train(epochs=1, batch_size=8), Points())
    trainer.fit_once()
    assert torch.allclose(method.mean, torch.from_numpy(Points().values).mean(0), atol=1e-6)
    assert trainer.epoch(0) == {}


def test_pieces_of_one_row_are_merged_by_duration() -> None:
    method, data = net(), Points(3)
    alone = predict_emotion(method, data, np.arange(3), np.ones(3), 8)
    merged = predict_emotion(method, data, np.array([0, 0, 1]), np.array([3.0, 1.0, 2.0]), 8)
    assert np.allclose(merged[0], 0.75 * alone[0] + 0.25 * alone[1])
    assert np.allclose(merged[1], alone[2])


def test_looking_at_features_leaves_the_mode_of_training_alone() -> None:
    method = net(dropout=0.9)
    method.train()
    view = TrainingView(method, Points(), 8)
    fn = lambda batch: method(batch).emotion  # noqa: E731
    assert torch.equal(view.features(fn), view.features(fn))
    assert method.training


# ----------------------------------------------------------------------------------------------- two ranks


class Centred(Net):
    """A closed form that comes out otherwise on every rank, as solvers do on different machines."""

    def fit_once(self, view: View) -> None:
        self.mean += 1.0 + dist.get_rank()
        self.last[2].bias.data += dist.get_rank()


def on_rank(rank: int, world: int, _: Path) -> dict[str, Any]:
    """What each of the processes below does."""
    data, method = Points(), net(dropout=0.5 if world == 2 else 0.0)
    view = TrainingView(method, data, 8, world, rank)
    view.set_weights(torch.arange(1.0, 38.0) + rank)  # differs by rank: the first one's count
    plain = Trainer(net(), Train(epochs=2, batch_size=8), data, None, world, rank)
    losses = plain.epoch(0)
    parts = Trainer(net(), Train(epochs=2, batch_size=8, accumulate=2), data, None, world, rank)
    parts.epoch(0)
    dropping = Trainer(method, Train(epochs=2, batch_size=8), data, None, world, rank)
    dropping.epoch(0)
    dropping.epoch(1)
    centred = Trainer(Centred(Net.Config(), SPEC).requires_grad_(False), Train(epochs=1, batch_size=8), data, None, world, rank)
    centred.fit_once()
    return {
        "fitted": centred.method.state_dict(),
        "features": view.features(lambda batch: batch.chunks[:, 0]),
        "weights": torch.from_numpy(view.weights),
        "drawn": torch.stack([method.drawn_by_hook, method.drawn_in_step]),
        "digest": weights_digest(dropping.method),
        "plain": plain.method.state_dict(),
        "parts": parts.method.state_dict(),
        "loss": losses["loss"],
    }


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(on_rank, tmp_path_factory.mktemp("ranks"))


def test_a_view_gathers_every_stretch_in_order_on_every_rank(two_ranks: list[dict[str, Any]]) -> None:
    for found in two_ranks:
        assert np.array_equal(found["features"].numpy(), Points().values)


def test_sampling_weights_are_the_same_on_every_rank(two_ranks: list[dict[str, Any]]) -> None:
    wanted = torch.arange(1.0, 38.0, dtype=torch.float64)
    for found in two_ranks:
        assert torch.allclose(found["weights"], wanted / wanted.sum())


def test_two_ranks_stay_bit_equal_with_dropout_and_running_statistics(two_ranks: list[dict[str, Any]]) -> None:
    assert two_ranks[0]["digest"] == two_ranks[1]["digest"]


def test_two_ranks_learn_what_one_does(two_ranks: list[dict[str, Any]]) -> None:
    alone = Trainer(net(), Train(epochs=2, batch_size=8), Points())
    loss = alone.epoch(0)["loss"]
    assert two_ranks[0]["loss"] == pytest.approx(loss, abs=1e-6)
    for name, value in alone.method.named_parameters():
        assert torch.allclose(two_ranks[1]["plain"][name], value, atol=1e-6)
        assert torch.allclose(two_ranks[0]["parts"][name], value, atol=1e-6)
        assert torch.equal(two_ranks[0]["parts"][name], two_ranks[1]["parts"][name])


def test_what_is_fitted_once_is_that_of_the_first_rank_everywhere(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["fitted"] for found in two_ranks)
    assert (first["mean"] == 1.0).all()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ranks_draw_the_same_random_numbers_in_hooks_and_their_own_in_steps(two_ranks: list[dict[str, Any]]) -> None:
    first, second = (found["drawn"].tolist() for found in two_ranks)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_random_numbers_follow_from_seed_epoch_and_rank() -> None:
    drawn = []
    for place in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 1, 0)):
        seed_everything(*place)
        drawn.append(float(torch.rand(())))
    assert len(set(drawn)) == 3
    assert drawn[0] == drawn[3]
