"""moodcast.step with a target: beside the source, gone through evenly and seen by its name, or alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from moodcast.batch import Batch
from moodcast.order import num_steps
from moodcast.run import Train
from moodcast.step import Trainer, weights_digest
from tests.points import SPEC, Net, Points, net


class Pulled(Net):
    """Learns the source, and is pulled by what it hears of the target."""

    streams = ("source", "target")

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        assert batches["target"].target is None
        pull = self.first(batches["target"].chunks[:, 0]).square().mean()
        return {"classes": super().losses({"labelled": batches["source"]})["classes"] + pull}


class Unlabelled(Points):
    """Points without what is known of them."""

    def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
        return (replace(batch, target=None, weight=None) for batch in super().batches(plan, epoch))


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


def test_streams_that_no_trainer_feeds_are_refused() -> None:
    class Odd(Net):
        streams = ("source", "labelled")

    with pytest.raises(ValueError, match=r"Odd wants the streams \('source', 'labelled'\); a trainer feeds one of"):
        Trainer(Odd(Net.Config(), SPEC), Train(), Points(), target=Points())


def test_a_method_may_hear_a_target_alone() -> None:
    class Alone(Net):
        streams = ("target",)

        def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
            assert batches["target"].target is None
            return {"classes": self.first(batches["target"].chunks[:, 0]).square().mean()}

    data = Unlabelled(11)
    trainer = Trainer(Alone(Net.Config(), SPEC), Train(epochs=1, batch_size=4, lr=1e-2), data)
    before = trainer.method.first.weight.square().sum()
    trainer.epoch(0)
    assert [len(asked) for asked in data.asked] == [4, 4]
    assert trainer.method.first.weight.square().sum() < before
    assert len(trainer.view().features(lambda batch: batch.seconds, "target")) == 11


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


def test_hooks_see_each_stream_by_its_name() -> None:
    trainer, _ = pulled(Train(epochs=1, batch_size=8), 11)
    view = trainer.view()
    first = lambda batch: batch.chunks[:, 0]  # noqa: E731
    assert len(view.features(first)) == len(view.features(first, "source")) == 37
    assert torch.equal(view.features(first, "target"), torch.from_numpy(Points(11).values))
    with pytest.raises(ValueError, match="has no stream 'labelled'"):
        view.features(first, "labelled")
