from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import corpora, simulate
from moodcast.manifest import Utterance
from moodcast.simulate import Scene

RATE = 16_000
HZ = {"ann": 200.0, "ben": 500.0, "cy": 1100.0, "dee": 2300.0}
QUIET = Scene(seconds=20.0, room_share=0.0, noise_share=0.0, line_share=0.0, hiss_db=(80.0, 80.0), loudness_dbfs=(-20.0, -20.0))
Wave = NDArray[np.float32]


@pytest.fixture(scope="module")
def people() -> Mapping[str, list[Utterance]]:
    """Four people with three utterances of 1 to 2 s each."""
    return {name: [Utterance(id=f"{name}{k}", path=f"{name}{k}", emotion="happy" if k else "sad") for k in range(3)] for name in HZ}


def tones(row: Utterance, rate: int) -> Wave:
    """What they say: a tone of their own between two silences."""
    hz, seconds = HZ[row.path[:-1]], 1.0 + 0.5 * int(row.path[-1])
    quiet = np.zeros(rate // 4, dtype=np.float32)
    return np.concatenate([quiet, 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate).astype(np.float32), quiet])


def heard(piece: Wave) -> set[str]:
    """Whose tones are in a piece: those within 26 dB of the loudest."""
    power = {name: abs(np.mean(piece * np.exp(-2j * np.pi * hz * np.arange(len(piece)) / RATE))) ** 2 for name, hz in HZ.items()}
    return {name for name, value in power.items() if value > max(power.values()) / 400}


def rms(wave: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def test_the_same_seed_gives_the_same_conversation_and_another_one_another(people: Mapping[str, list[Utterance]]) -> None:
    first, again, other = (simulate.conversation(people, Scene(seconds=10.0), seed, read=tones) for seed in (1, 1, 2))
    assert np.array_equal(first.wave, again.wave)
    assert first.said == again.said
    assert first.said != other.said


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_names_who_is_heard_at_every_moment(people: Mapping[str, list[Utterance]], seed: int) -> None:
    made = simulate.conversation(people, replace(QUIET, overlap_share=0.5, level_db=2.0), seed, read=tones)
    active = made.activity(0.1)
    size = RATE // 10
    settled = np.flatnonzero((active[1:-1] == active[:-2]).all(1) & (active[1:-1] == active[2:]).all(1)) + 1
    assert active.any(1).mean() > 0.5
    assert len(settled) > 100
    for frame in settled[active[settled].any(1)]:
        assert heard(made.wave[frame * size : (frame + 1) * size]) == {
            name for name, on in zip(made.speakers, active[frame], strict=True) if on
        }
    for frame in settled[~active[settled].any(1)]:
        assert rms(made.wave[frame * size : (frame + 1) * size]) < 1e-3


def test_each_stretch_knows_its_utterance_and_emotion(people: Mapping[str, list[Utterance]]) -> None:
    made = simulate.conversation(people, QUIET, 0, read=tones)
    for one in made.said:
        assert one.utterance.startswith(one.speaker)
        assert one.emotion == ("sad" if one.utterance.endswith("0") else "happy")
    whole = [one.duration_s for one in made.said if one.utterance.endswith("2")]
    assert max(whole) == pytest.approx(2.0, abs=0.05)  # the silence around an utterance is none of it


@pytest.mark.parametrize("seed", range(5))
def test_overlap_is_marked_where_two_speak_and_nobody_overlaps_themselves(people: Mapping[str, list[Utterance]], seed: int) -> None:
    made = simulate.conversation(people, replace(QUIET, overlap_share=0.7, word_share=0.5), seed, read=tones)
    assert [one.start_s for one in made.said] == sorted(one.start_s for one in made.said)
    for i, one in enumerate(made.said):
        shared = [k for k, o in enumerate(made.said) if k != i and min(one.stop_s, o.stop_s) > max(one.start_s, o.start_s)]
        assert one.speaker not in {made.said[k].speaker for k in shared}
        assert one.overlap == bool(shared)
    assert any(one.overlap for one in made.said)


def test_shares_of_overlap_words_and_gaps_do_what_they_say(people: Mapping[str, list[Utterance]]) -> None:
    long = replace(QUIET, seconds=300.0, word_share=0.0, inner_s=0.0)
    none = simulate.conversation(people, replace(long, overlap_share=0.0, gap_s=1.0), 0, read=tones)
    assert not any(one.overlap for one in none.said)
    turns = [gap for gap, after in zip(simulate.gaps(none.said), none.said[1:], strict=True) if gap > 0.02 and after]
    assert np.mean(turns) == pytest.approx(1.0, rel=0.3)
    often = simulate.conversation(people, replace(long, overlap_share=1.0, overlap_s=0.8, utterances=1.0), 0, read=tones)
    behind = simulate.gaps(often.said)
    assert min(behind) > -0.9
    assert np.mean(np.array(behind) < 0.05) > 0.9


def test_everybody_drawn_speaks_and_evenness_says_how_evenly(people: Mapping[str, list[Utterance]]) -> None:
    def share(evenness: float) -> float:
        scene = replace(QUIET, seconds=60.0, speakers=(3, 3), evenness=evenness)
        found = []
        for seed in range(6):
            made = simulate.conversation(people, scene, seed, read=tones)
            spoken: dict[str, float] = defaultdict(float)
            for one in made.said:
                spoken[one.speaker] += one.duration_s
            assert len(spoken) == 3
            found.append(max(spoken.values()) / sum(spoken.values()))
        return float(np.mean(found))

    assert share(100.0) < 0.42
    assert share(0.05) > 0.45


def test_noise_lies_as_far_below_the_voices_as_asked(people: Mapping[str, list[Utterance]]) -> None:
    clean = simulate.conversation(people, QUIET, 3, read=tones)
    for noises in ((), (np.sin(np.arange(7000) ** 1.5).astype(np.float32),)):
        noisy = simulate.conversation(people, replace(QUIET, noise_share=1.0, snr_db=(12.0, 12.0)), 3, noises=noises, read=tones)
        assert noisy.said == clean.said
        voice = float(clean.wave.astype(float) @ noisy.wave / (clean.wave.astype(float) @ clean.wave)) * clean.wave
        assert 20 * np.log10(rms(voice) / rms(noisy.wave - voice)) == pytest.approx(12.0, abs=0.5)


def test_the_level_and_the_band_of_a_telephone_are_as_asked(people: Mapping[str, list[Utterance]]) -> None:
    scene = replace(QUIET, line_share=1.0, hiss_db=(20.0, 20.0), loudness_dbfs=(-33.0, -33.0))
    made = simulate.conversation(people, scene, 0, read=tones)
    assert 20 * np.log10(rms(made.wave)) == pytest.approx(-33.0, abs=0.1)
    power = np.abs(np.fft.rfft(made.wave)) ** 2
    hz = np.fft.rfftfreq(len(made.wave), 1 / RATE)
    assert power[hz > 6000].mean() < 1e-3 * power[(hz > 2500) & (hz < 3300)].mean()


def decay_s(room: Wave) -> float:
    """T60 from the slope of Schroeder's integral between -10 and -30 dB."""
    left = 10 * np.log10(np.cumsum(room[::-1].astype(float) ** 2)[::-1] / np.sum(room.astype(float) ** 2) + 1e-20)
    start, stop = int(np.argmax(left < left[50] - 5)), int(np.argmax(left < left[50] - 25))
    return 60.0 * (stop - start) / RATE / 20.0


@pytest.mark.parametrize("t60_s", [0.3, 0.8])
def test_a_synthetic_room_decays_as_asked_and_distance_costs_direct_sound(t60_s: float) -> None:
    room = simulate.synthetic_room(t60_s, 1.0, 100.0, RATE, np.random.default_rng(0))
    assert decay_s(room) == pytest.approx(t60_s, rel=0.2)
    far = simulate.synthetic_room(t60_s, 4.0, 100.0, RATE, np.random.default_rng(0))
    ratios = [10 * np.log10(float(one[0]) ** 2 / float(np.sum(one[1:].astype(float) ** 2))) for one in (room, far)]
    assert ratios[0] == pytest.approx(20 * np.log10(0.057 * np.sqrt(100.0 / t60_s)), abs=0.1)
    assert ratios[0] - ratios[1] == pytest.approx(20 * np.log10(4.0), abs=0.1)


def test_a_room_adds_a_tail_and_moves_nobody(people: Mapping[str, list[Utterance]]) -> None:
    scene = replace(QUIET, gap_s=1.0, overlap_share=0.0)
    dry = simulate.conversation(people, scene, 1, read=tones)
    place = int(np.argmax(simulate.gaps(dry.said)))
    measured = np.zeros(4000, dtype=np.float32)
    measured[[700, 2700]] = 0.9, 0.5
    for rooms in ((), (measured,)):
        wet = simulate.conversation(people, replace(scene, room_share=1.0, t60_s=(0.5, 0.5)), 1, rooms=rooms, read=tones)
        assert wet.said == dry.said
        first = int(dry.said[0].start_s * RATE)
        assert rms(wet.wave[: first - 10]) < 1e-4
        assert rms(wet.wave[first : first + 320]) > 1e-3
        after = round((dry.said[place].stop_s + 0.03) * RATE)
        assert rms(dry.wave[after : after + 800]) < 1e-4
        assert rms(wet.wave[after : after + 800]) > 1e-3


def test_a_measured_room_begins_at_its_peak_and_is_moved_nearer_by_more_direct_sound() -> None:
    measured = np.zeros(4000, dtype=np.float32)
    measured[[700, 2700]] = 0.9, 0.3
    near, far = (simulate.moved(measured, gain, RATE) for gain in (2.0, 0.5))
    assert near[0] / near[2000] == pytest.approx(6.0)
    assert far[0] / far[2000] == pytest.approx(1.5)
    assert len(near) == 3300
    assert rms(near) == pytest.approx(rms(far))


def test_pauses_within_an_utterance_are_no_speech_where_they_are_long_enough() -> None:
    on, off = np.full(RATE, 0.1, dtype=np.float32), np.zeros(RATE * 2 // 5, dtype=np.float32)
    wave = np.concatenate([off, on, off, on])
    assert simulate.voiced(wave, RATE, pause_s=0.3) == [(6400, 22400), (28800, 44800)]
    assert simulate.voiced(wave, RATE, pause_s=0.5) == [(6400, 44800)]
    assert simulate.voiced(np.zeros(RATE, dtype=np.float32), RATE, pause_s=0.3) == []
    assert len(simulate.trimmed(wave)) == 38400


def test_where_the_voice_is_may_be_said_by_somebody_else(people: Mapping[str, list[Utterance]]) -> None:
    def halves(row: Utterance, wave: Wave, rate: int) -> list[tuple[int, int]]:
        return [(rate // 4, rate // 2), (rate // 2 + 1600, rate)]

    made = simulate.conversation(people, replace(QUIET, word_share=0.0, overlap_share=0.0), 0, read=tones, find=halves)
    assert {round(one.duration_s, 3) for one in made.said} == {0.25, 0.4}
    inside = [gap for gap, one in zip(simulate.gaps(made.said), made.said, strict=False) if round(one.duration_s, 3) == 0.25]
    assert inside == pytest.approx([0.1] * len(inside))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap_share": 1.5}, "overlap_share is a share"),
        ({"snr_db": (20.0, 5.0)}, "snr_db is .least, most."),
        ({"gap_s": -1.0}, "gap_s must not be negative"),
        ({"speakers": (0, 2)}, "at least one speaker"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Scene(**changes)


def test_too_few_or_silent_people_are_refused(people: Mapping[str, list[Utterance]]) -> None:
    with pytest.raises(ValueError, match="up to 4 speakers; got 1 names"):
        simulate.conversation({"ann": people["ann"]}, Scene(), 0, read=tones)
    with pytest.raises(ValueError, match="nothing is heard in 20 utterances"):
        simulate.conversation(people, Scene(), 0, read=lambda row, rate: np.zeros(rate, dtype=np.float32))


@pytest.mark.corpora
def test_real_utterances_become_a_conversation(corpora: Path) -> None:
    rows = real(corpora)
    made = simulate.conversation(rows, Scene(seconds=20.0), 0)
    assert made.duration_s > 20.0
    assert set(made.speakers) <= set(rows)
    assert 0.5 < made.activity(0.02).any(1).mean() < 1.0
    assert np.isfinite(made.wave).all()
    assert all(0 <= one.start_s < one.stop_s <= made.duration_s and one.emotion for one in made.said)


def real(folder: Path) -> dict[str, list[Utterance]]:
    found: dict[str, list[Utterance]] = {}
    for row in corpora.read("emodb", folder / "emodb"):
        found.setdefault(str(row.speaker), []).append(row)
    return found
