"""moodcast.audit: planted defects are found and named, clean manifests are not blamed, and the real corpora hold what the log says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from moodcast import corpora as corpus_modules
from moodcast.audit import Finding, audit, classes_of, facts, guard, leaks_among, likeness, page, sound, table_findings
from moodcast.audit.facts import examine, facts_of
from moodcast.audit.table import giveaway, giveaways
from moodcast.manifest import Utterance, write_manifest

Wave = NDArray[np.float32]
CLASSES = ("angry", "happy", "neutral", "sad")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def voices(speechlike: Callable[..., Wave]) -> list[list[Wave]]:
    """[speaker][class], made once."""
    return [[faded(speechlike(2.0, seed=10 * s + k, hz=100 + 20 * s)) for k in range(4)] for s in range(6)]


@pytest.fixture
def rows(tmp_path: Path, voices: list[list[Wave]]) -> list[Utterance]:
    """Six speakers, two a split, four classes each: nothing is wrong with them."""
    found = []
    for s in range(6):
        for k, emotion in enumerate(CLASSES):
            path = tmp_path / f"s{s}_{emotion}.wav"
            soundfile.write(path, voices[s][k], 16_000)
            split = ("train", "dev", "test")[s // 2]
            found.append(Utterance(id=path.stem, path=str(path), corpus="toy", speaker=f"s{s}", emotion=emotion, split=split))
    return found


def faded(wave: Wave) -> Wave:
    """Nothing begins or ends in the middle of a word."""
    ramp = np.minimum(1, np.arange(len(wave)) / 3_200)
    return (wave * ramp * ramp[::-1]).astype(np.float32)


def kinds(findings: Sequence[Finding], severity: str | None = None) -> set[str]:
    return {item.kind for item in findings if severity in (None, item.severity)}


def of(findings: Sequence[Finding], kind: str) -> Finding:
    (found,) = [item for item in findings if item.kind == kind]
    return found


def with_wave(row: Utterance, name: str, wave: Wave, rate: int = 16_000) -> Utterance:
    path = Path(row.path).with_name(name)
    soundfile.write(path, wave, rate, subtype="OPUS" if path.suffix == ".ogg" else None)
    return replace(row, id=name, path=str(path))


def test_a_clean_manifest_is_not_blamed(rows: list[Utterance]) -> None:
    found = audit(rows)
    assert found.ok
    assert kinds(found.findings) == set()
    assert found.num_rows == 24
    assert found.hours == pytest.approx(48 / 3600)
    assert found.counts["toy"]["emotion"] == dict.fromkeys(CLASSES, 6)
    assert found.counts["toy"]["people"] == {"speakers": 6, "groups": 6}


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


def test_the_same_samples_are_found_under_other_names_and_formats(rows: list[Utterance]) -> None:
    wave, rate = soundfile.read(rows[0].path, dtype="float32")
    copy = with_wave(rows[0], "copy.flac", wave, rate)
    other_label = with_wave(replace(rows[0], emotion="sad"), "relabelled.wav", wave, rate)
    other_side = with_wave(replace(rows[0], speaker="s9", split="test"), "renamed.wav", wave, rate)
    assert of(audit([*rows, copy]).findings, "identical, one label").ids == ("s0_angry", "copy.flac")
    relabelled = of(audit([*rows, other_label]).findings, "identical, different labels")
    assert (relabelled.severity, relabelled.ids) == ("error", ("s0_angry", "relabelled.wav"))
    assert "angry, sad" in relabelled.detail
    leak = of(audit([*rows, other_side]).findings, "same sound on two sides")
    assert leak.severity == "error"
    assert "test, train" in leak.detail


@pytest.mark.parametrize("damage", ["opus", "mp3", "louder", "later", "resampled", "noisy"])
def test_damaged_copies_are_found(damage: str, rows: list[Utterance]) -> None:
    wave, _ = soundfile.read(rows[0].path, dtype="float32")
    rng = np.random.default_rng(0)
    noise = 0.1 * float(np.std(wave)) * rng.standard_normal(len(wave))
    made = {
        "opus": ("c.ogg", wave, 16_000),
        "mp3": ("c.mp3", wave, 16_000),
        "louder": ("c.wav", 0.25 * wave, 16_000),
        "later": ("c.wav", wave[5_003:], 16_000),
        "resampled": ("c.wav", np.interp(np.arange(0, len(wave), 16_000 / 22_050), np.arange(len(wave)), wave), 22_050),
        "noisy": ("c.wav", wave + noise, 16_000),
    }[damage]
    copy = with_wave(replace(rows[0], emotion="happy"), *made)
    found = of(audit([*rows, copy]).findings, "near-identical, different labels")
    assert (found.severity, set(found.ids)) == ("error", {"s0_angry", copy.id})


def test_a_shared_stretch_says_where_it_lies(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    whole = speechlike(6.0, seed=99)
    first = with_wave(rows[0], "first.wav", whole[: 4 * 16_000])
    second = with_wave(rows[0], "second.wav", whole[3 * 16_000 - 777 :])
    (match,) = likeness.find([fact.sound for fact in facts_of([first, second]) if fact.sound])
    assert match.first_s == pytest.approx(3.0, abs=0.1)
    assert match.second_s == pytest.approx(0.0, abs=0.1)
    assert match.seconds == pytest.approx(1.05, abs=0.15)
    assert of(audit([*rows, first, second]).findings, "shared stretch, one label").severity == "note"
    other = replace(second, speaker="s1")
    assert of(audit([*rows, first, other]).findings, "shared stretch, two speakers").severity == "error"
    one_group = [replace(first, group="show"), replace(other, group="show")]
    assert of(audit([*rows, *one_group]).findings, "shared stretch, two speakers").severity == "warning"


def test_a_match_ends_where_the_sound_goes_apart(speechlike: Callable[..., Wave]) -> None:
    shared, ends = speechlike(2.0, seed=1), [speechlike(3.0, seed=seed) for seed in (2, 3)]
    prints = [examine(np.concatenate([shared, end])).sound for end in ends]
    (match,) = likeness.find([item for item in prints if item])
    assert (match.first_s, match.second_s) == pytest.approx((0.0, 0.0), abs=0.05)
    assert match.seconds == pytest.approx(2.0, abs=0.3)


def test_a_long_recording_has_the_fingerprint_of_its_blocks(speechlike: Callable[..., Wave], monkeypatch: pytest.MonkeyPatch) -> None:
    low = likeness.lowered(speechlike(6.0, seed=4))
    whole = likeness.print_of(low)
    monkeypatch.setattr(likeness, "BLOCK", 37)
    assert np.array_equal(likeness.print_of(low).bits, whole.bits)
    assert np.array_equal(likeness.print_of(low).active, whole.active)


def test_a_jingle_that_unknown_voices_share_is_no_leak(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    jingle = speechlike(1.5, seed=50)
    shows = [
        with_wave(
            replace(rows[0], speaker=None, emotion=None, split=split),
            f"show{n}.wav",
            np.concatenate([jingle, speechlike(4.0, seed=60 + n)]),
        )
        for n, split in enumerate(("train", "test"))
    ]
    found = audit([*rows, *shows])
    assert of(found.findings, "shared stretch on two sides").severity == "warning"
    assert found.ok
    same_side = audit([*rows, *(replace(row, split="train") for row in shows)])
    assert of(same_side.findings, "shared stretch, one label").severity == "note"


def test_different_takes_of_one_voice_are_not_alike(speechlike: Callable[..., Wave]) -> None:
    prints = [examine(speechlike(3.0, seed=seed)).sound for seed in range(30)]
    assert likeness.find([item for item in prints if item]) == []


def test_silent_short_clipped_cut_and_unreadable_recordings_are_named(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    clean = speechlike(2.0, seed=1)
    silence = np.zeros(32_000, dtype=np.float32)
    cut = np.concatenate([silence[:8_000], clean / 2])
    cut = cut[: 8_000 + int(np.abs(clean[: len(clean) // 2]).argmax()) + 200]
    bad = Path(rows[0].path).with_name("bad.wav")
    bad.write_bytes(b"RIFF but no sound")
    planted = [
        with_wave(rows[0], "silent.wav", silence),
        with_wave(rows[0], "short.wav", clean[8_000:12_800]),
        with_wave(rows[0], "clipped.wav", np.clip(8 * clean, -1, 1)),
        with_wave(rows[0], "cut.wav", cut),
        replace(rows[0], id="bad.wav", path=str(bad)),
        replace(rows[0], id="gone.wav", path=str(bad.with_name("gone.wav"))),
        replace(with_wave(rows[0], "brief.wav", speechlike(1.5, seed=7)), duration_s=2.0),
        replace(with_wave(rows[0], "aligned.wav", speechlike(1.5, seed=8)), phones=(("a", 1.0, 2.5),)),
    ]
    found = audit([*rows, *planted]).findings
    assert of(found, "silent").ids == ("silent.wav",)
    assert of(found, "too short").ids == ("short.wav",)
    assert of(found, "clipped").ids == ("clipped.wav",)
    assert "cut.wav" in of(found, "cut at its end").ids
    assert {item.ids[0] for item in found if item.kind == "unreadable"} == {"bad.wav", "gone.wav"}
    assert of(found, "truncated").detail == "1.50 s of sound, 2.00 s in the manifest"
    assert of(found, "labels beyond the end").ids == ("aligned.wav",)
    assert kinds(found, "error") == {"silent", "unreadable", "truncated"}


def test_a_silent_recording_without_a_label_is_only_a_warning(rows: list[Utterance]) -> None:
    silent = with_wave(replace(rows[0], emotion=None), "silent.wav", np.zeros(16_000, dtype=np.float32))
    assert of(audit([*rows, silent]).findings, "silent").severity == "warning"


def test_labels_outside_the_map_get_a_suggestion(rows: list[Utterance]) -> None:
    odd = [replace(rows[0], emotion="hapy"), replace(rows[1], votes={"furious": 2.0, "angry": 1.0}), *rows[2:]]
    found = [item for item in table_findings(odd) if item.kind == "label outside the map"]
    assert [item.severity for item in found] == ["error", "error"]
    assert "did you mean 'happy'" in found[1].do
    assert table_findings(rows, classes=("angry", "happy")) != []


def test_what_rows_say_of_people_is_compared(rows: list[Utterance]) -> None:
    mixed = [replace(row, gender="male" if row.id == "s0_sad" else "female") if row.speaker == "s0" else row for row in rows]
    assert of(table_findings(mixed), "two values of gender").ids == ("s0_sad",)
    nameless = [replace(row, speaker=None) for row in rows]
    assert len(of(table_findings(nameless), "no speaker").ids) == 24


def test_a_class_that_a_side_lacks_is_named(rows: list[Utterance]) -> None:
    without = [row for row in rows if (row.split, row.emotion) != ("dev", "sad")]
    assert of(table_findings(without), "class missing from a side").detail == "toy: dev has no sad; other sides do"


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


def test_leaks_are_refused_by_name_unless_they_are_let_through(rows: list[Utterance]) -> None:
    leaking = leaks_among([replace(row, split="train") if row.id == "s4_sad" else row for row in rows])
    with pytest.raises(ValueError, match=r"toy/s4: 3 in test, 1 in train.*some.field=true lets them through"):
        guard(leaking, allow=False, how="some.field=true")
    assert guard(leaking, allow=True, how="") == ("leak let through: speaker on two sides, 1 times (toy/s4)",)
    assert guard(leaks_among(rows), allow=False, how="") == ()


def test_facts_are_kept_by_content_and_not_by_name(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = facts_of(rows[:3])
    moved = [replace(row, id=f"m{n}", path=str(Path(row.path).rename(tmp_path / f"m{n}.wav"))) for n, row in enumerate(rows[:3])]

    def refuse(row: Utterance) -> facts.Facts:
        raise RuntimeError(f"{row.id} was decoded again")

    monkeypatch.setattr(facts, "_decode", refuse)
    again = facts_of(moved)
    assert [fact.fingerprint for fact in again] == [fact.fingerprint for fact in first]
    assert all(np.array_equal(a.sound.bits, b.sound.bits) for a, b in zip(first, again, strict=True) if a.sound and b.sound)
    with pytest.raises(RuntimeError, match="decoded again"):
        facts_of([replace(moved[0], stop_s=1.0)])


def test_processes_find_the_same_as_one(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "ALONE", 4)
    told: list[tuple[int, int]] = []
    many = facts_of(rows, tmp_path / "many", processes=2, progress=lambda done, total: told.append((done, total)))
    alone = facts_of(rows, tmp_path / "alone", processes=1)
    assert [(fact.fingerprint, fact.level_db, fact.pitch_hz) for fact in many] == [
        (fact.fingerprint, fact.level_db, fact.pitch_hz) for fact in alone
    ]
    assert told[-1] == (24, 24)


def test_levels_and_pitch_are_those_of_the_signal(tone: Callable[..., Wave], speechlike: Callable[..., Wave]) -> None:
    fact = examine(tone(2.0, hz=220, level=0.5))
    assert fact.level_db == pytest.approx(10 * np.log10(0.125), abs=0.05)
    assert fact.peak == pytest.approx(0.5, abs=1e-3)
    assert fact.pitch_hz == pytest.approx(220, rel=0.03)
    assert examine(speechlike(3.0, hz=150)).pitch_hz == pytest.approx(150, rel=0.15)
    assert examine(np.zeros(8_000, dtype=np.float32)).pitch_hz is None


def test_pitch_beyond_the_other_gender_is_a_note(rows: list[Utterance]) -> None:
    people = [
        Utterance(id=f"{who}{n}", path=f"{who}{n}", corpus="c", speaker=who, gender=gender) for who, gender, _ in VOICES for n in range(5)
    ]
    heard = [facts.Facts(seconds=2.0, loud_db=-20, quiet_db=-60, pitch_hz=hz) for _, _, hz in VOICES for _ in range(5)]
    (found,) = sound.voices(people, heard)
    assert found.ids == tuple(f"m3{n}" for n in range(5))
    assert "male, median pitch 230 Hz; medians here: female 210, male 120 Hz" in found.detail


VOICES = [
    ("f1", "female", 200),
    ("f2", "female", 210),
    ("f3", "female", 220),
    ("m1", "male", 110),
    ("m2", "male", 120),
    ("m3", "male", 230),
]


def test_the_page_holds_every_finding_and_no_foreign_markup(rows: list[Utterance]) -> None:
    hostile = "<script>alert(1)</script>"
    silent = with_wave(rows[0], "silent.wav", np.zeros(16_000, dtype=np.float32))
    found = audit([*rows, replace(silent, id=hostile, corpus=hostile)])
    html = page.render(found, hostile)
    assert hostile not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert all(item.kind in html for item in found.findings)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "moodcast.cli", *map(str, words)], capture_output=True, text=True, check=False)


def test_the_command_exits_with_one_on_errors_and_writes_what_is_asked(rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / "good.parquet")
    write_manifest([replace(row, split="train") if row.id == "s4_sad" else row for row in rows], tmp_path / "bad.jsonl")
    good = run("audit", tmp_path / "good.parquet", "--json")
    assert (good.returncode, json.loads(good.stdout)["ok"]) == (0, True), good.stderr
    bad = run("audit", tmp_path / "bad.jsonl", "--html", tmp_path / "a.html", "--json", tmp_path / "a.json")
    assert bad.returncode == 1, bad.stderr
    assert "speaker on two sides" in bad.stdout
    assert "1 errors" in bad.stdout
    assert "toy/s4" in (tmp_path / "a.html").read_text()
    row = json.loads((tmp_path / "a.json").read_text())["findings"][0]
    assert set(row) == {"kind", "severity", "ids", "detail", "what_to_do"}


def test_a_file_is_not_overwritten_by_an_audit_that_was_not_asked_for_it(rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / "good.parquet")
    (tmp_path / "mine.json").write_text("{}")
    said = run("audit", tmp_path / "good.parquet", tmp_path / "mine.json")
    assert (said.returncode, "mine.json is no manifest" in said.stderr) == (2, True), said.stderr
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_an_audit_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    said = run("audit", tmp_path / "gone.parquet")
    assert said.returncode == 2
    assert "moodcast prepare" in said.stderr


# The real recordings: the defects that docs/log.md lists, in small samples.

PAIRS = {
    "cremad": [
        ("identical, different labels", ("cremad/1006_TIE_HAP_XX", "cremad/1006_TIE_NEU_XX")),
        ("near-identical, different labels", ("cremad/1017_IWL_ANG_XX", "cremad/1017_IWL_FEA_XX")),
        ("near-identical, one label", ("cremad/1056_MTI_ANG_XX", "cremad/1056_TAI_ANG_XX")),
        ("silent", ("cremad/1076_MTI_SAD_XX",)),
    ],
    "resd": [
        ("near-identical, one label", ("resd/31_fear_enthusiasm_f_060", "resd/31_fear_enthusiasm_f_070")),
        ("shared stretch, different labels", ("resd/11_anger_disgust_a_150", "resd/11_anger_disgust_d_150")),
        ("too short", ("resd/17_neutral_disgust_n_010",)),
    ],
    "ravdess": [("identical, one label", ("ravdess/03-01-03-01-02-01-07", "ravdess/03-01-03-01-02-02-07"))],
    "urdu": [("near-identical, two speakers", ("urdu/SF1_F4_H04", "urdu/SF4_F3_H019"))],
}


@pytest.mark.corpora
@pytest.mark.parametrize("name", PAIRS)
def test_known_defects_of_the_real_corpora_are_found_and_then_gone(name: str, corpora: Path) -> None:
    everything = corpus_modules.read(name, corpora / name)
    speakers = {row.speaker for row in everything if any(row.id in ids for _, ids in PAIRS[name])}
    planted = {one for _, ids in PAIRS[name] for one in ids}
    own = [row for row in everything if row.speaker in speakers]
    sample = [row for n, row in enumerate(own) if row.id in planted or n % 5 == 0]
    found = {(item.kind, tuple(sorted(item.ids))) for item in audit(sample).findings}
    assert found >= {(kind, tuple(sorted(ids))) for kind, ids in PAIRS[name]}
    left = audit(corpus_modules.clean(name, sample)[0])
    assert left.ok, left.findings


@pytest.mark.corpora
def test_the_speaker_gives_the_label_away_in_urdu_and_the_role_in_resd(corpora: Path) -> None:
    scores = {
        name: next(item for item in giveaways(corpus_modules.read(name, corpora / name)) if item.name == "speaker")
        for name in ("urdu", "resd", "emodb")
    }
    assert scores["urdu"].uar == pytest.approx(0.955, abs=0.01)
    assert scores["resd"].uar == 1.0
    assert scores["emodb"].uar < scores["emodb"].chance + 0.02


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_nobody_for_anything(browser: Any, rows: list[Utterance], tmp_path: Path) -> None:
    silent = with_wave(rows[0], "silent.wav", np.zeros(16_000, dtype=np.float32))
    (tmp_path / "a.html").write_text(page.render(audit([*rows, silent]), "toy"))
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "a.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "silent" in tab.inner_text("article.error")
    tab.close()
    assert asked == [(tmp_path / "a.html").as_uri()]
