"""moodcast.audit.table: what rows alone say, unheard: leaks, labels, people, sentences, and what a name gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from moodcast.audit import classes_of, guard, leaks_among, table_findings
from moodcast.audit.table import Giveaway, giveaway, giveaway_finding, giveaways
from moodcast.manifest import Utterance
from tests.audit.planted import CLASSES, kinds, of


def test_speakers_dialogues_and_recordings_on_two_sides_are_errors(rows: list[Utterance]) -> None:
    leaking = [replace(row, split="train") if row.id == "s4_sad" else row for row in rows]
    leaking = [replace(row, group="talk") if row.id in ("s0_sad", "s2_sad") else row for row in leaking]
    leaking = [replace(row, path=rows[0].path) if row.id == "s5_sad" else row for row in leaking]
    found = table_findings(leaking)
    assert of(found, "speaker on two sides").detail == "toy/s4: 3 in test, 1 in train"
    assert of(found, "dialogue on two sides").ids == ("s0_sad", "s2_sad")
    assert of(found, "recording on two sides").ids == ("s0_angry", "s5_sad")
    assert {item.severity for item in found if "sides" in item.kind} == {"error"}
    assert all("split again" in item.do or "keep" in item.do for item in found if "two sides" in item.kind)


def test_leaks_are_refused_by_name_unless_they_are_let_through(rows: list[Utterance]) -> None:
    leaking = leaks_among([replace(row, split="train") if row.id == "s4_sad" else row for row in rows])
    with pytest.raises(ValueError, match=r"toy/s4: 3 in test, 1 in train.*some.field=true lets them through"):
        guard(leaking, allow=False, how="some.field=true")
    assert guard(leaking, allow=True, how="") == ("leak let through: speaker on two sides, once (toy/s4)",)
    assert guard(leaks_among(rows), allow=False, how="") == ()


def test_labels_outside_the_map_get_a_suggestion(rows: list[Utterance]) -> None:
    odd = [replace(rows[0], emotion="hapy"), replace(rows[1], votes={"furious": 2.0, "angry": 1.0}), *rows[2:]]
    found = [item for item in table_findings(odd) if item.kind == "label outside the map"]
    assert [item.severity for item in found] == ["error", "error"]
    assert "did you mean 'happy'" in found[1].do
    fewer = [item for item in table_findings(rows, classes=("angry", "happy")) if item.kind == "label outside the map"]
    assert [item.detail for item in fewer] == [f"'{name}' in 6 rows is not among angry, happy" for name in ("neutral", "sad")]


def test_rows_without_a_label_are_a_note_and_attributes_out_of_range_an_error(rows: list[Utterance]) -> None:
    odd = [replace(rows[0], emotion=None), replace(rows[1], attributes={"arousal": 4.0}), *rows[2:]]
    bare, outside = of(table_findings(odd), "no label"), of(table_findings(odd), "attribute out of range")
    assert (bare.severity, bare.ids) == ("note", ("s0_angry",))
    assert (outside.severity, outside.ids) == ("error", ("s0_happy",))


def test_labels_that_most_voters_did_not_choose_are_a_note(rows: list[Utterance]) -> None:
    votes = {"s0_angry": {"sad": 3.0, "angry": 1.0}, "s0_happy": {"happy": 1.0, "sad": 1.0}, "s0_sad": {"sad": 2.0}}
    found = of(table_findings([replace(row, votes=votes.get(row.id)) for row in rows]), "votes against the label")
    assert (found.severity, found.ids) == ("note", ("s0_angry",))
    assert found.detail.startswith("toy: in 1 of 3 rows (33.3 %) most votes are for another class than the label, in 1 more it ties")


def test_what_rows_say_of_people_is_compared(rows: list[Utterance]) -> None:
    mixed = [replace(row, gender="male" if row.id == "s0_sad" else "female") if row.speaker == "s0" else row for row in rows]
    assert of(table_findings(mixed), "two values of gender").ids == ("s0_sad",)
    aged = [replace(row, age={"s0_sad": 60.0, "s0_happy": 33.0}.get(row.id, 31.0)) if row.speaker == "s0" else row for row in rows]
    assert of(table_findings(aged), "two values of age").detail == "toy/s0: 31.0 in 2, 33.0 in 1, 60.0 in 1"
    birthdays = [replace(row, age=31.0 if row.emotion == "sad" else 33.0) for row in rows]
    assert "two values of age" not in kinds(table_findings(birthdays))
    nameless = [replace(row, speaker=None) for row in rows]
    assert len(of(table_findings(nameless), "no speaker").ids) == 24


@pytest.mark.parametrize(
    ("names", "one"),
    [
        (("Anna", "anna "), True),
        (("03", "3"), True),
        (("spk_1", "spk 01"), True),
        (("J\u00fcrgen", "Ju\u0308rgen"), True),
        (("S1_1", "S11"), False),
        (("0", "00"), True),
        (("10", "1"), False),
        (("s1", "s2"), False),
        (("\u0930\u093e\u092e", "\u0930\u0940\u092e\u093e"), False),  # vowel signs of Devanagari
        (("\u0e21\u0e35", "\u0e21\u0e39"), False),  # and of Thai
        (("?", "!"), False),
    ],
)
def test_names_that_differ_in_spelling_alone_are_told_before_a_split_takes_them_for_two(
    names: tuple[str, str], one: bool, rows: list[Utterance]
) -> None:
    renamed = [replace(row, speaker={"s0": names[0], "s1": names[1]}.get(str(row.speaker), "zoe")) for row in rows]
    found = [item for item in table_findings(renamed) if item.kind == "one speaker, several spellings"]
    assert len(found) == one
    if one:
        assert (found[0].severity, len(found[0].ids)) == ("warning", 8)
        assert f"{names[0]!r} in 4 rows" in found[0].detail
    apart = [replace(row, corpus=str(row.speaker)) for row in renamed]
    assert "one speaker, several spellings" not in kinds(table_findings(apart)), "names of two corpora are two people's"


def test_a_class_that_a_side_lacks_is_named(rows: list[Utterance]) -> None:
    without = [row for row in rows if (row.split, row.emotion) != ("dev", "sad")]
    assert of(table_findings(without), "class missing from a side").detail == "toy: dev has no sad; other sides do"


def test_sentences_that_are_heard_in_training_and_outside_of_it_are_a_note(rows: list[Utterance]) -> None:
    own = [replace(row, text=f"{row.split} says this") for row in rows]
    assert "sentences shared by sides" not in kinds(table_findings(own))
    shared = [replace(row, text="It is Eleven o'clock." if row.split == "train" else "it is eleven o'clock") for row in rows]
    found = of(table_findings(shared), "sentences shared by sides")
    assert found.severity == "note"
    assert set(found.ids) == {row.id for row in rows if row.split != "train"}


def test_spans_that_overlap_in_one_recording_are_named(rows: list[Utterance]) -> None:
    base = replace(rows[0], duration_s=6.0)
    spans = [
        replace(base, id=f"t{n}", start_s=float(start), stop_s=float(stop)) for n, (start, stop) in enumerate(((0, 2), (1.9, 4), (4, 6)))
    ]
    assert kinds(table_findings(spans)) == set()
    assert of(table_findings([*spans, replace(base, id="twice", start_s=4.5, stop_s=5.5)]), "overlapping spans, one label").ids == (
        "t2",
        "twice",
    )
    other = of(table_findings([*spans, replace(base, id="whole", emotion="sad")]), "overlapping spans, different labels")
    assert (other.severity, set(other.ids)) == ("warning", {"whole", "t0", "t1", "t2"})


def test_classes_are_counted_by_corpus_language_gender_and_split(rows: list[Utterance]) -> None:
    found = classes_of([replace(row, gender="female" if row.speaker == "s0" else None, language="de") for row in rows])
    assert found["gender"] == {"?": dict.fromkeys(CLASSES, 5), "female": dict.fromkeys(CLASSES, 1)}
    assert found["split"]["dev"] == dict.fromkeys(CLASSES, 2)
    assert set(found) == {"corpus", "language", "gender", "split"}


def named(labels: Sequence[str], speakers: Sequence[str]) -> list[Utterance]:
    pairs = zip(labels, speakers, strict=True)
    return [Utterance(id=str(n), path=f"{n}.wav", corpus="made", speaker=who, emotion=label) for n, (label, who) in enumerate(pairs)]


def test_a_name_that_decides_the_label_scores_one_and_one_that_does_not_scores_chance() -> None:
    rng = np.random.default_rng(0)
    speakers = [f"s{n % 20}" for n in range(2_000)]
    own = giveaway("made", "speaker", named([CLASSES[int(who[1:]) % 4] for who in speakers], speakers), lambda row: row.speaker)
    free = giveaway("made", "speaker", named([CLASSES[k] for k in rng.integers(0, 4, 2_000)], speakers), lambda row: row.speaker)
    assert own is not None
    assert free is not None
    assert (own.uar, own.accuracy, own.excess) == (1.0, 1.0, 1.0)
    assert free.uar == pytest.approx(0.25, abs=0.05)
    assert free.shuffled == pytest.approx(0.25, abs=0.05)


def test_a_giveaway_equals_counting_by_hand() -> None:
    speakers = ["a"] * 10 + ["b"] * 10
    labels = ["sad"] * 9 + ["happy"] + ["happy"] * 10
    item = giveaway("made", "speaker", named(labels, speakers), lambda row: row.speaker)
    assert item is not None
    assert item.accuracy == pytest.approx(19 / 20)  # a says sad, b happy, whichever fold is left out
    assert item.uar == pytest.approx((9 / 9 + 10 / 11) / 2)
    assert (item.majority, item.chance) == (11 / 20, 0.5)


def test_names_that_hardly_repeat_give_nothing_away() -> None:
    assert giveaways(named(["sad", "happy"] * 5, [f"s{n}" for n in range(10)])) == []


@pytest.mark.parametrize(("share", "severity"), [(1.0, ["warning"]), (0.15, ["note"]), (0.0, [])])
def test_a_name_that_tells_the_label_is_a_warning_and_one_that_hints_at_it_a_note(share: float, severity: list[str]) -> None:
    rng = np.random.default_rng(0)
    speakers = [f"s{n % 20}" for n in range(2_000)]
    labels = [CLASSES[int(who[1:]) % 4 if rng.random() < share else rng.integers(4)] for who in speakers]
    found = [item for item in table_findings(named(labels, speakers)) if item.kind == "speaker gives the label away"]
    assert [item.severity for item in found] == severity
    assert all("(20 names) scores" in item.detail and "chance 25.0" in item.detail for item in found)


def test_with_several_corpora_the_corpus_itself_may_give_the_label_away() -> None:
    rows = [replace(row, corpus=f"only {row.emotion}") for row in named(["sad", "happy"] * 20, ["a"] * 40)]
    found = of(table_findings(rows), "corpus gives the label away")
    assert "train.balance=corpus_class" in found.do


def test_what_shuffled_labels_reach_as_well_is_no_giveaway() -> None:
    item = Giveaway("made", "speaker", 20, 100, uar=0.31, accuracy=0.3, chance=0.25, majority=0.25, shuffled=0.32)
    assert giveaway_finding(item, []) is None
    assert giveaway_finding(replace(item, shuffled=0.30), []) is not None
