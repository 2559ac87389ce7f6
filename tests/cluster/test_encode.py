"""What Ray Data prepares ahead is what training would make itself, is made once, and is what training then reads."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from moodcast import cache
from moodcast.cache import open_arrays
from moodcast.cluster.encode import encode
from moodcast.cluster.features import keep_features, kept
from moodcast.manifest import Utterance, write_manifest
from moodcast.run import build
from tests.cluster.test_features import counted_run, encodings, opened
from tests.cluster.tiny import tiny_run

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import sys
from pathlib import Path
from moodcast import cache
from moodcast.cluster.encode import encode
from moodcast.manifest import read_manifest
from tests.cluster.test_features import counted_run

cache.SHARD_ROWS = 5
folder = Path(sys.argv[1])
encode(counted_run(folder), read_manifest(folder / "rows.parquet"), workers=2, cache=folder / "cache")
"""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARD_ROWS", 5)


def features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """All that is kept there, by name."""
    return {path.name: np.load(path) for path in (folder / "features").rglob("*.npy")}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_what_is_prepared_ahead_is_what_training_makes_and_then_reads(corpus: list[Utterance], tmp_path: Path, decoded: list[str]) -> None:
    run, told = counted_run(tmp_path), []
    done = encode(run, corpus, workers=2, cache=tmp_path / "ahead", progress=lambda *at: told.append(at))
    assert decoded == []  # none of it by this process
    assert (done.rows, done.decoded, done.stretches, done.encoded) == (160, 160, 160, 160)
    assert told == [(n, 160) for n in range(5, 161, 5)]
    assert len(encodings(tmp_path)) == 160
    method = build(run, ("tests",))
    data = opened(corpus, run, tmp_path / "ahead")  # as training does
    assert decoded == []
    assert keep_features(method, data, kept(run, method), tmp_path / "ahead") == 0
    assert done.hours == pytest.approx(sum(side.seconds.sum() for side in data) / 3600)

    beside = opened(corpus, run, tmp_path / "itself")
    keep_features(method, beside, kept(run, method), tmp_path / "itself")
    ahead, itself = features(tmp_path / "ahead"), features(tmp_path / "itself")
    assert ahead.keys() == itself.keys()
    for name, wanted in itself.items():
        np.testing.assert_allclose(ahead[name], wanted, atol=1e-5)
    for one, other in zip(data, beside, strict=True):
        assert one.store.digests == other.store.digests
    assert open_arrays(done.kind, tmp_path / "ahead").has(data[0].feature_name(0))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_what_was_killed_half_way_goes_on_with_what_is_missing(corpus: list[Utterance], tmp_path: Path) -> None:
    write_manifest(corpus, tmp_path / "rows.parquet")
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE) as driver:
        end = time.monotonic() + 280
        while driver.poll() is None and len(encodings(tmp_path)) < 40 and time.monotonic() < end:
            time.sleep(0.005)
        assert driver.poll() is None
        family = [psutil.Process(driver.pid), *psutil.Process(driver.pid).children(recursive=True)]
        for process in family:  # as when the power fails
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(family, timeout=20)
    begun, there = len(encodings(tmp_path)), len(features(tmp_path / "cache"))
    whole = sum(5 for path in (tmp_path / "cache" / "waves").iterdir() if not path.name.startswith("."))
    assert 30 < there <= begun < 160
    done = encode(counted_run(tmp_path), corpus, workers=2, cache=tmp_path / "cache")
    assert (done.encoded, done.decoded) == (160 - there, 160 - whole)
    assert len(encodings(tmp_path)) == begun + 160 - there
    assert len(features(tmp_path / "cache")) == 160


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_damaged_and_missing_recordings_are_named_and_a_method_without_a_frozen_part_has_its_audio_decoded(
    corpus: list[Utterance], tmp_path: Path, decoded: list[str], write_wav: Callable[..., Path]
) -> None:
    rows = list(corpus[:40])
    for place in (3, 27):
        rows[place] = replace(rows[place], path=str(write_wav(f"{place}.wav", np.zeros(800, np.float32), 8_000)))
        Path(rows[place].path).write_bytes(Path(rows[place].path).read_bytes()[:30])
    rows[33] = replace(rows[33], path=str(tmp_path / "gone.wav"))
    with pytest.raises(ValueError, match=r"u\d+: .*; u\d+: .*What could be read is kept; mend these, and encode again") as told:
        encode(tiny_run(), rows, workers=2, cache=tmp_path)
    assert {"u003", "u027", "u033"} == {word for word in ("u003", "u027", "u033", "u004") if word in str(told.value)}
    for place in (3, 27, 33):
        rows[place] = corpus[place]
    done = encode(tiny_run(), rows, workers=2, cache=tmp_path)
    assert (done.rows, done.decoded, done.encoded, done.kind) == (40, 15, 0, "")
    assert done.said().startswith("decoded 40 recordings, 0.00 h (15 now, 25 before); nothing of this run stays frozen")


def test_rows_that_nobody_reads_are_refused(corpus: list[Utterance], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing of 160 rows is trained on or chosen by: wanted rows with split train or dev and a label"):
        encode(tiny_run(), [replace(row, split="test") for row in corpus], cache=tmp_path)
