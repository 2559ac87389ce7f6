from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moodcast import audio, diarize
from moodcast.bundle import Answer
from moodcast.diarize import Embedded, Given, Settings, Turn

RATE = 16_000
Wave = NDArray[np.float32]

RTTM = """\
;; a comment
SPKR-INFO talk 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER talk 1 2.500 1.000 <NA> <NA> ben <NA> <NA>
SPEAKER talk 1 0.250 1.500 <NA> <NA> ann <NA> <NA>

SPEAKER talk 1 3.000 1.000 <NA> <NA> ann <NA> <NA>
SPEAKER talk 1 5.000 0.000 <NA> <NA> ann <NA> <NA>
"""

turns = st.lists(
    st.builds(
        lambda who, start, length: Turn(who, start / 10, (start + length) / 10),
        st.sampled_from("abc"),
        st.integers(0, 80),
        st.integers(1, 20),
    ),
    max_size=8,
)


def pitch_embedding(waves: list[Wave]) -> NDArray[np.float32]:
    """Two directions: mostly below or mostly above 300 Hz."""
    rows = []
    for wave in waves:
        power = np.abs(np.fft.rfft(wave)) ** 2
        hz = np.fft.rfftfreq(len(wave), 1 / RATE)
        low = power[(hz > 60) & (hz < 300)].sum() / (power[hz > 60].sum() + 1e-12)
        rows.append([low, 1 - low, 0.1])
    return np.array(rows, dtype=np.float32)


# ---- turns of the user ----


def test_rttm_is_read_by_start_time_with_overlap_marked(tmp_path: Path) -> None:
    (path := tmp_path / "talk.rttm").write_text(RTTM)
    assert diarize.read_rttm(path) == [
        Turn("ann", 0.25, 1.75),
        Turn("ben", 2.5, 3.5, overlap=True),
        Turn("ann", 3.0, 4.0, overlap=True),
    ]
    assert diarize.read_rttm(path, uri="talk") == diarize.read_rttm(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SPEAKER talk 1 0.0", "line 1: wanted SPEAKER"),
        ("\nSPEAKER talk 1 zero 1.0 <NA> <NA> ann <NA> <NA>", "line 2"),
        ("SPEAKER talk 1 0.0 -1.0 <NA> <NA> ann <NA> <NA>", "at least 0"),
        ("SPEAKER talk 1 nan 1.0 <NA> <NA> ann <NA> <NA>", "at least 0"),
        ("SPEAKER talk 1 0.0 inf <NA> <NA> ann <NA> <NA>", "finite"),
    ],
)
def test_a_line_that_is_not_rttm_is_named(tmp_path: Path, text: str, words: str) -> None:
    (path := tmp_path / "bad.rttm").write_text(text)
    with pytest.raises(ValueError, match=words):
        diarize.read_rttm(path)


def test_the_recording_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    (path := tmp_path / "two.rttm").write_text(RTTM + "SPEAKER other 1 0.0 1.0 <NA> <NA> cy <NA> <NA>\n")
    with pytest.raises(ValueError, match=r"2 recordings \(talk, other\)"):
        diarize.read_rttm(path)
    assert [turn.speaker for turn in diarize.read_rttm(path, uri="other")] == ["cy"]
    with pytest.raises(ValueError, match="no turns of 'nobody', only of talk, other"):
        diarize.read_rttm(path, uri="nobody")


def test_an_empty_rttm_has_no_turns(tmp_path: Path) -> None:
    (path := tmp_path / "empty.rttm").write_text("")
    assert diarize.read_rttm(path) == []


@given(turns)
def test_overlap_is_marked_exactly_where_two_speakers_share_time(rows: list[Turn]) -> None:
    marked = diarize.mark_overlap(rows)
    for i, turn in enumerate(marked):
        others = [other for j, other in enumerate(marked) if j != i and other.speaker != turn.speaker]
        assert turn.overlap == any(min(turn.stop_s, other.stop_s) > max(turn.start_s, other.start_s) for other in others)


def test_given_turns_come_sorted_and_end_with_the_recording() -> None:
    found = Given((Turn("b", 1.0, 9.0), Turn("a", 0.0, 1.0))).diarize(np.zeros(2 * RATE, dtype=np.float32), RATE)
    assert found == [Turn("a", 0.0, 1.0), Turn("b", 1.0, 2.0)]


# ---- the pieces of the embedded diarizer ----


@given(st.floats(0, 1e4), st.floats(0.05, 60), st.floats(0.5, 3), st.floats(0.1, 1))
def test_windows_cover_a_region_and_stay_inside(start_s: float, length_s: float, window_s: float, hop_s: float) -> None:
    found = diarize.windows_of(start_s, start_s + length_s, window_s, hop_s)
    assert found[0][0] == start_s
    assert found[-1][1] == pytest.approx(start_s + length_s)
    for (a, b), (c, d) in itertools.pairwise(found):
        assert b - a == pytest.approx(window_s)
        assert d - c == pytest.approx(window_s)
        assert 0 < c - a <= hop_s + 1e-6
    assert all(b - a <= window_s + 0.011 for a, b in found)  # a rest of 10 ms is no window of its own


@given(turns, st.floats(0, 1))
def test_joined_turns_keep_all_speech_and_leave_gaps_only_as_asked(rows: list[Turn], join_s: float) -> None:
    apart: list[Turn] = []
    for turn in sorted(rows, key=lambda turn: turn.start_s):  # a diarizer's turns follow each other
        if not apart or turn.start_s >= apart[-1].stop_s:
            apart.append(turn)
    joined = diarize.join(apart, join_s)
    for turn in apart:
        assert any(j.speaker == turn.speaker and j.start_s <= turn.start_s and turn.stop_s <= j.stop_s for j in joined)
    for a, b in itertools.pairwise(joined):
        assert a.stop_s <= b.start_s
        assert a.speaker != b.speaker or b.start_s - a.stop_s >= join_s


def test_a_gap_as_long_as_asked_keeps_turns_apart() -> None:
    rows = [Turn("a", 0.0, 1.0), Turn("a", 1.4, 2.0), Turn("b", 2.0, 3.0), Turn("a", 3.1, 4.0), Turn("a", 4.5, 5.0)]
    assert diarize.join(rows, 0.5) == [Turn("a", 0.0, 2.0), Turn("b", 2.0, 3.0), Turn("a", 3.1, 4.0), Turn("a", 4.5, 5.0)]


def test_changing_the_speaker_costs_less_in_a_pause_and_least_between_regions() -> None:
    probabilities = np.ones(200, dtype=np.float32)
    probabilities[28:36] = 0.0  # a dip near 1.0 s
    steps = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (3.0, 3.5)]
    _, inside, dip, between = diarize.switch_costs(steps, probabilities, Settings(switch=1.0, pause_share=0.25))
    assert (inside, dip, between) == (1.0, 0.25, 0.25)


# ---- the embedded diarizer ----


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """With a voice detector that takes everything loud for speech, so that tones can stand for people."""
    made = Embedded(pitch_embedding)

    def loud(wave: Wave) -> NDArray[np.float32]:
        frames = np.pad(wave, (0, -len(wave) % 512)).reshape(-1, 512)
        return (np.sqrt(np.mean(frames**2, axis=1)) > 0.01).astype(np.float32)

    monkeypatch.setattr(made.detector, "probabilities", loud)
    return made


def two_people(tone: Callable[..., Wave]) -> Wave:
    low, high, gap = tone(4.0, hz=150), tone(3.0, hz=900), np.zeros(RATE, dtype=np.float32)
    return np.concatenate([gap, low, high, gap, low, gap])


def test_two_voices_are_told_apart_and_the_change_is_placed(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    found = embedded.diarize(two_people(tone), RATE)
    assert [turn.speaker for turn in found] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_00"]
    for turn, (start_s, stop_s) in zip(found, [(1, 5), (5, 8), (9, 13)], strict=True):
        assert turn.start_s == pytest.approx(start_s, abs=0.3)
        assert turn.stop_s == pytest.approx(stop_s, abs=0.3)


def test_one_speaker_when_one_is_asked_for(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    assert {turn.speaker for turn in embedded.diarize(two_people(tone), RATE, num_speakers=1)} == {"SPEAKER_00"}
    assert {turn.speaker for turn in embedded.diarize(two_people(tone), RATE, max_speakers=1)} == {"SPEAKER_00"}


def test_impossible_numbers_of_speakers_are_refused_even_for_silence(embedded: Embedded) -> None:
    with pytest.raises(ValueError, match="not both"):
        embedded.diarize(np.zeros(RATE, dtype=np.float32), RATE, num_speakers=2, max_speakers=3)


def test_another_rate_gives_the_same_turns(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    wave = two_people(tone)
    other = embedded.diarize(audio.convert(wave, RATE, 44_100), 44_100)
    for a, b in zip(embedded.diarize(wave, RATE), other, strict=True):
        assert a.speaker == b.speaker
        assert a.start_s == pytest.approx(b.start_s, abs=0.05)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.4, 3.0])
def test_silence_of_any_length_has_no_turns(seconds: float) -> None:
    assert Embedded(pitch_embedding).diarize(np.zeros(round(seconds * RATE), dtype=np.float32), RATE) == []


def test_windows_are_embedded_in_batches(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    sizes: list[int] = []

    def counting(waves: list[Wave]) -> NDArray[np.float32]:
        sizes.append(len(waves))
        return pitch_embedding(waves)

    embedded.embed = counting
    embedded.diarize(tone(90.0), RATE)
    assert max(sizes) == diarize.EMBED_BATCH
    assert sum(sizes) > 2 * diarize.EMBED_BATCH


def test_a_bundle_without_embeddings_is_refused() -> None:
    class Moods:
        rate, name, sha256 = RATE, "moods", "0" * 64

        def answer(self, waves: list[Wave]) -> list[Answer]:
            return [Answer(("angry", "happy"), 1.0, emotion=np.array([0.5, 0.5], dtype=np.float32)) for _ in waves]

    with pytest.raises(ValueError, match="moods gives no embeddings"):
        Embedded.of(Moods()).embed([np.zeros(RATE, dtype=np.float32)])  # type: ignore[arg-type]


@pytest.mark.corpora
def test_turns_of_a_real_conversation_follow_each_other_inside_it(corpora: Path) -> None:
    wave = audio.read(corpora / "conversations" / "audio" / "pyannote_sample.flac")
    found = Embedded(pitch_embedding).diarize(wave, RATE, num_speakers=2)
    assert {turn.speaker for turn in found} <= {"SPEAKER_00", "SPEAKER_01"}
    assert found[0].start_s == pytest.approx(6.69, abs=0.3)  # where the reference begins
    assert all(a.stop_s <= b.start_s for a, b in itertools.pairwise(found))
    assert found[-1].stop_s <= 30.0


@pytest.mark.corpora
def test_the_shipped_diarizer_hears_the_two_speakers_of_a_dialogue(corpora: Path) -> None:
    from benchmarks.diarization import annotation, dialogues, rates, scored

    diarizer = diarize.default_diarizer()
    ours, alone = [], []
    for talk in dialogues(corpora / "resd", range(41, 43)):
        found = diarizer.diarize(talk.wave, RATE, num_speakers=None if talk.uri == "resd_41" else 2)
        assert {turn.speaker for turn in found} == {"SPEAKER_00", "SPEAKER_01"}
        ours.append(scored(talk, annotation(talk.uri, found)))
        alone.append(scored(talk, annotation(talk.uri, found, one_speaker=True)))
    assert rates(ours)[3] < 0.25 * rates(alone)[3]
    assert rates(ours)[0] < 0.2


@pytest.mark.corpora
def test_hearing_it_twice_or_on_another_thread_gives_the_same_turns(corpora: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    diarizer = diarize.default_diarizer()
    wave = audio.read(corpora / "conversations" / "audio" / "pyannote_sample.flac")
    first = diarizer.diarize(wave, RATE, num_speakers=2)
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: diarizer.diarize(wave, RATE, num_speakers=2), range(2)))
    assert again == [first, first]
    assert len({turn.speaker for turn in first}) == 2
