"""The whole audit: clean rows are not blamed, the page holds what was found, and the command says it with its exit status."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodcast import audio
from moodcast.audit import SAME_SOUND, audit, copies_among, copies_of, guard, keep_copies, leaks_among, page
from moodcast.manifest import Utterance, write_manifest
from tests.audit.planted import CLASSES, Wave, kinds, note_copies, of, with_wave
from tests.typed import Command, command


@pytest.fixture
def moodcast(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`moodcast("audit", ...)` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return command(monkeypatch, capsys)


def test_copies_are_looked_up_without_writing_also_where_none_were_noted_yet(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "audit.sqlite")) as store, store:
        store.execute("CREATE TABLE facts (key TEXT)")
    before = (tmp_path / "audit.sqlite").read_bytes()
    assert copies_of(["a"], tmp_path) == {}
    assert (tmp_path / "audit.sqlite").read_bytes() == before
    keep_copies([("a", "b")], tmp_path)
    assert copies_of(["a", "c"], tmp_path) == {"a": {"b"}}


def test_what_an_audit_heard_in_another_form_is_a_leak_from_then_on_without_listening(
    rows: list[Utterance], voices: list[list[Wave]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = with_wave(rows[-1], "another name.ogg", 0.3 * voices[0][0])  # of a training speaker, on the test side
    both, root = [*rows, quiet], tmp_path / "noted"
    assert leaks_among(both, root=root) == []
    audit(both, root=root)
    monkeypatch.setattr(audio, "read", lambda *_: pytest.fail("heard again"))
    found = of(leaks_among(both, root=root), SAME_SOUND)
    assert set(found.ids) == {rows[0].id, quiet.id}
    with pytest.raises(
        ValueError, match=r"in another form or by half, as moodcast audit found; in test, train.*\(s0_angry, another name.ogg\)"
    ):
        guard([found], allow=False, how="some.field=true")
    assert leaks_among([replace(row, split=None) for row in both], root=root) == []
    assert leaks_among([replace(row, split="train") for row in both], root=root) == []
    gone = [replace(row, path=str(tmp_path / "gone.wav")) if row is quiet else row for row in both]
    assert leaks_among(gone, root=root) == []


def test_copies_are_of_what_a_file_holds_now(rows: list[Utterance], voices: list[list[Wave]], tmp_path: Path) -> None:
    root = tmp_path / "noted"
    note_copies(rows[0], rows[1], root)
    assert copies_among(rows, root) == [(0, 1)]
    with_wave(rows[1], Path(rows[1].path).name, voices[5][3][:-1])
    assert copies_among(rows, root) == []


def test_a_clean_manifest_is_not_blamed(rows: list[Utterance]) -> None:
    found = audit(rows)
    assert found.ok
    assert kinds(found.findings) == set()
    assert found.num_rows == 24
    assert found.hours == pytest.approx(48 / 3600)
    assert found.counts["toy"]["emotion"] == dict.fromkeys(CLASSES, 6)
    assert found.counts["toy"]["people"] == {"speakers": 6, "groups": 6}


def test_an_audit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="there are no rows to audit"):
        audit([])


def test_the_page_holds_every_finding_and_no_foreign_markup(rows: list[Utterance]) -> None:
    hostile = "<script>alert(1)</script>"
    silent = with_wave(rows[0], "silent.wav", np.zeros(16_000, dtype=np.float32))
    found = audit([*rows, replace(silent, id=hostile, corpus=hostile)])
    html = page.render(found, hostile)
    assert hostile not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert all(item.kind in html for item in found.findings)


def test_the_page_sends_nobody_to_what_is_not_there(rows: list[Utterance]) -> None:
    silent = with_wave(rows[0], "silent.wav", np.zeros(16_000, dtype=np.float32))
    for found in (audit(rows), audit([*rows, silent])):
        html = page.render(found, "toy")
        assert (
            set(re.findall(r'href="#(\w+)"', html))
            == set(re.findall(r'<h2 id="(\w+)"', html))
            == {item.severity for item in found.findings}
        )
    assert "Read the warnings" not in page.render(audit(rows), "toy")


@pytest.mark.browser
def test_the_page_fits_a_phone_and_asks_nobody_for_anything(browser: Any, rows: list[Utterance], tmp_path: Path) -> None:
    silent = with_wave(rows[0], "silent.wav", np.zeros(16_000, dtype=np.float32))
    (tmp_path / "a.html").write_text(page.render(audit([*rows, silent]), "toy"))
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "a.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "silent" in tab.inner_text("article.error")
    tab.close()
    assert asked == [(tmp_path / "a.html").as_uri()]


def test_the_command_exits_with_one_on_errors_and_writes_what_is_asked(moodcast: Command, rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / "good.parquet")
    write_manifest([replace(row, split="train") if row.id == "s4_sad" else row for row in rows], tmp_path / "bad.jsonl")
    good = moodcast("audit", "good.parquet", "--json")
    assert (good.code, json.loads(good.out)["ok"]) == (0, True), good.err
    bad = moodcast("audit", "bad.jsonl", "--html", "pages/a.html", "--json", "pages/a.json")
    assert bad.code == 1, bad.err
    assert "speaker on two sides" in bad.out
    assert "1 error, 0 warnings" in bad.out
    assert "toy/s4" in (tmp_path / "pages/a.html").read_text()
    row = json.loads((tmp_path / "pages/a.json").read_text())["findings"][0]
    assert set(row) == {"kind", "severity", "ids", "detail", "what_to_do"}


def test_manifests_are_audited_together_and_by_the_labels_that_may_occur(moodcast: Command, rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest([row for row in rows if row.split == "train"], tmp_path / "train.csv")
    write_manifest([replace(row, split="test") for row in rows if row.id == "s2_sad"], tmp_path / "test.csv")
    write_manifest([replace(row, speaker="s0") for row in rows if row.id == "s4_sad"], tmp_path / "leak.csv")
    assert moodcast("audit", "train.csv", "test.csv").code == 0
    leaking = moodcast("audit", "train.csv", "leak.csv")
    assert (leaking.code, "toy/s0: 1 in test, 4 in train" in leaking.out) == (1, True), leaking.out
    twice = moodcast("audit", "train.csv", "leak.csv", "train.csv")
    assert (twice.code, twice.out) == (2, "")
    assert "these manifests together: the id 's0_" in twice.err
    assert "comes twice" in twice.err
    fewer = moodcast("audit", "train.csv", "--classes", "angry, happy, neutral")
    assert (fewer.code, "label outside the map" in fewer.out) == (1, True), fewer.out


def test_a_file_is_not_overwritten_by_an_audit_that_was_not_asked_for_it(moodcast: Command, rows: list[Utterance], tmp_path: Path) -> None:
    write_manifest(rows, tmp_path / "good.parquet")
    (tmp_path / "mine.json").write_text("{}")
    said = moodcast("audit", "good.parquet", "mine.json")
    assert (said.code, "mine.json is no manifest" in said.err) == (2, True), said.err
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_an_audit_without_a_manifest_says_how_to_make_one(moodcast: Command) -> None:
    said = moodcast("audit", "gone.parquet")
    assert said.code == 2
    assert "moodcast prepare" in said.err


def test_what_an_audit_left_that_was_killed_while_it_wrote_is_no_hindrance(tmp_path: Path) -> None:
    keep_copies([("a", "b")], tmp_path)
    code = """if True:
        import os, sqlite3, sys
        store = sqlite3.connect(sys.argv[1])
        store.execute("PRAGMA cache_size = 1")
        store.executemany("INSERT INTO copies VALUES (?, ?)", ((str(i), "x" * 20_000) for i in range(300)))
        os._exit(9)
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "audit.sqlite")], check=False)
    assert (tmp_path / "audit.sqlite-journal").stat().st_size > 0
    assert copies_of(["a", "7"], tmp_path) == {"a": {"b"}}


@pytest.mark.parametrize("store", [b"no database at all " * 60, b""], ids=["another file", "an empty one"])
def test_a_store_of_audits_that_is_damaged_is_named_and_an_empty_one_is_no_hindrance(
    store: bytes, rows: list[Utterance], tmp_path: Path
) -> None:
    (tmp_path / "audit.sqlite").write_bytes(store)
    for use in (leaks_among, audit):
        if store:
            with pytest.raises(ValueError, match=r"audit.sqlite, where audits keep .* cannot be used \(file is not a database\); .*remove"):
                use(rows, root=tmp_path)
        else:
            use(rows, root=tmp_path)
    (tmp_path / "audit.sqlite").unlink()
    assert leaks_among(rows, root=tmp_path) == []
