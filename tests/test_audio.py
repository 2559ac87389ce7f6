"""moodcast.audio: every format against the signal it was made from, spans against the whole, and files that mean harm."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moodcast import audio, containers
from moodcast.audio import AudioError, NotAudio, TooLong

RATE = 16_000
# container, encoder, rate, how well the signal must survive (SNR in dB), how far the length may be off (s), a delay that nobody records (s)
FORMATS = {
    "wav 8 bit": ("wav", "pcm_u8", 16_000, 30, 0, 0),
    "wav 16 bit": ("wav", "pcm_s16le", 44_100, 60, 0, 0),
    "wav 24 bit": ("wav", "pcm_s24le", 48_000, 60, 0, 0),
    "wav 32 bit": ("wav", "pcm_s32le", 22_050, 60, 0, 0),
    "wav float": ("wav", "pcm_f32le", 8_000, 60, 0, 0),
    "wav double": ("wav", "pcm_f64le", 96_000, 60, 0, 0),
    "aiff": ("aiff", "pcm_s16be", 44_100, 60, 0, 0),
    "flac": ("flac", "flac", 44_100, 60, 0, 0),
    "opus": ("ogg", "libopus", 48_000, 15, 0.001, 0),
    "mp3": ("mp3", "libmp3lame", 44_100, 20, 0.001, 0),
    "m4a": ("ipod", "aac", 44_100, 20, 0.03, 0),
    "aac": ("adts", "aac", 44_100, 20, 0.06, 1024 / 44_100),
    "sound of an mp4": ("mp4", "aac", 48_000, 20, 0.03, 0),
    "mkv": ("matroska", "flac", 48_000, 60, 0, 0),
    "webm": ("webm", "libopus", 48_000, 15, 0.001, 0),
}


def sweep(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """A glide through the telephone band with a slow tremolo: never periodic, so that a shifted answer cannot pass."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(400 + 250 * np.sin(2 * np.pi * 0.37 * t + seed) + 40 * np.sin(2 * np.pi * 1.7 * t)) / rate
    return (0.4 * (0.7 + 0.3 * np.sin(2 * np.pi * 0.9 * t)) * np.sin(phase)).astype(np.float32)


def encoded(
    wave: NDArray[np.float32], rate: int, container: str = "wav", encoder: str = "pcm_s16le", video: bool = False, start: int = 0
) -> bytes:
    """`wave`, [N] or [channels, N], in a container; with `video`, beside a grey picture; `start` shifts its clock by samples."""
    channels = np.atleast_2d(wave)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(channels)]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        sound = file.add_stream(encoder, rate=rate, layout=layout)
        picture = file.add_stream("mpeg4", rate=5) if video else None
        if picture is not None:
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
            for number in range(5 * channels.shape[1] // rate):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
                frame.pts = number
                file.mux(picture.encode(frame))
            file.mux(picture.encode(None))
        fit = av.AudioResampler(format=sound.codec_context.format, layout=layout, rate=rate)
        for place in range(0, channels.shape[1], rate):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels[:, place : place + rate]), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, place + start, Fraction(1, rate)
            for piece in fit.resample(frame):
                file.mux(sound.encode(piece))
        for piece in fit.resample(None):
            file.mux(sound.encode(piece))
        file.mux(sound.encode(None))
    return out.getvalue()


def snr_db(got: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """How far `got` is from `wanted`, edges of 50 ms left out (filters ring there)."""
    inner = slice(RATE // 20, min(len(got), len(wanted)) - RATE // 20)
    return float(10 * np.log10(np.sum(wanted[inner] ** 2) / (np.sum((got[inner] - wanted[inner]) ** 2) + 1e-20)))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_back_the_signal_it_was_made_from(name: str) -> None:
    container, encoder, rate, quality_db, slack_s, delay_s = FORMATS[name]
    wave = sweep(3.0, rate)
    got = audio.read(encoded(wave, rate, container, encoder, video=name.startswith("sound of")))
    wanted = soxr.resample(wave, rate, RATE)
    delay = round(delay_s * RATE)
    assert got.dtype == np.float32
    assert abs(len(got) - delay - len(wanted)) <= slack_s * RATE + 1
    assert snr_db(got[delay:], wanted) > quality_db


@pytest.mark.parametrize(
    ("kind", "quality_db"), [(("OGG", "VORBIS"), 12), (("OGG", "OPUS"), 15), (("MP3", "MPEG_LAYER_III"), 15), (("FLAC", "PCM_24"), 60)]
)
def test_files_of_another_encoder_are_read_as_well(kind: tuple[str, str], quality_db: float) -> None:
    wave = sweep(3.0, 48_000)
    out = io.BytesIO()
    soundfile.write(out, wave, 48_000, format=kind[0], subtype=kind[1])
    got = audio.read(out.getvalue())
    assert abs(len(got) - 3 * RATE) <= 2
    assert snr_db(got, soxr.resample(wave, 48_000, RATE)) > quality_db
    long = io.BytesIO()
    with soundfile.SoundFile(long, "w", 48_000, 1, format=kind[0], subtype=kind[1]) as file:
        for second in np.split(sweep(60.0, 48_000), 60):  # libsndfile's Vorbis encoder cannot take a minute at once
            file.write(second)
    whole = audio.read(long.getvalue())
    assert abs(len(whole) - 60 * RATE) <= 2
    np.testing.assert_allclose(audio.read(long.getvalue(), 45.67, 47.0), whole[round(45.67 * RATE) : 47 * RATE], atol=2e-3)


def test_a_path_and_its_bytes_sound_the_same_and_the_name_does_not_matter(tmp_path: Path) -> None:
    data = encoded(sweep(2.0, 44_100), 44_100, "mp3", "libmp3lame")
    path = tmp_path / "12:30 a show, really.wav"
    path.write_bytes(data)
    np.testing.assert_array_equal(audio.read(path), audio.read(data))
    np.testing.assert_array_equal(audio.read(str(path)), audio.read(data))


@pytest.mark.parametrize("encoder", ["pcm_s16le", "pcm_f32le", "pcm_u8"])
def test_channels_are_averaged(encoder: str) -> None:
    left, right = sweep(1.0, RATE), sweep(1.0, RATE, seed=2)
    got = audio.read(encoded(np.stack([left, right]), RATE, encoder=encoder))
    assert snr_db(got, (left + right) / 2) > (30 if encoder == "pcm_u8" else 60)
    six = np.stack([sweep(1.0, RATE, seed) for seed in range(6)])
    assert snr_db(audio.read(encoded(six, RATE, "flac", "flac")), six.mean(axis=0)) > 60


def test_opposite_channels_cancel() -> None:
    wave = sweep(1.0, RATE)
    assert np.abs(audio.read(encoded(np.stack([wave, -wave]), RATE, encoder="pcm_f32le"))).max() == 0.0


def test_samples_at_the_asked_rate_are_not_touched() -> None:
    wave = sweep(1.0, RATE)
    np.testing.assert_array_equal(audio.read(encoded(wave, RATE, encoder="pcm_f32le")), wave)
    assert len(audio.read(encoded(wave, RATE), rate=8_000)) == 8_000


def test_resampling_in_a_stream_is_resampling_of_the_whole() -> None:
    wave = sweep(70.0, 44_100)
    got = audio.read(encoded(wave, 44_100, encoder="pcm_f32le"))
    np.testing.assert_array_equal(got, soxr.resample(wave, 44_100, RATE, quality="HQ"))


@settings(max_examples=25, deadline=None)
@given(block_s=st.floats(0.01, 3.0), start_s=st.floats(0, 1.9))
def test_blocks_joined_are_the_whole_whatever_their_size(block_s: float, start_s: float) -> None:
    data = encoded(sweep(2.0, 22_050), 22_050, "flac", "flac")
    blocks = list(audio.stream(data, block_s=block_s, start_s=start_s))
    np.testing.assert_array_equal(np.concatenate(blocks), audio.read(data)[round(start_s * RATE) :])
    assert {len(block) for block in blocks[:-1]} <= {max(1, round(block_s * RATE))}


@pytest.mark.parametrize("name", FORMATS)
def test_a_late_span_is_the_same_as_cut_from_the_whole(name: str) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(80.0, rate), rate, container, encoder)
    whole = audio.read(data)
    for start_s, stop_s in ((1.25, 2.0), (41.23, 43.57), (61.1, None)):
        got = audio.read(data, start_s, stop_s)
        wanted = whole[round(start_s * RATE) : None if stop_s is None else round(stop_s * RATE)]
        assert len(got) == len(wanted)
        np.testing.assert_allclose(got, wanted, atol=2e-3)  # decoders that remember settle within the run-up


@pytest.mark.parametrize("name", ["wav 16 bit", "flac", "opus", "mp3", "m4a", "mkv", "webm"])
def test_a_late_span_is_sought_and_not_decoded_up_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(120.0, rate), rate, container, encoder)
    handed = 0
    original = containers.Recording._samples

    def counted(self: containers.Recording, frame: av.AudioFrame) -> NDArray[np.float32]:
        nonlocal handed
        handed += frame.samples
        return original(self, frame)

    monkeypatch.setattr(containers.Recording, "_samples", counted)
    assert len(audio.read(data, 100.0, 101.0)) == RATE
    assert handed < 15 * rate


def test_a_clock_with_a_hole_keeps_its_times() -> None:
    out = io.BytesIO()
    wave = sweep(2.0, 48_000)
    with av.open(out, "w", format="webm") as file:
        sound = file.add_stream("libopus", rate=48_000, layout="mono")
        for start_s in (0.0, 5.0):
            for place in range(0, len(wave), 960):
                frame = av.AudioFrame.from_ndarray(wave[None, place : place + 960].copy(), format="flt", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, place + round(start_s * 48_000), Fraction(1, 48_000)
                file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    got = audio.read(out.getvalue())
    assert abs(len(got) / RATE - 7.0) < 0.05
    assert np.abs(got[round(2.2 * RATE) : round(4.8 * RATE)]).max() == 0.0
    assert snr_db(got[5 * RATE :], soxr.resample(wave, 48_000, RATE)) > 20  # though this clock counts milliseconds


def test_an_advert_spliced_in_at_another_rate_is_heard_at_its_own_pitch() -> None:
    show, advert = sweep(3.0, 44_100), sweep(2.0, 24_000, seed=1)
    data = encoded(show, 44_100, "mp3", "libmp3lame") + encoded(advert, 24_000, "mp3", "libmp3lame")
    got = audio.read(data)
    assert abs(len(got) / RATE - 5.0) < 0.3
    wanted = soxr.resample(advert, 24_000, RATE)[8_000:24_000]
    best = np.abs(np.correlate(got[3 * RATE :], wanted, "valid")).max() / np.sum(wanted**2)
    assert best > 0.9


# What cannot be read


def test_what_is_no_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist; check the path"):
        audio.read(tmp_path / "no such.wav")
    with pytest.raises(AudioError, match="is a folder"):
        audio.read(tmp_path)
    with pytest.raises(AudioError, match="no regular file"):
        audio.read("/dev/null")
    with pytest.raises(AudioError, match="download it first"):
        audio.read("http://127.0.0.1:1/show.mp3")
    with pytest.raises(AudioError, match="does not exist"):
        audio.read("a\0b.wav")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(NotAudio, match=r"empty \(0 bytes\)"):
        audio.read(tmp_path / "empty.wav")
    with pytest.raises(NotAudio, match=r"empty \(0 bytes\)"):
        audio.read(b"")


@pytest.mark.parametrize(
    "content", [b"hello, this is text\n" * 500, b"\x00" * 5000, bytes(range(256)) * 40, b"%PDF-1.7\n" + b"x" * 4000, b"RIFF"]
)
def test_what_is_not_audio_is_refused(content: bytes) -> None:
    with pytest.raises(NotAudio, match="not audio that can be read .* wanted wav, flac"):
        audio.read(content)


def test_a_picture_without_sound_is_refused() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        picture = file.add_stream("mpeg4", rate=5)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        file.mux(picture.encode(None))
    with pytest.raises(NotAudio, match=r"holds no sound \(its streams: video\)"):
        audio.read(out.getvalue())


def test_the_pictures_of_a_video_reach_no_decoder() -> None:
    data = encoded(sweep(2.0, 48_000), 48_000, "mp4", "aac", video=True)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False) as said:
            got = audio.read(data)
    finally:
        av.logging.set_level(level)
    assert len(got) >= 2 * RATE
    assert any("(mpeg4) not on whitelist" in text for _level, _name, text in said)


def test_sound_in_a_rare_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "CODECS", ("aac",))
    with pytest.raises(AudioError, match="holds flac sound, which is not read here; convert it"):
        audio.read(encoded(sweep(1.0, RATE), RATE, "flac", "flac"))


def wav_header(channels: int = 1, rate: int = RATE, bits: int = 16, size: int = 0, kind: int = 1) -> bytes:
    frame = channels * bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, kind, channels, rate, rate * frame, frame, bits)
    return head + struct.pack("<4sI", b"data", size)


def test_zero_channels_zero_hertz_and_absurd_rates_are_refused() -> None:
    for head in (
        wav_header(channels=0, size=3200),
        wav_header(rate=0, size=3200),
        wav_header(rate=1, size=3200),
        wav_header(rate=10**9, size=3200),
    ):
        with pytest.raises(AudioError, match="channel|not audio"):
            audio.read(head + b"\x01\x02" * 1600)


def test_a_track_without_a_sample_is_refused() -> None:
    with pytest.raises(AudioError):
        audio.read(wav_header(size=0))
    with pytest.raises(AudioError):
        audio.read(encoded(np.zeros(0, np.float32), RATE, "flac", "flac"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    wave = sweep(2.0, RATE)
    wave[24_000] = bad
    with pytest.raises(AudioError, match="NaN or infinite samples near 1 s"):
        audio.read(wav_header(size=wave.nbytes, bits=32, kind=3) + wave.tobytes())


def test_integers_in_a_floating_point_file_are_refused() -> None:
    with pytest.raises(AudioError, match="holds samples of 1.31e.04 near 0 s; wanted -1 to 1"):
        audio.read(encoded(sweep(1.0, RATE) * 32768, RATE, encoder="pcm_f32le"))
    loud = 3 * sweep(1.0, RATE)  # a mix that was never normalised is fine
    np.testing.assert_array_equal(audio.read(encoded(loud, RATE, encoder="pcm_f32le")), loud)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "aac"])
@pytest.mark.parametrize("share", [0.37, 0.9])
def test_a_file_cut_short_is_never_taken_for_a_whole_one(name: str, share: float) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(10.0, rate), rate, container, encoder)
    with pytest.raises(AudioError, match=r"cut short or damaged: \d+\.\d\d s could be read .* stop_s=|not audio that can be read .*whole"):
        audio.read(data[: int(len(data) * share)])


@pytest.mark.parametrize(("container", "encoder"), [("w64", "pcm_s16le"), ("avi", "libmp3lame"), ("wav", "adpcm_ms"), ("au", "pcm_s16be")])
def test_rarer_containers_are_read_in_spans_and_refused_when_cut(container: str, encoder: str) -> None:
    data = encoded(sweep(50.0, 44_100), 44_100, container, encoder)
    whole = audio.read(data)
    assert abs(len(whole) / RATE - 50.0) < 0.06
    np.testing.assert_allclose(audio.read(data, 40.0, 41.0), whole[40 * RATE : 41 * RATE], atol=2e-3)
    with pytest.raises(AudioError, match="cut short"):
        audio.read(data[: len(data) // 2])


def test_a_cut_video_is_not_taken_for_a_whole_one() -> None:
    data = encoded(sweep(10.0, 48_000), 48_000, "matroska", "flac", video=True)
    assert len(audio.read(data)) == 10 * RATE
    with pytest.raises(AudioError, match="cut short"):
        audio.read(data[: len(data) // 2])


def test_recordings_joined_end_to_end_are_heard_one_after_the_other() -> None:
    first, second = sweep(2.0, 48_000), sweep(3.0, 48_000, seed=1)
    for container, encoder in (("ogg", "libopus"), ("mp3", "libmp3lame"), ("adts", "aac")):
        got = audio.read(encoded(first, 48_000, container, encoder) + encoded(second, 48_000, container, encoder))
        assert abs(len(got) / RATE - 5.0) < 0.1


def test_a_wav_that_was_streamed_leaves_its_length_open() -> None:
    pcm = (sweep(2.0, RATE) * 32767).astype("<i2").tobytes()
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0):
        head = bytearray(wav_header())
        head[40:44] = struct.pack("<I", size)
        assert len(audio.read(bytes(head) + pcm)) == 2 * RATE


@pytest.mark.parametrize("name", ["wav 16 bit", "flac", "opus", "mp3", "webm"])
def test_what_is_there_of_a_cut_file_can_be_read_as_the_error_says(name: str) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(10.0, rate), rate, container, encoder)
    whole = audio.read(data)
    with pytest.raises(AudioError, match="cut short") as error:
        audio.read(data[: int(len(data) * 0.6)])
    stop_s = float(str(error.value).rpartition("stop_s=")[2])
    assert 4.0 < stop_s < 7.5
    got = audio.read(data[: int(len(data) * 0.6)], stop_s=stop_s)
    np.testing.assert_allclose(got, whole[: round(stop_s * RATE)], atol=1e-3)


def test_damage_in_the_middle_is_not_passed_over_in_silence() -> None:
    for container, encoder in (("flac", "flac"), ("ogg", "libopus"), ("ipod", "aac"), ("mp3", "libmp3lame")):
        data = bytearray(encoded(sweep(10.0, 48_000), 48_000, container, encoder))
        middle = len(data) // 2
        data[middle : middle + 4000] = b"\x5a" * 4000
        with pytest.raises(AudioError, match=r"\d\.\d\d s could be read"):
            audio.read(bytes(data))


def many_channels(layout: str) -> bytes:
    """A second of Opus in which channel k holds a tone of level 0.02 (k + 1); interleaved, PyAV cannot fill eight planes either."""
    out = io.BytesIO()
    with av.open(out, "w", format="ogg") as file:
        sound = file.add_stream("libopus", rate=48_000, layout=layout, options={"mapping_family": "255"})
        levels = 0.02 * np.arange(1, sound.codec_context.layout.nb_channels + 1)
        samples = np.outer(np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000), levels).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = 48_000
        file.mux([*sound.encode(frame), *sound.encode(None)])
    return out.getvalue()


def test_all_eight_channels_of_a_surround_recording_are_averaged_and_nothing_else() -> None:
    # FFmpeg gives eight planes without an end mark behind them; reading on into a ninth crashed the process.
    got = audio.read(many_channels("7.1"))
    assert len(got) == RATE
    assert np.abs(got[RATE // 4 : -RATE // 4]).max() == pytest.approx(0.02 * np.mean(np.arange(1, 9)), rel=0.1)


def test_more_channels_than_a_frame_can_point_at_are_refused() -> None:
    with pytest.raises(AudioError, match="12 channels"):
        audio.read(many_channels("12 channels"))


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(FORMATS)), seed=st.integers(0, 2**32 - 1), flips=st.integers(1, 60))
def test_random_damage_ends_in_samples_or_in_an_audio_error(name: str, seed: int, flips: int) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = bytearray(encoded(sweep(1.0, rate), rate, container, encoder))
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), flips):
        data[place] = rng.integers(256)
    try:
        got = audio.read(bytes(data), max_hours=0.1)
    except AudioError:
        return
    assert np.isfinite(got).all()
    assert len(got) > 0


def test_a_span_beyond_the_end_is_refused_and_one_that_ends_with_the_file_is_not() -> None:
    data = encoded(sweep(2.0, RATE), RATE)
    assert len(audio.read(data, 1.0, 2.0)) == RATE
    assert len(audio.read(data, 1.0, 2.1)) == RATE  # rounded in a label file
    with pytest.raises(AudioError, match=r"ends at 2\.00 s; wanted the span 1\.00 to 5\.00 s"):
        audio.read(data, 1.0, 5.0)
    with pytest.raises(AudioError, match=r"holds nothing from 3\.00 s on"):
        audio.read(data, 3.0)
    with pytest.raises(AudioError, match=r"holds nothing from 300\.00 s on"):
        audio.read(data, 300.0, 301.0)


@pytest.mark.parametrize(
    ("start_s", "stop_s"), [(-1.0, None), (2.0, 1.0), (1.0, 1.0), (float("nan"), None), (0.0, float("nan")), (0.0, float("inf"))]
)
def test_a_span_that_makes_no_sense_is_refused(start_s: float, stop_s: float | None) -> None:
    with pytest.raises(AudioError, match="start_s|stop_s"):
        audio.read(encoded(sweep(1.0, RATE), RATE), start_s, stop_s)


def test_a_header_that_promises_more_than_the_limit_is_refused_before_decoding() -> None:
    data = encoded(np.zeros(2 * 3600 * 8_000, np.float32), 8_000, "flac", "flac")
    assert len(data) < 1_500_000  # 115 MB of 16-bit samples
    with pytest.raises(TooLong, match=r"lasts 2\.0 h by its header; wanted at most 1 h"):
        audio.read(data, max_hours=1.0)
    assert len(audio.read(data, 5000.0, 5001.0, max_hours=1.0)) == RATE  # a span of a long file is no trouble


def test_a_bomb_without_a_length_is_stopped_as_soon_as_the_limit_is_passed() -> None:
    data = bytearray(encoded(np.zeros(2 * 3600 * 8_000, np.float32), 8_000, "flac", "flac"))
    data[21] &= 0xF0  # STREAMINFO: the number of samples becomes unknown
    data[22:26] = bytes(4)
    blocks = iter(audio.stream(bytes(data), max_hours=0.25))
    heard = sum(len(next(blocks)) for _ in range(30))
    assert heard == 0.25 * 3600 * RATE
    with pytest.raises(TooLong, match="is longer than that"):
        next(blocks)


def test_a_hole_of_days_in_a_clock_is_stopped_by_the_limit() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        sound = file.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start_s in (0, 30 * 24 * 3600):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, start_s * RATE, Fraction(1, RATE)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    with pytest.raises(TooLong):
        audio.read(out.getvalue(), max_hours=0.1)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
    "m3u": "#EXTM3U\n{target}\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S" profiles="x">'
    '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="a" bandwidth="1"><BaseURL>{target}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "ffmetadata": ";FFMETADATA1\ntitle={target}\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:10,000\n{target}\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("suffix", ["wav", "m3u8", "ffconcat", "sdp", "mpd", "mp3"])
@pytest.mark.parametrize("target", ["sound", "sound.wav", "/etc/passwd", "http://127.0.0.1:{port}/x.wav", "file:///etc/passwd"])
def test_a_list_that_poses_as_audio_opens_nothing_else(kind: str, suffix: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(encoded(sweep(1.0, RATE), RATE))
    # FFmpeg itself would follow a name beside the list, and only that one
    named = str(tmp_path / "sound.wav") if target == "sound" else target.replace("{port}", "9")
    content = PLAYLISTS[kind].replace("{target}", named).encode()
    (tmp_path / f"posing.{suffix}").write_bytes(content)
    for source in (tmp_path / f"posing.{suffix}", content):
        with pytest.raises(NotAudio) as error:
            audio.read(source)
        assert "root:" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["concat:{path}|{path}", "file:{path}", "subfile,,start,0,end,1000,,:{path}", "crypto:{path}", "data:audio/wav;base64,AAAA"]
)
def test_a_name_is_a_name_and_never_a_protocol(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(encoded(sweep(1.0, RATE), RATE))
    with pytest.raises(AudioError, match="does not exist"):
        audio.read(name.replace("{path}", str(path)))


def test_an_hour_streams_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    with av.open(str(path), "w", format="flac") as file:
        sound = file.add_stream("flac", rate=RATE, layout="mono")
        minute = (sweep(60.0, RATE)[None] * 32767).astype(np.int16)
        for number in range(60):
            frame = av.AudioFrame.from_ndarray(minute, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, number * minute.shape[1]
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    script = (
        "import resource, sys\nfrom moodcast import audio\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "list(audio.stream(sys.argv[1], stop_s=60.0))\nbefore = peak()\n"
        "count = sum(len(block) for block in audio.stream(sys.argv[1]))\nprint(count, peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    count, grown_mb = done.stdout.split()
    assert int(count) == 3600 * RATE
    assert float(grown_mb) < 30  # the samples of an hour are 230 MB
    assert done.stderr == ""


def test_a_fingerprint_names_what_was_heard_to_sixteen_bits() -> None:
    wave = sweep(1.0, RATE)
    assert audio.fingerprint(wave) == audio.fingerprint(wave + np.float32(1e-9))
    assert audio.fingerprint(wave) != audio.fingerprint(wave[:-1])
    assert audio.fingerprint(wave) != audio.fingerprint(wave * np.float32(0.99))
    assert audio.fingerprint(np.zeros(0, np.float32)) == "e3b0c44298fc1c14"
    assert len(audio.fingerprint(wave)) == 16


@pytest.mark.corpora
def test_the_corpora_decode_as_another_decoder_hears_them(corpora: Path) -> None:
    for path in sorted(corpora.glob("*/audio/**/*.opus"))[::1500]:
        other, rate = soundfile.read(path, dtype="float32")
        got = audio.read(path, rate=rate)
        assert abs(len(got) - len(other)) <= 1
        count = min(len(got), len(other))
        assert np.corrcoef(got[:count], other[:count])[0, 1] > 0.98
