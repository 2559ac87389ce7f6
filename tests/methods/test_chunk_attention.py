"""ChunkAttention: every aggregation and encoder keeps the contract; attention crosses chunks, never stretches; constant cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.methods.chunk_attention import AGGREGATORS, ENCODERS, ChunkAttention
from moodcast.run import Run, build

RATE = 16_000
PLAN = ChunkPlan(length_s=0.5, count=5)


def waves(seconds: list[float], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(int(RATE * length))).astype(np.float32) for length in seconds]


def made(aggregation: str, encoder: str = "lstm", plan: ChunkPlan = PLAN) -> ChunkAttention:
    method = build(Run(method=ChunkAttention.Config(aggregation=aggregation, encoder=encoder, width=16), chunks=plan)).eval()
    assert isinstance(method, ChunkAttention)
    return method


every_aggregation = pytest.mark.parametrize("aggregation", AGGREGATORS)
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


@every_encoder
@every_aggregation
def test_an_answer_is_the_same_alone_and_in_a_batch(aggregation: str, encoder: str):
    method, sounds = made(aggregation, encoder), waves([1.1, 0.2, 2.4, 0.9])
    with torch.no_grad():
        together = method(collate(sounds, PLAN, RATE))
        for index, wave in enumerate(sounds):
            alone = method(collate([wave], PLAN, RATE))
            torch.testing.assert_close(together.emotion[index], alone.emotion[0], atol=1e-4, rtol=0)
            torch.testing.assert_close(together.chunk_emotion[index], alone.chunk_emotion[0], atol=1e-4, rtol=0)


@every_encoder
@every_aggregation
def test_every_parameter_gets_a_gradient(aggregation: str, encoder: str):
    method = made(aggregation, encoder).train()
    batch = collate(waves([1.1, 2.0, 0.7, 1.5]), PLAN, RATE)
    batch = dataclasses.replace(batch, target=torch.eye(4), weight=torch.ones(4))
    method.losses({"labelled": batch})["classes"].backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


@every_aggregation
def test_a_stretch_cut_into_one_chunk_is_answered_alike_by_sentence_and_chunk(aggregation: str):
    plan = ChunkPlan(length_s=1.0, count=1)
    with torch.no_grad():
        found = made(aggregation, plan=plan)(collate(waves([0.8]), plan, RATE))
    torch.testing.assert_close(found.emotion, found.chunk_emotion[:, 0])


def gradients(aggregation: str) -> tuple[torch.Tensor, ChunkAttention, Batch]:
    """How the first attended chunk of the first stretch depends on every chunk vector of the batch, [B, C]."""
    method, batch = made(aggregation), collate(waves([1.8, 1.8]), PLAN, RATE)
    vectors, exist = method._vectors(batch)
    vectors = vectors.detach().requires_grad_()
    out = method.aggregator.attended(vectors, exist)[0, 0] if aggregation == "self_attention" else method.aggregator(vectors, exist)[0]
    (out * torch.arange(1.0, 17.0)).sum().backward()
    return vectors.grad.abs().sum(-1), method, batch


@every_aggregation
def test_attention_crosses_chunks_and_never_stretches(aggregation: str):
    reach, _, _ = gradients(aggregation)
    assert (reach[0] > 0).all()
    assert (reach[1] == 0).all()


@pytest.mark.parametrize("seconds", [0.6, 1.0, 2.5])
def test_shapes_are_the_same_whatever_the_duration(seconds: float):
    """The paper's claim: constant shapes, so that recurrence depth is that of one chunk."""
    method = made("rnn_attention")
    depths = []
    method.encoder.register_forward_hook(lambda module, inputs, output: depths.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        method(collate(waves([seconds]), PLAN, RATE))
    assert depths == [(5, 48, 80)]
