"""Population-based training: who goes on from whose weights, and what a killed one grows on to. In this process, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moodcast.cluster import population, sweep
from moodcast.cluster.ledger import Ledger
from moodcast.cluster.trial import trial_of
from moodcast.manifest import Utterance
from tests.cluster.sweeping import RUN, begun, divided, killed_between, play, scores, space


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return divided(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def grown(rows: list[Utterance], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A population of four over two generations."""
    return play(begun(rows, tmp_path_factory.mktemp("grown") / "sweep", searcher="pbt", trials=8, interval=2), cache)


def test_members_of_a_population_go_on_from_the_weights_of_the_better_ones(grown: Ledger) -> None:
    grown.check_count()
    first, second = grown.ended[:4], grown.ended[4:]
    assert [trial.last_epoch for trial in grown.ended] == [2] * 4 + [4] * 4
    worst = min(first, key=lambda trial: (trial.value, -trial.number))
    best = max(first, key=lambda trial: (trial.value, -trial.number))
    for member, trial in enumerate(second):
        if member == worst.number:
            assert trial.parent == best.number
            assert trial.changes != best.changes
        else:
            assert (trial.parent, trial.params) == (member, first[member].params)
    assert grown.best in second
    assert [t.number for t in population.lineage(grown.trials, grown.best.number)][-1] == grown.best.number  # type: ignore[union-attr]


def test_a_member_that_was_not_moved_trains_as_if_it_had_never_paused(grown: Ledger, rows: list[Utterance], cache: Path) -> None:
    kept = next(trial for trial in grown.ended[4:] if trial.params == grown.trials[trial.number - 4].params)
    steps = trial_of(grown.folder, kept.changes, cache)
    lines = [steps.next() for _ in range(4)]
    assert [line["value"] for line in lines[2:]] == [line["value"] for line in kept.epochs]


def test_a_population_that_is_killed_grows_on_to_the_same(grown: Ledger, rows: list[Utterance], cache: Path, tmp_path: Path) -> None:
    folder = begun(rows, tmp_path / "sweep", searcher="pbt", trials=8, interval=2)
    for most in (3, 5, 4):
        play(folder, cache, most)
    again = play(folder, cache)
    assert scores(again) == scores(grown)
    assert [trial.parent for trial in again.ended] == [trial.parent for trial in grown.ended]


def test_a_member_whose_last_score_was_written_and_not_its_end_ends_all_the_same(
    grown: Ledger, rows: list[Utterance], cache: Path, tmp_path: Path
) -> None:
    folder = begun(rows, tmp_path / "sweep", searcher="pbt", trials=8, interval=2)
    assert scores(killed_between(folder, cache, reports=9)) == scores(grown)


def test_only_what_leaves_the_shape_of_weights_alone_is_scheduled(rows: list[Utterance], tmp_path: Path) -> None:
    def wide(trial: Any) -> dict[str, Any]:
        return {**space(trial), "method.width": trial.suggest_categorical("method.width", [4, 8])}

    plan = sweep.Plan(trials=4, folds=2, searcher="pbt", interval=2)
    folder = sweep.begin(RUN, wide, "tiny", rows, tmp_path / "sweep", plan)
    with Ledger(folder) as ledger:
        assert ledger.settings["fields"] == ["train.lr", "method.dropout"]
        assert ledger.settings["fixed"] == {"method.width": 8}
