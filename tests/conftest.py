"""Fixtures that all tests share: real recordings and a real browser (or a reason to skip), signals made by code, a local Ray."""

from __future__ import annotations

import os

# Before anything imports Ray, pyannote or huggingface_hub: no telemetry, no network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes that share the cores must not each take all of them

import shutil
import wave as wavefile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from tests import dealing

Wave = NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLOW_LAST = ("corpora", "browser", "ray")
settings.register_profile("moodcast", deadline=None)  # beside a Ray that starts, what takes a millisecond may take a second
settings.load_profile("moodcast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, walks and Ray last, so that a small mistake shows in seconds. The order is stable otherwise.

    With several processes it is the other way round, and what takes longest begins first: one end of the queue they are dealt from.
    """
    several = "PYTEST_XDIST_WORKER" in os.environ

    def slowness(item: pytest.Item) -> int:
        marks = [rank for rank, mark in enumerate(SLOW_LAST, start=1) if item.get_closest_marker(mark)]
        return max(marks, default=0) + (10 if "walks" in item.path.parts else 0)

    items.sort(key=slowness, reverse=several)
    if several:
        items.sort(key=lambda item: dealing.place(item.path))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> dealing.ByFile:
    """How tests are dealt out where there are several processes."""
    config.option.loadscopereorder = False  # not by their number: by the order above
    return dealing.ByFile(config, log)


def missing(what: str) -> None:
    """Skip with the reason; under continuous integration a missing thing is a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} (CI=true, so this is a failure and no skip)", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real recordings: MOODCAST_CORPORA, or ../shared/corpora beside the repository."""
    folder = Path(os.environ.get("MOODCAST_CORPORA") or ROOT.parent / "shared" / "corpora")
    if not folder.is_dir():
        missing(f"no real recordings at {folder}; set MOODCAST_CORPORA to the folder that holds cremad, emodb, resd, ...")
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium that playwright can drive: MOODCAST_CHROMIUM, or the first one on the PATH."""
    found = os.environ.get("MOODCAST_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found or not Path(found).exists():
        missing("no browser: install chromium, or set MOODCAST_CHROMIUM to the program")
    return str(found)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def make_tone(seconds: float = 1.0, rate: int = 16_000, hz: float = 220.0, level: float = 0.3) -> Wave:
    """A sine of `hz`, [seconds * rate] float32."""
    t = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def make_speechlike(seconds: float = 2.0, rate: int = 16_000, seed: int = 0, hz: float = 120.0, level: float = 0.3) -> Wave:
    """Something a voice detector may take for speech, the same for the same arguments: a glottal pulse train with a moving
    pitch, three formants that wander from syllable to syllable, a four-hertz envelope and a little breath noise.
    """
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    t = np.arange(count) / rate
    syllables = max(2, round(seconds * 4) + 1)
    pitch = hz * np.interp(t, np.linspace(0, seconds, syllables), rng.uniform(0.8, 1.25, syllables))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    formants = [
        np.interp(t, np.linspace(0, seconds, syllables), rng.uniform(*span, syllables)) for span in ((300, 800), (900, 2200), (2300, 3000))
    ]
    voice = np.zeros(count)
    for k in range(1, int(min(4000, rate / 2.2) / hz)):
        gain = sum(1 / (1 + ((k * pitch - formant) / 120) ** 2) for formant in formants)
        voice += gain / k**0.5 * np.sin(k * phase)
    envelope = 0.1 + 0.9 * np.clip(np.sin(2 * np.pi * 2 * t + rng.uniform(0, 6)), 0, 1) ** 2
    voice = voice * envelope + 0.02 * rng.standard_normal(count)
    return (level * voice / np.abs(voice).max()).astype(np.float32)


@pytest.fixture(scope="session")
def tone() -> Callable[..., Wave]:
    """`tone(seconds, rate, hz, level)`: a sine."""
    return make_tone


@pytest.fixture(scope="session")
def speechlike() -> Callable[..., Wave]:
    """`speechlike(seconds, rate, seed, hz, level)`: deterministic, voiced, with syllables."""
    return make_speechlike


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """`write_wav("name.wav", wave, rate)` -> the path of a 16-bit mono file in this test's folder."""

    def write(name: str, wave: Wave, rate: int = 16_000) -> Path:
        path = tmp_path / name
        with wavefile.open(str(path), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
        return path

    return write


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that this process decodes, in any order."""
    from moodcast import audio

    paths: list[str] = []
    original = audio.read

    def counted(source: str, *rest: object) -> Wave:
        paths.append(source)
        return original(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(audio, "read", counted)
    return paths


@pytest.fixture(scope="session")
def talk() -> Wave:
    """Twelve seconds in which two made-up voices take turns."""
    parts = [make_speechlike(2.0, seed=i, hz=(110.0, 220.0)[i % 2]) for i in range(6)]
    return np.concatenate(parts)


@pytest.fixture(scope="session")
def pyannote_folder(tmp_path_factory: pytest.TempPathFactory, talk: Wave) -> Path:
    """A pipeline of pyannote.audio, tiny and of random weights."""
    pytest.importorskip("pyannote.audio")
    from tests.pyannote_folder import make

    return make(tmp_path_factory.mktemp("pyannote") / "tiny", talk)


@pytest.fixture(scope="session")
def recognisers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of two speech recognisers, "ctc" and "whisper", tiny and of random weights."""
    from tests.recognisers import make_ctc, make_whisper

    folder = tmp_path_factory.mktemp("recognisers")
    return {"ctc": make_ctc(folder / "ctc"), "whisper": make_whisper(folder / "whisper")}


@pytest.fixture
def moodcast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`moodcast("predict", file)`: the command as a person types it (tests/typed.py)."""
    from tests.typed import command  # late: it loads torch

    return command(monkeypatch, capsys)
