from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moodcast import audio
from moodcast import embedded as own
from moodcast.answer import Answer
from moodcast.embedded import Embedded, Settings
from moodcast.segmentation import Segmentation, Segmenter, Shape

RATE = 16_000
Wave = NDArray[np.float32]


def pitch_embedding(waves: list[Wave]) -> NDArray[np.float32]:
    """Two directions: mostly below or mostly above 300 Hz."""
    rows = []
    for wave in waves:
        power = np.abs(np.fft.rfft(wave)) ** 2
        hz = np.fft.rfftfreq(len(wave), 1 / RATE)
        low = power[(hz > 60) & (hz < 300)].sum() / (power[hz > 60].sum() + 1e-12)
        rows.append([low, 1 - low, 0.1])
    return np.array(rows, dtype=np.float32)


@given(st.floats(0, 1e4), st.floats(0.05, 60), st.floats(0.5, 3), st.floats(0.1, 1))
def test_windows_cover_a_region_and_stay_inside(start_s: float, length_s: float, window_s: float, hop_s: float) -> None:
    found = own.windows_of(start_s, start_s + length_s, window_s, hop_s)
    assert found[0][0] == start_s
    assert found[-1][1] == pytest.approx(start_s + length_s)
    for (a, b), (c, d) in itertools.pairwise(found):
        assert b - a == pytest.approx(window_s)
        assert d - c == pytest.approx(window_s)
        assert 0 < c - a <= hop_s + 1e-6
    assert all(b - a <= window_s + 0.011 for a, b in found)  # a rest of 10 ms is no window of its own


def test_changing_the_speaker_costs_less_in_a_pause_and_least_between_regions() -> None:
    probabilities = np.ones(200, dtype=np.float32)
    probabilities[28:36] = 0.0  # a dip near 1.0 s
    steps = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (3.0, 3.5)]
    _, inside, dip, between = own.switch_costs(steps, probabilities, Settings(switch=1.0, pause_share=0.25))
    assert (inside, dip, between) == (1.0, 0.25, 0.25)


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


class ByPitch(Segmentation):
    """A segmentation that knows the pitch of everybody, and calls them by other numbers in every other window."""

    def __init__(self) -> None:
        super().__init__(Segmenter(Shape(filters=8, width=8, hidden=4, depth=1, dense=4)))

    def activity(self, wave: Wave, starts: list[int], batch: int = 16) -> NDArray[np.float32]:
        size, shape = round(self.step_s * RATE), self.shape
        found = np.zeros((len(starts), shape.frames, len(self.sets)), dtype=np.float32)
        for i, start in enumerate(starts):
            piece = np.pad(wave[start : start + shape.samples], (0, max(0, start + shape.samples - len(wave))))
            power = np.abs(np.fft.rfft(piece[: shape.frames * size].reshape(shape.frames, size) * np.hanning(size))) ** 2
            hz = np.fft.rfftfreq(size, 1 / RATE)
            who = np.stack([power[:, (hz > 60) & (hz < 300)].sum(1), power[:, hz > 600].sum(1), np.zeros(shape.frames)], axis=1) > 60.0
            who = np.roll(who, i % 2, axis=1)
            found[i, np.arange(shape.frames), np.abs(self.sets[None] - who[:, None]).sum(-1).argmin(1)] = 1.0
        return found


def test_with_a_segmentation_two_who_talk_at_once_are_both_heard(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    embedded.segmentation, embedded.always = ByPitch(), True
    wave = np.zeros(24 * RATE, dtype=np.float32)
    spans = {150: [(1.0, 6.0), (13.0, 17.0)], 900: [(5.0, 9.0), (10.0, 12.0), (18.0, 23.0)]}
    for hz, places in spans.items():
        for start_s, stop_s in places:
            wave[round(start_s * RATE) : round(stop_s * RATE)] += tone(stop_s - start_s, hz=hz)
    found = embedded.diarize(wave, RATE)
    for speaker, places in zip(("SPEAKER_00", "SPEAKER_01"), spans.values(), strict=True):
        turns = [turn for turn in found if turn.speaker == speaker]
        assert len(turns) == len(places)
        for turn, (start_s, stop_s) in zip(turns, places, strict=True):
            assert turn.start_s == pytest.approx(start_s, abs=0.15)
            assert turn.stop_s == pytest.approx(stop_s, abs=0.15)
    assert [turn.overlap for turn in found] == [True, True, False, False, False]


def test_with_a_segmentation_the_number_of_speakers_can_be_told(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    embedded.segmentation, embedded.always = ByPitch(), True
    for wanted in (1, 2):
        assert len({turn.speaker for turn in embedded.diarize(two_people(tone), RATE, num_speakers=wanted)}) == wanted
    assert len({turn.speaker for turn in embedded.diarize(two_people(tone), RATE)}) == 2


def test_a_segmentation_is_asked_where_voices_tell_nobody_apart(embedded: Embedded, tone: Callable[..., Wave]) -> None:
    def speakers(**asked: int) -> int:
        return len({turn.speaker for turn in embedded.diarize(two_people(tone), RATE, **asked)})

    embedded.embed = lambda waves: np.ones((len(waves), 4), dtype=np.float32)  # everybody sounds alike
    assert speakers() == 1
    embedded.segmentation = ByPitch()
    assert speakers() == 2
    embedded.segmentation.activity = None  # type: ignore[assignment,method-assign]
    assert speakers(num_speakers=1) == 1  # without it
    embedded.embed = pitch_embedding
    assert speakers() == speakers(num_speakers=2) == 2


@pytest.mark.parametrize("asked", [{"num_speakers": 2}, {"min_speakers": 2}, {"max_speakers": 3}])
def test_a_number_of_speakers_does_not_keep_the_segmentation_out(
    embedded: Embedded, tone: Callable[..., Wave], asked: dict[str, int]
) -> None:
    embedded.embed = lambda waves: pitch_embedding(waves) * np.float32([1, 1, 16])  # voices that are alike, but can be cut in pieces
    assert len({turn.speaker for turn in embedded.diarize(two_people(tone), RATE)}) == 1
    assert len({turn.speaker for turn in embedded.diarize(two_people(tone), RATE, num_speakers=2)}) == 2
    embedded.segmentation = ByPitch()
    assert embedded.diarize(two_people(tone), RATE, **asked) == embedded.diarize(two_people(tone), RATE)


@pytest.mark.parametrize(("seconds", "speakers"), [(1.0, 1), (5.0, 2)])
def test_with_a_segmentation_a_few_words_of_somebody_are_no_speaker(
    embedded: Embedded, tone: Callable[..., Wave], seconds: float, speakers: int
) -> None:
    embedded.segmentation, embedded.always = ByPitch(), True
    wave = np.concatenate([tone(20.0, hz=150), tone(seconds, hz=900), tone(20.0, hz=150)])  # min_share lies between
    assert len({turn.speaker for turn in embedded.diarize(wave, RATE)}) == speakers
    assert len({turn.speaker for turn in embedded.diarize(wave, RATE, num_speakers=2)}) == 2


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
    assert max(sizes) == own.EMBED_BATCH
    assert sum(sizes) > 2 * own.EMBED_BATCH


def test_a_bundle_without_embeddings_is_refused() -> None:
    class Moods:
        rate, name, sha256 = RATE, "moods", "0" * 64

        def answer(self, waves: list[Wave]) -> list[Answer]:
            return [Answer(("angry", "happy"), 1.0, emotion=np.array([0.5, 0.5], dtype=np.float32)) for _ in waves]

    with pytest.raises(ValueError, match="moods gives no embeddings"):
        Embedded.of(Moods())  # type: ignore[arg-type]


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

    diarizer = own.default_diarizer()
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

    diarizer = own.default_diarizer()
    wave = audio.read(corpora / "conversations" / "audio" / "pyannote_sample.flac")
    first = diarizer.diarize(wave, RATE)
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda _: diarizer.diarize(wave, RATE), range(2)))
    assert again == [first, first]
    assert len({turn.speaker for turn in first}) == 2  # though nobody said so: voices alone find one in this telephone call
