"""Functionals: logistic regression as scikit-learn solves it, standardised by training data, whole stretches whatever the chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from moodcast import bundle
from moodcast.audio import read
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.corpora import prepare
from moodcast.labels import Labels
from moodcast.manifest import split_by_group
from moodcast.methods.functionals import Functionals, solved
from moodcast.nn.functionals import plain
from moodcast.passes import predict
from moodcast.run import Run, Train, build
from moodcast.step import Trainer

RATE = 16_000
PLAN = ChunkPlan(length_s=1.0, hop_s=1.0)
CLASSES = ("angry", "happy", "neutral", "sad")


def made(plan: ChunkPlan = PLAN, **settings: object) -> Functionals:
    method = build(Run(method=Functionals.Config(**settings), labels=Labels(CLASSES), chunks=plan))
    assert isinstance(method, Functionals)
    return method


class Sounds:
    """Stretches as training data, one batch at a time; the class is i % 4, shown in pitch."""

    def __init__(self, num: int = 40) -> None:
        rng = np.random.default_rng(0)
        self.waves = []
        for i in range(num):
            time = np.arange(int(RATE * rng.uniform(0.5, 1.5))) / RATE
            hz = 100 * 1.5 ** (i % 4) * rng.uniform(0.9, 1.1)
            wave = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 8)) + 0.1 * rng.standard_normal(len(time))
            self.waves.append((0.05 * wave).astype(np.float32))

    def __len__(self) -> int:
        return len(self.waves)

    def names(self, indices):
        return [str(i) for i in indices]

    def batches(self, plan, epoch=None):
        for at in plan:
            batch = collate([self.waves[i] for i in at], PLAN, RATE)
            yield dataclasses.replace(batch, target=torch.eye(4)[[i % 4 for i in at]], weight=torch.ones(len(at)))


def test_the_regression_is_scikit_learns():
    rng = np.random.default_rng(1)
    found, labels = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    weights, bias = solved(found, np.eye(3)[labels], np.ones(60), 0.3, balanced=True)
    wanted = LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced").fit(found, labels)
    np.testing.assert_allclose(weights, wanted.coef_, atol=1e-3)
    np.testing.assert_allclose(bias, wanted.intercept_, atol=1e-3)


def test_two_classes_and_votes_are_solved_too():
    rng = np.random.default_rng(1)
    found, labels = rng.standard_normal((80, 3)), rng.integers(0, 2, 80)
    weights, bias = solved(found, np.eye(2)[labels], np.ones(80), 1.0, balanced=False)
    wanted = LogisticRegression(C=1.0).fit(found, labels)
    logits = found @ weights.T + bias
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(share, wanted.predict_proba(found), atol=1e-3)
    halves = np.full((80, 2), 0.5)  # nobody agrees, so that nothing can be learned
    weights, _ = solved(found, halves, np.ones(80), 1.0, balanced=False)
    np.testing.assert_allclose(weights, 0.0, atol=1e-3)
    twice = solved(np.r_[found, found[:10]], np.eye(2)[np.r_[labels, labels[:10]]], np.ones(90), 1.0, balanced=False)
    heavy = solved(found, np.eye(2)[labels], np.r_[np.full(10, 2.0), np.ones(70)], 90 / 80, balanced=False)
    np.testing.assert_allclose(heavy[0], twice[0], atol=1e-3)  # a weight of two is being there twice
    with pytest.raises(ValueError, match=r"classes \[1\] have no training utterance"):
        solved(found, np.eye(2)[np.zeros(80, dtype=int)], np.ones(80), 1.0, balanced=True)


def test_it_is_solved_before_the_first_epoch_and_stays_so():
    method, data = made(), Sounds()
    trainer = Trainer(method, Train(epochs=1, batch_size=8), data)
    trainer.fit_once()
    assert trainer.optimizer is None
    assert trainer.epoch(0) == {}
    guess = predict(method, data, np.arange(40), np.ones(40), 8)[0].argmax(1)
    assert (guess == np.arange(40) % 4).mean() > 0.95
    standard = torch.cat([method(batch).embedding for batch in data.batches([np.arange(40)])])
    assert standard.mean(0).abs().max() < 0.2  # but for what is clipped
    assert standard.std(0).median() == pytest.approx(1.0, abs=0.1)


def test_a_network_on_standardised_features_is_trained_as_any_method_is():
    method, data = made(classifier="mlp", dropout=0.1), Sounds()
    trainer = Trainer(method, Train(epochs=15, batch_size=8, lr=1e-2), data)
    trainer.fit_once()
    losses = [trainer.epoch(epoch)["loss"] for epoch in range(15)]
    assert losses[-1] < 0.6 * losses[0]
    guess = predict(method, data, np.arange(40), np.ones(40), 8)[0].argmax(1)
    assert (guess == np.arange(40) % 4).mean() > 0.9


@pytest.mark.parametrize(
    "plan", [PLAN, ChunkPlan(length_s=0.5, count=5), ChunkPlan(length_s=1.0, hop_s=0.3)], ids=["hopped", "counted", "over"]
)
def test_features_are_those_of_the_whole_stretch_however_it_is_cut(plan: ChunkPlan, speechlike: Callable[..., NDArray[np.float32]]):
    method = made(plan)
    waves = [speechlike(seconds, RATE, seed) for seed, seconds in enumerate((1.7, 0.3, 2.2))]
    found = method.frozen(collate(waves, plan, RATE))
    assert found.shape == (3, 1, 138)
    for row, wave in zip(found[:, 0].numpy(), waves, strict=True):
        np.testing.assert_array_equal(row, plain(wave, RATE, method.filters))


def test_what_is_kept_is_named_by_the_set_and_not_by_the_classifier():
    assert made().frozen_name() == made(classifier="mlp", strength=1.0).frozen_name() != ""


def test_egemaps_in_a_bundle_answers_as_before(tmp_path: Path, speechlike: Callable[..., NDArray[np.float32]]):
    pytest.importorskip("opensmile", reason="opensmile is not installed: pip install 'moodcast[functionals]'")
    method = made(features="egemaps")
    assert method.frozen_name() != made().frozen_name()
    run = Run(method=method.config, labels=Labels(CLASSES), chunks=PLAN)
    loaded = bundle.load(bundle.save(tmp_path / "b", method, run))
    wave = speechlike(1.2, RATE)
    with torch.no_grad():
        torch.testing.assert_close(loaded.method(collate([wave], PLAN, RATE)).emotion, method(collate([wave], PLAN, RATE)).emotion)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors", ".md"}
    assert "research and private use only" in (tmp_path / "b" / "README.md").read_text()
    assert made().terms() == ""


@pytest.mark.corpora
def test_on_real_speakers_never_heard_it_is_far_above_chance(corpora: Path):
    """The folds of all three free corpora are in docs/log.md; here two speakers of emodb, in seconds."""
    labels, rows = Labels(CLASSES), split_by_group(prepare("emodb", corpora / "emodb"), seed=0)
    rows = [row for row in labels.keep(rows) if row.split != "dev"]
    sides = [[row for row in rows if (row.split == "test") == heard] for heard in (False, True)]

    class Read(Sounds):
        def __init__(self, side: int) -> None:
            self.rows = sides[side][:: 2 - side]
            self.waves = [read(row.path)[: 6 * RATE] for row in self.rows]

        def batches(self, plan, epoch=None):
            wide = ChunkPlan(length_s=6.0, hop_s=6.0)
            for at in plan:
                yield collate([self.waves[i] for i in at], wide, RATE, labels, [self.rows[i] for i in at])

    method = made(ChunkPlan(length_s=6.0, hop_s=6.0))
    Trainer(method, Train(epochs=1, batch_size=32), Read(0)).fit_once()
    test: Batch
    (test,) = Read(1).batches([np.arange(len(sides[1]))])
    with torch.no_grad():
        guess = method(test).emotion.argmax(1)
    truth = test.target.argmax(1)
    recalls = [(guess[truth == k] == k).float().mean().item() for k in range(4)]
    assert np.mean(recalls) > 0.55
