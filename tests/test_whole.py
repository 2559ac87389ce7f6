"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from moodcast.whole import whole, write_whole


def test_what_is_raised_half_way_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "figures.txt"
    write_whole(path, "old\r\n")
    writing = whole(path)
    writing.__enter__().write_text("new")
    assert path.read_bytes() == b"old\r\n"
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert path.read_bytes() == b"old\r\n"
    assert os.listdir(tmp_path) == ["figures.txt"]


def test_a_folder_takes_its_place_whole_and_other_files_in_it_stay(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole(tmp_path / "base") as half:
            half.mkdir()
            (half / "table").write_text(text)
        (tmp_path / "base" / "mine").write_text("kept")
    assert {path.name: path.read_text() for path in (tmp_path / "base").iterdir()} == {"table": "new", "mine": "kept"}
    assert os.listdir(tmp_path) == ["base"]


def test_an_error_names_the_file_that_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    with pytest.raises(IsADirectoryError) as refused:
        write_whole(tmp_path / "taken", "text")
    assert refused.value.filename == str(tmp_path / "taken")
    with pytest.raises(FileNotFoundError) as refused:
        write_whole(tmp_path / "nowhere" / "file", "text")
    assert refused.value.filename == str(tmp_path / "nowhere" / "file")


def test_links_stay_links_and_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "text"
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDWR)
    write_whole(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()
    assert os.read(reading, 9) == b"text"
    os.close(reading)


def test_a_file_keeps_its_permissions_and_may_have_as_long_a_name_as_any(tmp_path: Path) -> None:
    path = tmp_path / ("\u00e9" * 125 + ".json")
    write_whole(path, "old")
    path.chmod(0o600)
    write_whole(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    with pytest.raises(OSError, match="too long") as refused:
        write_whole(tmp_path / ("x" * 300), "text")
    assert refused.value.filename == str(tmp_path / ("x" * 300))


def test_a_file_in_a_folder_that_takes_no_new_ones_and_one_that_cannot_be_replaced_are_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    path.write_text("old, and longer")

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", busy)
        write_whole(path, "mounted")
    assert path.read_text() == "mounted"
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda place, mode: Path(place) != tmp_path)
        with whole(path) as given:
            assert given == path
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda place, mode: Path(place) != path)
        with pytest.raises(PermissionError):
            write_whole(path, "read-only")
    assert os.listdir(tmp_path) == ["kept"]
