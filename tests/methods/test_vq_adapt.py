"""VQ-adapt beyond the contract: codes start after the warm-up, both domains use them, variants train, a shared book is told from two."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from moodcast import step
from moodcast.adapting import Front
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.methods.vq_adapt import VqAdapt, averaged, evenly
from moodcast.objectives import codes
from moodcast.run import Run, Train, build
from tests.methods.test_contract import CLASSES, Toy

PLAN = ChunkPlan(length_s=1.0, hop_s=1.0)
SMALL = Front(width=16, channels=4, layers=1)


def trained(epochs: int = 4, **settings: Any) -> tuple[VqAdapt, list[dict[str, float]]]:
    """The method after a few epochs on toys, another seed of them as the target, and its terms by epoch."""
    config = dataclasses.replace(VqAdapt.Config(front=SMALL, num_codes=16, code_width=8), **settings)
    torch.manual_seed(0)
    method = build(Run(config, Labels(CLASSES), chunks=PLAN))
    assert isinstance(method, VqAdapt)
    trainer = step.Trainer(method, Train(epochs=epochs, batch_size=8, lr=3e-3), Toy(PLAN), target=Toy(PLAN, 16, 100, labelled=False))
    trainer.fit_once()
    return method, [trainer.epoch(epoch) for epoch in range(epochs)]


def test_codes_start_after_the_warm_up_and_live_in_both_domains() -> None:
    method, terms = trained(warm=0.5)
    assert [epoch["commit"] > 0 for epoch in terms] == [False, False, True, True]
    assert method.trunk.book.started
    assert method.teacher.own.book.started
    assert min(terms[-1]["perplexity_source"], terms[-1]["perplexity_target"]) > 4
    assert 0 <= terms[-1]["domain_bits"] < 0.7
    torch.testing.assert_close(method.trunk.book.codes.norm(dim=-1), torch.ones(16))


def test_two_books_are_told_from_one() -> None:
    _, shared = trained(decay=0.5)
    method, apart = trained(decay=0.5, together=False)
    assert apart[-1]["domain_bits"] > shared[-1]["domain_bits"] + 0.1
    assert method.trunk.book.usage[0, 1::2].sum() < 0.95 * 0.5  # the source leaves the target's half


@pytest.mark.parametrize("variant", ["distill", "none"])
def test_variants_train_without_a_gradient_for_codes(variant: str) -> None:
    method, terms = trained(epochs=2, information=variant)
    assert not method.trunk.book.codes.requires_grad
    assert method.trunk.book.started
    assert (terms[-1]["information"] == 0) == (variant == "none")
    assert method.trunk.book.posteriors.std() == 0  # nobody asked what codes tell


def test_the_information_loss_is_finite_and_codes_tell_classes() -> None:
    method, terms = trained()
    assert 0 < terms[-1]["lost_nats"] < 2
    assert method.trunk.book.posteriors.std() > 0.005
    torch.testing.assert_close(method.trunk.book.posteriors.sum(-1), torch.ones(16))


def test_statistics_that_are_taken_again_reach_what_is_served() -> None:
    method, _ = trained(epochs=1)
    stranger = Toy(PLAN, 16, 500, labelled=False)
    trainer = step.Trainer(method, Train(epochs=1, batch_size=8), Toy(PLAN), target=stranger)
    before = method.teacher.own.centre.clone()
    assert method.take_statistics(trainer.view())
    assert not torch.equal(method.teacher.own.centre[1], before[1])
    assert torch.equal(method.teacher.own.centre, method.trunk.centre)


def test_statistics_of_utterances_are_refused() -> None:
    with pytest.raises(ValueError, match="vq_adapt quantises frames"):
        build(Run(VqAdapt.Config(front=Front(kind="functionals")), Labels(CLASSES), chunks=PLAN))


def test_frames_are_averaged_and_remembered_by_stretch() -> None:
    owner = torch.tensor([0, 0, 0, 1, 2, 2])
    values = torch.arange(6.0)[:, None]
    assert averaged(values, owner, 3)[:, 0].tolist() == [1.0, 3.0, 4.5]
    assert evenly(values, owner, 3)[..., 0].tolist() == [[0, 0, 0, 1, 1, 2, 2, 2], [3] * 8, [4] * 4 + [5] * 4]


def both(method: VqAdapt) -> dict[str, Any]:
    """A batch of eight stretches a stream, and a method that is in the middle of its training."""
    method.train().progress.fill_(1.0)
    sides = {"source": Toy(PLAN), "target": Toy(PLAN, 16, 100, labelled=False)}
    return {name: next(iter(side.batches([np.arange(8)]))) for name, side in sides.items()}


def test_overall_histograms_hear_every_stretch_of_the_target_however_unsure_the_teacher_is() -> None:
    method, _ = trained(epochs=1, warm=0.0, threshold=1.0, share=0.0, memory=0.0)
    assert method.trunk.book.started
    terms = method.losses(both(method))
    assert method.overall.sum().item() == pytest.approx(8)
    assert method.histograms[1].sum() < 7
    source, target = method.histograms[0], method.overall
    ratio = (method.priors[1] / method.priors[0]).clamp(0.5, 2.0)
    wanted = codes.divergence((ratio[:, None] * source).sum(0), target) * method.ramp()
    torch.testing.assert_close(terms["overall"].detach(), wanted)


def test_weights_of_before_the_overall_histogram_was_kept_still_load_and_a_resumed_run_is_the_same() -> None:
    method, _ = trained(epochs=1, warm=0.0)
    old = {name: value for name, value in method.state_dict().items() if name != "overall"}
    opened = build(Run(method.config, Labels(CLASSES), chunks=PLAN))
    opened.load_state_dict(old)
    assert torch.equal(opened.overall, method.histograms[1].sum(0))
    opened.load_state_dict(method.state_dict())
    assert torch.equal(opened.overall, method.overall)
    assert not torch.equal(method.overall, method.histograms[1].sum(0))


def test_codes_follow_the_frames_of_all_parts_of_a_step() -> None:
    method, _ = trained(epochs=1, warm=0.0)
    batches = both(method)
    cut = {stream: batch.parts(2) for stream, batch in batches.items()}
    whole = copy.deepcopy(method)
    whole.losses(batches)
    for number in range(2):
        method.losses({stream: parts[number] for stream, parts in cut.items()})
    assert method._sums is not None
    assert whole._sums is not None
    assert method._sums[1].sum() == whole._sums[1].sum()
    method.after_step(1.0)
    assert method._sums is None


def test_each_half_of_two_books_holds_frames_of_its_own_domain() -> None:
    method, _ = trained(epochs=1, warm=0.0, together=False)
    book = method.trunk.book
    assert not book.together
    assert not method.teacher.own.book.together
    frames = method.trunk.frames(both(method)["target"], 1)
    assert (frames.code % 2 == 1).all()
    assert (method.trunk.weights(frames.vectors, 1)[:, ::2] == 0).all()
