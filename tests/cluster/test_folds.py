"""A recipe across speaker folds: everybody is answered once by somebody who has not heard them, and nothing is trained twice."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from moodcast import evaluate
from moodcast.audio import AudioError
from moodcast.bundle import load, save
from moodcast.cli import show
from moodcast.cluster import folder as files
from moodcast.cluster import folds
from moodcast.cluster.folds import Fold, _fold, cross_validate
from moodcast.cluster.train import Failed
from moodcast.config import replace_at
from moodcast.labels import Labels
from moodcast.manifest import Utterance, fold_splits
from moodcast.methods.erm import Erm
from moodcast.provenance import AdaptedTo, ChosenOn, Provenance
from moodcast.run import build
from moodcast.scores import Report, concordance
from tests.audit.planted import note_copies
from tests.cluster.tiny import CLASSES, tiny_corpus, tiny_run

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return tiny_corpus(tmp_path_factory.mktemp("corpus"), num=96, speakers=6)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        folder = tmp_path_factory.mktemp("folds")
        patched.setenv("MOODCAST_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def report(rows: list[Utterance], home: Path, local_ray: None) -> Report:
    found = cross_validate(tiny_run(epochs=4), rows, 3, out=home, name="three", progress=False, cache=home / "given")
    assert not (home / "cache").exists(), "what is decoded lies where it was asked for"
    return found


def test_every_utterance_is_answered_once_by_a_bundle_that_has_not_heard_its_speaker(
    report: Report, rows: list[Utterance], home: Path
) -> None:
    pool = report.slices[0]
    assert (pool.num_utterances, pool.num_speakers) == (96, 6)
    heard_by = [set(load(home / "three" / f"fold{i}" / "bundle", trust=("tests",)).provenance.speakers) for i in range(3)]
    seen: list[str] = []
    for i, fold in enumerate(folds.load(home / "three", rows, 3, 0, CLASSES)):
        speakers = {row.corpus_speaker for row in rows if row.id in fold.ids}
        assert not speakers & heard_by[i]
        seen += fold.ids
    assert sorted(seen) == sorted(row.id for row in rows)


def test_a_ray_of_our_own_starts_no_process_that_asks_whether_its_machine_is_taken_away(report: Report) -> None:
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())  # each process says there what it is
    actors = {line.partition(":actor_name:")[2] for file in logs.glob("worker-*.out") for line in file.read_text().splitlines()}
    assert "RayTrainWorker" in actors
    assert "PreemptionWatcher" not in actors


def test_what_the_folds_answered_is_written_as_that_of_a_bundle(report: Report, rows: list[Utterance], tmp_path: Path) -> None:
    show.report_files(report, None, None, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="") as file:
        told = list(csv.DictReader(file))
    assert {row["id"]: row["label"] for row in told} == {row.id: row.emotion for row in rows}
    right = np.mean([row["label"] == row["answer"] for row in told])
    assert right == pytest.approx(report.slices[0].accuracy.value)


def test_a_fold_whose_driver_died_while_it_read_the_audio_begins_anew(rows: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "fold0" / files.LOCK).touch()
    split = [replace(row, split="train", path=str(tmp_path / "gone.wav")) for row in rows]
    with pytest.raises(AudioError, match="gone.wav cannot be opened"):  # it came as far as the audio
        _fold(tiny_run(epochs=1), split, tmp_path, 0, 1, False, False, tmp_path / "cache")
    assert not (tmp_path / "fold0").exists()


def test_a_fold_whose_workers_fail_says_which_and_how_to_go_on(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise Failed("training failed 3 times, last: no; no epoch is done yet. To go on:\n  fit(...)")

    monkeypatch.setattr(folds, "fit", failing)
    wanted = "^in fold 2 training failed 3 times, last: no; no epoch is done yet. The same command goes on from there$"
    with pytest.raises(Failed, match=wanted):
        _fold(tiny_run(), rows, tmp_path, 2, 1, False, False, tmp_path / "cache")


def test_a_full_disk_in_a_fold_says_that_the_same_command_goes_on(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise ValueError(files.no_space(tmp_path / "fold2"))

    monkeypatch.setattr(folds, "fit", full)
    with pytest.raises(ValueError, match="^fold 2: no space left in .* Make room there, and the same command goes on$"):
        _fold(tiny_run(), rows, tmp_path, 2, 1, False, False, tmp_path / "cache")


def test_a_recipe_that_learns_beats_its_trivial_baselines(report: Report) -> None:
    pool = report.slices[0]
    assert pool.uar.value > 0.9
    assert {beside.name for beside in pool.baselines} == {"majority", "speaker's name", "plain statistics"}
    constant = pool.beside("majority")
    assert constant is not None
    assert constant.uar.value == 0.5
    assert [part.slice for part in report.slices if part.kind == "fold"] == ["fold 0", "fold 1", "fold 2"]
    assert sum(part.num_utterances for part in report.slices if part.kind == "fold") == 96


def test_a_baseline_that_guesses_otherwise_in_another_fold_says_so(report: Report, rows: list[Utterance], home: Path) -> None:
    kept = zip(folds.load(home / "three", rows, 3, 0, CLASSES), ("low", "high", "low"), strict=True)
    done = [replace(fold, what={**fold.what, "majority": f"always {name}"}) for fold, name in kept]
    constant = folds.report_of(tiny_run(), rows, done, "three").slices[0].beside("majority")
    assert constant is not None
    assert constant.what == "always low or always high"


def test_a_second_call_trains_nothing_and_says_the_same(
    report: Report, rows: list[Utterance], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert cross_validate(tiny_run(epochs=4), rows, 3, out=home, name="three", progress=False) == report


def test_an_interrupted_recipe_trains_only_what_is_missing(report: Report, rows: list[Utterance], home: Path) -> None:
    kept = home / "three" / "fold1.npz"
    before = kept.read_bytes()
    kept.unlink()
    attempts = [len(files.read_lines(home / "three" / f"fold{i}" / files.ATTEMPTS)) for i in range(3)]
    assert cross_validate(tiny_run(epochs=4), rows, 3, out=home, name="three", progress=False) == report
    assert [len(files.read_lines(home / "three" / f"fold{i}" / files.ATTEMPTS)) for i in range(3)] == attempts
    assert len(kept.read_bytes()) == len(before)


def test_folds_of_another_recipe_are_not_gone_on_with(report: Report, rows: list[Utterance], home: Path) -> None:
    with pytest.raises(ValueError, match="run differ"):
        cross_validate(tiny_run(epochs=5), rows, 3, out=home, name="three", progress=False)
    with pytest.raises(ValueError, match="k differ"):
        cross_validate(tiny_run(epochs=4), rows, 4, out=home, name="three", progress=False)
    with pytest.raises(ValueError, match="rows_sha256 differ"):
        cross_validate(tiny_run(epochs=4), rows[1:], 3, out=home, name="three", progress=False)


def test_what_was_begun_before_a_setting_came_is_gone_on_with(tmp_path: Path, rows: list[Utterance]) -> None:
    run = replace(tiny_run(), method=Erm.Config())
    (tmp_path / "run").mkdir()
    files.describe(tmp_path / "run", run, rows, 1)
    told = files.read_json(tmp_path / "run" / files.RUN)
    assert told is not None
    del told["run"]["method"]["weights"]["attributes"]
    files.write_json(tmp_path / "run" / files.RUN, told)
    files.check_same(tmp_path / "run", run, rows)
    with pytest.raises(ValueError, match=r"another run .*: method\.weights\.attributes: 1\.0 there, 0\.5 here"):
        files.check_same(tmp_path / "run", replace_at(run, {"method.weights.attributes": 0.5}), rows)
    with pytest.raises(ValueError, match=r"another run .*: method\.class"):
        files.check_same(tmp_path / "run", tiny_run(), rows)


def test_two_recipes_are_compared_on_the_same_speakers(report: Report, rows: list[Utterance], home: Path) -> None:
    """The other recipe is made by hand: always the first class."""
    other = home / "other"
    other.mkdir()
    (other / folds.ABOUT).write_text((home / "three" / folds.ABOUT).read_text())
    for i, fold in enumerate(folds.load(home / "three", rows, 3, 0, CLASSES)):
        folds._write(other / f"fold{i}.npz", replace(fold, probabilities=np.tile([0.9, 0.1], (len(fold.ids), 1))))
    compared = cross_validate(tiny_run(epochs=4), rows, 3, out=home, name="three", against=other, progress=False)
    assert compared.against == "other"
    found = compared.slices[0].difference
    assert found is not None
    assert found.uar.value == pytest.approx(report.slices[0].uar.value - 0.5)


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    report: Report, rows: list[Utterance], home: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="only those can be compared"):
        cross_validate(tiny_run(epochs=4), rows, 3, out=tmp_path, against=home, progress=False)
    turned = replace(tiny_run(epochs=4), labels=Labels(CLASSES[::-1]))
    with pytest.raises(ValueError, match="answers high, low, in this order, wanted low, high: only the same classes compare"):
        cross_validate(turned, rows, 3, out=tmp_path, against=home / "three", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_fold_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    fold = Fold(
        ("a", "b"), np.eye(2), np.full(2, 0.5), np.full(2, np.nan), {"majority": np.array([0, 1])}, {"majority": "x"}, "ab", ("leak",)
    )
    folds._write(tmp_path / "fold0.npz", fold)
    back = folds._read(tmp_path / "fold0.npz")
    assert back.attributes is None
    assert (back.ids, back.what, back.sha256, back.leaks) == (fold.ids, fold.what, "ab", ("leak",))
    np.testing.assert_array_equal(back.probabilities, fold.probabilities)
    np.testing.assert_array_equal(back.guesses["majority"], [0, 1])


def test_attributes_of_all_folds_are_scored_together(tmp_path: Path) -> None:
    level = np.linspace(0.1, 0.9, 6)
    rows = [Utterance(id=str(i), path="-", speaker=str(i), emotion=CLASSES[i % 2], attributes={"arousal": level[i]}) for i in range(6)]
    blank = Fold((), np.eye(2), np.full(2, 0.5), np.full(2, np.nan), {}, {}, "ab", ())
    parts = [tuple(range(3, 6)), tuple(range(3))]  # not in the order of the rows
    done = []
    for at in parts:
        fold = replace(blank, ids=tuple(map(str, at)), probabilities=np.full((3, 2), 0.5), attributes=level[list(at), None])
        folds._write(tmp_path / "fold.npz", fold)
        done.append(folds._read(tmp_path / "fold.npz"))
    run = replace(tiny_run(), labels=Labels(CLASSES, attributes=("arousal",)))
    assert concordance(folds.pooled(rows, run, done))["arousal"].value == pytest.approx(1.0)
    assert concordance(folds.pooled(rows, run, [done[0], replace(done[1], attributes=None)])) == {}


def test_folds_that_would_start_from_a_bundle_that_knows_their_speakers_are_refused(
    report: Report, rows: list[Utterance], home: Path, tmp_path: Path
) -> None:
    run = replace(tiny_run(epochs=4), start_from=str(home / "three" / "fold0" / "bundle"))
    with pytest.raises(ValueError, match=r"has heard 2 of the speakers or dialogues that would be scored .*other corpora"):
        cross_validate(run, rows, 3, out=tmp_path, name="again", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_folds_that_would_start_from_a_bundle_that_was_adapted_to_their_speakers_are_refused(rows: list[Utterance], tmp_path: Path) -> None:
    heard = AdaptedTo(corpora=("tiny",), speakers=("tiny/s1",))
    begun = save(tmp_path / "begun", build(tiny_run(), ("tests",)), tiny_run(), Provenance(adapted_to=heard))
    with pytest.raises(ValueError, match=r"has heard 1 of the speakers or dialogues that would be scored \(tiny/s1\)"):
        cross_validate(replace(tiny_run(), start_from=str(begun)), rows, 3, out=tmp_path, name="again", progress=False)


def test_folds_that_start_from_a_bundle_that_was_chosen_on_their_speakers_say_so(
    report: Report, rows: list[Utterance], home: Path, tmp_path: Path
) -> None:
    """One fold is trained, that of the speaker; what the others answer is there already, and nothing was chosen on whom they score."""
    chosen = Provenance(speakers=("other/x",), chosen_on=ChosenOn(speakers=("tiny/s1",)))
    begun = load(save(tmp_path / "begun", build(tiny_run(), ("tests",)), tiny_run(), chosen), trust=("tests",))
    run = replace(tiny_run(epochs=1), start_from=str(tmp_path / "begun"))
    folds._same(tmp_path / "runs" / "folds", run, folds._rows(run, rows), 3, 0)
    for i, fold in enumerate(folds.load(home / "three", rows, 3, 0, CLASSES)):
        scored = [row for row in rows if row.id in fold.ids]
        if "s1" not in {row.speaker for row in scored}:
            assert not evaluate.chosen_before(begun, scored, home / "given")
            shutil.copy(home / "three" / f"fold{i}.npz", tmp_path / "runs" / "folds")
    assert len(list(tmp_path.rglob("*.npz"))) == 2
    said = cross_validate(run, rows, 3, out=tmp_path / "runs", progress=False, cache=home / "given", plain=False)
    (flag,) = said.flags
    assert "on 1 of these speakers" in flag
    assert "tiny/s1" in flag
    assert not [note for note in said.notes if "had not heard them" in note]
    assert report.flags == ()
    assert [note for note in report.notes if "had not heard them" in note]


def test_two_folds_are_too_few(rows: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        cross_validate(tiny_run(), rows, 2, out=tmp_path)


def test_rows_without_a_class_make_no_folds(rows: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        cross_validate(tiny_run(), [replace(row, emotion="other") for row in rows], 3, out=tmp_path)
    assert CLASSES == ("high", "low")


def test_training_leaves_a_temperature_of_the_dev_speakers(report: Report, home: Path) -> None:
    for i in range(3):
        found = load(home / "three" / f"fold{i}" / "bundle", trust=("tests",)).calibration
        assert (found.num_utterances, found.num_speakers) == (32, 2)
        assert found.temperature != 1.0
    assert report.temperature is None, "each fold answered at its own"


def test_what_raters_say_is_learned_where_no_class_is_named_and_what_has_none_is_counted(rows: list[Utterance], tmp_path: Path) -> None:
    run = replace(tiny_run(), labels=Labels(CLASSES, source="votes"))
    voted, strange = (
        replace(row, emotion="fear", votes=votes) for row, votes in ((rows[0], {"high": 2.0, "low": 1.0}), (rows[1], {"fear": 3.0}))
    )
    kept = folds._rows(run, [voted, strange, *rows[2:]])
    assert {voted.id, strange.id} & {row.id for row in kept} == {voted.id}
    assert [row.id for row in folds._rows(tiny_run(), [voted, strange, *rows[2:]])] == [row.id for row in rows[2:]]


def test_the_same_sound_in_two_folds_is_refused_before_anything_is_trained(rows: list[Utterance], tmp_path: Path) -> None:
    splits = list(fold_splits(rows, 3, 0))
    first, other = (next(row for row in split if row.split == "test") for split in splits[:2])
    copied = shutil.copy(first.path, tmp_path / "another name.wav")
    leaking = [replace(row, path=str(copied)) if row.id == other.id else row for row in rows]
    with pytest.raises(ValueError, match=r"same sound.*train.allow_leaks=true lets them through"):
        cross_validate(tiny_run(), leaking, 3, out=tmp_path / "runs", progress=False, cache=tmp_path / "cache")
    assert not (tmp_path / "runs").exists()
    allowed = replace_at(tiny_run(), {"train.allow_leaks": True})
    (said,) = folds.leaks_of(allowed, leaking, list(fold_splits(leaking, 3, 0)), tmp_path / "cache")
    assert said.startswith("leak let through: same sound")


def test_folds_that_could_not_begin_leave_their_name_free(rows: list[Utterance], tmp_path: Path) -> None:
    rated = replace_at(tiny_run(), {"labels.attributes": ("valence",)})
    with pytest.raises(ValueError, match="no training utterance has valence"):
        cross_validate(rated, rows, 3, out=tmp_path, name="tried", progress=False, cache=tmp_path / "cache")
    assert not (tmp_path / "tried").exists()


def test_a_job_that_learns_speakers_has_no_speaker_folds(rows: list[Utterance], tmp_path: Path) -> None:
    voices = replace_at(tiny_run(), {"labels.source": "speaker"})
    with pytest.raises(ValueError, match="speakers are what this job learns"):
        cross_validate(voices, rows, 3, out=tmp_path, progress=False)


def test_a_copy_that_an_audit_found_in_another_fold_is_refused_and_said_also_where_all_folds_are_done(
    report: Report, rows: list[Utterance], home: Path, tmp_path: Path
) -> None:
    splits = list(fold_splits(rows, 3, 0))
    first, other = (next(row for row in split if row.split == "test") for split in splits[:2])
    cache = tmp_path / "cache"
    note_copies(first, other, cache)
    with pytest.raises(ValueError, match=r"in another form.*in fold 0, fold 1.*train.allow_leaks=true lets them through"):
        cross_validate(tiny_run(epochs=4), rows, 3, out=home, name="three", progress=False, cache=cache)
    assert not (cache / "waves").exists(), "this is known before anything is heard"
    allowed = replace_at(tiny_run(), {"train.allow_leaks": True})
    (said,) = folds.leaks_of(allowed, rows, splits, cache, progress=False, listen=False)
    assert said.startswith("leak let through: same sound on two sides, once (")


def test_folds_that_did_not_note_what_they_share_with_others_are_compared_anew(tmp_path: Path) -> None:
    path = tmp_path / "fold0.npz"
    assert not folds._compared(path)
    one = np.ones((1, 2))
    folds._write(path, folds.Fold(("a",), one, one[0], one[0], {}, {}, "0" * 64, leaks=("leak",)))
    assert folds._compared(path)
    with np.load(path) as found:
        arrays = dict(found)
    told = json.loads(str(arrays["told"]))
    del told["compared"]  # as it was before
    np.savez(path, **{**arrays, "told": np.array(json.dumps(told))})
    assert not folds._compared(path)
    assert folds._read(path).leaks == ("leak",)
