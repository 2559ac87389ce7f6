"""What a reader does with the page, in a real browser: plays, by click and by key, and looks for turns in the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moodcast import page
from tests.page.opened import FOOT, LANE, heard_at, lane_point, pixel, rows_of, wait_until
from tests.page.talks import RATE, conversation, hum

pytestmark = pytest.mark.browser


def test_a_click_on_a_turn_plays_it_and_the_playhead_follows(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.mouse.click(*lane_point(tab, 7.0, 1))
    wait_until(tab, "document.getElementById('audio').currentTime > 7.3")
    assert heard_at(tab) < 12
    assert tab.locator("#play").get_attribute("aria-label") == "Pause"
    tab.mouse.move(5, 5)
    assert "Ben" in tab.locator("#now .who").inner_text()
    assert "angry" in tab.locator("#now .said").inner_text()
    assert tab.locator("tr[aria-current]").get_attribute("data-turn") == "1"
    tab.keyboard.press("Space")
    wait_until(tab, "document.getElementById('audio').paused")
    tab.wait_for_timeout(100)
    head = tab.evaluate(
        "new DOMMatrix(getComputedStyle(document.getElementById('head')).transform).m41 / document.getElementById('lanes').clientWidth"
    )
    assert head == pytest.approx(heard_at(tab) / 20, abs=0.004)


def test_a_sound_file_beside_the_page_is_played_from_there(look: Callable[..., Any], write_wav: Callable[..., Path]) -> None:
    write_wav("the talk.wav", hum(), RATE)
    tab = look(page.render(conversation(), "the talk.wav"))
    tab.mouse.click(*lane_point(tab, 7.0, 1))
    wait_until(tab, "document.getElementById('audio').currentTime > 7.2")


def test_the_columns_of_a_speaker_play_their_moment(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.locator(".course").nth(1).evaluate("chart => chart.scrollIntoView({ block: 'center' })")
    box = tab.locator(".course").nth(1).bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 17.5 / 20, box["y"] + 20)
    assert tab.locator(".note").nth(1).inner_text() == "0:17: sad 1.0 s"
    tab.mouse.click(box["x"] + box["width"] * 17.5 / 20, box["y"] + 20)
    assert heard_at(tab) == pytest.approx(17, abs=0.3)


def test_the_keyboard_plays_moves_and_zooms(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.keyboard.press("ArrowRight")
    assert heard_at(tab) == pytest.approx(5, abs=0.05)
    tab.keyboard.press("ArrowLeft")
    assert heard_at(tab) == pytest.approx(0, abs=0.05)
    tab.focus("#stage")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    assert heard_at(tab) == pytest.approx(5, abs=0.05)
    tab.keyboard.press("ArrowUp")
    assert heard_at(tab) == pytest.approx(1, abs=0.05)
    tab.keyboard.press("+")
    tab.keyboard.press("+")
    tab.wait_for_timeout(100)
    tab.mouse.click(*lane_point(tab, 10.0, 0))  # the middle of what is shown now
    tab.keyboard.press("Space")
    assert heard_at(tab) < 5
    tab.keyboard.press("0")
    tab.wait_for_timeout(100)
    tab.mouse.click(*lane_point(tab, 10.0, 0))
    assert heard_at(tab) == pytest.approx(10, abs=0.4)
    assert not tab.evaluate("document.getElementById('audio').paused")


def test_a_row_of_the_table_plays_its_turn(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.click("tr[data-turn='4'] .time")
    wait_until(tab, "document.getElementById('audio').currentTime > 16.05")
    assert tab.locator("tr[aria-current]").get_attribute("data-turn") == "4"


def test_the_legend_picks_emotions(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation()))
    tab.click(".key >> text=happy")
    assert rows_of(tab) == [0]
    assert tab.locator("#count").inner_text() == "1 of 5 turns"
    tab.wait_for_timeout(100)
    assert pixel(tab, 3, FOOT) == page.COLOURS["happy"][0]
    assert pixel(tab, 18, FOOT + LANE) != page.COLOURS["sad"][0]
    tab.click(".key >> text=too short")
    assert rows_of(tab) == [0, 3]
    tab.click(".key >> text=happy")
    assert rows_of(tab) == [3]
    tab.click("#clear")
    assert rows_of(tab) == [0, 1, 2, 3, 4]
    assert not tab.locator("#clear").is_visible()


def test_the_table_is_sorted_and_searched(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation()))
    tab.click("th >> text=Confidence")
    assert rows_of(tab)[-2:] == [1, 3], "the least sure come last, a turn without an answer after them"
    assert tab.locator("th[aria-sort]").all_inner_texts() == ["Confidence"]
    tab.click("th >> text=Confidence")
    assert rows_of(tab)[:2] == [3, 1]
    tab.click("th >> text=Speaker")
    assert rows_of(tab) == [0, 2, 1, 3, 4]
    tab.select_option("#speaker", label="Ben")
    assert rows_of(tab) == [1, 3, 4]
    tab.keyboard.press("/")
    tab.keyboard.type("Sad")
    assert rows_of(tab) == [4]
    tab.fill("#search", "nothing like that")
    assert tab.locator("#empty").is_visible()
    assert rows_of(tab) == []


def test_the_keyboard_walks_the_table_and_lists_its_keys(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.focus("#rows")
    for key in ("ArrowDown", "ArrowDown", "End"):
        tab.keyboard.press(key)
    assert tab.evaluate("document.activeElement.closest('tr').dataset.turn") == "4"
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("Enter")
    assert heard_at(tab) == pytest.approx(15, abs=0.3)
    tab.evaluate("document.activeElement.blur()")
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#help").is_visible()
    tab.keyboard.press("Home")
    assert heard_at(tab) < 0.6
    tab.keyboard.press("j")
    assert "Anna, happy" in tab.locator("#told").inner_text()
    tab.focus("#speed")
    tab.keyboard.press("Tab")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "one sees where the keyboard is"
