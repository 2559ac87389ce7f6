"""moodcast.audio: every format against the signal it was made from, spans against the whole, long recordings in bounded memory."""

from __future__ import annotations

import io
import mmap
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
from tests.sounds import FORMATS, RATE, encoded, many_channels, snr_db, sweep, wav_header


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
def test_a_file_mapped_into_memory_sounds_as_its_bytes(name: str, tmp_path: Path) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    (tmp_path / "sound").write_bytes(data := encoded(sweep(1.5, rate), rate, container, encoder))
    with (tmp_path / "sound").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(2):
            np.testing.assert_array_equal(audio.read(mapped), audio.read(data))
        with pytest.raises(ValueError, match=f"a recording of {len(data)} bytes"):
            audio.read(mapped, 2.0, 3.0)


@pytest.mark.parametrize("name", FORMATS)
def test_half_of_a_file_mapped_into_memory_is_taken_for_what_half_of_its_bytes_is(name: str, tmp_path: Path) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(1.5, rate), rate, container, encoder)

    def told(source: bytes | mmap.mmap) -> str:
        try:
            return str(len(audio.read(source)))
        except audio.AudioError as error:
            return f"{type(error).__name__}: {error}"

    for share in (0.05, 0.4, 0.9):
        (tmp_path / "sound").write_bytes(part := data[: int(share * len(data))])
        with (tmp_path / "sound").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert told(mapped) == told(part)


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


def test_all_eight_channels_of_a_surround_recording_are_averaged_and_nothing_else() -> None:
    # FFmpeg gives eight planes without an end mark behind them; reading on into a ninth crashed the process.
    got = audio.read(many_channels("7.1"))
    assert len(got) == RATE
    assert np.abs(got[RATE // 4 : -RATE // 4]).max() == pytest.approx(0.02 * np.mean(np.arange(1, 9)), rel=0.1)


@pytest.mark.parametrize("encoder", ["pcm_s16le", "pcm_u8", "pcm_f32le"])
def test_where_two_channels_cancel_each_other_the_first_is_heard_and_else_their_mean(encoder: str) -> None:
    wave, other = sweep(2.0, RATE), sweep(2.0, RATE, seed=1)
    step = {"pcm_u8": 1 / 128}.get(encoder, 1 / 32768)
    for second, wanted in ((-wave, wave), (-0.5 * wave, 0.25 * wave), (other, (wave + other) / 2), (0 * wave, wave / 2), (wave, wave)):
        got = audio.read(encoded(np.stack([wave, second]), RATE, encoder=encoder))
        np.testing.assert_allclose(got, wanted, atol=2 * step)
    rng = np.random.default_rng(0)
    syllables = wave * 10 ** (-2.5 * np.sin(np.linspace(0, 6, len(wave))) ** 2)  # down to where the noise of both channels is
    left, right = (sign * syllables + 1e-3 * rng.standard_normal(len(wave)).astype(np.float32) for sign in (1, -1))
    got = audio.read(encoded(np.stack([left, right]).astype(np.float32), RATE, "flac", "flac"))
    np.testing.assert_allclose(got, left, atol=2 / 32768)
    hiss = np.tile([1 / 32768, -1 / 32768], RATE).astype(np.float32)  # noise of the last bit stays what its mean is
    assert not audio.read(encoded(np.stack([hiss, -hiss]), RATE)).any()


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
