from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast.bundle import load, save
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.job import _typed, going_on_with, main, prepared, speaker_split, train, with_split
from moodcast.cluster.publish import equal_error_rate, publish
from moodcast.cluster.watch import duration, epoch_line
from moodcast.cluster.work import inherited, provenance_of, sides
from moodcast.config import leaves, replace_at
from moodcast.labels import Labels
from moodcast.manifest import Utterance, leaks, read_manifest, read_manifests, write_manifest
from moodcast.methods.erm import Erm
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build, run_from_dict, run_to_dict
from tests.cluster.tiny import tiny_corpus, tiny_run


def table(num: int = 60, speakers: int = 6) -> list[Utterance]:
    return [Utterance(id=f"u{i}", path=f"/{i}.wav", corpus="x", speaker=str(i % speakers), emotion="high") for i in range(num)]


@pytest.mark.parametrize("name", ["erm", "chunk_attention", "voiceprint", "default_bundle", "functionals"])
def test_every_job_holds_a_run_that_builds_and_survives_json(name: str) -> None:
    import importlib

    job = importlib.import_module(f"jobs.{name}")
    assert run_from_dict(run_to_dict(job.RUN)) == job.RUN
    assert sum(p.numel() for p in build(job.RUN).parameters()) <= 1_000_000
    assert set(job.DATA) <= {"cremad", "emodb", "resd"}
    assert "train.lr" in leaves(job.RUN)


def test_the_bundle_that_ships_was_made_by_the_recipe_of_its_job_of_the_seeds_that_are_reported(root: Path) -> None:
    from jobs.default_bundle import RUN

    shipped = load("default").run
    reported = [json.loads(line) for line in (root / "results" / "default_bundle_together.jsonl").read_text().splitlines()]
    (seeds,) = {tuple(record["together"]) for record in reported}
    wide = {"networks": shipped.method.networks, "blind": shipped.method.blind, "hidden": shipped.method.hidden}  # several seeds as one
    assert (wide["networks"], wide["hidden"]) == (len(seeds) * RUN.method.networks, len(seeds) * RUN.method.hidden)
    assert shipped == replace(RUN, method=replace(RUN.method, **wide), train=replace(RUN.train, threads=1))


def test_a_job_writes_its_bundle_over_no_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("my project")
    monkeypatch.setattr("sys.argv", ["jobs.erm", "no.parquet", "--into", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main(tiny_run(), ("toy",))
    assert ended.value.code == 2
    assert "holds no bundle.json: a bundle would write over what is" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "my project"


def test_a_choice_that_is_called_none_can_be_typed() -> None:
    run = replace_at(tiny_run(), {"train.balance": "none", "train.keep": "last"})
    assert (run.train.balance, run.train.keep) == ("none", "last")


def test_whom_the_epoch_was_chosen_on_stands_apart_from_whom_it_was_trained_on(tmp_path: Path) -> None:
    rows, run = tiny_corpus(tmp_path / "corpus", num=32), tiny_run()
    train, dev = (CachedStretches(side, run, tmp_path / "cache") for side in sides(rows, run))
    told = provenance_of(train, run, (), dev)
    assert told.chosen_on.speakers == ("tiny/s0", "tiny/s1")
    assert len(told.chosen_on.fingerprints) == len(dev.rows) == 8
    assert not set(told.chosen_on.speakers) & set(told.speakers)
    assert not set(told.chosen_on.fingerprints) & set(told.fingerprints)
    later = provenance_of(train, run)
    assert later.chosen_on == ChosenOn()
    assert inherited(later, told).chosen_on == told.chosen_on
    folder = save(tmp_path / "bundle", build(run, ("tests",)), run, told)
    assert load(folder, trust=("tests",)).provenance.chosen_on == told.chosen_on


def test_rows_without_a_split_get_one_and_some_without_are_refused() -> None:
    rows = with_split(table())
    assert {row.split for row in rows} == {"train", "dev", "test"}
    assert leaks(rows) == {}
    assert with_split(rows) == rows
    with pytest.raises(ValueError, match="1 of 60 rows have no split, the first is u3"):
        with_split([replace(row, split=None) if row.id == "u3" else row for row in rows])


def test_manifests_are_read_together_and_ids_must_differ(tmp_path: Path) -> None:
    rows = table()
    write_manifest(rows[:30], tmp_path / "a.jsonl")
    write_manifest(rows[30:], tmp_path / "b.csv")
    assert [row.id for row in read_manifests([tmp_path / "a.jsonl", tmp_path / "b.csv"])] == [row.id for row in rows]
    with pytest.raises(ValueError, match="the id 'u0' comes twice"):
        read_manifests([tmp_path / "a.jsonl", str(tmp_path / "a.jsonl")])
    assert read_manifests([tmp_path / "a.jsonl", *rows[30:]])[30:] == rows[30:]
    with pytest.raises(ValueError, match="no manifest"):
        read_manifests([])


def test_speakers_as_classes_are_those_of_training_and_their_other_utterances_choose_the_epoch() -> None:
    rows = with_split(table(120))
    run, split = prepared(replace(tiny_run(), labels=Labels(source="speaker")), rows)
    test = {row.speaker for row in rows if row.split == "test"}
    assert {row.speaker for row in split if row.split == "test"} == test
    assert set(run.labels.classes) == {f"x/{row.speaker}" for row in rows} - {f"x/{name}" for name in test}
    for name in run.labels.classes:
        mine = [row.split for row in split if row.corpus_speaker == name]
        assert (mine.count("dev"), mine.count("train")) == (2, 18)
    backwards = speaker_split(rows[::-1])[::-1]
    assert backwards == split
    apart = [replace(row, split="test1") if row.split == "test" else row for row in rows]
    assert speaker_split(apart) == [replace(row, split="test1") if row.split == "test" else row for row in split]


def test_a_folder_that_is_no_run_is_not_gone_on_with_nor_is_a_manifest_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nope is no run to go on with: it has no run\.json"):
        train(tiny_run(), [], resume=tmp_path / "nope")


def test_a_run_that_is_gone_on_with_needs_no_setting_said_again(tmp_path: Path) -> None:
    changed = replace_at(tiny_run(), {"method.width": 3, "train.lr": 0.25})
    files.describe(tmp_path, changed, table(), 1)
    assert going_on_with(tiny_run(), tmp_path) == changed
    assert going_on_with(tiny_run(), None) == going_on_with(tiny_run(), Path("auto")) == tiny_run()
    other = Run(Erm.Config())
    assert going_on_with(other, tmp_path) == other, "another method is another run, which is then refused"
    (tmp_path / files.RUN).write_text(json.dumps({"run": {**run_to_dict(changed), "gone": 1}}))  # of another release
    assert going_on_with(tiny_run(), tmp_path) == tiny_run()


def test_a_job_goes_on_with_the_settings_of_its_folder_and_refuses_words_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moodcast.cli import app

    changed = replace_at(Run(Erm.Config()), {"train.epochs": 7})
    rows = [replace(row, emotion=changed.labels.classes[i % 4]) for i, row in enumerate(with_split(table()))]
    files.describe(tmp_path, changed, rows, 1)
    write_manifest(rows, tmp_path / files.MANIFEST)
    for command in (["erm", "--resume", str(tmp_path), "train.epochs=8"], ["erm", "train.epochs=8", "--resume", str(tmp_path)]):
        with pytest.raises(ValueError, match=r"cannot be gone on with: train.epochs: 7 there, 8 here\."):
            app(["train", *command], standalone_mode=False)
    app(["train", "erm", "--resume", str(tmp_path), "--show-fields"], standalone_mode=False)
    assert "train.epochs=7" in "".join(capsys.readouterr().out.replace("│", "=").split())


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("/usr/bin/python3 -m jobs.erm a.parquet --name x train.lr=1", "python3 -m jobs.erm a.parquet train.lr=1"),
        ("/v/bin/python /v/bin/moodcast train erm a.parquet --workers 2", "moodcast train erm a.parquet --workers 2"),
        ("python -m jobs.erm a.parquet --resume runs/x", "python -m jobs.erm a.parquet"),
        ("python -m jobs.erm a.parquet --resume=runs/x --name=y", "python -m jobs.erm a.parquet"),
    ],
)
def test_the_command_that_resumes_is_what_was_typed_without_names(typed: str, wanted: str) -> None:
    assert _typed(typed.split()) == wanted


def test_progress_is_said_in_words() -> None:
    line = {"epoch": 1, "loss": 0.5, "loss_classes": 0.25, "loss_attributes": 0.25, "dev_uar": 0.4321, "seconds": 2.0}
    assert epoch_line(line, 20) == "epoch 2/20  loss 0.5000  classes 0.2500  attributes 0.2500  dev UAR 43.2 %  2.0 s"
    line["dev_ccc"] = 0.6789
    assert epoch_line(line, 20).endswith("dev UAR 43.2 %  dev CCC 0.68  2.0 s")
    del line["loss_attributes"], line["dev_uar"], line["dev_ccc"]
    assert epoch_line(line, 20) == "epoch 2/20  classes 0.2500  2.0 s"
    assert [duration(seconds) for seconds in (4.4, 200, 7500)] == ["4 s", "3 min 20 s", "2 h 5 min"]


def by_sorting(scores: np.ndarray, same: np.ndarray) -> float:
    """The mean of both error rates at the threshold where they are nearest: the textbook's, coarse."""
    rates = [((~same & (scores >= t)).sum() / (~same).sum(), (same & (scores < t)).sum() / same.sum()) for t in [*scores, np.inf]]
    accepted, refused = min(rates, key=lambda pair: abs(pair[0] - pair[1]))
    return (accepted + refused) / 2


@given(st.integers(0, 1000))
def test_the_equal_error_rate_is_where_both_errors_meet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    same = np.arange(400) % 2 == 0
    scores = rng.standard_normal(400) + rng.uniform(0, 3) * same
    assert equal_error_rate(scores, same) == pytest.approx(by_sorting(scores, same), abs=0.01)


def test_equal_error_rates_at_the_ends() -> None:
    same = np.array([True, True, False, False])
    assert equal_error_rate(np.array([4.0, 3.0, 2.0, 1.0]), same) == 0.0
    assert equal_error_rate(np.array([1.0, 2.0, 3.0, 4.0]), same) == 1.0
    assert equal_error_rate(np.ones(4), same) == 0.5
    with pytest.raises(ValueError, match="pairs of both kinds"):
        equal_error_rate(np.ones(4), np.ones(4, dtype=bool))


def test_a_published_bundle_carries_its_scores_and_a_card(
    corpus: list[Utterance], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(cache))
    rows = [replace(row, split="test" if row.split == "dev" else "train") for row in corpus]
    train = sorted({row.corpus_speaker for row in rows if row.split == "train"})
    run = tiny_run()
    known = Provenance(("tiny",), tuple(train), class_counts={"high": 60, "low": 60}, hours=1.0)
    save(tmp_path / "trained", build(run, ("tests",)), run, known)
    scores = publish(tmp_path / "trained", rows, tmp_path / "default", "Limits: tones.", trust=("tests",))
    loaded = load(tmp_path / "default", trust=("tests",))
    assert loaded.scores == scores
    card = (tmp_path / "default" / "README.md").read_text()
    assert f"| all | 40 | 2 | {100 * scores['test']['slices'][0]['uar']['value']:.1f} [" in card
    assert "6 speakers, 1.00 h; high 60, low 60" in card
    assert card.rstrip().endswith("Limits: tones.")


def test_rows_read_from_the_folder_of_a_run_are_those_it_was_given(corpus: list[Utterance], tmp_path: Path) -> None:
    from moodcast.cluster.folder import rows_digest

    rows = [replace(row, votes={"high": 1.0}, words=(("a", 0.0, 0.1),), age=31.5) for row in corpus[:4]]
    write_manifest(rows, tmp_path / "manifest.parquet")
    assert rows_digest(read_manifest(tmp_path / "manifest.parquet")) == rows_digest(rows)
    elsewhere = [replace(row, path="/other/place.wav") for row in rows]
    assert rows_digest(elsewhere) == rows_digest(rows)
    assert rows_digest([replace(rows[0], emotion="low"), *rows[1:]]) != rows_digest(rows)
    whole = [replace(row, age=31, votes={"low": 2, "high": 1}, words=(("a", 0, 1),), weight=1) for row in rows]  # no file has read them
    write_manifest(whole, tmp_path / "whole.parquet")
    assert rows_digest(read_manifest(tmp_path / "whole.parquet")) == rows_digest(whole)
