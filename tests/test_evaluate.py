"""Evaluation refuses what would flatter: leaking splits, known speakers, known recordings under new names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moodcast import evaluate as evaluation
from moodcast.audio import fingerprint, read
from moodcast.audit import SAME_SOUND, audit
from moodcast.bundle import Bundle
from moodcast.evaluate import evaluate
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.erm import Erm
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build
from moodcast.study import calibrate

CLASSES = ("angry", "happy", "neutral", "sad")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rows(tmp_path: Path) -> list[Utterance]:
    """Six speakers of a made corpus, two in each split, each with every class and one foreign label."""
    rng = np.random.default_rng(0)
    found = []
    for s in range(6):
        for k, emotion in enumerate((*CLASSES, "boredom")):
            path = tmp_path / f"s{s}_{emotion}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(8_000 + 1_000 * k), 16_000)
            split = ("train", "dev", "test")[s // 2]
            found.append(Utterance(id=path.stem, path=str(path), corpus="toy", speaker=f"s{s}", emotion=emotion, split=split))
    return found


def bundle_of(provenance: Provenance | None = None) -> Bundle:
    run = Run(method=Erm.Config())
    return Bundle(run, build(run), provenance or Provenance(class_counts={"neutral": 5, "sad": 2}), {}, "0" * 64, "toy-bundle")


def test_a_report_counts_what_it_scored_and_names_the_baseline(rows: list[Utterance]) -> None:
    report = evaluate(bundle_of(), rows)
    (pool,) = report.slices
    assert (pool.num_utterances, pool.num_speakers) == (8, 2)
    assert report.skipped == {"boredom": 2}
    constant = pool.beside("majority")
    assert constant is not None
    assert (constant.what, constant.uar.value, constant.accuracy.value) == ("always neutral", 0.25, 0.25)
    assert np.sum(pool.confusion) == 8
    assert pool.uar.low <= pool.uar.value <= pool.uar.high
    assert pool.uar.value == pytest.approx(np.mean([interval.value for interval in pool.recall.values()]))


def test_corpora_are_scored_apart_beside_the_pool(rows: list[Utterance]) -> None:
    renamed = [replace(row, corpus="other") if row.speaker == "s5" else row for row in rows]
    report = evaluate(bundle_of(), renamed)
    assert [(s.slice, s.kind, s.num_utterances) for s in report.slices] == [("all", "all", 8), ("other", "corpus", 4), ("toy", "corpus", 4)]


def test_a_perfect_bundle_scores_one(rows: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    truth = [CLASSES.index(row.emotion) for row in rows if row.split == "test" and row.emotion in CLASSES]
    monkeypatch.setattr(evaluation, "_answered", lambda *_: (np.eye(4)[truth], None))
    pool = evaluate(bundle_of(), rows).slices[0]
    assert (pool.uar.value, pool.accuracy.value, pool.macro_f1.value) == (1.0, 1.0, 1.0)
    assert {label: interval.value for label, interval in pool.recall.items()} == dict.fromkeys(CLASSES, 1.0)
    assert pool.sureness.ece.value == 0.0
    assert pool.sureness.nll.value == pytest.approx(0.0)
    assert pool.sureness.curve == ((1.0, 1.0, 8),)


def test_a_split_that_leaks_a_speaker_is_refused_with_the_speaker_named(rows: list[Utterance]) -> None:
    leaking = [replace(row, split="train") if row.id == "s4_sad" else row for row in rows]
    with pytest.raises(ValueError, match=r"toy/s4: 4 in test, 1 in train"):
        evaluate(bundle_of(), leaking)


def test_a_bundle_that_tells_voices_apart_has_no_emotions_to_score(rows: list[Utterance]) -> None:
    plain = bundle_of()
    speakers = replace(plain.run, labels=Labels(("toy/s0", "toy/s1"), source="speaker"))
    voices = Bundle(speakers, plain.method, plain.provenance, {}, "", "voices")
    with pytest.raises(ValueError, match="tells voices apart, for the diarizer; it knows no emotions"):
        evaluate(voices, rows)


def test_a_bundle_is_not_scored_on_speakers_it_was_trained_on(rows: list[Utterance]) -> None:
    with pytest.raises(ValueError, match="trained on 1 of the speakers.*toy/s5"):
        evaluate(bundle_of(Provenance(speakers=("toy/s5", "toy/s0"))), rows)
    gone = [replace(row, path=f"gone_{row.id}.wav") for row in rows]
    with pytest.raises(ValueError, match="trained on 1 of the speakers"):  # nothing is heard before this is known
        evaluate(bundle_of(Provenance(speakers=("toy/s5",))), gone)


def test_a_renamed_recording_does_not_slip_through(rows: list[Utterance]) -> None:
    known = next(row for row in rows if row.id == "s4_sad")
    mark = fingerprint(read(known.path))
    renamed = [replace(row, id="new-name", speaker="nobody") if row.id == "s4_sad" else row for row in rows]
    with pytest.raises(ValueError, match="trained on 1 of the recordings.*new-name"):
        evaluate(bundle_of(Provenance(fingerprints=(mark,))), renamed)


def test_a_copy_of_a_training_recording_that_an_audit_found_is_refused_or_stands_in_every_score(
    rows: list[Utterance], speechlike: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    heard, scored = (next(row for row in rows if row.id == name) for name in ("s0_sad", "s4_sad"))
    wave = speechlike(2.0, seed=3)
    soundfile.write(heard.path, wave, 16_000)
    soundfile.write(scored.path, 0.5 * wave[1_000:], 16_000)
    provenance = Provenance(fingerprints=(fingerprint(read(heard.path)),))
    before = evaluate(bundle_of(provenance), rows, plain=False)
    assert before.flags == ()
    assert before.notes[0].startswith("speaker-independent")
    assert any("s4_sad" in found.ids for found in audit(rows).findings if found.kind == SAME_SOUND)
    with pytest.raises(ValueError, match=r"another form.*in test, train.*\(s0_sad, s4_sad\).*--allow-leaks"):
        evaluate(bundle_of(provenance), rows, plain=False)
    alone = [row for row in rows if row.split == "test"]
    with pytest.raises(ValueError, match=r"toy-bundle was trained on 1 of the recordings.*another form.*s4_sad.*--allow-leaks"):
        evaluate(bundle_of(provenance), alone, plain=False)
    report = evaluate(bundle_of(provenance), alone, plain=False, allow_leaks=True)
    (flag,) = report.flags
    assert flag.startswith("leak let through: toy-bundle was trained on 1 of these recordings, in another form")
    assert flag.endswith("(s4_sad)")
    assert report.notes[0].startswith("NOT independent")
    (chosen,) = evaluate(bundle_of(Provenance(chosen_on=ChosenOn(fingerprints=provenance.fingerprints))), alone, plain=False).flags
    assert "chosen on 1 of these" in chosen


def test_leaks_that_are_let_through_stand_in_every_score(rows: list[Utterance]) -> None:
    leaking = [replace(row, split="train") if row.id == "s4_sad" else row for row in rows]
    known = next(row for row in rows if row.id == "s5_sad")
    leaks = ("leak let through: in training", "leak let through: speaker on two sides, once (toy/s4)")  # the second is here, too: said once
    provenance = Provenance(speakers=("toy/s5",), fingerprints=(fingerprint(read(known.path)),), leaks=leaks)
    report = evaluate(bundle_of(provenance), leaking, plain=False, allow_leaks=True)
    assert len(report.flags) == 4
    assert not any(note.startswith("speaker-independent") for note in report.notes)
    for said in ("speaker on two sides, once (toy/s4)", "in training", "these speakers or dialogues (toy/s5)", "recordings (s5_sad)"):
        assert any(said in flag for flag in report.flags), said
        assert all(said in scores.guard for scores in report.slices)  # names as they are
    assert all(scores.guard.count("LEAK LET THROUGH: ") == 4 for scores in report.slices)


def test_what_training_let_through_stands_in_every_score_without_being_asked(rows: list[Utterance]) -> None:
    report = evaluate(bundle_of(Provenance(leaks=("leak let through: in training",))), rows, plain=False)
    assert all("LEAK LET THROUGH" in scores.guard for scores in report.slices)
    honest = evaluate(bundle_of(), rows, plain=False)
    assert not any("LEAK" in scores.guard for scores in honest.slices)
    assert honest.notes[0].startswith("speaker-independent")


def test_a_session_and_a_speaker_of_one_name_are_two(rows: list[Utterance]) -> None:
    heard = Provenance(speakers=("toy/s0",), groups=("toy/s5",))  # a session called as the speaker who is scored
    assert evaluate(bundle_of(heard), rows, plain=False).flags == ()
    in_sessions = [replace(row, group="s5") if row.speaker == "s4" else row for row in rows]
    with pytest.raises(ValueError, match="trained on 1 of the speakers or dialogues.*toy/s5"):
        evaluate(bundle_of(heard), in_sessions)


def test_what_a_temperature_was_fitted_on_is_scored_with_a_flag(rows: list[Utterance], tmp_path: Path) -> None:
    plain = bundle_of()
    fitted = calibrate.fit(plain, [replace(row, split="test") for row in rows], "test", root=tmp_path / "cache")
    warm = Bundle(plain.run, plain.method, plain.provenance, {}, "", "warm", fitted)
    (flag,) = evaluate(warm, rows, plain=False).flags
    assert "the temperature of warm was fitted on 2 of these speakers" in flag
    assert "calibration and likelihood flatter it" in flag
    turns = Bundle(
        plain.run, plain.method, plain.provenance, {}, "", "warm", replace(fitted, fitted_on=ChosenOn(), turns_fitted_on=fitted.fitted_on)
    )
    assert evaluate(turns, rows, plain=False).flags == ()  # of conversations, which are not scored here


def test_a_side_that_chose_the_epoch_is_scored_with_a_flag(rows: list[Utterance]) -> None:
    by_name = evaluate(bundle_of(Provenance(chosen_on=ChosenOn(speakers=("toy/s5",)))), rows, plain=False)
    assert all("chosen on 1 of these speakers, dialogues or recordings (toy/s5)" in scores.guard for scores in by_name.slices)
    assert not by_name.notes[0].startswith("speaker-independent")
    mark = fingerprint(read(next(row for row in rows if row.id == "s5_sad").path))
    by_sound = evaluate(bundle_of(Provenance(chosen_on=ChosenOn(fingerprints=(mark,)))), rows, plain=False)
    assert "chosen on 1 of these" in by_sound.flags[0]
    assert "(s5_sad)" in by_sound.flags[0]
    elsewhere = evaluate(bundle_of(Provenance(chosen_on=ChosenOn(speakers=("toy/s9",), fingerprints=("0" * 64,)))), rows, plain=False)
    assert elsewhere.flags == ()


def test_what_the_rows_give_away_stands_beside_the_scores(rows: list[Utterance]) -> None:
    one_each = [replace(row, emotion=("angry", "sad")[int(str(row.speaker)[1]) % 2]) for row in rows]
    report = evaluate(bundle_of(), one_each, plain=False)
    assert any("the speaker alone (6 names) scores 100.0 % UAR" in note for note in report.notes)


def test_an_unknown_split_names_those_there_are(rows: list[Utterance]) -> None:
    with pytest.raises(ValueError, match="dev, test, train"):
        evaluate(bundle_of(), rows, split="tset")


def test_a_split_without_the_bundle_s_classes_says_what_it_holds(rows: list[Utterance]) -> None:
    with pytest.raises(ValueError, match="boredom"):
        evaluate(bundle_of(), [row for row in rows if row.emotion == "boredom"])


def other_bundle() -> Bundle:
    run = Run(method=Erm.Config(width=24))
    return Bundle(run, build(run), Provenance(class_counts={"angry": 1}), {}, "1" * 64, "other-bundle")


def test_a_difference_to_another_bundle_is_that_of_their_scores(rows: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    """One is right everywhere, the other answers the first class."""
    ours, theirs = bundle_of(), other_bundle()
    truth = [CLASSES.index(row.emotion) for row in rows if row.split == "test" and row.emotion in CLASSES]
    monkeypatch.setattr(
        evaluation, "_answered", lambda bundle, *_: (np.eye(4)[truth] if bundle is ours else np.tile(np.eye(4)[0], (len(truth), 1)), None)
    )
    report = evaluate(ours, rows, against=theirs)
    assert report.against == "other-bundle"
    assert report.slices[0].difference.uar.value == 0.75
    assert report.slices[0].difference.accuracy.value == 0.75


def test_bundles_of_other_classes_are_not_compared(rows: list[Utterance]) -> None:
    run = Run(method=Erm.Config(), labels=Labels(("angry", "sad")))
    gone = [replace(row, path=f"gone_{row.id}.wav") for row in rows]  # nothing is heard before this is known
    with pytest.raises(ValueError, match="only the same classes compare"):
        evaluate(bundle_of(), gone, against=Bundle(run, build(run), Provenance(), {}, "2" * 64, "two"))


def test_a_rival_is_not_scored_on_its_own_speakers_either(rows: list[Utterance]) -> None:
    run = Run(method=Erm.Config())
    knowing = Bundle(run, build(run), Provenance(speakers=("toy/s5",)), {}, "3" * 64, "knowing")
    with pytest.raises(ValueError, match="knowing was trained on"):
        evaluate(bundle_of(), rows, against=knowing)


def test_votes_are_answered_as_distributions_beside_the_mean_of_training(rows: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    share = {"angry": 2.0, "happy": 1.0, "neutral": 1.0, "boredom": 6.0}
    voted = [replace(row, votes=share if row.split == "train" else {"angry": 1.0, "sad": 3.0}) for row in rows]
    wanted = np.tile([0.25, 0.0, 0.0, 0.75], (8, 1))
    monkeypatch.setattr(evaluation, "_answered", lambda *_: (wanted, None))
    found = evaluate(bundle_of(), voted).slices[0].distribution
    assert found.num_utterances == 8
    assert found.measures["kl"].value == pytest.approx(0.0, abs=1e-9)
    assert found.skill.value == pytest.approx(1.0)
    assert found.train_mean["chebyshev"].value == pytest.approx(0.75)  # the mean of training says sad never
    assert evaluate(bundle_of(), rows).slices[0].distribution is None


def test_plain_statistics_are_fitted_on_the_train_side_and_need_every_class(rows: list[Utterance]) -> None:
    named = {beside.name: beside for beside in evaluate(bundle_of(), rows).slices[0].baselines}
    assert "fitted on 8 training utterances" in named["plain statistics"].what
    fewer = [row for row in rows if row.split != "train" or row.emotion != "sad"]
    assert evaluate(bundle_of(), fewer).slices[0].beside("plain statistics") is None
    for untrained in (evaluate(bundle_of(), [row for row in rows if row.split != "train"]), evaluate(bundle_of(), rows, "train")):
        assert untrained.slices[0].beside("plain statistics") is None
        assert any("no train side beside what is scored" in note for note in untrained.notes)


def test_attributes_are_scored_by_concordance(rows: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of them are labelled; arousal is answered as it is, valence always the same."""
    run = Run(method=Erm.Config(), labels=Labels(CLASSES, attributes=("arousal", "valence")))
    bundle = Bundle(run, build(run), Provenance(), {}, "4" * 64, "attributes")
    level = np.linspace(0.1, 0.9, 8)
    scored = iter(range(8))
    labelled = []
    for row in rows:
        at = next(scored) if row.split == "test" and row.emotion in CLASSES else None
        given = {"arousal": float(level[at]), "valence": float(level[7 - at])} if at is not None and at % 2 else None
        labelled.append(replace(row, attributes=given))
    answered = np.stack([level, np.full(8, 0.5)], axis=1)
    monkeypatch.setattr(evaluation, "_answered", lambda *_: (np.full((8, 4), 0.25), answered))
    found = evaluate(bundle, labelled).slices[0].concordance
    assert found["arousal"].value == pytest.approx(1.0)
    assert found["valence"].value == pytest.approx(0.0)


def test_a_class_that_hardly_anybody_has_is_named_beside_the_intervals() -> None:
    names = ("angry", *["sad"] * 5)
    rows = [Utterance(f"c/{n}", f"{n}.wav", corpus="c", speaker=f"s{n}", emotion=name) for n, name in enumerate(names)]
    (said,) = [note for note in evaluation.notes(rows, rows) if "hardly any" in note]
    assert said.startswith("classes that hardly any speaker has: angry (1 of 6): ")
    both = [replace(row, emotion=name) for row in rows for name in ("angry", "sad")]
    assert not [note for note in evaluation.notes(both, both) if "hardly any" in note]


def test_what_names_no_speaker_is_not_called_speaker_independent(rows: list[Utterance]) -> None:
    assert evaluation.notes(rows[20:], rows[:10])[0].startswith("speaker-independent; intervals")
    nameless = [replace(row, speaker=None) for row in rows]
    for scored, train in ((nameless, rows), (rows, nameless)):
        assert evaluation.notes(scored, train)[0].startswith("NOT KNOWN to be speaker-independent: some rows name no speaker; ")
    assert evaluation.notes([replace(row, group="talk") for row in nameless], rows)[0].startswith("speaker-independent"), "by session"
    assert evaluation.notes(nameless, rows, leaks=True)[0].startswith("NOT independent of what was trained")


def test_a_split_without_any_label_says_so(rows: list[Utterance]) -> None:
    with pytest.raises(ValueError, match="split 'test' holds none of the bundle's classes .*; none of its rows has a label$"):
        evaluate(bundle_of(), [replace(row, emotion=None) for row in rows])


@pytest.mark.parametrize(("people", "said"), [(1, "a single speaker"), (2, "2 speakers were scored: "), (5, "5 speakers"), (6, None)])
def test_intervals_over_few_speakers_are_called_too_narrow(people: int, said: str | None, rows: list[Utterance]) -> None:
    found = [note for note in evaluation.notes(rows[: 5 * people], rows) if "speaker was scored" in note or "speakers were scored" in note]
    assert len(found) == (said is not None)
    assert not said or found[0].startswith(said)
