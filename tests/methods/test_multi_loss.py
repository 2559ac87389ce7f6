"""MultiLoss: what is mixed and when, four losses that stay finite, centres, both kinds of encoders, ranks that learn as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moodcast import bundle, config
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.methods.multi_loss import MultiLoss, Weights
from moodcast.nn.mixup import Mix, beta_shares, blended, partners
from moodcast.nn.waves import joined
from moodcast.objectives import classes
from moodcast.run import Run, Train, build, run_from_dict, run_to_dict
from moodcast.step import Trainer, weights_digest
from tests.ranks import on_ranks

RATE = 16_000
PLAN = ChunkPlan(length_s=1.0, hop_s=0.5)
ONE = ChunkPlan(length_s=3.0, hop_s=3.0)
SMALL = {"width": 16, "channels": 2, "num_mels": 16, "latent": 8, "layers": 1, "heads": 2}
KINDS = ("none", "mixup", "length", "energy", "energy_hard", "manifold")
every_kind = pytest.mark.parametrize("kind", KINDS)


def waves(seconds: Sequence[float], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.05 * rng.standard_normal(int(RATE * length))).astype(np.float32) for length in seconds]


def batch_of(seconds: Sequence[float] = (1.3, 0.6, 2.1, 0.9), kinds: Sequence[int] = (0, 1, 2, 3), plan: ChunkPlan = PLAN) -> Batch:
    return dataclasses.replace(collate(waves(seconds), plan, RATE), target=torch.eye(4)[list(kinds)], weight=torch.ones(len(seconds)))


def made(plan: ChunkPlan = PLAN, seed: int = 0, **settings: Any) -> MultiLoss:
    known = SMALL if settings.get("encoder", "log_mel") == "log_mel" else {"latent": 8}
    run = Run(method=MultiLoss.Config(**{**known, "dropout": 0.0, **settings}), chunks=plan, train=Train(seed=seed))
    method = build(run)
    assert isinstance(method, MultiLoss)
    return method


def losses(method: MultiLoss, batch: Batch, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return method.losses({"labelled": batch})


# ------------------------------------------------------------------------------------------------------- losses


def test_the_four_losses_by_name_and_the_sum_that_their_weights_make():
    weights = Weights(kl=1.0, focal=0.3, centre=0.02, contrast=0.7)
    method, batch = made(weights=weights).eval(), batch_of(kinds=(0, 0, 1, 1))
    terms = losses(method, batch)
    assert list(terms) == ["kl", "focal", "centre", "contrast"]
    assert all(term > 0 for term in terms.values())
    wanted = terms["kl"] + 0.3 * terms["focal"] + 0.02 * terms["centre"] + 0.7 * terms["contrast"]
    torch.testing.assert_close(method.total(terms), wanted)
    answer = method(batch)
    torch.testing.assert_close(terms["kl"], classes.cross_entropy(answer.emotion, batch.target))  # of one-hot targets
    torch.testing.assert_close(terms["centre"], 0.5 * (answer.embedding - method.centres[[0, 0, 1, 1]]).square().sum(-1).mean())


def test_without_gamma_focal_loss_is_kl_but_for_the_target_s_own_entropy():
    batch = batch_of()
    batch.target[0] = torch.tensor([0.5, 0.25, 0.25, 0.0])
    terms = losses(made(gamma=0.0).eval(), batch)
    entropy = -(batch.target * batch.target.clamp_min(1e-9).log()).sum() / 4
    torch.testing.assert_close(terms["focal"], terms["kl"] + entropy)


def test_every_field_is_reached_by_its_dotted_name():
    run = Run(method=MultiLoss.Config(), chunks=PLAN)
    changes = {"method.weights.focal": "0.5", "method.mix.kind": "none", "method.mix.snr_db": "-3", "method.temperature": "0.07"}
    changed = config.replace_at(run, {**changes, "method.pool": "mean", "method.layer": "none"})
    assert (changed.method.weights.focal, changed.method.mix.kind, changed.method.mix.snr_db) == (0.5, "none", -3.0)
    assert (changed.method.temperature, changed.method.pool, changed.method.layer) == (0.07, "mean", None)
    with pytest.raises(ValueError, match=r"method\.weights\.focl.*focal"):
        config.replace_at(run, {"method.weights.focl": 1.0})


@every_kind
@pytest.mark.parametrize(
    ("seconds", "kinds"),
    [
        pytest.param((0.8,), (2,), id="one utterance"),
        pytest.param((0.8, 1.1, 0.4), (0, 1, 3), id="one a class"),
        pytest.param((0.8, 1.1, 0.01, 0.7), (1, 1, 1, 1), id="one class, one of a single frame"),
    ],
)
def test_every_batch_has_finite_losses_and_gradients(kind: Any, seconds: tuple[float, ...], kinds: tuple[int, ...]):
    method = made(mix=Mix(kind, 1.0), gamma=0.5, temperature=0.03).train()
    for silent in (False, True):
        batch = batch_of(seconds, kinds)
        if silent:
            batch.chunks[-1] = 0.0
        method.zero_grad()
        terms = losses(method, batch)
        method.total(terms).backward()
        assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values()), terms
        for name, parameter in method.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_batches_that_are_all_silent_teach_something_finite():
    batch = batch_of()
    batch.chunks.zero_()
    method = made(mix=Mix("energy", 1.0)).train()
    method.total(losses(method, batch)).backward()
    assert all(p.grad.isfinite().all() for p in method.parameters())


def test_a_batch_without_targets_cannot_be_learned_from():
    with pytest.raises(ValueError, match="no target"):
        made().train().losses({"labelled": collate(waves([1.0, 1.0]), PLAN, RATE)})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": 0.0}, r"method\.temperature must be in \(0, inf\)"),
        ({"gamma": -1.0}, r"method\.gamma must be in \[0, inf\)"),
        ({"heads": 3}, "3 heads cannot share 16 values"),
        ({"encoder": "random/wavlm", "layer": 7}, r"0 \(the embedding\) to 2"),
        ({"encoder": "random/wavlm", "layer": 1, "tune": "full"}, "nothing would learn"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        made(**settings)


# ------------------------------------------------------------------------------------------------------- mixing


@every_kind
def test_mixing_is_for_training_alone_and_off_when_it_is_none(kind: Any):
    method, batch = made(mix=Mix(kind, 1.0, alpha=1.0)), batch_of()
    quiet = losses(method.eval(), batch)
    loud = losses(method.train(), batch)
    same = [bool(torch.equal(quiet[name], loud[name])) for name in ("kl", "focal")]
    assert all(same) if kind == "none" else not any(same)
    for name, value in losses(method.eval(), batch, seed=1).items():
        assert torch.equal(value, quiet[name])


@pytest.mark.parametrize("plan", [PLAN, ONE, ChunkPlan(length_s=0.5, count=5)], ids=["overlapping", "one", "counted"])
@pytest.mark.parametrize("kind", ["mixup", "length", "energy", "energy_hard"])
def test_a_mixed_batch_is_what_collate_would_have_made_of_the_mixed_sound(plan: ChunkPlan, kind: Any):
    method, batch = made(plan, mix=Mix(kind, 1.0)).train(), batch_of(plan=plan)
    torch.manual_seed(0)
    found, share = method._mixed(batch)
    rate = torch.round(found.seconds * RATE).long().tolist()
    sound = joined(found.chunks, torch.tensor(rate), plan, RATE)
    again = collate([row[:size].numpy() for row, size in zip(sound, rate, strict=True)], plan, RATE)
    assert torch.equal(again.chunks, found.chunks)
    assert torch.equal(again.lengths, found.lengths)
    torch.testing.assert_close(again.seconds, found.seconds)
    torch.testing.assert_close(found.target.sum(-1), torch.ones(4))
    assert (share > 0).all() == (kind != "energy_hard")


def test_energy_mixing_leaves_the_class_that_is_drawn_to_its_centre():
    method, batch = made(mix=Mix("energy", 1.0, snr_db=-20.0)).train(), batch_of()
    for seed in range(20):
        torch.manual_seed(seed)
        assert torch.equal(method._mixed(batch)[0].target.argmax(-1), batch.target.argmax(-1))


def test_utterances_that_are_too_much_another_s_are_not_contrasted():
    """At -20 dB half of all segments give more than 0.25 of the target away."""
    batch = batch_of((1.0, 1.0, 1.0, 1.0), (0, 0, 1, 1), ONE)
    for pure_share, contrasted in ((0.5, True), (0.0, False)):
        method = made(ONE, mix=Mix("energy", 1.0, snr_db=-20.0), pure_share=pure_share).train()
        assert bool(losses(method, batch)["contrast"] > 0) == contrasted


def test_manifold_mixup_mixes_vectors_and_their_targets_alike():
    """Behind what is pooled all is linear up to the softmax: without dropout a mixed vector has the mixed logits."""
    method, batch = made(ONE, mix=Mix("manifold", 1.0, alpha=1.0)).train(), batch_of(plan=ONE)
    found = losses(method, batch, seed=3)["kl"]
    torch.manual_seed(3)
    logits = method.head(method(batch).embedding)  # masks are drawn first, though they hide nothing
    partner, chosen = partners(4, 1.0, torch.device("cpu"))
    share = beta_shares(4, 1.0, torch.device("cpu"))
    assert chosen.all()
    wanted = classes.divergence(blended(logits, partner, share).log_softmax(-1), blended(batch.target, partner, share))
    torch.testing.assert_close(found, wanted)


def test_weights_of_utterances_are_mixed_as_targets_are():
    batch = dataclasses.replace(batch_of(), weight=torch.tensor([1.0, 0.0, 0.0, 0.0]))
    method = made(mix=Mix("length", 1.0)).train()
    torch.manual_seed(0)
    found, _ = method._mixed(batch)
    torch.testing.assert_close(found.weight, found.target[:, 0])


# ------------------------------------------------------------------------------------------------ what is trained


def test_centres_learn_at_a_rate_of_their_own_and_do_not_decay():
    groups = made(centre_lr_scale=10.0).parameter_groups()
    (centres,) = [group for group in groups if group.get("lr_scale") == 10.0]
    assert len(centres["params"]) == 1
    assert centres["params"][0].shape == (4, 8)
    assert centres["weight_decay"] == 0.0


def test_centres_of_classes_that_are_not_in_a_batch_stay():
    method, batch = made(mix=Mix("none")).train(), batch_of(kinds=(0, 0, 2, 2))
    method.total(losses(method, batch)).backward()
    assert method.centres.grad.any(1).tolist() == [True, False, True, False]


def test_a_loss_that_weighs_nothing_moves_nothing_but_is_told():
    method, batch = made(weights=Weights(1.0, 0.0, 0.0, 0.0)).train(), batch_of(kinds=(0, 0, 1, 1))
    terms = losses(method, batch)
    method.total(terms).backward()
    assert terms["centre"] > 0
    assert not method.centres.grad.any()


class Toy:
    """Sixteen utterances of four classes, as training data."""

    def __init__(self, plan: ChunkPlan = ONE) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return 16

    def names(self, indices: Any) -> list[str]:
        return [str(i) for i in indices]

    def batches(self, plan: Sequence[Any], epoch: int | None = None) -> Iterator[Batch]:
        sounds = waves([0.3 + 0.02 * i for i in range(16)], seed=1)
        for indices in plan:
            batch = collate([(1 + i % 4) * np.diff(sounds[i], i % 4, prepend=[0] * (i % 4)).astype(np.float32) for i in indices], ONE, RATE)
            target = torch.eye(4)[[int(i) % 4 for i in indices]]
            yield dataclasses.replace(batch, target=target, weight=1.0 + 0.1 * torch.tensor([float(i) for i in indices]))


TRAIN = Train(epochs=2, batch_size=8, lr=3e-3, warmup_share=0.0)


def on_rank(rank: int, world: int, _: Path) -> dict[str, Any]:
    """What each of two processes below does: with nothing random, and as it is meant to be."""
    found: dict[str, Any] = {}
    for name, mix in (("plain", Mix("none")), ("energy", Mix("energy")), ("manifold", Mix("manifold"))):
        trainer = Trainer(made(ONE, mix=mix, dropout=0.0 if name == "plain" else 0.1), TRAIN, Toy(), None, world, rank)
        found[name] = [trainer.epoch(0), trainer.epoch(1)]
        found[f"{name} digest"] = weights_digest(trainer.method)
        found[f"{name} weights"] = trainer.method.state_dict()
    return found


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(on_rank, tmp_path_factory.mktemp("ranks"))


def test_two_ranks_learn_what_one_does_although_utterances_are_compared_with_each_other(two_ranks: list[dict[str, Any]]):
    alone = Trainer(made(ONE, mix=Mix("none")), TRAIN, Toy())
    terms = [alone.epoch(0), alone.epoch(1)]
    assert terms[0]["contrast"] > 0
    for found, wanted in zip(two_ranks[0]["plain"], terms, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)
    for name, value in alone.method.state_dict().items():
        torch.testing.assert_close(two_ranks[1]["plain weights"][name], value, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["plain", "energy", "manifold"])
def test_ranks_stay_bit_equal_centres_and_all(two_ranks: list[dict[str, Any]], name: str):
    assert two_ranks[0][f"{name} digest"] == two_ranks[1][f"{name} digest"]
    assert two_ranks[0][name] == two_ranks[1][name]


# ---------------------------------------------------------------------------------------------- named encoders


@pytest.mark.parametrize("encoder", ["random/wavlm", "random/whisper"])
@pytest.mark.parametrize("tune", ["none", "lora", "full"])
def test_a_step_with_a_named_encoder_moves_what_trains_and_nothing_else(encoder: str, tune: Any):
    method = made(encoder=encoder, tune=tune, mix=Mix("energy", 1.0)).train()
    assert method.frames.encoder.model.training == (tune != "none")
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    optimiser = torch.optim.SGD(method.parameter_groups(), lr=10.0)
    for step in range(2):  # the second reaches what LoRA's zero start hides
        optimiser.zero_grad()
        method.total(losses(method, batch_of(), step)).backward()
        optimiser.step()
    moved = {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in method.named_parameters() if p.requires_grad}
    assert any(name.startswith("frames.encoder.") for name in moved) == (tune != "none")


def test_a_named_encoder_answers_the_same_alone_and_in_a_batch():
    method, seconds = made(encoder="random/wavlm").eval(), (1.3, 0.05, 2.1)
    with torch.no_grad():
        together = method(collate(waves(seconds), PLAN, RATE))
        for i, wave in enumerate(waves(seconds)):
            alone = method(collate([wave], PLAN, RATE))
            torch.testing.assert_close(alone.emotion[0], together.emotion[i], atol=1e-4, rtol=0)
            count = alone.chunk_emotion.shape[1]
            torch.testing.assert_close(alone.chunk_emotion[0], together.chunk_emotion[i, :count], atol=1e-4, rtol=0)


def test_a_bundle_carries_a_named_encoder(tmp_path: Path):
    run = Run(method=MultiLoss.Config(encoder="random/wavlm", latent=8), chunks=PLAN)
    method = build(run).eval()
    loaded = bundle.load(bundle.save(tmp_path / "bundle", method, run))
    with torch.no_grad():
        torch.testing.assert_close(loaded.method(batch_of()).emotion, method(batch_of()).emotion)
    assert loaded.method.files() == method.files()
    assert sorted(method.files()) == ["encoder/config.json", "encoder/preprocessor_config.json"]
    assert "control" in method.terms()


@pytest.mark.parametrize("encoder", ["random/wavlm", "random/whisper"])
@pytest.mark.parametrize("kind", ["none", "manifold"])
def test_kept_features_give_the_answer_and_the_losses_of_the_sound_itself(encoder: str, kind: Any):
    method, batch = made(encoder=encoder, layer=1, mix=Mix(kind, 1.0)), batch_of()
    alone = [method.eval().frozen(collate([wave], PLAN, RATE)) for wave in waves((1.3, 0.6, 2.1, 0.9))]
    kept = torch.zeros(4, batch.lengths.shape[1], *alone[0].shape[2:])
    for row, one in zip(kept, alone, strict=True):
        assert one.shape[2:] == alone[0].shape[2:]  # so that they can be put together
        row[: one.shape[1]] = one[0]
    known = dataclasses.replace(batch, frozen=kept, chunks=torch.zeros_like(batch.chunks))
    with torch.no_grad():
        torch.testing.assert_close(method(known).emotion, method(batch).emotion, atol=1e-4, rtol=0)
        torch.testing.assert_close(method(known).chunk_emotion, method(batch).chunk_emotion, atol=1e-4, rtol=0)
        for name, value in losses(method.train(), known).items():
            torch.testing.assert_close(value, losses(method, batch)[name], atol=1e-4, rtol=1e-4)


def test_features_are_kept_only_where_one_state_is_frozen_and_no_sound_is_mixed():
    frozen = {"encoder": "random/wavlm", "layer": 1}
    name = made(**frozen, mix=Mix("manifold")).frozen_name()
    assert name
    assert name == made(**frozen, mix=Mix("none")).frozen_name() == made(**frozen, mix=Mix("energy", 0.0), latent=16).frozen_name()
    assert name != made(encoder="random/wavlm", layer=2, mix=Mix("none")).frozen_name()
    for settings in (
        {**frozen, "mix": Mix("energy")},
        {"encoder": "random/wavlm", "mix": Mix("none")},
        {"encoder": "random/wavlm", "tune": "full", "mix": Mix("none")},
        {"mix": Mix("none")},
    ):
        assert made(**settings).frozen_name() == ""


def test_the_job_survives_json_and_has_all_losses_and_the_mixup():
    from jobs.multi_loss import RUN

    assert run_from_dict(run_to_dict(RUN)) == RUN
    assert RUN.method.mix.kind == "energy"
    assert all(value > 0 for value in dataclasses.astuple(RUN.method.weights))
