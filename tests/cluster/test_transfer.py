"""Adaptation on Ray: a target beside the source, its rows kept without labels, a bundle that knows whom it heard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moodcast import load
from moodcast.adapting import Front
from moodcast.chunks import ChunkPlan
from moodcast.cluster import folder as files
from moodcast.cluster import job, publish
from moodcast.cluster.train import Fit, fit
from moodcast.evaluate import evaluate
from moodcast.labels import Labels
from moodcast.manifest import Utterance, read_manifest, write_manifest
from moodcast.methods.coral import Coral
from moodcast.methods.shot import Shot
from moodcast.methods.target_norm import TargetNorm
from moodcast.run import Audio, Run, Train
from tests.cluster.tiny import CLASSES, RATE, tiny_corpus, tiny_run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
FRONT = Front(kind="functionals", width=8, dropout=0.0)


def run_of(config: object, epochs: int = 2) -> Run:
    return Run(
        method=config,
        labels=Labels(CLASSES),
        audio=Audio(rate=RATE),
        chunks=ChunkPlan(length_s=0.5, hop_s=0.5),
        train=Train(epochs=epochs, batch_size=8, lr=1e-2, threads=1),
        start_prefixes=("trunk.",),
    )


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    rows = tiny_corpus(tmp_path_factory.mktemp("far"), 224, 8)[160:]  # other sounds than those of the source
    return [replace(row, corpus="far", id=f"far-{row.id}", split="test" if row.speaker in ("s0", "s1") else "train") for row in rows]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def done(corpus: list[Utterance], target: list[Utterance], out: Path, cache: Path, local_ray: None) -> Fit:
    return fit(run_of(Coral.Config(front=FRONT)), corpus, out, name="coral", workers=2, cache=cache, progress=False, target=target)


def test_the_folder_keeps_the_target_without_labels_and_without_its_test_side(done: Fit, target: list[Utterance]) -> None:
    kept = read_manifest(done.folder / files.TARGET)
    assert {row.id for row in kept} == {row.id for row in target if row.split == "train"}
    assert all(row.emotion is None for row in kept)
    assert all(row.emotion is not None for row in read_manifest(done.folder / files.MANIFEST))


def test_two_workers_train_on_both_streams_and_choose_on_the_source(done: Fit) -> None:
    lines = files.read_lines(done.folder / files.METRICS)
    assert [line["epoch"] for line in lines] == [0, 1]
    assert all(line["loss_coral"] >= 0 and 0 <= line["dev_uar"] <= 1 for line in lines)


def test_a_bundle_knows_whom_it_heard_without_labels_and_is_not_scored_on_them(done: Fit, target: list[Utterance]) -> None:
    bundle = load(done.bundle)
    known = bundle.provenance
    assert set(known.adapted_to.speakers) == {f"far/s{i}" for i in range(2, 8)}
    assert known.adapted_to.corpora == ("far",)
    assert len(known.adapted_to.fingerprints) == 48
    assert set(known.speakers) & set(known.adapted_to.speakers) == set()
    assert known.corpora == ("tiny",)
    assert "Adapted, without labels, to far: 6 speakers" in publish.card(bundle, "coral", {})
    report = evaluate(bundle, target, "test", plain=False)
    assert report.slices[0].num_utterances == 16
    heard = [replace(row, split="test") for row in target if row.split == "train"]
    with pytest.raises(ValueError, match="far/s2"):
        evaluate(bundle, heard, "test", plain=False)
    renamed = [replace(row, corpus="other") for row in heard]
    with pytest.raises(ValueError, match="recordings"):
        evaluate(bundle, renamed, "test", plain=False)


def test_a_run_is_gone_on_with_from_its_own_folder_and_another_target_is_refused(
    done: Fit, corpus: list[Utterance], target: list[Utterance], cache: Path
) -> None:
    run = run_of(Coral.Config(front=FRONT))
    assert job.train(run, [], resume=done.folder, workers=2, cache=cache, progress=False) == done
    with pytest.raises(ValueError, match="another target"):
        fit(run, corpus, done.folder.parent, resume=done.folder, progress=False, target=target[9:])


def test_what_hears_no_source_starts_from_a_bundle_and_keeps_what_that_knew(
    corpus: list[Utterance], target: list[Utterance], out: Path, cache: Path, tmp_path: Path
) -> None:
    begun = fit(run_of(TargetNorm.Config(front=FRONT), 1), corpus, out, name="begun", cache=cache, progress=False, target=target)
    write_manifest(target, tmp_path / "far.parquet")
    shot = replace(run_of(Shot.Config(front=FRONT)), start_from=str(begun.bundle))
    moved = job.train(shot, [], out=out, name="shot", cache=cache, progress=False, target=[tmp_path / "far.parquet"])
    known, before = load(moved.bundle).provenance, load(begun.bundle).provenance
    assert known.speakers == before.speakers
    assert known.class_counts == before.class_counts
    assert known.adapted_to.speakers == before.adapted_to.speakers
    assert not (moved.folder / files.MANIFEST).exists()
    assert load(moved.bundle).predict(target[0].path).label in CLASSES
    with pytest.raises(ValueError, match="start_from=FOLDER"):
        job.train(replace(shot, start_from=None), [], out=out, progress=False, target=[tmp_path / "far.parquet"])
    turned = replace(shot, labels=Labels(CLASSES[::-1]))
    with pytest.raises(ValueError, match="in this order, and this run has"):
        job.train(turned, [], out=out, name="turned", progress=False, target=[tmp_path / "far.parquet"])
    assert not (out / "turned").exists()  # it is said before anything begins


def test_an_upper_bound_says_so_with_every_score(corpus: list[Utterance], target: list[Utterance], out: Path, cache: Path) -> None:
    run = tiny_run(epochs=1)
    done = fit(run, corpus, out, name="bound", cache=cache, progress=False, target=target, unsealed=True)
    bundle = load(done.bundle, trust=("tests",))
    assert bundle.provenance.adapted_to.unsealed == ("far",)
    report = evaluate(bundle, target, "test", plain=False)
    assert any(flag.startswith("upper bound") for flag in report.flags)
    assert "UPPER BOUND" in report.slices[0].guard
    assert "An upper bound, no adaptation: labels of the target far" in publish.card(bundle, "bound", {})
