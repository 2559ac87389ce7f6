"""Texts that travel in a bundle: read back as written, refused when changed, never outside of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodcast import carried
from moodcast.carried import read_files, write_files

FILES = {"encoder/config.json": '{"a": "ü"}\r\n', "tokenizer/vocab.txt": "a\nb\n"}


def test_files_come_back_as_they_were_written(tmp_path: Path):
    digests = write_files(tmp_path, FILES)
    assert read_files(tmp_path, digests) == FILES
    assert write_files(tmp_path, {}) == read_files(tmp_path, {}) == {}


@pytest.mark.parametrize(
    "name",
    ["../config.json", "encoder/../../x.json", "/etc/passwd.txt", "encoder/run.py", "config.json", "encoder/.x.json", "a/b/c.json"],
)
def test_only_json_and_text_in_one_folder_below_are_files_of_a_bundle(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="is no file of a bundle"):
        write_files(tmp_path, {name: "{}"})
    with pytest.raises(ValueError, match="is no file of a bundle"):
        read_files(tmp_path, {name: "00"})


def test_a_file_that_was_changed_lost_or_is_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    digests = write_files(tmp_path, FILES)
    path = tmp_path / "encoder" / "config.json"
    path.write_text('{"a": "o"}')
    with pytest.raises(ValueError, match="was changed after the bundle was saved"):
        read_files(tmp_path, digests)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        read_files(tmp_path, digests)
    path.unlink()
    with pytest.raises(ValueError, match="take a fresh copy"):
        read_files(tmp_path, digests)
    monkeypatch.setattr(carried, "MAX_BYTES", 2)
    with pytest.raises(ValueError, match="more than the 2 bytes"):
        read_files(tmp_path, {"tokenizer/vocab.txt": digests["tokenizer/vocab.txt"]})
