"""The page of an evaluation: everything inside, nothing that runs, names that others chose cannot break out, and it fits a phone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodcast import report as pages
from moodcast.manifest import Utterance
from moodcast.metrics import Interval
from moodcast.scores import Answers, Baseline, Report, score_all
from tests.page.opened import axis_error, least_contrast

CLASSES = ("angry", "happy", "neutral", "sad")
HOSTILE = '</style><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'


def made_report(against: bool = True) -> Report:
    rng = np.random.default_rng(0)
    num = 240
    truth = rng.integers(0, 4, num)
    rows = tuple(
        Utterance(
            id=f"u{i}",
            path="x.wav",
            corpus=HOSTILE if i % 2 else "tidy",
            language="de" if i % 2 else "en",
            gender="female" if i % 3 else "male",
            speaker=f"s{i % 12}",
        )
        for i in range(num)
    )
    given = rng.dirichlet(np.ones(4), num)
    given[np.arange(num), truth] += 0.7
    given /= given.sum(1, keepdims=True)
    votes = rng.dirichlet(np.ones(4), num)
    levels = rng.random((num, 2))
    answers = Answers(CLASSES, rows, truth, given, votes, ("arousal", "valence"), 0.5 * levels + 0.2, levels)
    other = replace(answers, probabilities=rng.dirichlet(np.ones(4), num))
    besides = [
        Baseline("majority", "always angry", np.zeros(num, dtype=np.int64)),
        Baseline("speaker's name", "by name", rng.integers(0, 4, num)),
        Baseline("plain statistics", "logistic regression", np.where(rng.random(num) < 0.4, truth, 0)),
    ]
    flags = (f"leaks were overridden {HOSTILE}",)
    slices = score_all(answers, besides, np.full(4, 0.25), votes.mean(0), other if against else None, flags)
    more: dict[str, Any] = {"against": HOSTILE, "flags": flags} if against else {}
    return Report(f"my bundle {HOSTILE}", "ab" * 32, "test", CLASSES, slices, {HOSTILE: 3}, ("a note",), **more)


def test_a_page_holds_every_slice_and_its_guard_line() -> None:
    report = made_report()
    page = pages.render(report)
    assert page.count('class="guard"') == len(report.slices) == 7
    assert all(str(part.uar) in page for part in report.slices)
    assert "not clearly better" not in report.slices[0].guard.lower()
    for part in ("uar", "difference", "scores", "recall", "confusion", "reliability", "distribution", "concordance", "notes"):
        assert f'<section id="{part}">' in page


def test_slices_of_one_name_keep_their_own_numbers() -> None:
    report = made_report()
    women = next(part for part in report.slices if part.slice == "female")
    whole = replace(report.slices[0], slice="female")  # whatever a corpus is called
    page = pages.render(replace(report, slices=(whole, *report.slices[1:])))
    assert women.confusion != whole.confusion
    counts = re.findall(r"</b>(\d+)</td>", page.split('<section id="confusion">')[1].split("</table>")[0])
    assert [int(count) for count in counts] == [count for row in whole.confusion for count in row]
    curve = page.split('<section id="reliability">')[1].split("</svg>")[0]
    assert [point["words"] for point in pages.reliability(whole)["points"]] == re.findall(r"<title>(.*?)</title>", curve)


def test_one_utterance_is_not_called_utterances() -> None:
    report = made_report()
    page = pages.render(replace(report, slices=(replace(report.slices[0], num_utterances=1, num_speakers=1),)))
    assert "1 utterance, 1 speaker<" in page


def test_a_page_of_folds_claims_no_temperature_that_is_not_theirs() -> None:
    assert "temperature" not in pages.render(made_report())
    assert "<span>temperature 1.37</span>" in pages.render(replace(made_report(), temperature=1.37))


def test_a_page_without_a_rival_shows_no_difference() -> None:
    assert '<section id="difference">' not in pages.render(made_report(against=False))


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = pages.render(made_report())
    assert "<script" not in page
    assert "<img" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_the_table_of_a_card_has_baselines_beside_each_score() -> None:
    report = made_report()
    lines = pages.markdown(report)
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert "majority UAR %" in lines[0]
    assert str(report.slices[0].uar) in lines[2]
    assert pages.signed(report.slices[0].beside("plain statistics").above) in lines[2]
    assert lines[-1] == "- a note"
    assert any(line.startswith("- **leaks were overridden") for line in lines)


def test_a_score_that_cannot_be_had_is_a_dash() -> None:
    missing = Interval(float("nan"), float("nan"), float("nan"))
    assert [pages.score(missing), pages.signed(missing), pages.number(missing)] == ["–"] * 3
    assert str(pages.spot(missing)) == "left:0.00%"


def test_bars_lie_where_their_scores_are() -> None:
    assert str(pages.bar(Interval(0.5, 0.25, 0.75))) == "left:25.00%;width:50.00%"
    assert str(pages.spot(pages.swing(Interval(0.0, -0.1, 0.1)))) == "left:50.00%"
    assert str(pages.bar(pages.swing(Interval(0.5, -1.0, 1.0)))) == "left:0.00%;width:100.00%"


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_opens_in_a_browser_and_fits_its_window(browser: Any, tmp_path: Path, width: int) -> None:
    path = pages.write(made_report(), tmp_path / "deep" / "report.html")
    page = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith(path.as_uri()) else None)
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == f"my bundle {HOSTILE}"
    dots = page.locator("#uar .row .dot")
    assert dots.count() == 7
    track, dot = page.locator("#uar .row .track").first.bounding_box(), dots.first.bounding_box()
    uar = made_report().slices[0].uar.value
    assert (dot["x"] + dot["width"] / 2 - track["x"]) / track["width"] == pytest.approx(uar, abs=0.02)
    assert page.locator("#reliability circle").count() > 10
    assert page.locator("#confusion table").count() == 3
    assert axis_error(page, "#uar", 0, 100) < 0.01
    assert page.evaluate(
        "[...document.querySelectorAll('#recall .row > div:not(.track)')].every(cell => cell.scrollWidth <= cell.clientWidth)"
    )
    assert said == []
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("light", ["light", "dark"])
def test_numbers_on_coloured_cells_can_be_read(browser: Any, tmp_path: Path, light: str) -> None:
    page = browser.new_page(color_scheme=light)
    page.goto(pages.write(made_report(), tmp_path / "report.html").as_uri())
    assert least_contrast(page, "table.confusion td") >= 4.5
    page.close()


@pytest.mark.browser
def test_a_rival_with_a_long_name_fits_a_phone(browser: Any, tmp_path: Path) -> None:
    report = replace(made_report(), against="somewhere/" + "a_very_long_run_name_" * 5)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(pages.write(report, tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_answers_are_a_table_with_attributes_and_without_what_nobody_rated() -> None:
    rows = (Utterance("u, 1", "x.wav", corpus="c", speaker="s"), Utterance("u2", "y.wav", corpus="c"))
    given = np.array([[0.75, 0.25], [0.1, 0.9]])
    rated, answered = np.array([[0.5], [np.nan]]), np.array([[0.25], [1.0]])
    silent = np.full((2, 2), np.nan)
    answers = Answers(("angry", "sad"), rows, np.array([1, 1]), given, silent, ("arousal",), answered, rated)
    assert pages.table(answers).splitlines() == [
        "id,corpus,speaker,label,answer,p_angry,p_sad,arousal_label,arousal_answer",
        '"u, 1",c,s,sad,angry,0.75,0.25,0.5,0.25',
        "u2,c,,sad,sad,0.1,0.9,,1.0",
    ]
    voted = replace(answers, attributes=None, votes=np.array([[0.25, 0.75], [np.nan, np.nan]]))
    assert pages.table(voted).splitlines() == [
        "id,corpus,speaker,label,answer,p_angry,p_sad,votes_angry,votes_sad",
        '"u, 1",c,s,sad,angry,0.75,0.25,0.25,0.75',
        "u2,c,,sad,sad,0.1,0.9,,",
    ]


def test_a_page_that_could_not_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pages.write(made_report(), tmp_path / "page.html")
    before = place.read_bytes()

    def full(self: Path, text: str, **how: str) -> int:
        self.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        pages.write(made_report(against=False), place)
    assert place.read_bytes() == before
