"""How a sweep is begun: what is refused before anything is written, what is fixed, its rivals, one that was half begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moodcast.bundle import save
from moodcast.cluster import search, sweep
from moodcast.cluster.ledger import ROWS, SETTINGS, TARGET_ROWS, Ledger
from moodcast.cluster.lockstep import Lockstep
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.provenance import Provenance
from moodcast.run import build, run_from_dict
from tests.cluster.sweeping import RUN, begun, divided, space


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return divided(tmp_path_factory.mktemp("corpus"))


def test_a_space_that_changes_what_is_no_field_is_refused(rows: list[Utterance], tmp_path: Path) -> None:
    def wrong(trial: Any) -> dict[str, Any]:
        return {"train.lrr": trial.suggest_float("train.lrr", 1e-3, 1e-2)}

    with pytest.raises(ValueError, match="the space changes 'train.lrr', which is no field. Did you mean 'train.lr'"):
        sweep.begin(RUN, wrong, "tiny", rows, tmp_path / "no", sweep.Plan(trials=2, folds=2))


def test_what_is_fixed_is_not_searched(rows: list[Utterance], tmp_path: Path) -> None:
    folder = begun(rows, tmp_path / "sweep", fixed={"method.dropout": "0.3"})
    with Ledger(folder) as ledger:
        assert ledger.settings["fields"] == ["train.lr"]
        run = run_from_dict(ledger.settings["run"], ("tests",))
        assert run.method.dropout == 0.3
        trial = search.next_trial(space, run, ledger.settings["fixed"], [], number=1, searcher="optuna", seed=0)
        assert set(trial.params) == {"train.lr"}
        assert trial.changes["method.dropout"] == 0.3


def half_begun(folder: Path) -> None:
    """As a driver leaves it that is killed while it writes."""
    (folder / SETTINGS).unlink()
    (folder / f".{SETTINGS}.4711").write_text("{")
    (folder / TARGET_ROWS).write_text("of other words")


def test_a_sweep_whose_driver_was_killed_while_it_began_it_begins_anew(rows: list[Utterance], tmp_path: Path) -> None:
    folder = begun(rows, tmp_path / "sweep")
    with pytest.raises(ValueError, match=f"{folder} is there already; go on with it by --resume"):
        begun(rows, folder)
    half_begun(folder)
    assert Ledger(begun(rows, folder)).settings["rows"] == 72
    assert not (folder / TARGET_ROWS).exists()
    rival = sweep.rival_of(folder, space, ["method.dropout=0"])
    half_begun(rival)
    assert Ledger(sweep.rival_of(folder, space, ["method.dropout=0"])).settings["fixed"] == {"method.dropout": 0.0}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ROWS).write_text("of mine")  # no driver has locked it
    with pytest.raises(ValueError, match="mine holds something else; remove it, or choose another --out"):
        begun(rows, tmp_path / "mine")
    assert (tmp_path / "mine" / ROWS).read_text() == "of mine"


def test_a_space_does_not_choose_the_epoch_that_is_kept(rows: list[Utterance], tmp_path: Path) -> None:
    def keeping(trial: Any) -> dict[str, Any]:
        return {**space(trial), "train.keep": trial.suggest_categorical("train.keep", ["best", "last"])}

    with pytest.raises(ValueError, match=r"the space changes train\.keep, which cannot be had in a sweep"):
        sweep.begin(RUN, keeping, "tiny", rows, tmp_path / "sweep", sweep.Plan(folds=2))
    assert not (tmp_path / "sweep").exists()
    sweep.begin(RUN, keeping, "tiny", rows, tmp_path / "sweep", sweep.Plan(folds=2), {"train.keep": "last"})


def test_rivals_in_fields_of_one_last_name_are_two(rows: list[Utterance], tmp_path: Path) -> None:
    names = ("augment.gain.share", "augment.crop.share")

    def both(trial: Any) -> dict[str, Any]:
        return {name: trial.suggest_float(name, 0.0, 0.5) for name in names} | space(trial)

    folder = sweep.begin(RUN, both, "tiny", rows, tmp_path / "sweep", sweep.Plan(folds=2))
    fixed = [Ledger(sweep.rival_of(folder, both, [f"{name}=0"])).settings["fixed"] for name in names]
    assert fixed == [{name: 0.0} for name in names]


def test_a_fold_in_which_nothing_has_a_class_of_its_own_is_refused(rows: list[Utterance], tmp_path: Path) -> None:
    some = [replace(row, emotion=None, votes={"high": 1.0, "low": 1.0}) for row in rows if row.split == "train"]
    with pytest.raises(ValueError, match="nothing of inner fold 0 is called one of high, low: to be scored, votes do not do"):
        Lockstep(replace_at(RUN, {"labels.source": "votes"}), some, 2, 1, root=tmp_path / "cache")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"searcher": "optuma"}, "Did you mean 'optuna'"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 9}, "was to be split into 9"),
        ({"searcher": "pbt", "trials": 5, "interval": 2}, "take --trials 4"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(
    rows: list[Utterance], tmp_path: Path, plan: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        begun(rows, tmp_path / "sweep", **plan)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_that_would_start_from_a_bundle_that_knows_its_test_speakers_is_refused(rows: list[Utterance], tmp_path: Path) -> None:
    known = save(tmp_path / "known", build(RUN, ("tests",)), RUN, Provenance(speakers=("tiny/s0",)))
    with pytest.raises(ValueError, match=r"has heard 1 of the speakers or dialogues that would be scored \(tiny/s0\)"):
        begun(rows, tmp_path / "sweep", replace(RUN, start_from=str(known)))
    assert not (tmp_path / "sweep").exists()
    allowed = begun(rows, tmp_path / "allowed", replace_at(replace(RUN, start_from=str(known)), {"train.allow_leaks": True}))
    said = "leak let through: the bundle that training starts from has heard 1 of these speakers or dialogues (tiny/s0)"
    assert Ledger(allowed).settings["leaks"] == [said]
