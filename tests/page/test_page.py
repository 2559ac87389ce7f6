"""moodcast.page without a browser: what is computed for the page, and what stands in its text."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodcast import page
from moodcast.audio import AudioError
from moodcast.timeline import ChunkRow, Segment, Timeline
from tests.page.talks import CLASSES, RATE, conversation, hum, sure, turn


def test_the_page_names_no_address_and_can_load_nothing(spoken: str) -> None:
    assert "http://" not in spoken
    assert "https://" not in spoken
    assert "default-src 'none'" in spoken
    assert "<script>window" not in spoken


@given(st.text())
def test_no_tag_can_begin_inside_the_data_of_the_script(text: str) -> None:
    written = page.script_json({"text": text})
    assert not set("<>&") & set(written)
    assert written.isascii()
    assert json.loads(written) == {"text": text}


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.2, 3)), min_size=1, max_size=12), st.floats(31, 40))
def test_cells_of_a_turn_lie_side_by_side_and_cover_it(chunks: list[tuple[float, float]], stop_s: float) -> None:
    rows = tuple(ChunkRow(start_s=a, stop_s=min(a + length, stop_s), emotions=sure("sad")) for a, length in sorted(chunks))
    cells = page.cells_of(turn("A", 0.0, stop_s, chunks=rows))
    assert cells[0][0] == 0.0
    assert cells[-1][1] == round(stop_s, 3)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(cells))
    assert all(a < b for a, b, _ in cells)


def test_shares_of_a_speaker_add_up() -> None:
    found = page.speaker_summary(conversation(), "Ben")
    assert (found["turns"], round(found["seconds"], 3)) == (3, 8.2)
    assert sum(share for _, share in found["emotions"]) == pytest.approx(1)
    assert [name for name, _ in found["emotions"]][-1] == ""


def test_columns_over_time_hold_every_second_of_speech() -> None:
    rows = (
        turn("A", 0, 3, "sad"),
        turn("A", 5, 25, "happy"),
        Segment(speaker="A", start_s=30, stop_s=34, status="silence"),
        turn("B", 40, 60),
    )
    made = Timeline(uri="a talk", duration_s=60, classes=CLASSES, segments=rows)
    seconds = page.over_time(made, "A", 10.0)
    assert seconds[:, CLASSES.index("happy")].tolist() == [5, 10, 5, 0, 0, 0]
    assert seconds[:, CLASSES.index("sad")].tolist() == [3, 0, 0, 0, 0, 0]
    assert seconds[:, -1].tolist() == [0, 0, 0, 4, 0, 0]
    assert page.over_time(made, "B", 10.0).sum() == pytest.approx(20)
    assert page.columns(seconds, 10.0)[0] == (1, "M0 50.0h0.84v50.0h-0.84zM1 0.0h0.84v100.0h-0.84zM2 50.0h0.84v50.0h-0.84z")


@pytest.mark.parametrize(("duration_s", "wanted_s"), [(0.0, 1), (20, 1), (360, 10), (3600, 60), (3 * 3600, 60), (12 * 3600, 300)])
def test_a_column_is_a_minute_where_that_is_not_too_fine(duration_s: float, wanted_s: float) -> None:
    assert page.step_of(duration_s) == wanted_s


@pytest.mark.parametrize("duration_s", [1.0, 20.0, 359.0, 3600.0, 5 * 3600.0, 12 * 3600.0, 24 * 3600.0])
def test_a_few_round_moments_are_marked_below_the_columns(duration_s: float) -> None:
    marks = page.marks_of(duration_s)
    assert 2 <= len(marks) <= 7
    assert marks[0] == (0.0, "0:00")
    assert all(0 <= share <= 1 and words == page.brief(share * duration_s) for share, words in marks)


def test_twenty_seconds_are_marked_every_five_and_nothing_has_no_marks() -> None:
    assert [words for _, words in page.marks_of(20.0)] == ["0:00", "0:05", "0:10", "0:15", "0:20"]
    assert page.marks_of(0.0) == []


def test_the_sound_inside_lasts_as_long_as_the_recording_and_stays_in_step() -> None:
    wave = np.zeros(10 * RATE, dtype=np.float32)
    wave[round(7.25 * RATE) : round(7.35 * RATE)] = hum(0.1)
    track = page.track_of((wave, RATE))
    assert track.data is not None
    with av.open(io.BytesIO(track.data)) as container:
        back = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    assert abs(len(back) / RATE - 10) < 0.05
    assert abs(np.argmax(np.abs(back)) / RATE - 7.3) < 0.07
    assert len(track.peaks) == 10 * page.PEAKS_PER_S
    assert set(np.flatnonzero(track.peaks)) == {145, 146}
    assert len(track.data) < 10 * page.BIT_RATE / 8 * 1.2


def test_silence_has_no_peaks() -> None:
    assert page.track_of((np.zeros(RATE, dtype=np.float32), RATE)).peaks.tolist() == [0] * page.PEAKS_PER_S


def test_the_sound_may_come_as_samples_as_bytes_or_as_a_file(write_wav: Callable[..., Path]) -> None:
    file = write_wav("talk.wav", hum(2.0), RATE)
    tracks = [page.track_of(sound) for sound in ((hum(2.0), RATE), file.read_bytes(), file)]
    assert len(tracks[0].peaks) == 2 * page.PEAKS_PER_S
    for track in tracks[1:]:
        assert np.abs(track.peaks.astype(int) - tracks[0].peaks).max() <= 1
    beside = page.track_of("talk.mp3")  # a file that only the browser opens
    assert (beside.data, beside.address, len(beside.peaks)) == (None, "talk.mp3", 0)


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(AudioError):
        page.render(conversation(), b"RIFF but no sound")


def test_an_emotion_that_chunks_alone_have_is_not_called_absent() -> None:
    chunks = (ChunkRow(start_s=0, stop_s=1, emotions=sure("neutral")), ChunkRow(start_s=1, stop_s=3, emotions=sure("happy")))
    made = Timeline(uri="a talk", duration_s=5, classes=CLASSES, segments=(turn("A", 0, 3, "happy", chunks=chunks),))
    keys = dict(re.findall(r'class="(key[^"]*)"[^>]*data-key="(\d)"', page.render(made))[k][::-1] for k in range(4))
    assert {CLASSES[int(k)]: kind for k, kind in keys.items()} == {
        "angry": "key absent",
        "happy": "key",
        "neutral": "key",
        "sad": "key absent",
    }
