"""The four aggregations of Lin & Busso (2023) against numpy; attention runs across chunks and never across stretches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from moodcast.nn.attention import GatedAggregator, MeanAggregator, RecurrentAttention, SelfAttention

WIDTH = 6
AGGREGATORS = [MeanAggregator, GatedAggregator, RecurrentAttention, SelfAttention]
every_aggregator = pytest.mark.parametrize("cls", AGGREGATORS, ids=lambda cls: cls.__name__)


def made(cls: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return cls(WIDTH).double()


def chunks(size: int = 3, count: int = 5) -> torch.Tensor:
    return torch.randn(size, count, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def full(values: torch.Tensor) -> torch.Tensor:
    return torch.ones(values.shape[:2], dtype=torch.bool)


def numbers(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores - scores.max(-1, keepdims=True)) / np.exp(scores - scores.max(-1, keepdims=True)).sum(-1, keepdims=True)


def reference_mean(h: np.ndarray, _: dict[str, np.ndarray]) -> np.ndarray:
    return h.mean(0)


def reference_gated(h: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    gates = 1 / (1 + np.exp(-(h @ p["gate.weight"][0] + p["gate.bias"])))
    return (gates[:, None] * h).sum(0) / len(h)


def reference_recurrent(h: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    state, states = np.zeros(WIDTH), []
    for x in h:
        state = np.tanh(
            p["recurrence.weight_ih_l0"] @ x
            + p["recurrence.bias_ih_l0"]
            + p["recurrence.weight_hh_l0"] @ state
            + p["recurrence.bias_hh_l0"]
        )
        states.append(state)
    s = np.array(states)
    weights = softmax(np.array([(p["score.weight"] @ row) @ s[-1] for row in s]))
    return np.tanh(p["combine.weight"] @ np.concatenate([(weights[:, None] * s).sum(0), s[-1]]))


def reference_self(h: np.ndarray, p: dict[str, np.ndarray]) -> np.ndarray:
    q, k, v = np.split(h @ p["project.weight"].T + p["project.bias"], 3, axis=-1)
    heads = [softmax(q[:, i : i + 50] @ k[:, i : i + 50].T / np.sqrt(50)) @ v[:, i : i + 50] for i in range(0, 150, 50)]
    out = h + np.maximum(0, np.concatenate(heads, -1) @ p["combine.weight"].T + p["combine.bias"])
    out = (out - out.mean(-1, keepdims=True)) / np.sqrt(out.var(-1, keepdims=True) + 1e-5)
    return (out * p["norm.weight"] + p["norm.bias"]).mean(0)


@pytest.mark.parametrize(
    ("cls", "reference"), list(zip(AGGREGATORS, [reference_mean, reference_gated, reference_recurrent, reference_self], strict=True))
)
def test_an_aggregator_is_its_formula(cls, reference):
    module, values = made(cls), chunks()
    found = module(values, full(values)).detach().numpy()
    for b in range(len(values)):
        np.testing.assert_allclose(found[b], reference(values[b].numpy(), numbers(module)), atol=1e-9)


@every_aggregator
def test_chunks_that_do_not_exist_change_nothing(cls):
    module, values = made(cls), chunks()
    mask = full(values)
    mask[1, 3:] = False
    mask[2, 1:] = False
    found = module(torch.where(mask[..., None], values, 9.0), mask)
    for b, count in enumerate((5, 3, 1)):
        alone = values[b : b + 1, :count]
        torch.testing.assert_close(found[b], module(alone, full(alone))[0])


@every_aggregator
def test_a_stretch_without_chunks_stays_finite_and_so_do_its_gradients(cls):
    module, values = made(cls), chunks().requires_grad_()
    mask = full(values)
    mask[0] = False
    out = module(values, mask)
    out.sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    assert values.grad.isfinite().all()


@every_aggregator
def test_no_stretch_hears_of_another(cls):
    module, values = made(cls), chunks().requires_grad_()
    module(values, full(values))[1].sum().backward()
    assert (values.grad[[0, 2]] == 0).all()
    assert (values.grad[1] != 0).any()
    torch.testing.assert_close(module(values[1:2], full(values[1:2]))[0], module(values, full(values))[1])


def test_changing_one_chunk_changes_what_another_attends_to():
    """The published PyTorch layer fails this: it gave attention a sequence of length one."""
    module, values = made(SelfAttention), chunks()
    before = module.attended(values, full(values))
    changed = values.clone()
    changed[0, 4] += 1.0
    after = module.attended(changed, full(values))
    assert (after[0, 0] - before[0, 0]).abs().max() > 1e-4
    torch.testing.assert_close(after[1:], before[1:])


def test_the_order_of_chunks_matters_to_the_recurrence_alone():
    values = chunks()
    for cls in AGGREGATORS:
        module = made(cls)
        moved = (module(values.flip(1), full(values)) - module(values, full(values))).abs().max() > 1e-6
        assert bool(moved) == (cls is RecurrentAttention)
