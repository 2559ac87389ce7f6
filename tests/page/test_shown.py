"""What a reader sees, in a real browser: names, colours, words for what has no answer; on a phone, and without speech or sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moodcast import page, timeline
from moodcast.timeline import Segment, Timeline
from tests.page.opened import FOOT, LANE, lane_point, pixel, wait_until
from tests.page.talks import CLASSES, HOSTILE, RATE, conversation, hum, long_talk, sure, turn

pytestmark = pytest.mark.browser


def test_names_and_words_are_shown_and_never_run(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.evaluate("document.querySelectorAll('tr[data-turn]')[2].click()")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("h1").inner_text() == f"a talk {HOSTILE}"
    assert HOSTILE in tab.locator("tr[data-turn='2']").inner_text()
    assert HOSTILE in tab.locator("#now .words").inner_text()


@pytest.mark.parametrize("dark", [False, True])
def test_chunks_are_painted_in_the_colour_of_their_emotion(look: Callable[..., Any], spoken: str, dark: bool) -> None:
    tab = look(spoken, dark=dark)
    colours = {name: page.COLOURS[name][dark] for name in CLASSES}
    assert pixel(tab, 3, FOOT) == colours["happy"]
    assert pixel(tab, 10.7, FOOT) == colours["sad"]
    assert pixel(tab, 13, FOOT) == colours["angry"]
    assert pixel(tab, 18, FOOT + LANE) == colours["sad"]
    unsure = pixel(tab, 7, FOOT + LANE)
    assert unsure not in colours.values()
    assert pixel(tab, 9.5, FOOT) not in colours.values()


def test_hovering_tells_the_chunk_under_the_pointer(look: Callable[..., Any], spoken: str) -> None:
    tab = look(spoken)
    tab.mouse.move(*lane_point(tab, 10.7, 0))
    assert "sad" in tab.locator("#now .said").inner_text()
    assert "the whole turn angry" in tab.locator("#now .said").inner_text()
    tab.mouse.move(*lane_point(tab, 15.1, 1))
    assert "too short to say" in tab.locator("#now .said").inner_text()


def test_why_a_turn_has_no_emotion_stands_in_words(look: Callable[..., Any]) -> None:
    statuses = [*timeline.STATUSES[1:], "eaten_by_a_dog"]
    known = Segment(speaker="Ben", start_s=0, stop_s=2, status="silence", confidence=0.4, emotions=sure("sad", 0.4))
    rows = [known.model_copy(update={"status": status, "start_s": 3.0 * i, "stop_s": 3.0 * i + 2}) for i, status in enumerate(statuses)]
    tab = look(page.render(Timeline(uri="a talk", duration_s=20, classes=CLASSES).model_copy(update={"segments": tuple(rows)})))
    assert set(timeline.STATUSES) <= set(page.STATUS_WORDS)
    for i, status in enumerate(statuses):
        words = page.STATUS_WORDS.get(status, "eaten by a dog")
        assert words in tab.locator(f"tr[data-turn='{i}']").inner_text()
        assert words in tab.locator(".legend").inner_text()
        tab.mouse.click(*lane_point(tab, 3.0 * i + 1, 0))
        assert tab.locator("#now .said").inner_text() == words
    painted = {pixel(tab, 0.5 * i, FOOT) for i in range(1, 40)}
    assert not painted & {page.COLOURS[name][0] for name in CLASSES}, "no emotion is made up"


def test_what_was_heard_before_centring_is_told_apart(look: Callable[..., Any]) -> None:
    why = "9 recordings that differ by 0.40 nats: answers are centred on this speaker"
    told = timeline.Adaptation(speaker="Anna", turns=9, centre=dict.fromkeys(CLASSES, 0.0), information=0.4, mixed=1, why=why)
    row = turn("Anna", 1, 5, "happy", 0.7, raw=sure("sad", 0.6), attributes={"arousal": 0.25}, modalities=("audio", "text"))
    tab = look(page.render(Timeline(uri="a talk", duration_s=20, classes=CLASSES, segments=(row,), adaptation=(told,))))
    tab.mouse.click(*lane_point(tab, 3.0, 0))
    assert "happy" in tab.locator("#now .said").inner_text()
    words = tab.locator("#now .words").inner_text()
    assert "sad 60 %" in words
    assert "arousal 0.25" in words
    assert "audio and text" in words
    assert tab.evaluate("[...document.querySelectorAll('.bar s')].map(mark => mark.style.left)")[3] == "60%"
    assert why in tab.locator(".people").inner_text()


def test_a_recording_without_speech_has_a_page_that_says_so(look: Callable[..., Any]) -> None:
    tab = look(page.render(Timeline(uri="nothing", duration_s=0, classes=CLASSES)))
    assert "No speech was found" in tab.locator("main").inner_text()


def test_without_its_sound_a_page_shows_turns_and_no_button_to_play(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation()))
    assert not tab.locator("#play").is_visible()
    tab.mouse.click(*lane_point(tab, 3.0, 0))
    assert "Anna" in tab.locator("#now .who").inner_text()


def test_a_page_without_sound_leaves_space_to_the_browser_and_lists_no_keys_that_play(look: Callable[..., Any], spoken: str) -> None:
    tab = look(page.render(long_talk(200, 0.5)), height=500)
    tab.keyboard.press("Space")
    wait_until(tab, "scrollY > 0")
    tab.keyboard.press("?")
    assert "play" not in tab.locator("#help").inner_text()
    assert "Space" not in (tab.locator("#stage").get_attribute("aria-label") or "")
    tab = look(spoken)
    tab.keyboard.press("?")
    assert "play or pause" in tab.locator("#help").inner_text()


def test_a_name_that_runs_from_right_to_left_leaves_the_times_in_order(look: Callable[..., Any]) -> None:
    tab = look(page.render(Timeline(uri="a talk", duration_s=90, classes=CLASSES, segments=(turn("\u05d3\u05d5\u05d3", 41, 80),))))
    tab.keyboard.press("j")
    left = tab.evaluate(
        """() => { const text = document.querySelector('#now .who').lastChild, at = (i) => { const range = document.createRange();
        range.setStart(text, i); range.setEnd(text, i + 1); return range.getBoundingClientRect().x; };
        return [...text.textContent].map((_, i) => at(i)); }"""
    )
    assert left == sorted(left)
    assert tab.locator("#told").inner_text() == "\u05d3\u05d5\u05d3, happy, 0:41 to 1:20"
    assert tab.locator("#told bdi").count() == 1


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_names_without_a_space_stay_inside_their_panel(look: Callable[..., Any], width: int) -> None:
    name = "a_very_long_speaker_name_without_any_space_" * 6
    tab = look(page.render(Timeline(uri="a talk", duration_s=60, classes=CLASSES, segments=(turn(name, 1, 40),))), width=width)
    tab.keyboard.press("j")
    who, bars, panel = (tab.locator(part).bounding_box() for part in ("#now .who", "#now .bars", ".figure"))
    assert tab.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#now .who'))")
    assert max(box["x"] + box["width"] for box in (who, bars)) <= panel["x"] + panel["width"]
    drawn = tab.evaluate("[speakers[0], 'Ann'].map((name) => cut(lanes.getContext('2d'), name, 90))")
    assert (drawn[0][:6], drawn[0][-1], drawn[1]) == ("a_very", "\u2026", "Ann")


@pytest.mark.parametrize("width", [320, 390])
def test_what_made_it_fits_a_phone_with_the_player(look: Callable[..., Any], width: int) -> None:
    made_by = {"bundle_sha256": "ab" * 32, "diarizer": "embedded/b2703f907306|segmentation/a4e8ad836d93|" + "cd" * 32}
    html = page.render(conversation().model_copy(update={"provenance": made_by}), (hum(), RATE))
    tab = look(html, width=width, height=800, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("innerWidth") == width
    player = tab.locator(".player").bounding_box()
    assert player["y"] + player["height"] <= 800


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(look: Callable[..., Any], spoken: str, width: int) -> None:
    tab = look(spoken, width=width, height=800, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = tab.locator("#lanes").bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + 60)
    wait_until(tab, "document.getElementById('audio').currentTime > 10.05")
    assert tab.locator("#play").bounding_box()["height"] >= 44
