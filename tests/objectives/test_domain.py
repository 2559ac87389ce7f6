"""Losses between domains, each beside its formula in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moodcast.objectives import domain

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.normal(size=(7, 3)), 0.5 + 2 * RNG.normal(size=(5, 3))
LOGITS = RNG.normal(size=(9, 4))
LOG_PROBS = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def test_coral_is_the_squared_distance_of_covariances_over_four_widths_squared():
    wanted = ((np.cov(SOURCE.T) - np.cov(TARGET.T)) ** 2).sum() / (4 * 3**2)
    assert domain.coral(tensor(SOURCE), tensor(TARGET)).item() == pytest.approx(wanted)
    assert domain.coral(tensor(SOURCE), tensor(SOURCE + 5.0)).item() == pytest.approx(0.0, abs=1e-12)  # means do not count


def test_mk_mmd_is_the_unbiased_estimate_summed_over_pairs():
    both = np.concatenate([SOURCE, TARGET])
    squares = [[((a - b) ** 2).sum() for b in both] for a in both]
    usual = np.sum(squares) / (12 * 11)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-((a - b) ** 2).sum() / (factor * usual)) for factor in (0.25, 0.5, 1, 2, 4)]))

    within = [np.mean([kernel(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j]) for side in (SOURCE, TARGET)]
    across = np.mean([kernel(a, b) for a in SOURCE for b in TARGET])
    assert domain.mk_mmd(tensor(SOURCE), tensor(TARGET)).item() == pytest.approx(sum(within) - 2 * across)


def test_mk_mmd_of_one_distribution_is_zero_in_the_mean_and_of_two_is_not():
    rng = np.random.default_rng(1)
    same = [domain.mk_mmd(*(tensor(rng.normal(size=(16, 3))) for _ in range(2))).item() for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(200)
    assert domain.mk_mmd(tensor(rng.normal(size=(64, 3))), tensor(1.0 + rng.normal(size=(64, 3)))).item() > 0.1


def test_entropy_and_information_are_their_formulas():
    p = np.exp(LOG_PROBS)
    each, mean = -(p * LOG_PROBS).sum(1), p.mean(0)
    assert domain.entropy(tensor(LOG_PROBS)).numpy() == pytest.approx(each)
    assert domain.information(tensor(LOG_PROBS)).item() == pytest.approx(each.mean() + (mean * np.log(mean)).sum())


def test_information_is_lowest_where_every_class_is_sure_and_used():
    sure = torch.eye(4).clamp_min(1e-9).log().log_softmax(-1)
    assert domain.information(sure).item() == pytest.approx(-np.log(4), abs=1e-4)
    one_class = sure[:1].expand(4, -1)
    assert domain.information(one_class).item() == pytest.approx(0.0, abs=1e-4)


def test_class_confusion_is_its_formula():
    soft = np.exp(LOG_PROBS / 2.5)
    soft /= soft.sum(1, keepdims=True)
    weight = 1 + np.exp((soft * np.log(soft)).sum(1))
    weight *= 9 / weight.sum()
    table = np.array([[sum(weight[b] * soft[b, j] * soft[b, k] for b in range(9)) for k in range(4)] for j in range(4)])
    table /= table.sum(1, keepdims=True)
    assert domain.class_confusion(tensor(LOG_PROBS), 2.5).item() == pytest.approx((table.sum() - np.trace(table)) / 4)


def test_what_is_sure_enough_is_learned_and_no_class_is_starved():
    probabilities = torch.tensor([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8], [0.35, 0.65]])
    assert domain.sure(probabilities.log(), 0.8, 0.0).tolist() == [1, 0, 0, 0, 0, 1, 0]  # the surest of a class at least
    assert domain.sure(probabilities.log(), 0.95, 0.4).tolist() == [1, 0, 1, 0, 0, 1, 0]


@given(st.floats(0.0, 3.0))
def test_a_reversed_gradient_turns_back_times_its_strength(strength: float):
    values = torch.tensor([1.0, -2.0], requires_grad=True)
    out = domain.reversed_gradient(values, torch.tensor(strength))
    assert torch.equal(out, values)
    (out * torch.tensor([3.0, 4.0])).sum().backward()
    torch.testing.assert_close(values.grad, -strength * torch.tensor([3.0, 4.0]))


def test_the_loss_of_a_judge_is_its_cross_entropy():
    logits = tensor(LOGITS[:, 0])
    chance = 1 / (1 + np.exp(-LOGITS[:, 0]))
    assert domain.domain_loss(logits, 1).item() == pytest.approx(-np.log(chance).mean())
    assert domain.domain_loss(logits, 0).item() == pytest.approx(-np.log(1 - chance).mean())
