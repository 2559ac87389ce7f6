"""`moodcast prepare`, as a person types it: what it drops, whose split it takes, and where that leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodcast.manifest import Utterance, leaks, read_manifest
from tests.audit.planted import note_copies, with_wave
from tests.corpora.made import touch
from tests.typed import Command


@pytest.mark.corpora
def test_known_defects_are_dropped_and_mended_and_said_unless_all_is_kept_as_it_is(
    moodcast: Command, corpora: Path, tmp_path: Path
) -> None:
    words = ("prepare", "resd", corpora / "resd", "--out", tmp_path / "m.parquet")
    said = moodcast(*words)
    assert said.code == 0, said.err
    assert "resd: one word cut off: drops resd/17_neutral_disgust_n_010 (0.37 s" in said.out
    rows = {row.id: row for row in read_manifest(tmp_path / "m.parquet")}
    assert len(rows) == 1113
    assert (rows["resd/11_anger_disgust_a_150"].stop_s, rows["resd/11_anger_disgust_d_150"].start_s) == (None, 2.0)
    said = moodcast(*words, "--as-is")
    assert said.code == 0, said.err
    assert "drops" not in said.out
    assert len(read_manifest(tmp_path / "m.parquet")) == 1116


def test_the_owner_s_split_is_kept_with_a_warning_where_it_leaks_and_made_anew_when_asked(moodcast: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion,speaker,split\n" + "".join(f"{n}.wav,sad,s{n % 5},{'test' if n > 7 else 'train'}\n" for n in range(10)))
    words = ("prepare", "csv", table, "--out", tmp_path / "m.csv")
    said = moodcast(*words)
    assert said.code == 0, said.err
    assert "the owner's split leaks: mine/s3: 1 in test, 1 in train" in said.err
    assert sum(row.split == "test" for row in read_manifest(tmp_path / "m.csv")) == 2
    touch(*(tmp_path / f"{n}.wav" for n in range(10)))
    said = moodcast(*words, "--resplit")
    assert (said.code, said.err) == (0, "")
    assert leaks(read_manifest(tmp_path / "m.csv")) == {}


def test_copies_that_an_audit_found_on_two_sides_are_named_with_what_helps(
    moodcast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "cache"))
    blank = Utterance(id="", path=str(tmp_path / "x"))
    rows = [with_wave(blank, f"{n}.wav", np.full(4_000, 0.1 + 0.1 * n, dtype=np.float32)) for n in range(2)]
    note_copies(*rows)
    (tmp_path / "mine.csv").write_text("path,emotion,speaker,split\n0.wav,sad,s0,train\n1.wav,sad,s1,test\n")
    said = moodcast("prepare", "csv", tmp_path / "mine.csv", "--out", tmp_path / "m.csv")
    assert said.code == 0, said.err
    assert "the same sound stands on two sides of the split: mine/0.wav and mine/1.wav. train and evaluate will refuse it" in said.err
    assert "--resplit" not in said.err


def test_a_split_of_one_s_own_manifest_is_not_replaced_without_a_word(moodcast: Command, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("id,path,speaker,split\n" + "".join(f"{n},{n}.wav,s{n},{'test' if n > 2 else 'train'}\n" for n in range(4)))
    touch(*(tmp_path / f"{n}.wav" for n in range(4)))
    words = ("prepare", "manifest", own, "--out", tmp_path / "m.csv")
    assert f"{own} had a split; it was made anew" in moodcast(*words).err
    assert moodcast(*words, "--resplit").err == ""
    own.write_text("id,path,speaker\n" + "".join(f"{n},{n}.wav,s{n}\n" for n in range(4)))
    assert moodcast(*words).err == ""


def test_folds_are_told_without_the_owner_s_split_which_they_replace(moodcast: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion,speaker,split\n" + "".join(f"{n}.wav,sad,s{n},{'probe' if n > 4 else 'train'}\n" for n in range(6)))
    touch(*(tmp_path / f"{n}.wav" for n in range(6)))
    said = moodcast("prepare", "csv", table, "--out", tmp_path / "m.csv", "--folds", "3")
    assert (said.code, said.err) == (0, "")
    assert "probe" not in said.out
    assert "train" not in said.out
    assert "all" in said.out


def test_a_table_is_not_overwritten_by_the_manifest_made_of_it(moodcast: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text(written := "path,emotion,speaker,notes\n" + "".join(f"{n}.wav,sad,s{n},kept\n" for n in range(5)))
    (tmp_path / "link.csv").symlink_to(table)
    said = moodcast("prepare", "csv", table, "--out", tmp_path / "link.csv")
    assert said.code == 2
    assert "link.csv is the table that is read" in said.err
    touch(*(tmp_path / f"{n}.wav" for n in range(5)))
    folds = moodcast("prepare", "csv", table, "--out", table, "--folds", "3")
    assert folds.code == 0
    assert "columns that were not read: notes; FIELD=COLUMN says what one holds" in folds.err
    assert (tmp_path / "mine.fold2.csv").is_file()
    assert table.read_text() == written


def test_what_could_not_be_read_back_is_not_written(moodcast: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,start_s,stop_s,speaker\n" + "".join(f"{n}.wav,{n},{4 - n},s{n}\n" for n in range(4)))
    said = moodcast("prepare", "csv", table, "--out", tmp_path / "m.csv")
    assert said.code == 2
    assert "row 3 (mine/2.wav#2-2): the span 2.0 to 2.0 s is empty" in said.err
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize("sides", [("train",), ("train", "test"), ("train", "blind")])
def test_a_line_stands_between_the_sides_and_all_of_them(moodcast: Command, sides: tuple[str, ...], tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,split,speaker\n" + "".join(f"{side}.wav,{side},{side}\n" for side in sides))
    said = moodcast("prepare", "csv", table, "--out", tmp_path / "m.csv")
    starts = [line.split()[1] if line[0] == "│" else line[0] for line in said.out.splitlines() if line and line[0] in "│├"]
    assert starts == [*sides, "├", "all"]
    assert ("blind: trained on by nobody, and scored by `moodcast evaluate --split NAME` alone" in said.err) == ("blind" in sides)


def test_recordings_that_are_not_there_and_rows_without_a_speaker_are_said_and_not_counted_as_people(
    moodcast: Command, tmp_path: Path
) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("path,emotion\n" + "".join(f"{n}.wav,sad\n" for n in range(4)))
    touch(*(tmp_path / f"{n}.wav" for n in (0, 2, 3)))
    words = ("prepare", "csv", table, "--out", tmp_path / "m.csv")
    said = moodcast(*words)
    assert said.code == 0, said.err
    assert f"1 of 4 recordings are not there, the first is {tmp_path / '1.wav'}; put them there" in said.err
    assert "4 of 4 rows name no speaker: each counts as a speaker of its own" in said.err
    assert [line.split("│")[3].strip() for line in said.out.splitlines() if line.startswith("│")] == ["?"] * 4
    table.write_text("path,emotion,speaker\n0.wav,sad,anna\n" + "".join(f"{n}.wav,sad,\n" for n in (2, 3)))
    assert [line.split("│")[3].strip() for line in moodcast(*words).out.splitlines() if line.startswith("│")][-1] == "1"
    touch(tmp_path / "1.wav")
    table.write_text("path,emotion,group\n" + "".join(f"{n}.wav,sad,g{n}\n" for n in range(4)))
    assert moodcast(*words).err == "", "a session keeps apart what one person says"
    table.write_text("path\n" + "".join(f"{n}.wav\n" for n in range(4)))
    assert moodcast(*words).err == "", "what is not labelled is not scored"


def test_columns_that_a_table_has_for_nothing_are_named(moodcast: Command, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("File;Speaker;start;end;V;A\n" + "".join(f"{n}.wav;s{n};0,5;1;4;2\n" for n in range(4)))
    touch(*(tmp_path / f"{n}.wav" for n in range(4)))
    words = ("prepare", "csv", table, "--out", tmp_path / "m.csv", "path=File")
    assert "columns that were not read: start, end, V, A; FIELD=COLUMN says" in moodcast(*words).err
    more = ("start_s=start", "stop_s=end", "attributes=valence:V", "scale=1:7", "votes=angry:A")
    assert moodcast(*words, *more).err == ""
    assert [(row.start_s, row.stop_s) for row in read_manifest(tmp_path / "m.csv")] == [(0.5, 1.0)] * 4


def test_a_workbook_is_told_how_it_becomes_a_table(moodcast: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.XLSX").write_bytes(b"PK")
    said = moodcast("prepare", "csv", tmp_path / "mine.XLSX", "--out", tmp_path / "m.csv")
    assert said.code == 2
    assert "mine.XLSX is a workbook; wanted a CSV file: save the sheet as CSV (UTF-8), and name that" in said.err
