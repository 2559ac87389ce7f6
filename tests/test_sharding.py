"""What is divided among workers learns what whole copies learn, and is saved whole."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moodcast import bundle
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.erm import Erm
from moodcast.methods.pretrained import Pretrained
from moodcast.passes import gather
from moodcast.run import Run, Train, build
from moodcast.step import Trainer, weights_digest
from tests.ranks import on_ranks

RATE = 16_000
LABELS = Labels(("good", "bad"))
RUN = Run(
    method=Pretrained.Config(
        encoder="random/hubert", tune="full", thaw_per_epoch=1, recompute=True, dropout=0.0, width=8, encoder_lr_scale=1.0
    ),
    labels=LABELS,
    chunks=ChunkPlan(length_s=0.5, hop_s=0.5),
    train=Train(epochs=3, batch_size=4, lr=3e-3, warmup_share=0.0, shard=True),
)


class Noises:
    """Eight short noises as training data."""

    def __len__(self) -> int:
        return 8

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [str(i) for i in indices]

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
        for indices in plan:
            waves = [(0.1 * np.random.default_rng(i).standard_normal(RATE // 2)).astype(np.float32) for i in indices]
            rows = [Utterance(id=str(i), path="-", emotion=LABELS.classes[i % 2]) for i in indices]
            yield collate(waves, RUN.chunks, RATE, LABELS, rows)


def quiet(method: torch.nn.Module) -> torch.nn.Module:
    """Without what is random in training, which differs by rank."""
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return method


def trainer_of(train: Train, world: int = 1, rank: int = 0) -> Trainer:
    return Trainer(quiet(build(RUN)), train, Noises(), None, world, rank)


def emotion(trainer: Trainer, world: int, rank: int) -> torch.Tensor:
    return gather(trainer.method, lambda batch: trainer.method(batch).emotion, Noises(), 4, world, rank)


def on_rank(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """What each of the processes below does."""
    found: dict[str, Any] = {}
    rough = dataclasses.replace(RUN.train, precision="bfloat16")
    ways = {"copies": dataclasses.replace(RUN.train, shard=False), "parts": RUN.train}
    ways |= {"rough copies": dataclasses.replace(rough, shard=False), "rough parts": rough}
    for name, train in ways.items():
        trainer = trainer_of(train, world, rank)
        held = sum(getattr(p, "to_local", lambda p=p: p)().numel() for p in trainer.method.parameters())
        losses = [trainer.epoch(epoch)["loss"] for epoch in range(2)]
        state = copy.deepcopy(trainer.state())
        losses.append(trainer.epoch(2)["loss"])
        resumed = trainer_of(train, world, rank)
        resumed.load_state(state)
        resumed.epoch(2)
        found[name] = {
            "losses": losses,
            "held": held,
            "weights": trainer.served().state_dict(),
            "digests": [weights_digest(resumed.served()), weights_digest(trainer.served())],
            "emotion": emotion(trainer, world, rank),
            "state": state,
        }
        whole = trainer.served()  # asked of all ranks together
        if rank == 0 and name == "parts":
            bundle.save(folder / "bundle", whole, RUN)
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    return folder, on_ranks(on_rank, folder)


def test_parts_learn_what_copies_learn(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = ranks[1]
    begun = build(RUN).state_dict()
    for found in (first, second):
        assert found["parts"]["losses"] == pytest.approx(first["copies"]["losses"], abs=1e-5)
        for name, value in first["copies"]["weights"].items():
            torch.testing.assert_close(
                found["parts"]["weights"][name], value, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )
        torch.testing.assert_close(found["parts"]["emotion"], first["copies"]["emotion"], atol=1e-4, rtol=0)
    moved = max(float((value - begun[name]).abs().max()) for name, value in first["parts"]["weights"].items())
    assert moved > 1e-3
    assert first["parts"]["held"] < 0.6 * first["copies"]["held"]


def test_a_resumed_run_of_parts_is_that_of_an_undisturbed_one(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    for found in ranks[1]:
        for name in ("copies", "parts"):
            resumed, undisturbed = found[name]["digests"]
            assert resumed == undisturbed, name
    assert ranks[1][0]["parts"]["digests"] == ranks[1][1]["parts"]["digests"]


def test_encoders_in_bfloat16_learn_the_same_in_parts_as_in_copies(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = ranks[1]
    assert first["rough copies"]["losses"] == pytest.approx(first["copies"]["losses"], abs=0.02)
    assert first["rough copies"]["losses"] != first["copies"]["losses"]
    assert first["rough parts"]["losses"] == pytest.approx(first["rough copies"]["losses"], abs=0.01)
    for name in ("rough copies", "rough parts"):
        resumed, undisturbed = first[name]["digests"]
        assert resumed == undisturbed == second[name]["digests"][1]
        assert all(value.dtype == torch.float32 and value.isfinite().all() for value in first[name]["weights"].values())
        torch.testing.assert_close(first[name]["emotion"], first["copies"]["emotion"], atol=0.05, rtol=0)


def test_what_parts_saved_is_whole_and_goes_on_without_them(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, (found, _) = ranks
    opened = bundle.load(folder / "bundle")
    assert weights_digest(opened.method) == found["parts"]["digests"][1]
    alone = trainer_of(RUN.train)  # one worker divides nothing
    alone.load_state(found["parts"]["state"])
    alone.epoch(2)
    for name, value in alone.method.state_dict().items():
        torch.testing.assert_close(value, found["parts"]["weights"][name], atol=2e-5, rtol=1e-4)


def test_a_method_without_large_parts_is_not_divided() -> None:
    run = Run(method=Erm.Config(), labels=LABELS, chunks=RUN.chunks, train=Train(shard=True))
    with pytest.raises(ValueError, match="train.shard divides what trains of a large encoder among workers, and this Erm has no such part"):
        Trainer(build(run), run.train, Noises(), None, 2, 0)
    frozen = dataclasses.replace(run, method=Pretrained.Config(tune="none"))
    with pytest.raises(ValueError, match="this Pretrained has no such part"):
        Trainer(build(frozen), run.train, Noises(), None, 2, 0)
