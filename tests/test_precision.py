"""Training with encoders in bfloat16: it learns as in float32, and everything that is scored, kept and served is float32."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from moodcast import bundle
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.config import replace_at
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.method import Method
from moodcast.methods.erm import Erm
from moodcast.methods.functionals import Functionals
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer, weights_digest

RATE = 8_000
LABELS = Labels(("falling", "rising"))
RUN = Run(
    method=Erm.Config(num_mels=32, width=32, channels=8, dropout=0.0, hide_bands=4, hide_s=0.05),
    labels=LABELS,
    audio=dataclasses.replace(Run(method=Erm.Config()).audio, rate=RATE),
    chunks=ChunkPlan(length_s=0.4, hop_s=0.4),
    train=Train(epochs=12, batch_size=16, lr=4e-3, precision="bfloat16"),
)


class Glides:
    """Tones that fall or rise, in noise."""

    def __init__(self, num: int, seed: int) -> None:
        self.num, self.seed = num, seed

    def __len__(self) -> int:
        return self.num

    def names(self, indices: NDArray[np.int64]) -> list[str]:
        return [str(i) for i in indices]

    def wave(self, i: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([self.seed, i])
        t = np.arange(round(0.7 * RATE)) / RATE
        slope = (-1, 1)[i % 2] * rng.uniform(300, 900)
        phase = 2 * np.pi * (rng.uniform(900, 1500) * t + slope * t**2 / 2)
        return (0.1 * np.sin(phase) + 0.02 * rng.standard_normal(len(t))).astype(np.float32)

    def batches(self, plan: Sequence[NDArray[np.int64]], epoch: int | None = None) -> Iterator[Batch]:
        for indices in plan:
            rows = [Utterance(id=str(i), path="-", emotion=LABELS.classes[i % 2]) for i in indices]
            yield collate([self.wave(int(i)) for i in indices], RUN.chunks, RATE, LABELS, rows)


def trained(run: Run) -> tuple[Method, list[float]]:
    trainer = Trainer(build(run), run.train, Glides(128, seed=0))
    losses = [trainer.epoch(epoch)["loss"] for epoch in range(run.train.epochs)]
    return trainer.method, losses


def answers(method: Method) -> NDArray[np.float64]:
    heard = Glides(60, seed=1)
    return predict(method, heard, np.arange(60), np.ones(60), 20)[0]


@pytest.fixture(scope="module")
def rough() -> tuple[Method, list[float]]:
    return trained(RUN)


def test_it_learns_what_float32_learns_and_answers_nearly_the_same(rough: tuple[Method, list[float]]) -> None:
    plain, losses = trained(dataclasses.replace(RUN, train=dataclasses.replace(RUN.train, precision="float32")))
    truth = np.arange(60) % 2
    for method in (rough[0], plain):
        assert (answers(method).argmax(1) == truth).mean() > 0.9
    assert weights_digest(rough[0]) != weights_digest(plain)
    assert rough[1] == pytest.approx(losses, abs=0.05)
    assert np.abs(answers(rough[0]) - answers(plain)).mean() < 0.05


def test_the_same_run_twice_is_bit_for_bit_the_same(rough: tuple[Method, list[float]]) -> None:
    assert weights_digest(trained(RUN)[0]) == weights_digest(rough[0])


def test_the_bundle_is_float32_answers_as_the_dev_pass_did_and_says_how_it_was_trained(
    rough: tuple[Method, list[float]], tmp_path: Path
) -> None:
    folder = bundle.save(tmp_path / "bundle", rough[0], RUN)
    assert {value.dtype for value in load_file(folder / "weights.safetensors").values()} == {torch.float32}
    opened = bundle.load(folder)
    assert opened.run.train.precision == "bfloat16"
    assert '"precision": "bfloat16"' in json.dumps(json.loads((folder / "bundle.json").read_text()))
    served = opened.answer([Glides(60, seed=1).wave(i) for i in range(60)])
    np.testing.assert_allclose([answer.emotion for answer in served], answers(rough[0]), atol=1e-5)


def test_its_onnx_is_float32(rough: tuple[Method, list[float]], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from moodcast import export

    opened = bundle.load(bundle.save(tmp_path / "bundle", rough[0], RUN))
    path = export.to_onnx(opened, tmp_path / "rough.onnx")
    model = onnx.load(path)
    assert onnx.TensorProto.BFLOAT16 not in {value.data_type for value in model.graph.initializer}
    assert export.compare(opened, path) < 1e-4


def test_a_method_without_encoders_refuses_and_says_why() -> None:
    run = dataclasses.replace(RUN, method=Functionals.Config())
    with pytest.raises(ValueError, match=r"train\.precision=bfloat16 is for encoders that train, and this Functionals has none: what it"):
        Trainer(build(run), run.train, Glides(8, seed=0))
    with pytest.raises(ValueError, match=r"float16"):
        replace_at(RUN, {"train.precision": "float16"})
