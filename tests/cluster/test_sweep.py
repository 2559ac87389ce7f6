"""A sweep: what it searches on, what a killed one goes on with, what it leaves on disk. Trials run in this process, without Ray."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune

import moodcast
from moodcast.augment import Augment, Crop
from moodcast.cluster import search, sweep
from moodcast.cluster.data import CachedStretches, Part
from moodcast.cluster.ledger import LINES, STATE, TEST_ROWS, Ledger, trial_folder
from moodcast.cluster.lockstep import Lockstep
from moodcast.cluster.referee import Referee
from moodcast.cluster.standing import Standing, ended_line
from moodcast.cluster.trial import trial_of
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.methods.pretrained import Pretrained
from moodcast.order import Plan
from moodcast.run import Audio
from tests.cluster.sweeping import RUN, begun, divided, killed_between, play, scores, space


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return divided(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(rows: list[Utterance], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A sweep that nothing disturbed."""
    return play(begun(rows, tmp_path_factory.mktemp("whole") / "sweep"), cache)


def test_the_first_trial_has_the_published_settings_and_goes_to_the_end(whole: Ledger) -> None:
    first = whole.trials[0]
    assert (first.origin, first.state, first.last_epoch) == ("published", "finished", 4)
    assert first.changes == {"train.lr": RUN.train.lr, "method.dropout": 0.0}
    assert all(trial.origin == "searched" for trial in whole.ended[1:])


def test_every_trial_ends_once_and_those_behind_are_stopped(whole: Ledger) -> None:
    whole.check_count()
    assert [trial.number for trial in whole.ended] == list(range(6))
    states = {trial.state for trial in whole.ended}
    assert states == {"finished", "stopped"}
    for trial in whole.ended:
        assert trial.last_epoch == 4 if trial.state == "finished" else trial.last_epoch in (1, 2)
    assert whole.best is not None
    assert whole.best.value == max(trial.value for trial in whole.ended if trial.state == "finished")


def test_switches_steer_the_space_and_are_no_fields(whole: Ledger) -> None:
    for trial in whole.ended:
        assert set(trial.changes) == {"train.lr", "method.dropout"}
        assert ("method.dropout" in trial.params) == trial.params["method.dropout.on"] == (trial.changes["method.dropout"] > 0)


def test_a_trial_is_scored_by_the_mean_over_folds_of_speakers_it_has_not_heard(whole: Ledger, rows: list[Utterance]) -> None:
    best = whole.best
    assert best is not None
    assert best.value == pytest.approx(sum(best.epochs[-1]["each"]) / 2)
    assert sorted(best.counts or {}) == [f"tiny/s{i}" for i in range(2, 8)]
    assert sum(sum(map(sum, count)) for count in (best.counts or {}).values()) == sum(row.split == "train" for row in rows)


def test_only_the_best_leave_something_and_each_of_it_can_be_served(whole: Ledger, rows: list[Utterance]) -> None:
    left = sorted(int(path.name) for path in (whole.folder / "trials").iterdir())
    assert left == sorted(trial.number for trial in whole.ranked()[:2])
    for number in left:
        folder = trial_folder(whole.folder, number)
        assert sorted(path.name for path in folder.iterdir()) == ["fold0", "fold1"]
        for path in folder.iterdir():
            bundle = moodcast.load(path, trust=("tests",))
            assert bundle.predict(rows[0].path).label in ("high", "low")
            heard, chosen = bundle.provenance.speakers, bundle.provenance.chosen_on.speakers
            assert sorted((*heard, *chosen)) == [f"tiny/s{i}" for i in range(2, 8)]
            assert bundle.run.train.lr == whole.trials[number].changes["train.lr"]
    assert not list(whole.folder.rglob(STATE))


@pytest.mark.parametrize("reports", [(1, 1, 1), (4, 6), (13,)])
def test_a_sweep_that_is_killed_and_gone_on_with_tries_the_same_trials_once(
    whole: Ledger, rows: list[Utterance], cache: Path, tmp_path: Path, reports: tuple[int, ...]
) -> None:
    folder = begun(rows, tmp_path / "sweep")
    for most in reports:
        play(folder, cache, most)
        with (folder / LINES).open("a") as file:
            file.write('{"event": "epoch", "tri')  # killed while it wrote
    again = play(folder, cache)
    again.check_count()
    assert scores(again) == scores(whole)
    lines = [json.loads(line) for line in (folder / LINES).read_text().splitlines()]
    assert len(lines) == len({(line["event"], line["trial"], line.get("epoch")) for line in lines})


def test_the_time_that_is_left_counts_from_the_first_trial_that_ended(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("moodcast.cluster.standing.time.monotonic", lambda: clock[0])
    with Ledger(begun(rows, tmp_path / "sweep", trials=6), write=True) as ledger:
        standing = Standing(ledger, progress=False)
        told = []
        for number, seconds in ((0, 100.0), (1, 10.0), (2, 10.0)):  # Ray starts and audio is decoded while the first one runs
            ledger.begin(search.next_trial(space, RUN, {}, [], number=number, searcher="random", seed=0))
            clock[0] += seconds
            ledger.epoch(number, {"epoch": 1, "value": 0.5, "spread": 0.0, "each": [0.5], "loss": 1.0, "seconds": seconds})
            ledger.end(number, "finished")
            standing.show(number)
            told.append(standing.left)
        assert told == [500.0, 40.0, 30.0]
        assert "3 of 6 trials, about 30 s left" in str(standing.table().renderables[0])


def test_a_score_whose_consequence_was_not_written_has_it_all_the_same(whole: Ledger, rows: list[Utterance], tmp_path: Path) -> None:
    stopped = next(trial for trial in whole.ended if trial.state == "stopped")
    folder = begun(rows, tmp_path / "sweep")
    lines = [line for line in (whole.folder / LINES).read_text().splitlines()]
    cut = next(i for i, line in enumerate(lines) if json.loads(line)["event"] == "ended" and json.loads(line)["trial"] == stopped.number)
    (folder / LINES).write_text("\n".join(lines[:cut]) + "\n")
    with Ledger(folder, write=True) as ledger:
        assert ledger.trials[stopped.number].state == "running"
        Referee(ledger, Standing(ledger, progress=False))
        assert ledger.trials[stopped.number].state == "stopped"


def test_a_trial_whose_last_score_was_written_and_not_its_end_ends_all_the_same(
    whole: Ledger, rows: list[Utterance], cache: Path, tmp_path: Path
) -> None:
    folder = begun(rows, tmp_path / "sweep")
    assert scores(killed_between(folder, cache, reports=3)) == scores(whole)


def test_who_came_to_the_last_epoch_has_finished_however_it_compares(rows: list[Utterance], tmp_path: Path) -> None:
    with Ledger(begun(rows, tmp_path / "sweep", trials=3), write=True) as ledger:
        for number in range(3):
            ledger.begin(search.next_trial(space, RUN, {}, [], number=number, searcher="random", seed=0))
            for epoch in range(1, 5):
                value = 0.1 if (number, epoch) == (2, 4) else 0.9
                ledger.epoch(number, {"epoch": epoch, "value": value, "spread": 0.0, "each": [value], "loss": 1.0, "seconds": 1.0})
            if number < 2:
                ledger.end(number, "finished")
        Referee(ledger, Standing(ledger, progress=False))  # the driver was killed before it wrote the end of the third
        assert ledger.trials[2].state == "running"


def test_a_line_for_which_there_is_no_space_leaves_no_half_for_the_next_to_join(rows: list[Utterance], tmp_path: Path) -> None:
    with Ledger(begun(rows, tmp_path / "sweep", trials=3), write=True) as ledger:
        trials = [search.next_trial(space, RUN, {}, [], number=number, searcher="random", seed=0) for number in range(3)]
        ledger.begin(trials[0])
        before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((ledger.folder / LINES).stat().st_size + 20, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                ledger.begin(trials[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        ledger.begin(trials[2])
    assert list(Ledger(ledger.folder).trials) == [0, 2]


def test_no_test_row_is_read(whole: Ledger, rows: list[Utterance], cache: Path, tmp_path: Path) -> None:
    """With every recording of the test side replaced by what cannot be decoded, the same comes out."""
    spoilt = tmp_path / "nan.wav"
    spoilt.write_bytes(b"not a number" * 100)
    others = [replace(row, path=str(spoilt), emotion="low") if row.split == "test" else row for row in rows]
    again = play(begun(others, tmp_path / "sweep"), tmp_path / "cache")
    assert scores(again) == scores(whole)
    assert {row.split for row in moodcast.manifest.read_manifest(again.folder / "manifest.parquet")} == {"train"}
    assert {row.split for row in moodcast.manifest.read_manifest(again.folder / TEST_ROWS)} == {"test"}


def test_a_second_test_side_is_not_searched_on(rows: list[Utterance], tmp_path: Path) -> None:
    several = [replace(row, split="test2") if row.speaker == "s2" else row for row in rows]
    folder = begun(several, tmp_path / "sweep")
    assert "s2" in {row.speaker for row in rows if row.split == "train"}
    held = moodcast.manifest.read_manifest(folder / "manifest.parquet")
    assert {row.id for row in held} == {row.id for row in several if row.split == "train"}


def test_a_trial_that_fails_and_one_that_diverges_are_told_and_the_others_go_on(rows: list[Utterance], cache: Path, tmp_path: Path) -> None:
    def wild(trial: Any) -> dict[str, Any]:
        rate = trial.suggest_categorical("train.lr", [0.01, 1e36])
        return {"train.lr": rate, "method.nan_at_step": trial.suggest_categorical("method.nan_at_step", [-1, 1])}

    folder = sweep.begin(RUN, wild, "tiny", rows, tmp_path / "sweep", sweep.Plan(trials=12, folds=2, searcher="random", scheduler="none"))
    ledger = play(folder, cache, at=wild)
    ledger.check_count()
    by_state = {trial.state: trial for trial in ledger.ended}
    assert {"finished", "diverged", "failed"} <= set(by_state)
    assert by_state["diverged"].last_epoch < 4
    assert "is nan" in by_state["diverged"].error or "norm of the gradient" in by_state["diverged"].error
    assert "ValueError" in by_state["failed"].error
    assert "failed: ValueError" in ended_line(ledger, by_state["failed"], None)
    assert ledger.best is not None
    assert ledger.best.changes == {"train.lr": 0.01, "method.nan_at_step": -1}


def test_a_trial_whose_process_dies_is_given_up_only_when_ray_gives_it_up(rows: list[Utterance], tmp_path: Path) -> None:
    """Ray Tune says "error" also where it is about to start the trial again."""
    with Ledger(begun(rows, tmp_path / "sweep", trials=1), write=True) as ledger:
        ledger.begin(search.next_trial(space, RUN, {}, [], number=0, searcher="random", seed=0))
        referee = Referee(ledger, Standing(ledger, progress=False))
        trial = SimpleNamespace(config={"trial": 0}, get_pickled_error=lambda: RuntimeError("out of memory\nand more"))
        for again, state in ((True, "running"), (False, "failed")):
            trial.should_recover = lambda again=again: again
            referee.on_trial_error(None, trial)
            assert ledger.trials[0].state == state
        assert ledger.trials[0].error == "its process died 3 times; the last time: out of memory"


def test_models_of_several_seeds_count_like_more_folds(rows: list[Utterance], cache: Path, tmp_path: Path) -> None:
    ledger = play(begun(rows, tmp_path / "sweep", trials=1, seeds=2), cache)
    line = ledger.trials[0].epochs[-1]
    assert len(line["each"]) == 4
    assert line["value"] == pytest.approx(sum(line["each"]) / 4)
    assert line["spread"] == pytest.approx(np.std(line["each"], ddof=1), abs=1e-6)
    losses = {member.run.train.seed for member in trial_of(ledger.folder, {}, cache).members}
    assert losses == {RUN.train.seed, RUN.train.seed + 1}


def test_a_rival_has_the_same_budget_and_rows_and_a_field_less(whole: Ledger) -> None:
    folder = sweep.rival_of(whole.folder, space, ["method.dropout=0"])
    assert sweep.rival_of(whole.folder, space, ["method.dropout=0"]) == folder, "a second call goes on with it"
    assert sweep.rival_of(whole.folder, space, ["method.dropout=0.0"]) == folder, "the same field at the same value"
    ours, theirs = whole.settings, Ledger(folder).settings
    same = ("trials", "searcher", "scheduler", "folds", "seeds", "seed", "grace", "factor", "epochs", "rows_sha256", "test_sha256")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert (theirs["fixed"], theirs["fields"]) == ({"method.dropout": 0.0}, ["train.lr"])
    with pytest.raises(ValueError, match="train.lrr is not searched by .* Did you mean 'train.lr'.* Searched: "):
        sweep.rival_of(whole.folder, space, ["train.lrr=1"])


def test_a_frozen_encoder_is_heard_once_for_all_trials(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(RUN.chunks, length_s=0.5, hop_s=0.5)
    run = replace(RUN, method=Pretrained.Config(width=8), chunks=plan, audio=Audio(16_000), train=replace(RUN.train, epochs=1))
    heard: list[int] = []
    own = Pretrained.frozen

    def frozen(self: Pretrained, batch: Any) -> Any:
        heard.append(batch.size)
        return own(self, batch)

    monkeypatch.setattr(Pretrained, "frozen", frozen)
    train = [row for row in rows if row.split == "train"][:24]
    scores = []
    for kept in ("on", "on", "off"):
        heard.clear()
        steps = Lockstep(replace_at(run, {"train.cache_features": kept}), train, 2, 1, root=tmp_path / "cache")
        scores.append(steps.next()["each"])
        assert sum(heard) == (24 if len(scores) == 1 else 0), "once, by whoever comes first; without the cache, as part of forward"
    assert scores[0] == scores[1] == scores[2]


def test_a_fold_augments_what_it_draws_twice_in_two_ways_as_the_whole_does(rows: list[Utterance], cache: Path) -> None:
    crop = Augment(crop=Crop(share=1.0, seconds=0.1))
    whole = CachedStretches(rows[:6], replace(RUN, augment=crop), cache)
    plan = Plan([np.array([2, 2])], [np.array([0, 1])])
    (ours,) = Part(whole, np.array([5, 3, 1])).batches(plan, epoch=0)
    (theirs,) = whole.batches(Plan([np.array([1, 1])], plan.draws), epoch=0)
    assert torch.equal(ours.chunks, theirs.chunks)
    assert not torch.equal(ours.chunks[0], ours.chunks[1])


def test_a_searcher_that_learns_asks_nearer_to_what_was_good() -> None:
    """Told that a small rate is good, the estimator asks for smaller rates than chance does."""
    asked: dict[str, list[float]] = {"optuna": [], "random": []}
    for searcher, found in asked.items():
        history: list[Any] = []
        for number in range(30):
            trial = search.next_trial(space, RUN, {}, history, number=number, searcher=searcher, seed=1)
            far = abs(math.log10(trial.changes["train.lr"] / 3e-4))
            trial.epochs, trial.state = [{"epoch": 4, "value": 1 - far / 3, "spread": 0, "seconds": 1}], "finished"
            history.append(trial)
            found.append(far)
    assert sum(asked["optuna"][10:]) < 0.7 * sum(asked["random"][10:])


def test_a_space_of_domains_is_asked_as_one_that_is_a_function() -> None:
    domains = {
        "a": tune.uniform(0, 1),
        "b": tune.loguniform(1e-3, 1),
        "c": tune.choice(["x", "y"]),
        "d": tune.randint(0, 3),
        "e": tune.quniform(0, 1, 0.25),
    }
    module = ModuleType("mine")
    module.SPACE = domains  # type: ignore[attr-defined]
    drawn = []
    study = search.optuna.create_study(sampler=search.optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        drawn.append(search.space_of(module)(study.ask()))
    assert {found["c"] for found in drawn} == {"x", "y"}
    assert {found["d"] for found in drawn} == {0, 1, 2}
    assert {found["e"] for found in drawn} == {0, 0.25, 0.5, 0.75, 1}
    assert 0.2 < sum(found["b"] < math.sqrt(1e-3) for found in drawn) / 60 < 0.8
    for other in (tune.sample_from(lambda: 1), tune.grid_search([1, 2]), 3, "x"):
        module.SPACE = {"a": other}  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="^a: .* has no counterpart"):
            search.space_of(module)(study.ask())


def test_a_trial_asks_for_its_share_of_a_gpu_and_no_more_run_than_there_is() -> None:
    """What is asked for, on a machine without one: how fast that is has not been measured."""
    quarter = sweep.Machines(gpus=0.25)
    assert sweep.trainable(quarter, 2)._resources.required_resources == {"CPU": 2, "GPU": 0.25}
    assert "GPU" not in sweep.trainable(sweep.Machines(), 1)._resources.required_resources
    assert sweep.trials_at_once(quarter, 1, {"CPU": 16.0, "GPU": 2.0}) == 8
    assert sweep.trials_at_once(quarter, 1, {"CPU": 4.0, "GPU": 2.0}) == 4
    assert sweep.trials_at_once(sweep.Machines(concurrent=3, gpus=0.25), 1, {"CPU": 4.0, "GPU": 2.0}) == 3
    assert sweep.trials_at_once(sweep.Machines(), 2, {"CPU": 5.0}) == 2
    with pytest.raises(ValueError, match="a trial was to have 0.25 GPU; this Ray has 0"):
        sweep.trials_at_once(quarter, 1, {"CPU": 4.0})
    with pytest.raises(ValueError, match="a trial was to have 2 GPU; this Ray has 1"):
        sweep.trials_at_once(sweep.Machines(gpus=1, workers=2), 1, {"CPU": 4.0, "GPU": 1.0})


def test_two_drivers_cannot_work_on_one_sweep(whole: Ledger) -> None:
    with Ledger(whole.folder, write=True), pytest.raises(ValueError, match="another process is at work"):
        Ledger(whole.folder, write=True)


def test_a_sweep_goes_on_in_its_own_space_only(whole: Ledger) -> None:
    with pytest.raises(ValueError, match="was begun in another space"):
        sweep.go_on(whole.folder, lambda trial: {"train.lr": trial.suggest_float("train.lr", 1e-4, 1e-2, log=True)})
