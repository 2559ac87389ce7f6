"""The pages that scripts write: written where they are out of date, and with --check only named."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import pages


def test_a_page_that_is_out_of_date_is_named_by_a_check_and_else_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    old, new, right = (tmp_path / f"{name}.md" for name in ("old", "new", "right"))
    old.write_text("before\n")
    right.write_text("as it should be\n")
    wanted = {old: "after\n", new: "begun\n", right: "as it should be\n"}
    assert pages.settle(wanted, "a_table", ["--check"]) == 1
    said = [f"{name}.md is out of date: run python scripts/a_table.py" for name in ("old", "new")]
    assert capsys.readouterr().out.splitlines() == said
    assert (old.read_text(), new.exists()) == ("before\n", False)
    assert pages.settle(wanted, "a_table", []) == 0
    assert capsys.readouterr().out.splitlines() == ["written: old.md", "written: new.md"]
    assert pages.settle(wanted, "a_table", ["--check"]) == 0
    assert capsys.readouterr().out == ""


def test_tables_stand_between_their_markers_and_nothing_else_of_the_page_changes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    marks = ("<!-- means: begin (scripts/a_table.py) -->", "<!-- means: end -->")
    page.write_text(f"above\n{marks[0]}\nold\n{marks[1]}\nbelow\n")
    assert pages.filled(page, "a_table", {"means": "new"}) == f"above\n{marks[0]}\nnew\n{marks[1]}\nbelow\n"
    with pytest.raises(ValueError, match="page.md lacks the markers <!-- pairs: begin"):
        pages.filled(page, "a_table", {"pairs": "new"})
