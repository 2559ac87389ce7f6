"""Timelines in the formats of other tools, each read back by the library that people use."""

from __future__ import annotations

import csv
import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import audformat
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pympi
import pytest
import webvtt
from numpy.typing import NDArray
from praatio import textgrid
from pyannote.database.util import load_rttm

from moodcast import formats
from moodcast.timeline import ChunkRow, Segment, Timeline

Wave = NDArray[np.float32]
AWKWARD = "B <b> & co --> x"


def felt(speaker: str, start_s: float, stop_s: float, angry: float, text: str | None = None) -> Segment:
    emotions = {"angry": angry, "happy": 1 - angry}
    name = max(emotions, key=lambda key: emotions[key])
    chunks = (ChunkRow(start_s=start_s, stop_s=stop_s, emotions=emotions),)
    return Segment(
        start_s=start_s,
        stop_s=stop_s,
        speaker=speaker,
        emotion=name,
        emotions=emotions,
        confidence=emotions[name],
        attributes={"valence": 0.25},
        text=text,
        chunks=chunks,
    )


@pytest.fixture
def timeline() -> Timeline:
    segments = (
        felt("A", 0.25, 2.5, 0.2, 'she said "so",\n<i>and</i> --> left'),
        Segment(start_s=2.0, stop_s=4.0, speaker=AWKWARD, status="too_short", overlap=True),
        felt("A", 2.2, 5.125, 0.6),  # begins before the last turn of A has ended
        felt("A", 3.0, 4.0, 0.9),  # inside another turn of A
    )
    made_by = {"bundle": "b", "bundle_sha256": "0" * 64}
    return Timeline(uri="talk", duration_s=9.5, classes=("angry", "happy"), segments=segments, provenance=made_by)


def written(timeline: Timeline, folder: Path, name: str) -> Path:
    (path,) = formats.write(timeline, folder, "talk", audio=None, formats=(name,))
    assert path.exists()
    return path


def test_parquet_has_a_typed_row_a_segment_and_what_made_it(timeline: Timeline, tmp_path: Path):
    table = pq.read_table(written(timeline, tmp_path, "parquet"))
    assert table.schema.metadata[b"bundle_sha256"] == b"0" * 64
    rows = table.to_pandas()
    assert rows["speaker"].tolist() == ["A", AWKWARD, "A", "A"]
    np.testing.assert_allclose(rows["p_angry"], [0.2, np.nan, 0.6, 0.9])
    np.testing.assert_allclose(rows["valence"], [0.25, np.nan, 0.25, 0.25])
    assert rows["overlap"].tolist() == [False, True, False, False]
    assert rows["emotion"][1] is None or pd.isna(rows["emotion"][1])


def test_a_label_track_has_three_columns_of_start_stop_and_what_was_felt(timeline: Timeline, tmp_path: Path):
    with open(written(timeline, tmp_path, "audacity"), encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [(float(a), float(b)) for a, b, _ in rows] == [(0.25, 2.5), (2.0, 4.0), (2.2, 5.125), (3.0, 4.0)]
    assert [words for _, _, words in rows] == ["A: happy 80 %", f"{AWKWARD}: (too short)", "A: angry 60 %", "A: angry 90 %"]


def test_praat_has_two_tiers_a_speaker_without_overlap(timeline: Timeline, tmp_path: Path):
    grid = textgrid.openTextgrid(str(written(timeline, tmp_path, "textgrid")), includeEmptyIntervals=False)
    assert grid.tierNames == ("A", "A emotion", AWKWARD, f"{AWKWARD} emotion")
    assert grid.maxTimestamp == 9.5
    assert [tuple(e) for e in grid.getTier("A emotion").entries] == [(0.25, 2.5, "happy 80 %"), (2.5, 5.125, "angry 60 %")]
    assert grid.getTier("A").entries[0].label == 'she said "so", <i>and</i> --> left'


def test_elan_has_the_same_tiers_in_milliseconds_and_the_name_of_the_sound(timeline: Timeline, tmp_path: Path):
    path = tmp_path / "talk.eaf"
    path.write_text(formats.to_eaf(timeline, Path("/somewhere/talk.mp3")), encoding="utf-8")
    eaf = pympi.Elan.Eaf(str(path))
    assert set(eaf.get_tier_names()) == {"A", "A emotion", AWKWARD, f"{AWKWARD} emotion"}
    assert [item[:3] for item in eaf.get_annotation_data_for_tier("A emotion")] == [(250, 2500, "happy 80 %"), (2500, 5125, "angry 60 %")]
    assert eaf.get_parameters_for_tier("A emotion")["PARTICIPANT"] == "A"
    (linked,) = eaf.get_linked_files()
    assert (linked["MEDIA_URL"], linked["RELATIVE_MEDIA_URL"]) == ("talk.mp3", "./talk.mp3")


def test_cues_name_the_speaker_and_survive_markup_in_names_and_words(timeline: Timeline, tmp_path: Path):
    cues = webvtt.read(str(written(timeline, tmp_path, "vtt"))).captions
    assert [(cue.start, cue.end) for cue in cues[:2]] == [("00:00:00.250", "00:00:02.500"), ("00:00:02.000", "00:00:04.000")]
    assert cues[0].voice == "A"
    assert cues[0].raw_text.startswith("<v A>happy 80 %")
    assert "&lt;i&gt;and&lt;/i&gt; --&gt; left" in cues[0].raw_text  # what was said is no markup
    assert cues[1].raw_text.startswith("<v B &lt;b&gt; &amp; co --&gt; x>")
    assert len(cues) == 4  # an arrow in what was said begins no cue
    instant = timeline.model_copy(update={"segments": (felt("A", 1.0, 1.0, 0.2), felt("A", 1.0, 2.0, 0.2))})
    (cue,) = webvtt.read(str(written(instant, tmp_path, "vtt"))).captions  # what does not end after it begins is none
    assert cue.end == "00:00:02.000"


def test_audformat_reads_a_table_of_predictions(timeline: Timeline, tmp_path: Path):
    database = audformat.Database.load(str(written(timeline, tmp_path, "audformat")))
    table = database["timeline"].get()
    starts = table.index.get_level_values("start").total_seconds()
    np.testing.assert_allclose(starts, [0.25, 2.0, 2.2, 3.0])
    assert table["speaker"].tolist() == ["A", AWKWARD, "A", "A"]
    assert table["emotion"].isna().tolist() == [False, True, False, False]
    np.testing.assert_allclose(table["confidence"].dropna().astype(float), [0.8, 0.6, 0.9])


def test_rttm_is_read_by_pyannote(timeline: Timeline, tmp_path: Path):
    turns = load_rttm(written(timeline, tmp_path, "rttm"))["talk"]
    assert [(t.start, t.end) for t in turns.get_timeline()] == [(0.25, 2.5), (2.0, 4.0), (2.2, 5.125), (3.0, 4.0)]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_recording_in_which_nobody_speaks_can_be_written(name: str, tmp_path: Path):
    written(Timeline(uri="quiet", duration_s=1.0, classes=("angry", "happy")), tmp_path, name)


def test_a_format_that_is_not_known_is_refused_before_anything_is_written(timeline: Timeline, tmp_path: Path):
    with pytest.raises(ValueError, match=r"no format 'wav'.*textgrid"):
        formats.write(timeline, tmp_path / "new", "talk", formats=("json", "wav"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="'json,wav' names what is no format"):
        formats.parse("json,wav")
    assert formats.parse(" vtt, json,vtt") == ("vtt", "json")


def test_a_library_that_is_missing_is_named_with_how_to_get_it(timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(formats.NEEDS, "eaf", "no_such_library")
    with pytest.raises(ValueError, match=r"'eaf' needs no_such_library: pip install 'moodcast\[formats\]'"):
        formats.write(timeline, tmp_path / "new", "talk", formats=("json", "eaf"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="'eaf' needs no_such_library"):
        formats.parse("json,eaf")  # before anything is heard


def is_done(folder: Path, wanted: tuple[str, ...], sound: Path, made_by: dict[str, str]) -> bool:
    return formats.known(folder, "talk", sound, made_by) is not None and not formats.lacking(folder, "talk", wanted)


def test_a_recording_is_done_when_all_its_files_were_made_by_the_same_of_what_it_is_now(timeline: Timeline, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    wanted, made_by = ("json", "vtt"), {"bundle_sha256": "0" * 64}
    assert not is_done(tmp_path, wanted, sound, made_by)
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=wanted)
    assert is_done(tmp_path, wanted, sound, made_by)
    assert not is_done(tmp_path, (*wanted, "eaf"), sound, made_by)
    assert not is_done(tmp_path, wanted, sound, {"bundle_sha256": "1" * 64})
    assert not is_done(tmp_path, wanted, sound, {**made_by, "speakers": "num 2"})


def test_the_page_of_a_file_holds_its_sound_and_that_of_an_address_does_not(
    timeline: Timeline, tmp_path: Path, write_wav: Callable[..., Path], tone: Callable[..., Wave]
) -> None:
    sound = write_wav("talk.wav", tone(6.0))
    for number, given in enumerate((sound, str(sound))):
        (page,) = formats.write(timeline, tmp_path / str(number), "talk", audio=given, formats=("html",))
        assert 'id="sound"' in page.read_text()
    (page,) = formats.write(timeline, tmp_path / "far", "talk", audio="https://example.org/talk.mp3", formats=("html",))
    assert 'id="sound"' not in page.read_text()
    assert 'src="https://example.org/talk.mp3"' in page.read_text()


def aged(folder: Path) -> None:
    """All files as if written a minute ago: the clocks of some file systems tick more slowly than files are written here."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 60, time.time() - 60))


@pytest.mark.parametrize("kind", ["csv", "audformat"])
def test_a_file_of_an_older_analysis_is_not_taken_for_one_of_this(timeline: Timeline, kind: str, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    made_by = {"bundle_sha256": "0" * 64}
    for wanted in ((kind, "json"), ("json", kind)):
        for _ in range(2):  # also over older files
            formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=wanted)
            assert is_done(tmp_path, wanted, sound, made_by)
            aged(tmp_path)
        formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=("json",))
        assert is_done(tmp_path, ("json",), sound, made_by)
        assert not is_done(tmp_path, wanted, sound, made_by)
    (tmp_path / "talk.eaf").mkdir()
    assert not is_done(tmp_path, ("json", "eaf"), sound, made_by)


def test_a_recording_that_is_newer_than_its_files_is_not_done(timeline: Timeline, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    wanted, made_by = ("json", "vtt"), {"bundle_sha256": "0" * 64}
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=wanted)
    later = (tmp_path / "talk.vtt").stat().st_mtime + 10
    os.utime(sound, (later, later))
    assert not is_done(tmp_path, wanted, sound, made_by)


def test_another_recording_of_the_same_name_is_not_done(timeline: Timeline, tmp_path: Path):
    first, second = tmp_path / "monday" / "talk.wav", tmp_path / "tuesday" / "talk.wav"
    for sound in (first, second):
        sound.parent.mkdir()
        sound.write_bytes(sound.parent.name.encode())
    formats.write(timeline, tmp_path, "talk", audio=str(first), formats=("json",))
    made_by = {"bundle_sha256": "0" * 64}
    assert is_done(tmp_path, ("json",), first, made_by)
    assert not is_done(tmp_path, ("json",), second, made_by)


def test_what_was_made_with_given_turns_is_not_done_without_them(timeline: Timeline, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    given = timeline.model_copy(update={"provenance": {**timeline.provenance, "diarizer": "given"}})
    formats.write(given, tmp_path, "talk", audio=str(sound), formats=("json",))
    assert not is_done(tmp_path, ("json",), sound, {"bundle_sha256": "0" * 64})


def test_a_json_of_before_vouches_for_no_file_that_was_written_without_it(timeline: Timeline, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    made_by = {"bundle_sha256": "0" * 64}
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=("json", "csv"))
    assert is_done(tmp_path, ("json", "csv"), sound, made_by)
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=("csv",))  # by whatever settings
    assert not is_done(tmp_path, ("json", "csv"), sound, made_by)
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=("json", "csv"))
    assert is_done(tmp_path, ("json", "csv"), sound, made_by)


def test_audformat_holds_turns_of_two_at_the_very_same_time(tmp_path: Path):
    spans = [("A", 1.0, 3.0), ("B", 1.0, 3.0), ("A", 4.0, 5.0)]
    twice = Timeline(uri="talk", duration_s=9.5, classes=("angry", "happy"), segments=tuple(felt(*span, 0.2) for span in spans))
    table = audformat.Database.load(str(written(twice, tmp_path, "audformat")))["timeline"].get()
    assert table["speaker"].tolist() == ["A", "B", "A"]
    np.testing.assert_allclose(table.index.get_level_values("end").total_seconds(), [3.0, 3.000001, 5.0])


def test_names_that_would_be_the_same_and_letters_that_no_file_holds_go_through_praat_and_elan(tmp_path: Path):
    rows = [
        Segment(speaker=who, start_s=float(i), stop_s=i + 1.0, status="ok", text=text)
        for i, (who, text) in enumerate([("Anna emotion", "a\x01b"), ("Anna", "c"), ("Anna  emotion", "d"), ("Anna", "e")])
    ]
    formats.write(
        Timeline(uri="talk", duration_s=4.0, classes=("happy",), segments=tuple(rows)), tmp_path, "talk", formats=("textgrid", "eaf")
    )
    grid = textgrid.openTextgrid(str(tmp_path / "talk.TextGrid"), includeEmptyIntervals=False)
    elan = pympi.Elan.Eaf(str(tmp_path / "talk.eaf"))
    names = {"Anna emotion", "Anna emotion emotion", "Anna (2)", "Anna (2) emotion", "Anna emotion (2)", "Anna emotion (2) emotion"}
    assert set(grid.tierNames) == set(elan.get_tier_names()) == names
    assert [entry.label for entry in grid.getTier("Anna (2)").entries] == ["c", "e"]
    assert [text for _, _, text in elan.get_annotation_data_for_tier("Anna emotion")] == ["a b"]


def test_a_file_name_that_is_no_utf_8_is_written_in_every_form(timeline: Timeline, write_wav: Callable[..., Path], tmp_path: Path):
    odd = write_wav("plain.wav", np.zeros(16_000, dtype=np.float32)).rename(tmp_path / os.fsdecode(b"ta\xfflk.wav"))
    written = formats.write(timeline, tmp_path / "out", "talk", audio=odd, formats=tuple(formats.FORMATS))
    assert all(path.exists() for path in written)
    assert "ta\ufffdlk.wav" in (tmp_path / "out" / "talk.eaf").read_text()


def test_a_disk_that_is_full_leaves_no_half_of_a_file_that_counts_as_done(
    timeline: Timeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:9].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left") as refused:
        formats.write(timeline, tmp_path, "talk", formats=("csv",))
    assert refused.value.filename == str(tmp_path / "talk.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_further_format_of_what_is_known_leaves_the_others_as_they_are(timeline: Timeline, tmp_path: Path):
    sound = tmp_path / "talk.wav"
    sound.write_bytes(b"sound")
    made_by = {"bundle_sha256": "0" * 64}
    formats.write(timeline, tmp_path, "talk", audio=str(sound), formats=("json", "csv"))
    (tmp_path / "talk.csv").write_text("mine")
    known = formats.known(tmp_path, "talk", sound, made_by)
    assert known is not None
    assert formats.lacking(tmp_path, "talk", ("csv", "vtt")) == ("vtt",)
    formats.write(known, tmp_path, "talk", audio=str(sound), formats=("vtt",), vouched=True)
    assert is_done(tmp_path, ("json", "csv", "vtt"), sound, made_by)
    assert (tmp_path / "talk.csv").read_text() == "mine"
    formats.write(timeline, tmp_path / "new", "talk", audio=str(sound), formats=("vtt",))
    assert (tmp_path / "new" / "talk.vtt").read_bytes() == (tmp_path / "talk.vtt").read_bytes()
