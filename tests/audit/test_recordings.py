"""moodcast.audit.facts and moodcast.audit.sound: what each recording tells by itself, and how its facts are kept."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest

from moodcast.audit import audit, facts, sound
from moodcast.audit.facts import examine, facts_of
from moodcast.audit.sound import shared_sound, sound_findings
from moodcast.manifest import Utterance
from tests.audit.planted import CLASSES, Wave, faded, kinds, of, with_wave

VOICES = [
    ("f1", "female", 200),
    ("f2", "female", 210),
    ("f3", "female", 220),
    ("m1", "male", 110),
    ("m2", "male", 120),
    ("m3", "male", 230),
]


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
        replace(rows[0], id="gone too.wav", path=str(bad.with_name("gone too.wav"))),
        replace(rows[0], id="gone again.wav", path=str(bad.with_name("gone too.wav")), start_s=1.0),
        replace(with_wave(rows[0], "brief.wav", speechlike(1.5, seed=7)), duration_s=2.0),
        replace(with_wave(rows[0], "aligned.wav", speechlike(1.5, seed=8)), phones=(("a", 1.0, 2.5),)),
    ]
    found = audit([*rows, *planted]).findings
    assert of(found, "silent").ids == ("silent.wav",)
    assert of(found, "too short").ids == ("short.wav",)
    assert of(found, "clipped").ids == ("clipped.wav",)
    assert "cut.wav" in of(found, "cut at its end").ids
    assert of(found, "unreadable").ids == ("bad.wav",)
    assert of(found, "unreadable").detail.count(str(bad.parent)) == 1, "named once"
    assert of(found, "missing").ids == ("gone.wav", "gone too.wav", "gone again.wav"), "a folder that is elsewhere is one finding"
    assert of(found, "missing").detail.startswith("toy: 2 of 33 recordings are missing")
    assert of(found, "truncated").detail == "1.50 s of sound, 2.00 s in the manifest"
    assert of(found, "labels beyond the end").ids == ("aligned.wav",)
    assert kinds(found, "error") == {"silent", "unreadable", "missing", "truncated"}


def test_long_noisy_edited_and_early_cut_recordings_are_named(rows: list[Utterance], speechlike: Callable[..., Wave]) -> None:
    clean = faded(speechlike(2.0, seed=1))
    late = speechlike(2.0, seed=2)[::-1]
    late = late[16_000 + int(np.abs(late[16_000:]).argmax()) - 200 :]
    planted = [
        replace(with_wave(rows[0], "longer.wav", clean), duration_s=1.0),
        with_wave(rows[0], "noise.wav", (0.1 * np.random.default_rng(0).standard_normal(32_000)).astype(np.float32)),
        with_wave(rows[0], "edited.wav", np.concatenate([clean[:16_000], np.zeros(10_000, np.float32), clean[16_000:]])),
        with_wave(rows[0], "cut.wav", np.concatenate([late / 2, np.zeros(6_000, np.float32)])),
    ]
    facts = facts_of(planted)
    found = sound_findings(planted, facts, shared_sound(planted, facts))
    assert of(found, "longer than its table says").detail == "2.00 s of sound, 1.00 s in the manifest"
    assert of(found, "hardly above its noise").ids == ("noise.wav",)
    assert "cut.wav" in of(found, "cut at its start").ids
    assert of(found, "digital silence").ids == ("edited.wav",)


def test_a_silent_recording_without_a_label_is_only_a_warning(rows: list[Utterance]) -> None:
    silent = with_wave(replace(rows[0], emotion=None), "silent.wav", np.zeros(16_000, dtype=np.float32))
    assert of(audit([*rows, silent]).findings, "silent").severity == "warning"


def test_a_defect_that_one_class_has_more_than_others_says_so() -> None:
    rows = [Utterance(id=f"{n}", path=f"{n}", corpus="c", emotion=CLASSES[n % 4]) for n in range(40)]
    heard = [facts.Facts(seconds=2.0, loud_db=-20, quiet_db=-60, clipped=0.1 * (row.emotion == "angry")) for row in rows]
    (found,) = sound.quality(rows, heard)
    assert (found.kind, len(found.ids)) == ("clipped", 10)
    assert "c: 10 of 40 recordings" in found.detail
    assert found.detail.endswith("100 % of them angry (25 % of all)")


def test_pitch_beyond_the_other_gender_is_a_note() -> None:
    people = [
        Utterance(id=f"{who}{n}", path=f"{who}{n}", corpus="c", speaker=who, gender=gender) for who, gender, _ in VOICES for n in range(5)
    ]
    heard = [facts.Facts(seconds=2.0, loud_db=-20, quiet_db=-60, pitch_hz=hz) for _, _, hz in VOICES for _ in range(5)]
    (found,) = sound.voices(people, heard)
    assert found.ids == tuple(f"m3{n}" for n in range(5))
    assert "male, median pitch 230 Hz; medians here: female 210, male 120 Hz" in found.detail


def test_levels_and_pitch_are_those_of_the_signal(tone: Callable[..., Wave], speechlike: Callable[..., Wave]) -> None:
    fact = examine(tone(2.0, hz=220, level=0.5))
    assert fact.level_db == pytest.approx(10 * np.log10(0.125), abs=0.05)
    assert fact.peak == pytest.approx(0.5, abs=1e-3)
    assert fact.pitch_hz == pytest.approx(220, rel=0.03)
    assert examine(speechlike(3.0, hz=150)).pitch_hz == pytest.approx(150, rel=0.15)
    assert examine(np.zeros(8_000, dtype=np.float32)).pitch_hz is None


def test_facts_are_kept_by_content_and_not_by_name(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = facts_of(rows[:3], tmp_path / "kept")
    moved = [replace(row, id=f"m{n}", path=str(Path(row.path).rename(tmp_path / f"m{n}.wav"))) for n, row in enumerate(rows[:3])]

    def refuse(row: Utterance) -> facts.Facts:
        raise RuntimeError(f"{row.id} was decoded again")

    monkeypatch.setattr(facts, "_decode", refuse)
    again = facts_of(moved, tmp_path / "kept")
    assert [fact.fingerprint for fact in again] == [fact.fingerprint for fact in first]
    assert all(np.array_equal(a.sound.bits, b.sound.bits) for a, b in zip(first, again, strict=True) if a.sound and b.sound)
    with pytest.raises(RuntimeError, match="m0 was decoded again"):
        facts_of([replace(moved[0], stop_s=1.0)], tmp_path / "kept")
    Path(moved[1].path).write_bytes(Path(rows[3].path).read_bytes())
    with pytest.raises(RuntimeError, match="m1 was decoded again"):
        facts_of(moved, tmp_path / "kept")


def test_an_audit_that_listens_keeps_nobody_waiting_and_one_that_is_stopped_keeps_what_it_heard(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = facts._decode

    def listen(row: Utterance) -> tuple[facts.Facts, bool]:
        with closing(sqlite3.connect(tmp_path / "audit.sqlite", timeout=0)) as other:
            other.execute("BEGIN EXCLUSIVE")  # refused at once where the audit holds the store
        if row is rows[2]:
            raise KeyboardInterrupt
        return decode(row)

    monkeypatch.setattr(facts, "_decode", listen)
    with pytest.raises(KeyboardInterrupt):
        facts_of(rows[:3], tmp_path)
    asked: list[str] = []
    monkeypatch.setattr(facts, "_decode", lambda row: (asked.append(row.id), decode(row))[1])
    facts_of(rows[:3], tmp_path)
    assert asked == [rows[2].id]


def test_what_the_system_refused_is_asked_again_and_what_a_file_lacks_is_not(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF but no sound")
    asked, read = [], facts.audio.read

    def busy(path: str, *span: object) -> Wave:
        asked.append(path)
        with pytest.MonkeyPatch.context() as patched:
            if path == rows[0].path and asked.count(path) == 1:
                refused = av.error.OSError(errno.EMFILE, "Too many open files", path)
                patched.setattr(av, "open", Mock(side_effect=refused))
            if path == rows[1].path and asked.count(path) == 1:
                raise OSError(errno.EIO, "Input/output error", path)
            return read(path, *span)

    monkeypatch.setattr(facts.audio, "read", busy)
    some = [*rows[:2], replace(rows[0], id="bad", path=str(bad))]
    first, again = facts_of(some, tmp_path / "kept"), facts_of(some, tmp_path / "kept")
    assert [bool(fact.error) for fact in first] == [True, True, True]
    assert [bool(fact.error) for fact in again] == [False, False, True]
    assert [asked.count(row.path) for row in some] == [2, 2, 1]


def test_processes_find_the_same_as_one(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "ALONE", 4)
    told: list[tuple[int, int]] = []
    many = facts_of(rows, tmp_path / "many", processes=2, progress=lambda done, total: told.append((done, total)))
    alone = facts_of(rows, tmp_path / "alone", processes=1)
    assert [(fact.fingerprint, fact.level_db, fact.pitch_hz) for fact in many] == [
        (fact.fingerprint, fact.level_db, fact.pitch_hz) for fact in alone
    ]
    assert told[-1] == (24, 24)
