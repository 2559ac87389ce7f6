"""moodcast.cache: decoded once, the same samples as reading, safe when two write at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import audio, cache
from moodcast.audio import AudioError
from moodcast.cache import WaveStore, open_arrays, open_waves
from moodcast.manifest import Utterance

RATE = 16_000


@pytest.fixture
def rows(tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., NDArray[np.float32]]) -> list[Utterance]:
    """Twelve stretches: ten files, and two spans of the first."""
    found = [
        Utterance(id=f"u{n}", path=str(write_wav(f"{n}.wav", speechlike(0.5 + n / 10, 22_050, seed=n), 22_050)), corpus="made")
        for n in range(10)
    ]
    return [*found, replace(found[0], id="early", stop_s=0.2), replace(found[0], id="late", start_s=0.2, stop_s=0.45)]


def test_a_store_holds_what_reading_gives(rows: list[Utterance], tmp_path: Path) -> None:
    store = open_waves(rows, RATE, tmp_path / "cache")
    assert len(store) == len(rows)
    for i, row in enumerate(rows):
        wanted = audio.read(row.path, row.start_s, row.stop_s, RATE)
        np.testing.assert_array_equal(store[i], wanted)
        assert store[i].dtype == np.float32
        assert store.fingerprints[i] == audio.fingerprint(wanted)
        assert store.seconds(i) == len(wanted) / RATE
    np.testing.assert_array_equal(store[-1], store[len(rows) - 1])
    for wrong in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError, match="there are 12 stretches"):
            store[wrong]
    with pytest.raises(ValueError, match="read-only"):
        store[0][0] = 1.0


def test_the_second_call_decodes_nothing(rows: list[Utterance], tmp_path: Path, decoded: list[str]) -> None:
    first = open_waves(rows, RATE, tmp_path / "cache")
    assert sorted(decoded) == sorted(row.path for row in rows)
    decoded.clear()
    again = open_waves(rows, RATE, tmp_path / "cache")
    assert decoded == []
    assert again.folder == first.folder
    assert (
        open_waves([replace(row, id=row.id + "x", emotion="sad", split="dev") for row in rows], RATE, tmp_path / "cache").folder
        == first.folder
    )
    assert decoded == []  # labels are not part of what was heard


def test_whatever_changes_the_samples_makes_another_store(rows: list[Utterance], tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    root = tmp_path / "cache"
    seen = {open_waves(rows, RATE, root).folder}
    for other, rate in ((rows, 8_000), (rows[::-1], RATE), (rows[:-1], RATE), ([replace(rows[0], stop_s=0.3)], RATE)):
        seen.add(open_waves(other, rate, root).folder)
    assert len(seen) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "DECODER", "av 999, soxr 999")
        seen.add(open_waves(rows, RATE, root).folder)
    assert len(seen) == 6
    write_wav("3.wav", np.full(RATE, 0.25, np.float32))
    changed = open_waves(rows, RATE, root)
    assert changed.folder not in seen
    assert abs(float(changed[3].mean()) - 0.25) < 1e-3


def test_progress_is_told_after_every_row(rows: list[Utterance], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    open_waves(rows, RATE, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 12) for n in range(1, 13)]
    told.clear()
    open_waves(rows, RATE, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
    assert told == [(12, 12)]


def test_a_clip_that_cannot_be_read_is_named_and_leaves_nothing_behind(rows: list[Utterance], tmp_path: Path) -> None:
    Path(rows[4].path).write_bytes(b"this is no sound")
    with pytest.raises(AudioError, match=r"^u4: .*4\.wav is not audio"):
        open_waves(rows, RATE, tmp_path / "cache")
    assert list((tmp_path / "cache" / "waves").iterdir()) == []
    Path(rows[4].path).unlink()
    with pytest.raises(AudioError, match=r"^u4: .*cannot be opened .*correct its path"):
        open_waves(rows, RATE, tmp_path / "cache")
    with pytest.raises(audio.TooLong, match=r"^u0: "):
        open_waves(rows[:1], RATE, tmp_path / "cache", max_hours=1e-5)
    with pytest.raises(ValueError, match="no rows to decode"):
        open_waves([], RATE, tmp_path / "cache")


def test_a_write_that_stops_half_way_is_not_taken_for_a_store(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_waves(rows, RATE, tmp_path / "cache", progress=stop)
    assert list((tmp_path / "cache" / "waves").iterdir()) == []
    assert len(open_waves(rows, RATE, tmp_path / "cache")) == 12


def test_one_row_is_in_memory_at_a_time(rows: list[Utterance], tmp_path: Path, decoded: list[str]) -> None:
    ahead = []
    open_waves(rows, RATE, tmp_path / "cache", progress=lambda done, _total: ahead.append(len(decoded) - done))
    assert set(ahead) == {0}


def test_what_is_kept_is_for_whoever_the_umask_lets_read_it(rows: list[Utterance], tmp_path: Path) -> None:
    before = os.umask(0o027)  # the group reads, others do not
    try:
        store = open_waves(rows, RATE, tmp_path)
        open_arrays("ab" * 32, tmp_path).put("00ff", np.zeros(2, dtype=np.float32))
    finally:
        os.umask(before)
    (array,) = (tmp_path / "features").rglob("*.npy")
    assert [f"{path.stat().st_mode & 0o777:o}" for path in (store.folder, store.folder / "waves.f32", array)] == ["750", "640", "640"]


def test_the_cache_lies_where_the_environment_says(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODCAST_CACHE", str(tmp_path / "elsewhere"))
    assert open_waves(rows[:2], RATE).folder.parent.parent == tmp_path / "elsewhere"
    monkeypatch.delenv("MOODCAST_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_waves(rows[:2], RATE).folder.is_relative_to(tmp_path / "home" / ".cache" / "moodcast")


def test_a_store_is_plain_json_and_samples(rows: list[Utterance], tmp_path: Path) -> None:
    store = open_waves(rows, RATE, tmp_path / "cache")
    assert sorted(os.listdir(store.folder)) == ["index.json", "waves.f32"]
    index = json.loads((store.folder / "index.json").read_text())
    assert index["rate"] == RATE
    assert sum(index["lengths"]) * 4 == (store.folder / "waves.f32").stat().st_size


def test_a_store_cut_by_a_full_disk_or_a_hand_is_made_again(rows: list[Utterance], tmp_path: Path) -> None:
    store = open_waves(rows, RATE, tmp_path / "cache")
    first = np.array(store[11])
    del store
    (folder,) = (tmp_path / "cache" / "waves").iterdir()
    os.truncate(folder / "waves.f32", 1000)
    np.testing.assert_array_equal(open_waves(rows, RATE, tmp_path / "cache")[11], first)
    (folder / "index.json").write_text("{}")
    np.testing.assert_array_equal(open_waves(rows, RATE, tmp_path / "cache")[11], first)


def _race(rows: list[Utterance], root: Path, ready: object, answers: object) -> None:
    ready.wait()  # type: ignore[attr-defined]
    store: WaveStore = open_waves(rows, RATE, root)
    answers.put((str(store.folder), float(np.abs(store[5]).sum())))  # type: ignore[attr-defined]


def test_writers_that_race_both_get_the_whole_store(rows: list[Utterance], tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_race, args=(rows, tmp_path / "cache", ready, answers)) for _ in range(3)]
    for racer in racers:
        racer.start()
    found = {answers.get(timeout=120) for _ in racers}
    for racer in racers:
        racer.join()
    assert len(found) == 1
    assert len(list((tmp_path / "cache" / "waves").iterdir())) == 1


def test_the_writer_that_comes_second_leaves_the_store_of_the_first(rows: list[Utterance], tmp_path: Path) -> None:
    root = tmp_path / "cache"
    nested: list[WaveStore] = []

    def overtake(done: int, _total: int) -> None:
        if done == 3:
            nested.append(open_waves(rows, RATE, root))

    second = open_waves(rows, RATE, root, progress=overtake)
    assert second.folder == nested[0].folder
    assert len(list((root / "waves").iterdir())) == 1
    np.testing.assert_array_equal(second[7], nested[0][7])


def test_writers_that_race_over_a_damaged_store_all_win(tmp_path: Path) -> None:
    def store(name: str, lengths: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "waves.f32").write_bytes(bytes(4))
        (folder / "index.json").write_text(f'{{"lengths": [{lengths}]}}')
        return folder

    def publish(made: Path, damaged: Path, ready: threading.Barrier) -> None:
        ready.wait()
        cache._publish(made, damaged)

    with ThreadPoolExecutor(4) as pool:
        for turn in range(100):
            damaged, ready = store(f"{turn}", "2"), threading.Barrier(4)
            found = [pool.submit(publish, store(f"{turn}-{n}", "1"), damaged, ready) for n in range(4)]
            for one in found:
                one.result()  # raises what a writer met
            assert cache._whole(damaged)
    assert not list(tmp_path.glob(".unfinished-*"))


# ------------------------------------------------------------------------------------------------------ features


def test_what_a_killed_writer_left_goes_after_a_day_and_what_is_being_written_stays(rows: list[Utterance], tmp_path: Path) -> None:
    waves = open_waves(rows[:1], RATE, tmp_path / "cache").folder.parent
    left, slow = waves / ".unfinished-left", waves / ".unfinished-slow"
    for folder in (left, slow):
        folder.mkdir()
        (folder / "waves.f32").write_bytes(b"1234")
    long_ago = time.time() - 2 * cache.ABANDONED_S
    os.utime(left / "waves.f32", (long_ago, long_ago))
    for folder in (left, slow):  # begun long ago, and one of them is written to now
        os.utime(folder, (long_ago, long_ago))
    open_waves(rows[1:2], RATE, tmp_path / "cache")
    assert not left.exists()
    assert (slow / "waves.f32").is_file()


def test_arrays_come_back_as_they_were_put_and_nothing_else_is_there(tmp_path: Path) -> None:
    store, array = open_arrays("ab" * 32, tmp_path), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert not store.has("00ff")
    store.put("00ff", array)
    assert store.has("00ff")
    np.testing.assert_array_equal(open_arrays("ab" * 32, tmp_path).get("00ff"), array)
    assert not open_arrays("cd" * 32, tmp_path).has("00ff")  # another encoder
    assert [path.name for path in (tmp_path / "features").rglob("*") if path.is_file()] == ["00ff.npy"]


def test_a_lost_or_damaged_array_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    store = open_arrays("ab" * 32, tmp_path)
    with pytest.raises(ValueError, match="the feature cache lost .*start again"):
        store.get("00ff")
    store.put("00ff", np.ones(3, np.float32))
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="the feature cache lost"):
        store.get("00ff")
    assert not store.has("00ff")  # so that starting again helps
    path.touch()
    with pytest.raises(ValueError, match="the feature cache lost"):
        store.get("00ff")
    assert not store.has("00ff")
    np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="the feature cache lost"):
        store.get("00ff")


def _put_often(root: Path, ready: object, answers: object) -> None:
    store = open_arrays("ab" * 32, root)
    ready.wait()  # type: ignore[attr-defined]
    whole = True
    for i in range(200):
        store.put(f"{i % 7:02d}", np.full(5_000, i % 7, np.float32))
        whole &= all((store.get(name) == int(name)).all() for name in ("00", "01", "02", "03", "04", "05", "06") if store.has(name))
    answers.put(whole)  # type: ignore[attr-defined]


def test_writers_of_arrays_that_race_never_show_half_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, answers = context.Barrier(3), context.Queue()
    racers = [context.Process(target=_put_often, args=(tmp_path, ready, answers)) for _ in range(3)]
    for racer in racers:
        racer.start()
    assert [answers.get(timeout=120) for _ in racers] == [True] * 3
    for racer in racers:
        racer.join()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 7


def test_digests_tell_apart_what_sixteen_bits_do_not(tmp_path: Path) -> None:
    faint = [replace_samples(tmp_path / f"{n}.wav", n) for n in (1, 2)]
    store = open_waves([Utterance(id=path.stem, path=str(path)) for path in faint], RATE, tmp_path / "cache")
    assert store.fingerprints[0] == store.fingerprints[1]
    assert store.digests[0] != store.digests[1]


def replace_samples(path: Path, level: int) -> Path:
    """A 32-bit file so quiet that 16 bits hold nothing of it."""
    import soundfile

    soundfile.write(path, np.full(2_000, level * 1e-6, np.float32), RATE, subtype="FLOAT")
    return path


def test_rows_in_shards_are_what_they_are_in_one(rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = open_waves(rows, RATE, tmp_path / "whole")
    monkeypatch.setattr(cache, "SHARD_ROWS", 5)
    told: list[tuple[int, int]] = []
    parts = open_waves(rows, RATE, tmp_path / "parts", progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 12) for n in range(1, 13)]
    assert [len(list((tmp_path / name / "waves").iterdir())) for name in ("whole", "parts")] == [1, 3]
    assert len(parts) == 12
    for i in (*range(12), -1, -12):
        np.testing.assert_array_equal(parts[i], whole[i])
        assert parts.seconds(i) == whole.seconds(i)
    assert (parts.digests, parts.fingerprints, parts.rate) == (whole.digests, whole.fingerprints, whole.rate)
    with pytest.raises(IndexError, match="there are 12 stretches"):
        parts[12]
    assert not parts.folder.exists()  # what is made of all rows has a place of its own
    assert parts.folder != open_waves(rows[:5], RATE, tmp_path / "parts").folder


def test_rows_that_come_again_in_another_shard_are_there_again(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_ROWS", 6)
    twice = open_waves([*rows[:6], *rows[:6]], RATE, tmp_path)
    assert len(twice) == 12
    np.testing.assert_array_equal(twice[7], twice[1])


def test_what_was_stopped_goes_on_at_its_shard(
    rows: list[Utterance], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_ROWS", 4)

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_waves(rows, RATE, tmp_path / "cache", progress=stop)
    assert not cache.has_waves(rows, RATE, tmp_path / "cache")
    assert cache.has_waves(rows[:8], RATE, tmp_path / "cache")
    decoded.clear()
    told: list[int] = []
    open_waves(rows, RATE, tmp_path / "cache", progress=lambda done, total: told.append(done))
    assert decoded == [row.path for row in rows[8:]]
    assert told == [4, 8, 9, 10, 11, 12]
    assert cache.has_waves(rows, RATE, tmp_path / "cache")


def test_damaged_rows_of_all_shards_are_named_and_the_other_shards_stay(
    rows: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SHARD_ROWS", 4)
    for place in (1, 9):
        Path(rows[place].path).write_bytes(b"this is no sound")
    with pytest.raises(AudioError, match="2 of 12 rows cannot be read: u1: .*; u9: "):
        open_waves(rows, RATE, tmp_path / "cache")
    assert len(list((tmp_path / "cache" / "waves").iterdir())) == 1
