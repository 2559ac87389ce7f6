"""Committee: its answer is the mean of its members', each member learns alone, the statistics are standardised by the training data."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.methods.committee import Committee, FisherMember, merged
from moodcast.run import Run, build

RATE = 16_000
PLAN = ChunkPlan(length_s=1.0, hop_s=1.0)


def batch_of(gain: float = 1.0) -> Batch:
    rng = np.random.default_rng(0)
    waves = [(gain * 0.1 * rng.standard_normal(int(RATE * seconds))).astype(np.float32) for seconds in (0.8, 2.4)]
    batch = collate(waves, PLAN, RATE)
    return dataclasses.replace(batch, target=torch.eye(4)[:2], weight=torch.ones(2))


def made(**settings: object) -> Committee:
    method = build(Run(method=Committee.Config(num_mels=16, width=16, channels=4, layers=1, **settings), chunks=PLAN))
    assert isinstance(method, Committee)
    return method


FISHER = FisherMember(gaussians=2, coefficients=4, whitened=6, components=5, landmarks=8)


def test_it_has_at_most_a_million_parameters():
    assert 400_000 < sum(p.numel() for p in build(Run(method=Committee.Config(), chunks=PLAN)).parameters()) <= 1_000_000


@torch.no_grad()
def test_the_answer_is_the_weighted_mean_of_the_members_log_probabilities():
    method, batch = made(share=0.5).eval(), batch_of()
    frames, mask, exist = method._frames(batch)
    networks = [network(frames, mask, exist)[0] for network in method.networks]
    statistics = method.statistics(method._moments(frames, mask, exist)[0]).log_softmax(-1)
    wanted = ((networks[0] + networks[1]) / 2 + 0.5 * statistics).div(1.5).log_softmax(-1)
    torch.testing.assert_close(method(batch).emotion, wanted)
    assert not torch.allclose(networks[0], networks[1], atol=1e-3)  # they start differently


@torch.no_grad()
def test_fisher_vectors_vote_beside_the_others_and_are_fitted_before_training():
    method, batch = made(networks=1, share=0.5, fisher=dataclasses.replace(FISHER, share=0.25)).eval(), batch_of()
    method.fit_once(View())
    frames, mask, exist = method._frames(batch)
    assert method.fisher is not None
    network, statistics = method.networks[0](frames, mask, exist)[0], method.statistics(method._moments(frames, mask, exist)[0])
    fisher, _ = method.fisher(frames, mask, exist)
    wanted = ((network + 0.5 * statistics.log_softmax(-1) + 0.25 * fisher) / 1.75).log_softmax(-1)
    torch.testing.assert_close(method(batch).emotion, wanted)
    assert fisher.argmax(1).tolist() == [0, 1]  # the two that it was fitted on
    assert set(method.losses({"labelled": batch})) == {"classes", "statistics"}


@torch.no_grad()
def test_what_is_silent_is_answered_by_the_others():
    method = made(networks=1, fisher=FISHER).eval()
    method.fit_once(View())
    assert method.fisher is not None
    frames, mask, exist = method._frames(batch_of())
    frames[1] = -30.0  # the first second of the second stretch
    _, parts = method.fisher(frames, mask, exist)
    torch.testing.assert_close(parts[1, 0].exp(), torch.full((4,), 0.25))
    assert parts[1, 1].exp().max() > 0.26


def test_sounds_of_few_kinds_can_be_fitted():
    class Tones(View):
        def features(self, fn):
            tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
            tone[8000:8400] = 0.9
            batch = collate([tone, tone[:12000]], PLAN, RATE)
            return fn(dataclasses.replace(batch, target=torch.eye(4)[:2], weight=torch.ones(2)))

    method = made(networks=1, fisher=dataclasses.replace(FISHER, gaussians=8))
    method.fit_once(Tones())
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_fisher_vectors_want_labels():
    class Unlabelled(View):
        def features(self, fn):
            return fn(dataclasses.replace(batch_of(), target=None))

    with pytest.raises(ValueError, match="no target"):
        made(fisher=FISHER).fit_once(Unlabelled())


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"fisher": FISHER}])
def test_a_stretch_of_one_chunk_is_answered_as_its_chunk(settings: dict[str, object]):
    method = made(**settings).eval()
    method.fit_once(View())
    answer = method(batch_of())
    torch.testing.assert_close(answer.chunk_emotion[0, 0], answer.emotion[0], atol=1e-4, rtol=0)
    assert not torch.allclose(answer.chunk_emotion[1, 0], answer.emotion[1], atol=1e-3)


@torch.no_grad()
def test_a_recording_forty_decibels_quieter_gets_the_same_answer():
    method = made().eval()
    torch.testing.assert_close(method(batch_of(0.01)).emotion, method(batch_of()).emotion, atol=1e-3, rtol=0)


def test_no_member_learns_from_anothers_loss():
    method = made()
    terms = method.losses({"labelled": batch_of()})
    terms["statistics"].backward()
    assert all(parameter.grad is None for parameter in method.networks.parameters())
    assert all(parameter.grad is not None for parameter in method.statistics.parameters())


class View:
    """Training data of one batch."""

    def features(self, fn):
        return fn(batch_of())

    def set_weights(self, weights):
        raise AssertionError("nothing is weighted")


def test_moments_are_standardised_by_the_training_data():
    method = made().eval()
    with torch.no_grad():
        method.fit_once(View())
        found, _ = method._moments(*method._frames(batch_of()))
    torch.testing.assert_close(found.mean(0), torch.zeros_like(found[0]), atol=1e-4, rtol=0)
    assert method.scale.min() >= 1e-3


def test_training_damages_what_each_network_hears_anew():
    method, batch = made(dropout=0.0, forget=0.0, hide_bands=0, hide_s=0.0), batch_of()
    with torch.no_grad():
        first, second = (method.losses({"labelled": batch})["classes"] for _ in range(2))
        assert first != second
        method.eval()
        assert method.losses({"labelled": batch})["classes"] == method.losses({"labelled": batch})["classes"]


def test_a_batch_without_targets_cannot_be_learned_from():
    with pytest.raises(ValueError, match="no target"):
        made().losses({"labelled": dataclasses.replace(batch_of(), target=None)})


def test_a_blind_network_does_not_see_the_mean_of_a_band():
    method, batch = made(blind=(1.0, 0.0)).eval(), batch_of()
    frames, mask, exist = method._frames(batch)
    tilted = (frames + torch.linspace(-1.0, 1.0, 16)) * mask[..., None]
    blind, sighted = ([network(x, mask, exist)[0] for x in (frames, tilted)] for network in method.networks)
    torch.testing.assert_close(blind[0], blind[1], atol=1e-4, rtol=0)
    assert not torch.allclose(sighted[0], sighted[1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"fisher": FISHER}])
def test_merged_committees_answer_as_the_product_of_theirs(settings: dict[str, object]):
    committees = []
    for seed in range(3):
        committees.append(made(networks=2, share=0.7, **settings).eval())
        committees[-1].fit_once(View())
        torch.manual_seed(seed)
        for weight in (p for p in committees[-1].parameters() if p.requires_grad):
            weight.add_(0.1 * torch.randn_like(weight))
    batch = batch_of()
    answers = [committee(batch) for committee in committees]
    whole = merged(committees).eval()(batch)
    for name in ("emotion", "chunk_emotion"):
        apart = torch.stack([getattr(answer, name) for answer in answers])
        assert not torch.allclose(apart[0], apart[1], atol=1e-2)
        torch.testing.assert_close(getattr(whole, name), apart.mean(0).log_softmax(-1), atol=1e-5, rtol=0)


def test_committees_of_other_settings_are_not_merged():
    with pytest.raises(ValueError, match="same settings"):
        merged([made(share=0.7), made(share=0.6)])


@pytest.mark.parametrize("moved", ["centre", "fisher.vectors.means", "fisher.ridge.dual"])
def test_committees_of_other_data_are_not_merged(moved: str):
    mine, theirs = made(fisher=FISHER), made(fisher=FISHER)
    theirs.state_dict()[moved].fill_(1.0)
    with pytest.raises(ValueError, match="same data"):
        merged([mine, theirs])
