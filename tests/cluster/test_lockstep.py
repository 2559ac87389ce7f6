"""The models of a trial on two workers that hold parts of them: what is saved is whole, and goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from moodcast import bundle
from moodcast.chunks import ChunkPlan
from moodcast.cluster.lockstep import Lockstep
from moodcast.labels import Labels
from moodcast.methods.pretrained import Pretrained
from moodcast.run import Run, Train
from moodcast.step import weights_digest
from tests.cluster.tiny import CLASSES, tiny_corpus
from tests.ranks import on_ranks

RUN = Run(
    method=Pretrained.Config(encoder="random/hubert", tune="full", dropout=0.0, width=8),
    labels=Labels(CLASSES),
    chunks=ChunkPlan(length_s=0.5, hop_s=0.5),
    train=Train(epochs=2, batch_size=4, lr=1e-3, shard=True),
)


def on_rank(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Two models, an epoch, everything saved, and another start that goes on from it."""
    rows = [replace(row, split="train") for row in tiny_corpus(folder / f"corpus{rank}", num=8, speakers=4)]
    steps = Lockstep(RUN, rows, 2, 1, root=folder / f"cache{rank}", world=world, rank=rank)
    steps.next()
    steps.save(folder / "trial")
    steps.save_bundles(folder / "trial")
    torch.distributed.barrier()
    again = Lockstep(RUN, rows, 2, 1, root=folder / f"cache{rank}", world=world, rank=rank)
    again.load(folder / "trial")
    return {
        "divided": all(member.trainer.divided for member in steps.members),
        "saved": [weights_digest(member.trainer.served()) for member in steps.members],
        "loaded": [weights_digest(member.trainer.served()) for member in again.members],
    }


def test_a_trial_whose_models_are_divided_among_workers_is_saved_whole_and_goes_on(tmp_path: Path) -> None:
    first, second = on_ranks(on_rank, tmp_path)
    assert first["divided"]
    assert first["saved"] == second["saved"] == first["loaded"] == second["loaded"]
    assert [weights_digest(bundle.load(tmp_path / "trial" / f"fold{fold}").method) for fold in range(2)] == first["saved"]
