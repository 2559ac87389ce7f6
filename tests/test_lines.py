"""Files of JSON lines: no line is lost, mixed with another or taken for what it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from moodcast import lines

MANY = """
import sys
from moodcast import lines
for i in range(60):
    lines.add(sys.argv[1], {"who": sys.argv[2], "i": i, "much": "x" * 300_000})
"""
LITTLE_SPACE = """
import resource, signal, sys
from moodcast import lines
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
lines.add(sys.argv[1], {"much": "x" * 2000})
"""


def process(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)


def test_what_several_processes_add_at_once_is_all_there_and_in_the_order_of_each(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    running = [process(MANY, str(path), str(who)) for who in range(3)]
    told = [each.communicate()[1] for each in running]
    assert [each.returncode for each in running] == [0, 0, 0], told
    assert told == ["", "", ""]
    found = lines.read(path)
    assert [[row["i"] for row in found if row["who"] == str(who)] for who in range(3)] == [list(range(60))] * 3


@pytest.mark.parametrize("half", ['{"b": [1, 2', '{"b', '{"b": 1}{"c"', "[1, 2", "7"])
def test_half_of_a_last_line_is_told_left_out_and_cut_off_by_the_next_that_adds(
    half: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + half)
    assert lines.read(path) == [{"a": 1}]
    assert capsys.readouterr().err == f"{path}: half of line 2 is left out; a process ended while it wrote\n"
    assert path.read_text() == '{"a": 1}\n' + half  # who reads changes nothing
    lines.add(path, {"c": 3})
    assert "half of its last line was cut off" in capsys.readouterr().err
    assert path.read_text() == '{"a": 1}\n{"c": 3}\n'
    assert lines.read(path) == [{"a": 1}, {"c": 3}]
    assert capsys.readouterr().err == ""


def test_a_last_line_that_lacks_its_end_alone_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"b": "ä"}', encoding="utf-8")
    assert lines.read(path) == [{"a": 1}, {"b": "ä"}]
    lines.add(path, {"c": 3})
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [{"a": 1}, {"b": "ä"}, {"c": 3}]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("broken", [b"{", b"", b"[1]", b"\xff"])
def test_a_line_in_the_middle_that_is_no_row_is_named(broken: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + broken + b'\n{"b": 2}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl: line 2 is no JSON object.*mend or remove it"):
        lines.read(path)


def test_a_line_for_which_there_is_no_space_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines.add(path, {"a": 1})
    done = process(LITTLE_SPACE, str(path))
    assert "File too large" in done.communicate()[1]
    assert path.read_text() == '{"a": 1}\n'


def test_where_no_file_is_there_are_no_rows(tmp_path: Path) -> None:
    assert lines.read(tmp_path / "none.jsonl") == []
