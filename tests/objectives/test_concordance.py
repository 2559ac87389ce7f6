"""One minus CCC: as torchmetrics counts it, weighted, over what is known."""

from __future__ import annotations

import math

import pytest
import torch
from torchmetrics.functional import concordance_corrcoef

from moodcast.objectives.concordance import one_minus_ccc

TRUTH, ANSWER = torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([[1.5], [2.0], [2.5], [4.0]])


def example() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    truth = torch.rand(40, 2)
    return (0.6 * truth + 0.2 * torch.rand(40, 2)).requires_grad_(), truth


def test_the_vector_that_is_known_has_its_value():
    assert one_minus_ccc(ANSWER, TRUTH, torch.ones(4)) == pytest.approx(1 - 0.9411764706)
    assert one_minus_ccc(TRUTH, TRUTH, torch.ones(4)) == pytest.approx(0.0, abs=1e-6)


def test_it_is_the_mean_over_attributes_of_what_torchmetrics_counts():
    answer, truth = example()
    wanted = 1.0 - concordance_corrcoef(answer.double(), truth.double()).mean()  # its variances are those of a sample
    assert one_minus_ccc(answer, truth, torch.ones(40)).item() == pytest.approx(wanted.item(), abs=2e-3)


def test_a_weight_of_two_is_being_there_twice():
    answer, truth = example()
    weight = torch.ones(40)
    weight[:10] = 2.0
    twice = one_minus_ccc(torch.cat([answer, answer[:10]]), torch.cat([truth, truth[:10]]), torch.ones(50))
    torch.testing.assert_close(one_minus_ccc(answer, truth, weight), twice)


def test_what_is_not_known_counts_nothing_and_gets_no_gradient():
    answer, truth = example()
    truth[5:, 1] = math.nan
    loss = one_minus_ccc(answer, truth, torch.ones(40))
    apart = [one_minus_ccc(answer[:, :1], truth[:, :1], torch.ones(40)), one_minus_ccc(answer[:5, 1:], truth[:5, 1:], torch.ones(5))]
    torch.testing.assert_close(loss, torch.stack(apart).mean())
    loss.backward()
    assert answer.grad is not None
    assert answer.grad.isfinite().all()
    assert not answer.grad[5:, 1].any()
    assert answer.grad[:5, 1].all()


@pytest.mark.parametrize("known", [0, 1])
def test_an_attribute_of_fewer_than_two_utterances_does_not_count(known: int):
    answer, truth = example()
    truth[known:, 1] = math.nan
    torch.testing.assert_close(one_minus_ccc(answer, truth, torch.ones(40)), one_minus_ccc(answer[:, :1], truth[:, :1], torch.ones(40)))
    nothing = one_minus_ccc(answer[:, 1:], truth[:, 1:], torch.ones(40))
    nothing.backward()
    assert nothing == 0


def test_a_constant_answer_has_a_ccc_of_nothing():
    _, truth = example()
    assert float(one_minus_ccc(torch.full((40, 2), 0.5), truth, torch.ones(40))) == pytest.approx(1.0)
