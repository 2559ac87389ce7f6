"""A sweep of what adapts: the target is heard without its labels, and answered by nobody before the verdict. Trials without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moodcast
from moodcast import sweep_page
from moodcast.adapting import Front
from moodcast.cluster import retrain, sweep, verdict
from moodcast.cluster.ledger import TARGET_ROWS, Ledger, trial_folder
from moodcast.cluster.standing import means_over
from moodcast.cluster.trial import trial_of
from moodcast.manifest import Utterance
from moodcast.methods.coral import Coral
from moodcast.methods.shot import Shot
from tests.cluster.sweeping import RUN, divided, play, scores
from tests.cluster.tiny import tiny_corpus


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return divided(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Another corpus: two speakers to adapt to, two to test."""
    made = tiny_corpus(tmp_path_factory.mktemp("target"), num=128, speakers=4)[96:]  # the first ones sound as those of the source
    rows = [replace(row, id=f"t-{row.id}", corpus="other", speaker=f"t{row.speaker}") for row in made]
    return [replace(row, split="test" if row.speaker in ("ts0", "ts1") else "train") for row in rows]


ADAPTING = replace(RUN, method=Coral.Config(front=Front(kind="functionals", width=8, layers=1)), train=replace(RUN.train, epochs=2))


def strength(trial: Any) -> dict[str, Any]:
    return {"method.weights.coral": trial.suggest_float("method.weights.coral", 0.1, 100.0, log=True)}


def adapting(rows: list[Utterance], target: list[Utterance], out: Path) -> Path:
    return sweep.begin(ADAPTING, strength, "coral", rows, out, sweep.Plan(trials=3, folds=2, grace=1), target=target)


def losses(ledger: Ledger) -> list[Any]:
    return [line["loss"] for trial in ledger.ended for line in trial.epochs]


def test_labels_of_a_target_change_nothing_in_a_sweep(rows: list[Utterance], target: list[Utterance], cache: Path, tmp_path: Path) -> None:
    ours = play(adapting(rows, target, tmp_path / "ours"), cache, at=strength)
    ours.check_count()
    labels = [row.emotion for row in target]
    shuffled = [
        replace(row, emotion=label, gender="f", text="so angry") for row, label in zip(target, labels[1:] + labels[:1], strict=True)
    ]
    assert [row.emotion for row in shuffled] != labels
    theirs = play(adapting(rows, shuffled, tmp_path / "theirs"), cache, at=strength)
    assert scores(theirs) == scores(ours)
    assert losses(theirs) == losses(ours)
    kept = moodcast.manifest.read_manifest(ours.folder / TARGET_ROWS)
    assert {row.speaker for row in kept} == {"ts2", "ts3"}
    assert {row.emotion for row in kept} == {None}
    others = [replace(row, path=heard.path) for row, heard in zip(target, target[::-1], strict=True)]
    mixed = [replace(row, stop_s=0.2) if row.split == "train" else row for row in others]
    assert losses(play(adapting(rows, mixed, tmp_path / "mixed"), cache, at=strength)) != losses(ours), "its sound is heard"


def test_what_adapts_is_scored_on_speakers_of_the_source_and_reported_on_the_target(
    rows: list[Utterance], target: list[Utterance], cache: Path, tmp_path: Path
) -> None:
    ledger = play(adapting(rows, target, tmp_path / "sweep"), cache, at=strength)
    assert means_over(ledger) == "2 inner speaker folds of the source"
    best = ledger.best
    assert best is not None
    assert set(best.counts or {}) == {row.corpus_speaker for row in rows if row.split == "train"}
    heard = moodcast.load(trial_folder(ledger.folder, best.number) / "fold0").provenance
    assert heard.adapted_to.corpora == ("other",)
    arms = verdict.arms_of(ledger, None)
    for task in retrain.tasks(ledger.folder, arms, 1, ("moodcast",), cache):
        Path(task["into"]).parent.mkdir(exist_ok=True)
        retrain.train_one(task)
    found = verdict.described(ledger, None, arms, 1, cache, plain=True)
    assert (found["test"]["utterances"], found["test"]["speakers"]) == (16, 2)
    assert "without its labels" in found["notes"][0]
    assert any("speakers of the source" in line for line in sweep_page.verdict(found))
    assert "of a target without labels" in sweep_page.render(found)
    assert moodcast.load(ledger.folder / retrain.BUNDLE).provenance.adapted_to.speakers == ("other/ts2", "other/ts3")


def test_inner_folds_are_asked_as_the_source_is_and_never_as_the_target(
    rows: list[Utterance], target: list[Utterance], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Coral, batch: Any) -> Any:
        raise AssertionError("asked as the target is")

    monkeypatch.setattr(Coral, "forward", forward)
    assert 0 < trial_of(adapting(rows, target, tmp_path / "sweep"), {}, cache).next()["value"] <= 1


def test_a_sweep_and_its_rival_hear_the_same_target(rows: list[Utterance], target: list[Utterance], tmp_path: Path) -> None:
    def two(trial: Any) -> dict[str, Any]:
        return {**strength(trial), "train.lr": trial.suggest_float("train.lr", 1e-4, 1e-1, log=True)}

    folder = sweep.begin(ADAPTING, two, "coral", rows, tmp_path / "sweep", sweep.Plan(trials=3, folds=2), target=target)
    rival = sweep.rival_of(folder, two, ["method.weights.coral=1"])
    ours, theirs = Ledger(folder).settings, Ledger(rival).settings
    assert ours["target_rows"] == 16
    assert {name: ours[name] for name in verdict.SIDES} == {name: theirs[name] for name in verdict.SIDES}


@pytest.mark.parametrize(
    ("method", "heard", "message"),
    [
        (Coral.Config(), False, "Coral adapts to recordings without labels: name them, --target"),
        (Shot.Config(), True, "Shot hears no labels at all"),
        (RUN.method, True, "Tiny learns from labels alone and hears no target"),
    ],
)
def test_a_target_is_named_where_one_is_heard_and_only_there(
    rows: list[Utterance], target: list[Utterance], tmp_path: Path, method: Any, heard: bool, message: str
) -> None:
    run, plan = replace(RUN, method=method), sweep.Plan(trials=2, folds=2)
    with pytest.raises(ValueError, match=message):
        sweep.begin(run, strength, "any", rows, tmp_path / "sweep", plan, target=target if heard else ())
    assert not (tmp_path / "sweep").exists()


def test_nobody_is_heard_as_source_and_answered_as_target(rows: list[Utterance], target: list[Utterance], tmp_path: Path) -> None:
    met = [replace(row, corpus=rows[-1].corpus, speaker=rows[-1].speaker) if row.split == "test" else row for row in target]
    with pytest.raises(ValueError, match="on both sides|two sides|leak"):
        adapting(rows, met, tmp_path / "sweep")
