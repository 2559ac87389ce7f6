"""moodcast.audio: what cannot be read is refused with a reason: no audio, cut or damaged files, absurd headers, lists that mean harm."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast import audio, containers
from moodcast.audio import AudioError, NotAudio, TooLong
from tests.sounds import FORMATS, RATE, encoded, many_channels, sweep, wav_header


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
    with pytest.raises(
        AudioError, match=r"cut short or damaged: \d+\.\d\d s could be read .* export it again|not audio that can be read .*whole"
    ):
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


@pytest.mark.parametrize("name", ["wav 16 bit", "flac", "opus", "mp3", "webm"])
def test_what_is_there_of_a_cut_file_can_be_read_as_the_error_says(name: str) -> None:
    container, encoder, rate, *_ = FORMATS[name]
    data = encoded(sweep(10.0, rate), rate, container, encoder)
    whole = audio.read(data)
    with pytest.raises(AudioError, match="cut short") as error:
        audio.read(data[: int(len(data) * 0.6)])
    stop_s = float(error.value.__notes__[0].rpartition("stop_s=")[2])
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


@pytest.mark.parametrize("begins_s", [0.4, 5.0])
@pytest.mark.parametrize("video", [False, True])
def test_a_whole_matroska_file_whose_sound_begins_late_is_read_and_a_cut_one_is_not(begins_s: float, video: bool) -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        picture = file.add_stream("mpeg4", rate=5) if video else None
        sound = file.add_stream("flac", rate=16_000)
        sound.layout = "mono"
        if picture is not None:
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
            for _ in range(5):
                file.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            file.mux(picture.encode(None))
        samples = (20_000 * sweep(10.0, 16_000)).astype(np.int16)
        for first in range(0, len(samples), 4_000):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 4_000], format="s16", layout="mono")
            frame.rate, frame.pts = 16_000, first + round(16_000 * begins_s)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    assert abs(len(audio.read(out.getvalue())) / 16_000 - 10.0) < 0.05
    with pytest.raises(AudioError, match="cut short"):
        audio.read(out.getvalue()[: out.tell() // 2])
