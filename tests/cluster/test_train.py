from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from moodcast import load
from moodcast.bundle import Bundle
from moodcast.cluster import folder as files
from moodcast.cluster.train import Fit, fit
from moodcast.cluster.work import take_weights
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.run import Run, build
from tests.audit.planted import note_copies
from tests.cluster.listeners import beyond_loopback
from tests.cluster.tiny import tiny_run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]
TRUST = ("tests",)
RUN = tiny_run(epochs=2, batch_size=12)  # 120 training stretches and more: ten steps an epoch, twenty in all


def opened(path: Path) -> Bundle:
    return load(path, trust=TRUST)


@contextmanager
def watched_listeners() -> Iterator[set[str]]:
    """Listeners beyond loopback of this process and its children, looked for again and again."""
    seen: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            seen.update(beyond_loopback(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(corpus: list[Utterance], out: Path, cache: Path, local_ray: None) -> tuple[Fit, set[str]]:
    with watched_listeners() as seen:
        done = fit(RUN, corpus, out, name="two", workers=2, cache=cache, progress=False)
    return done, seen


@pytest.fixture(scope="module")
def one(corpus: list[Utterance], out: Path, cache: Path, local_ray: None) -> Fit:
    return fit(RUN, corpus, out, name="one", workers=1, cache=cache, progress=False)


def test_one_and_two_workers_with_the_same_global_batch_agree_over_twenty_steps(one: Fit, two: tuple[Fit, set[str]]) -> None:
    first, second = (load_file(folder / "checkpoints" / "epoch_0001" / "weights.safetensors") for folder in (one.folder, two[0].folder))
    assert int(first["steps"]) == int(second["steps"]) == 20
    start = build(RUN, TRUST).state_dict()
    for name in ("net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias"):
        assert (first[name] - start[name]).abs().max() > 1e-2  # it has learned
        assert torch.allclose(first[name], second[name], atol=1e-5), name
    lines = [files.read_lines(folder / files.METRICS) for folder in (one.folder, two[0].folder)]
    for mine, theirs in zip(*lines, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert mine["dev_uar"] == theirs["dev_uar"]


def test_the_ranks_are_bit_equal_and_the_bundle_holds_their_weights(two: tuple[Fit, set[str]]) -> None:
    from moodcast.step import weights_digest

    done, _ = two
    lines = files.read_lines(done.folder / files.METRICS)
    assert lines[done.metrics["epoch"]]["weights"] == weights_digest(opened(done.bundle).method)
    assert len(files.read_lines(done.folder / files.ATTEMPTS)[0]["workers"]) == 2


def test_nothing_listens_beyond_loopback_while_training(two: tuple[Fit, set[str]]) -> None:
    assert two[1] == set()


def test_a_method_that_lets_its_ranks_drift_apart_is_stopped(corpus: list[Utterance], out: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="ranks' weights differ after epoch 0"):
        fit(replace_at(RUN, {"method.drift": True}), corpus, out, workers=2, cache=cache, progress=False)


def test_the_best_epoch_on_dev_becomes_a_bundle_that_answers(two: tuple[Fit, set[str]], corpus: list[Utterance]) -> None:
    done, _ = two
    bundle = opened(done.bundle)
    assert done.metrics["dev_uar"] == max(line["dev_uar"] for line in files.read_lines(done.folder / files.METRICS)) > 0.9
    assert bundle.scores["dev"]["uar"] == done.metrics["dev_uar"]
    dev = [row for row in corpus if row.split == "dev"]
    hits = [bundle.predict(row.path).label == row.emotion for row in dev]
    assert sum(hits) / len(hits) == pytest.approx(done.metrics["dev_accuracy"])
    assert not (done.bundle / files.TRAINING).exists()


@pytest.mark.parametrize(
    ("scores", "keep", "epoch"),
    [
        ([{"dev_uar": 0.5}, {"dev_uar": 0.7}, {"dev_uar": 0.7}, {"dev_uar": 0.6}], "best", 2),
        ([{"dev_uar": 0.5}, {"dev_uar": 0.7}, {"dev_uar": 0.6}], "last", 2),
        ([{}, {}], "best", 1),
        ([{"dev_uar": 0.7, "dev_ccc": 0.1}, {"dev_uar": 0.6, "dev_ccc": 0.4}, {"dev_uar": 0.5, "dev_ccc": 0.45}], "best", 1),
        ([{"dev_uar": 0.7}, {"dev_uar": 0.6, "dev_ccc": 0.2}], "best", 1),
        ([{"dev_uar": 0.7}, {"dev_uar": 0.6, "dev_ccc": -0.2}], "best", 0),
    ],
)
def test_the_epoch_that_is_kept_is_best_in_all_that_is_learned(scores: list[dict[str, float]], keep: str, epoch: int):
    assert files.kept_epoch(scores, keep) == epoch


def test_a_bundle_knows_whom_it_was_trained_on(two: tuple[Fit, set[str]], corpus: list[Utterance]) -> None:
    provenance = opened(two[0].bundle).provenance
    train = [row for row in corpus if row.split == "train"]
    assert set(provenance.speakers) == {row.corpus_speaker for row in train}
    assert len(provenance.fingerprints) == len(train)
    assert provenance.class_counts == {"high": len(train) // 2, "low": len(train) // 2}
    dev = [row for row in corpus if row.split == "dev"]
    assert set(provenance.chosen_on.speakers) == {row.corpus_speaker for row in dev}
    assert len(provenance.chosen_on.fingerprints) == len(dev)
    assert not set(provenance.chosen_on.fingerprints) & set(provenance.fingerprints)


def test_metrics_are_told_as_json_lines_and_to_tensorboard(two: tuple[Fit, set[str]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = two[0].folder
    lines = files.read_lines(folder / files.METRICS)
    assert [line["epoch"] for line in lines] == [0, 1]
    assert {"loss", "loss_classes", "dev_uar", "dev_accuracy", "seconds"} <= set(lines[0])
    board = EventAccumulator(str(folder / files.TENSORBOARD)).Reload()
    assert [event.value for event in board.Scalars("dev_uar")] == pytest.approx([line["dev_uar"] for line in lines])
    assert [event.step for event in board.Scalars("loss_classes")] == [0, 1]


def test_checkpoints_are_bundles_with_what_a_resumed_run_needs(one: Fit) -> None:
    latest = one.folder / files.CHECKPOINTS / "epoch_0001"
    assert opened(latest).classes == RUN.labels.classes
    state = torch.load(latest / files.TRAINING, weights_only=True)
    assert len(state["history"]) == 2
    assert set(state["optimizer"]) == {"net.0.weight", "net.0.bias", "net.3.weight", "net.3.bias"}


def test_resuming_a_finished_run_gives_its_result_again(one: Fit, corpus: list[Utterance], out: Path, cache: Path) -> None:
    assert fit(RUN, corpus, out, resume=one.folder, cache=cache, progress=False) == one


def test_a_name_that_is_taken_is_refused_and_without_one_names_are_new(one: Fit, corpus: list[Utterance], out: Path) -> None:
    with pytest.raises(ValueError, match=r"there is a run .*one already.*resume="):
        fit(RUN, corpus, out, name="one", progress=False)
    names = {files.new_folder(out, None, RUN).name for _ in range(5)}
    assert len(names) == 5
    with pytest.raises(ValueError, match="no name for a run"):
        fit(RUN, corpus, out, name="../elsewhere", progress=False)


def test_a_resumed_run_must_be_the_same_run_and_what_differs_is_named(one: Fit, corpus: list[Utterance], out: Path) -> None:
    other = replace_at(RUN, {"train.lr": 0.5, "method.width": 9})
    with pytest.raises(ValueError, match=r"method.width: 8 there, 9 here; train.lr: 0.01 there, 0.5 here"):
        fit(other, corpus, out, resume=one.folder, progress=False)
    with pytest.raises(ValueError, match=r"another manifest \(160 rows there, 159 here\)"):
        fit(RUN, corpus[:-1], out, resume=one.folder, progress=False)
    with pytest.raises(ValueError, match=r"no run to go on with"):
        fit(RUN, corpus, out, resume=out, progress=False)


def moved(rows: list[Utterance], **change: Any) -> list[Utterance]:
    return [replace(row, **change) if row.id == "u002" else row for row in rows]


@pytest.mark.parametrize(
    ("change", "run", "workers", "wanted"),
    [
        ({"split": "dev"}, RUN, 1, r"a leak between sides of the split: speaker on two sides: tiny/s2: \d+ in dev, \d+ in train"),
        (
            {},
            replace_at(RUN, {"labels.classes": ("high", "low", "bored")}),
            1,
            "no training utterance of bored; labels that came: high, low",
        ),
        ({}, replace_at(RUN, {"labels.classes": ("x", "y")}), 1, "no utterance to train on among 160"),
        ({}, RUN, 5, "batch_size=12 cannot be shared equally by 5 workers; choose a multiple"),
        (
            {},
            replace_at(RUN, {"train.precision": "bfloat16"}),
            1,
            "train.precision=bfloat16 is for encoders that train, and this Tiny",
        ),
        ({}, RUN, (2, 5), "batch_size=12 cannot be shared equally by any number of workers from 2 to 5; choose a multiple of 60"),
        ({}, RUN, (2, 1), r"wanted a number of workers, or the fewest and the most, got \(2, 1\)"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    change: dict[str, Any], run: Run, workers: int | tuple[int, int], wanted: str, corpus: list[Utterance], out: Path
) -> None:
    before = set(out.iterdir())
    with pytest.raises(ValueError, match=wanted):
        fit(run, moved(corpus, **change), out, workers=workers, progress=False)
    assert set(out.iterdir()) == before


def test_a_recording_on_two_sides_is_refused_under_another_name(corpus: list[Utterance], out: Path, cache: Path, tmp_path: Path) -> None:
    train = next(row for row in corpus if row.split == "train")
    dev = next(row for row in corpus if row.split == "dev")
    copy = tmp_path / "new-name.wav"
    copy.write_bytes(Path(train.path).read_bytes())
    rows = [*corpus, replace(dev, id="copy", path=str(copy))]
    with pytest.raises(ValueError, match=rf"same sound on two sides: identical: .*{train.corpus_speaker}"):
        fit(RUN, rows, out, cache=cache, progress=False)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_copy_that_an_audit_found_is_refused_on_any_side_and_remembered_where_it_is_let_through(
    split: str, corpus: list[Utterance], out: Path, tmp_path: Path
) -> None:
    train = next(row for row in corpus if row.split == "train")
    other = next(row for row in reversed(corpus) if row.split == "dev")
    rows = [replace(row, split=split, speaker="s9") if row is other else row for row in corpus]
    cache = tmp_path / "cache"
    note_copies(train, other, cache)
    with pytest.raises(ValueError, match=rf"in another form.*in {split}, train.*\(.*{other.id}.*train.allow_leaks=true lets them"):
        fit(RUN, rows, out, cache=cache, progress=False)
    assert not (cache / "waves").exists(), "this is known before anything is heard"
    if split == "test":  # which training itself does not hear
        done = fit(replace_at(RUN, {"train.allow_leaks": True, "train.epochs": 1}), rows, out, cache=cache, progress=False)
        (leak,) = opened(done.bundle).provenance.leaks
        assert leak.startswith("leak let through: same sound on two sides, once (")


def test_leaks_that_are_let_through_are_remembered_by_the_bundle(corpus: list[Utterance], out: Path, cache: Path) -> None:
    done = fit(
        replace_at(RUN, {"train.allow_leaks": True, "train.epochs": 1}), moved(corpus, split="dev"), out, cache=cache, progress=False
    )
    (leak,) = opened(done.bundle).provenance.leaks
    assert leak == "leak let through: speaker on two sides, once (tiny/s2)"


def test_a_run_that_cannot_begin_leaves_no_folder(corpus: list[Utterance], out: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="u002"):
        fit(RUN, moved(corpus, path=str(tmp_path / "no.wav")), out, name="bad", cache=cache, progress=False)
    assert not (out / "bad").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpus_that_are_not_there_are_refused_and_nothing_is_left(corpus: list[Utterance], out: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"2 workers with a GPU each were asked for; this Ray has 0 GPUs.*--no-gpu"):
        fit(RUN, corpus, out, name="gpu", workers=2, gpu=True, cache=cache, progress=False)
    assert not (out / "gpu").exists()


def test_without_a_dev_split_the_last_checkpoint_is_kept_and_that_is_said(
    two: tuple[Fit, set[str]], corpus: list[Utterance], out: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = replace(RUN, start_from=str(two[0].bundle), train=replace(RUN.train, epochs=1, lr=1e-9))
    done = fit(run, [row for row in corpus if row.split == "train"], out, cache=cache)
    told = capsys.readouterr().err
    assert "no dev split: the last checkpoint becomes the bundle" in told
    assert "epoch 1/1" in told
    assert "dev_uar" not in done.metrics
    given, taken = (load_file(path / "weights.safetensors") for path in (two[0].bundle, done.bundle))
    assert torch.allclose(given["net.0.weight"], taken["net.0.weight"], atol=1e-6)  # it started from that bundle


def test_a_bundle_has_heard_whom_the_one_it_started_from_has_heard(
    two: tuple[Fit, set[str]], corpus: list[Utterance], out: Path, cache: Path
) -> None:
    run = replace(RUN, start_from=str(two[0].bundle), train=replace(RUN.train, epochs=1))
    others = [replace(row, corpus="others") for row in corpus if row.split == "train"]
    heard = opened(fit(run, others, out, cache=cache, progress=False).bundle).provenance
    before = opened(two[0].bundle).provenance
    assert set(heard.speakers) == {*before.speakers, *(row.corpus_speaker for row in others)}
    assert set(heard.corpora) == {*before.corpora, "others"}
    assert set(before.fingerprints) <= set(heard.fingerprints)
    assert heard.chosen_on == before.chosen_on, "this training had no dev side of its own"


def test_weights_are_taken_by_the_beginning_of_their_names(two: tuple[Fit, set[str]]) -> None:
    method = build(tiny_run(seed=5), TRUST)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    assert take_weights(method, str(two[0].bundle), ("net.0",), TRUST) == ["net.0.weight", "net.0.bias"]
    after, given = method.state_dict(), load_file(two[0].bundle / "weights.safetensors")
    assert torch.equal(after["net.0.weight"], given["net.0.weight"])
    assert torch.equal(after["net.3.weight"], before["net.3.weight"])
    with pytest.raises(ValueError, match=r"no weight begins with \('encoder',\)"):
        take_weights(method, str(two[0].bundle), ("encoder",), TRUST)
    with pytest.raises(ValueError, match=r"net.0.weight has shape \(8, 32\) there and shape \(5, 32\) in this run"):
        take_weights(build(replace_at(RUN, {"method.width": 5}), TRUST), str(two[0].bundle), ("",), TRUST)
