from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import podcast
from moodcast.answer import Answer
from moodcast.bundle import Bundle, Calibration
from moodcast.chunks import ChunkPlan
from moodcast.diarize import Given, Turn
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.pipelines import open_pipeline
from moodcast.provenance import Provenance
from moodcast.refine import Refinement
from moodcast.run import Run, build
from moodcast.speech import one_thread
from moodcast.timeline import Segment, Timeline
from moodcast.transcribe import open_transcriber

RATE = 16_000
CLASSES = ("angry", "happy")
Wave = NDArray[np.float32]


def noise(seconds: float, seed: int = 0) -> Wave:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def level_answer(wave: Wave) -> Answer:
    """Happier the longer; one chunk a second."""
    seconds = len(wave) / RATE
    p = np.array([1 - min(0.9, seconds / 10), min(0.9, seconds / 10)], dtype=np.float32)
    spans = tuple((float(i), min(i + 1.0, seconds)) for i in range(max(1, int(seconds))))
    return Answer(CLASSES, seconds, emotion=p, spans=spans, chunk_emotion=np.tile(p, (len(spans), 1)), attributes=np.array([0.5, 0.25]))


def given(*turns: Turn) -> podcast.Diarize:
    async def diarize(wave: Wave, rate: int) -> list[Turn]:
        return list(turns)

    return diarize


async def feel(waves: list[Wave]) -> list[Answer]:
    return [level_answer(wave) for wave in waves]


def collect(wave: Wave, diarize: podcast.Diarize, feeling: podcast.Feel = feel, **options: object) -> list[Segment]:
    async def run() -> list[Segment]:
        return [row async for row in podcast.segments(wave, RATE, diarize, feeling, **options)]  # type: ignore[arg-type]

    return asyncio.run(run())


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    run = Run(method=Erm.Config(), labels=Labels(("angry", "happy", "neutral", "sad")), chunks=ChunkPlan(length_s=1.0, hop_s=0.5))
    return Bundle(run, build(run), Provenance(), {}, "0" * 64, "tiny")


def test_one_segment_a_turn_by_start_time_with_its_chunks_on_the_recordings_clock() -> None:
    rows = collect(noise(10), given(Turn("B", 5.0, 8.0), Turn("A", 1.0, 2.5, overlap=True)), attributes=("valence", "arousal"))
    assert [(row.speaker, row.start_s, row.stop_s, row.overlap) for row in rows] == [("A", 1.0, 2.5, True), ("B", 5.0, 8.0, False)]
    assert [(chunk.start_s, chunk.stop_s) for chunk in rows[1].chunks] == [(5.0, 6.0), (6.0, 7.0), (7.0, 8.0)]
    assert rows[1].emotion == "angry"
    assert rows[1].confidence == pytest.approx(0.7)
    assert rows[1].attributes == {"valence": 0.5, "arousal": 0.25}


def test_a_turn_too_short_or_silent_has_a_status_and_no_emotion() -> None:
    wave = noise(6)
    wave[2 * RATE : 4 * RATE] = 0
    rows = collect(wave, given(Turn("A", 0.0, 0.2), Turn("A", 2.0, 4.0), Turn("A", 4.0, 6.0)))
    assert [row.status for row in rows] == ["too_short", "silence", "ok"]
    assert [row.emotion for row in rows[:2]] == [None, None]
    assert all(not row.emotions and not row.chunks and row.confidence is None for row in rows[:2])


def test_a_turn_without_speech_or_mostly_of_several_has_a_status_and_no_emotion() -> None:
    turns = [Turn("A", 0.0, 2.0, speech=0.02), Turn("A", 2.0, 4.0, speech=0.9), Turn("B", 2.5, 3.2, overlap=True), Turn("B", 4.0, 6.0)]
    rows = collect(noise(6), given(*turns))
    assert [row.status for row in rows] == ["non_speech", "ok", "overlap", "ok"]
    assert [row.emotion is None for row in rows] == [True, False, True, False]


def test_words_are_written_down_where_somebody_speaks() -> None:
    asked: list[int] = []

    async def transcribe(waves: list[Wave]) -> list[str]:
        asked.extend(len(wave) // RATE for wave in waves)
        return [f"{len(wave) // RATE} seconds" if len(wave) > RATE else "" for wave in waves]

    turns = [Turn("A", 0.0, 2.0, speech=0.02), Turn("A", 2.0, 4.0), Turn("B", 2.5, 3.6), Turn("B", 5.0, 5.9), Turn("B", 5.9, 6.0)]
    rows = collect(noise(6), given(*turns), transcribe=transcribe)
    assert [row.text for row in rows] == [None, "2 seconds", "1 seconds", None, None]
    assert asked == [2, 1, 0]


def test_answers_that_are_not_sure_come_without_an_emotion_at_once_and_in_the_end(bundle: Bundle, speechlike: Callable[..., Wave]) -> None:
    seen: list[Segment] = []
    found = podcast.timeline(
        (speechlike(6.0), RATE),
        bundle,
        Given((Turn("A", 0.0, 2.0), Turn("A", 2.0, 6.0))),
        refine=Refinement(min_confidence=0.9),
        on_segment=seen.append,
    )
    assert [row.status for row in found.segments] == ["low_confidence"] * 2
    assert seen == list(found.segments)
    assert found.provenance["min_confidence"] == "0.9"


def test_turns_of_a_conversation_have_a_temperature_of_their_own(bundle: Bundle, speechlike: Callable[..., Wave]) -> None:
    turns = Given((Turn("A", 0.0, 2.0),))
    cool = Bundle(bundle.run, bundle.method, bundle.provenance, {}, "0" * 64, "cool", Calibration(turn_temperature=1e6))
    even = podcast.timeline((speechlike(2.0), RATE), cool, turns).segments[0].emotions
    assert max(even.values()) - min(even.values()) < 1e-4
    plain = podcast.timeline((speechlike(2.0), RATE), bundle, turns).segments[0].emotions
    assert max(plain.values()) - min(plain.values()) > 1e-3


def test_the_bundle_has_a_bound_on_confidence_of_its_own(bundle: Bundle, speechlike: Callable[..., Wave]) -> None:
    careful = Bundle(bundle.run, bundle.method, bundle.provenance, {}, "0" * 64, "careful", Calibration(min_confidence=0.9))
    turns = Given((Turn("A", 0.0, 2.0),))
    assert podcast.timeline((speechlike(2.0), RATE), careful, turns).segments[0].status == "low_confidence"
    asked = podcast.timeline((speechlike(2.0), RATE), careful, turns, refine=Refinement(min_confidence=0.1))
    assert (asked.segments[0].status, asked.provenance["min_confidence"]) == ("ok", "0.1")


def test_segments_come_raw_and_the_end_is_centred_on_speakers(speechlike: Callable[..., Wave]) -> None:
    """Fed by hand: answers of mixed emotions with a bias of the speaker, which a tiny bundle would not give."""
    pairs = iter([(0.95, 0.05), (0.55, 0.45)] * 8)

    async def biased(waves: list[Wave]) -> list[Answer]:
        return [Answer(CLASSES, len(wave) / RATE, emotion=np.array(next(pairs), dtype=np.float32)) for wave in waves]

    seen: list[Segment] = []
    found = asyncio.run(
        podcast.analyze(
            (noise(16), RATE),
            given(*[Turn("A", float(i), i + 1.0) for i in range(16)]),
            biased,
            classes=CLASSES,
            refine=Refinement(adapt=True),
            on_segment=seen.append,
        )
    )
    assert {row.emotion for row in seen} == {"angry"}
    assert found.adaptation[0].turns == 16
    assert [row.raw or row.emotions for row in found.segments] == [row.emotions for row in seen]
    assert found.provenance["adapt"] == "speaker"


def test_text_and_its_maker_stand_in_the_timeline(bundle: Bundle, speechlike: Callable[..., Wave], recognisers: dict[str, Path]) -> None:
    writer = open_transcriber(recognisers["ctc"])
    wave = speechlike(3.0)
    found = podcast.timeline((wave, RATE), bundle, Given((Turn("A", 0.0, 2.0), Turn("B", 2.0, 3.0))), transcriber=writer)
    assert [row.text for row in found.segments] == writer.transcribe([wave[: 2 * RATE], wave[2 * RATE :]], RATE)
    assert found.provenance["transcriber"] == writer.name
    assert all(row.modalities == ("audio",) for row in found.segments)


def test_turns_of_a_pipeline_of_pyannote_become_segments(bundle: Bundle, pyannote_folder: Path, talk: Wave) -> None:
    with one_thread():
        pipeline = open_pipeline(pyannote_folder, trust_checkpoint=True)
        found = podcast.timeline((talk, RATE), bundle, pipeline, max_speakers=3)
    assert [(row.speaker, row.overlap) for row in found.segments] == [
        (turn.speaker, turn.overlap) for turn in pipeline.diarize(talk, RATE, max_speakers=3)
    ]
    assert any(row.overlap for row in found.segments)
    assert found.provenance["diarizer"] == pipeline.name
    assert found.provenance["speakers"] == "max 3"


def test_no_turns_give_no_segments() -> None:
    assert collect(noise(3), given()) == []


def test_a_turn_is_cut_at_the_end_of_the_recording() -> None:
    (row,) = collect(noise(3), given(Turn("A", 2.0, 3.4)))
    assert (row.start_s, row.stop_s) == (2.0, 3.0)


def test_turns_of_another_file_are_refused() -> None:
    with pytest.raises(ValueError, match=r"begins after the end of the recording .* another file"):
        collect(noise(3), given(Turn("A", 5.0, 6.0)))


def test_the_answers_do_not_depend_on_how_turns_are_batched() -> None:
    turns = [Turn("A", i * 1.0, i + 0.4 + 0.05 * (i % 7)) for i in range(20)]
    whole = collect(noise(20), given(*turns), batch_s=1000.0)
    assert collect(noise(20), given(*turns), batch_s=0.5, in_flight=1) == whole
    assert collect(noise(20), given(*turns), batch_s=2.0, in_flight=5) == whole
    assert len(whole) == 20


def test_segments_come_before_the_last_turn_was_asked() -> None:
    asked = 0

    async def counting(waves: list[Wave]) -> list[Answer]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return await feel(waves)

    async def first() -> int:
        turns = [Turn("A", float(i), i + 1.0) for i in range(20)]
        async for _ in podcast.segments(noise(20), RATE, given(*turns), counting, batch_s=1.0, in_flight=2):
            return asked
        return -1

    assert 1 <= asyncio.run(first()) <= 3


def test_no_more_batches_are_under_way_than_allowed() -> None:
    under_way = most = 0

    async def watching(waves: list[Wave]) -> list[Answer]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return await feel(waves)

    collect(noise(20), given(*[Turn("A", float(i), i + 1.0) for i in range(20)]), watching, batch_s=1.0, in_flight=3)
    assert most == 3


def test_closing_early_cancels_what_is_under_way() -> None:
    cancelled = 0

    async def slow(waves: list[Wave]) -> list[Answer]:
        nonlocal cancelled
        try:
            if len(waves[0]) > RATE:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return await feel(waves)

    async def run() -> None:
        rows = podcast.segments(noise(9), RATE, given(Turn("A", 0, 1), Turn("A", 1, 3), Turn("A", 3, 5)), slow, batch_s=1.0, in_flight=3)
        async for _ in rows:
            break
        await rows.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())
    assert cancelled == 2


def test_an_error_of_a_model_reaches_the_caller() -> None:
    async def broken(waves: list[Wave]) -> list[Answer]:
        raise RuntimeError("the model fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        collect(noise(3), given(Turn("A", 0, 1), Turn("A", 1, 2)), broken, batch_s=1.0)


def test_a_model_that_forgets_a_turn_is_found_out() -> None:
    async def forgetful(waves: list[Wave]) -> list[Answer]:
        return (await feel(waves))[1:]

    with pytest.raises(RuntimeError, match="answered 1 of 2"):
        collect(noise(3), given(Turn("A", 0, 1), Turn("A", 1, 2)), forgetful)


def test_the_synchronous_road_is_the_coroutine_road(bundle: Bundle, speechlike: Callable[..., Wave]) -> None:
    wave = speechlike(12.0)
    turns = (Turn("A", 0.0, 4.0, speech=1.0), Turn("B", 4.5, 11.0, speech=1.0), Turn("A", 11.2, 11.4, speech=1.0))

    async def answered(waves: list[Wave]) -> list[Answer]:
        return bundle.answer(waves)

    by_hand = asyncio.run(
        podcast.analyze(
            (wave, RATE), given(*turns), answered, classes=bundle.classes, provenance=podcast.provenance_of(bundle, Given(turns))
        )
    )
    assert podcast.timeline((wave, RATE), bundle, Given(turns)) == by_hand
    assert bundle.timeline((wave, RATE), diarizer=Given(turns)) == by_hand  # type: ignore[arg-type]
    assert [row.status for row in by_hand.segments] == ["ok", "ok", "too_short"]


def test_it_works_inside_a_running_event_loop_as_in_a_notebook(bundle: Bundle, speechlike: Callable[..., Wave]) -> None:
    async def cell() -> Timeline:
        return podcast.timeline((speechlike(3.0), RATE), bundle, Given((Turn("A", 0.0, 2.0),)))

    assert len(asyncio.run(cell()).segments) == 1

    async def failing() -> Timeline:
        return podcast.timeline((speechlike(3.0), RATE), bundle, Given((Turn("A", 7.0, 8.0),)))

    with pytest.raises(ValueError, match="after the end"):
        asyncio.run(failing())


class Slow:
    """A diarizer and a transcriber; while it works, somebody presses Ctrl-C."""

    name = "slow"

    def __init__(self, at: str) -> None:
        self.at = at

    def work(self, at: str) -> None:
        if at == self.at:
            threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
            time.sleep(60)

    def diarize(self, wave: Wave, rate: int, **limits: int | None) -> list[Turn]:
        self.work("diarize")
        return [Turn("A", 0.0, 2.0), Turn("B", 2.0, 4.0)]

    def transcribe(self, waves: list[Wave], rate: int) -> list[str]:
        self.work("transcribe")
        return ["" for _ in waves]


@pytest.mark.parametrize("at", ["diarize", "transcribe"])
def test_ctrl_c_does_not_wait_for_a_model(
    bundle: Bundle, speechlike: Callable[..., Wave], at: str, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what tests before this one have left
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts in the background ignores it
    slow, started = Slow(at), time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            podcast.timeline((speechlike(4.0), RATE), bundle, slow, transcriber=slow)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 30.0
    gc.collect()
    assert caplog.text == ""  # no task was left behind


def test_a_file_its_bytes_and_its_samples_give_the_same_segments(
    bundle: Bundle, speechlike: Callable[..., Wave], write_wav: Callable[..., Path]
) -> None:
    path = write_wav("my talk.wav", speechlike(5.0))
    voices = Given((Turn("A", 0.0, 4.7),))
    seen: list[Segment] = []
    from_file = podcast.timeline(path, bundle, voices, on_segment=seen.append)
    from_bytes = podcast.timeline(path.read_bytes(), bundle, voices)
    assert (from_file.uri, from_bytes.uri) == ("my talk", "audio")
    assert from_file.segments == from_bytes.segments == tuple(seen)
    assert from_file.duration_s == 5.0
    assert from_file.provenance["bundle"] == "tiny"


def test_a_long_turn_stays_one_segment_whose_chunks_cover_it(bundle: Bundle) -> None:
    longest = bundle.run.chunks.max_s
    duration = 2.2 * longest
    (row,) = podcast.timeline((noise(duration), RATE), bundle, Given((Turn("A", 0.0, duration, speech=1.0),))).segments
    assert row.duration_s == pytest.approx(duration, abs=1e-3)
    assert sum(row.emotions.values()) == pytest.approx(1.0, abs=1e-4)
    assert row.chunks[0].start_s == 0.0
    assert row.chunks[-1].stop_s == pytest.approx(duration, abs=2e-3)
    assert all(b.start_s <= a.stop_s + 1e-3 for a, b in zip(row.chunks, row.chunks[1:], strict=False))


def test_a_file_name_that_is_no_utf_8_still_names_a_timeline_that_can_be_written() -> None:
    assert podcast.name_of(os.fsdecode(b"talks/caf\xe9.flac")) == "caf\ufffd"
    Timeline(uri=podcast.name_of(os.fsdecode(b"caf\xe9.flac")), duration_s=1.0, classes=("a", "b")).to_json()
