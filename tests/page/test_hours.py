"""A page of hours in a real browser: zoomed by wheel, keys, map and fingers, and still smooth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moodcast import page
from tests.page.opened import part, wait_until
from tests.page.talks import long_talk

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def three_hours() -> str:
    """The page of three hours, without sound."""
    return page.render(long_talk())


def test_hours_are_zoomed_by_wheel_keys_and_map(look: Callable[..., Any], three_hours: str) -> None:
    tab = look(three_hours)
    assert part(tab) != "the whole recording"
    tab.click("#fit")
    assert part(tab) == "the whole recording"
    box = tab.locator("#stage").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    tab.keyboard.down("Control")
    tab.mouse.wheel(0, -400)
    tab.keyboard.up("Control")
    start_s, stop_s = (float(part(tab).split(" to ")[i].split(":")[0]) for i in (0, 1))
    assert (start_s, stop_s) == (1, 1), "zoomed by e squared around the middle of three hours"
    before = part(tab)
    tab.mouse.wheel(300, 0)
    assert part(tab) > before
    tab.mouse.wheel(0, 200)
    wait_until(tab, "scrollY > 0")  # the wheel alone scrolls the page
    tab.evaluate("scrollTo(0, 0)")
    over = tab.locator("#over").bounding_box()
    tab.mouse.click(over["x"] + over["width"] * 0.9, over["y"] + 8)
    assert part(tab).startswith("2:")
    assert tab.locator("#back").is_visible()
    tab.click("#back")
    assert part(tab).startswith("0:00")
    tab.focus("#over")
    tab.keyboard.press("End")
    assert part(tab).endswith("3:00:00")


def test_two_fingers_zoom_and_one_moves(look: Callable[..., Any]) -> None:
    tab = look(page.render(long_talk(200, 0.5)), width=390, height=800, has_touch=True, is_mobile=True)
    tab.click("#fit")
    assert part(tab) == "the whole recording"
    box, touch = tab.locator("#lanes").bounding_box(), tab.context.new_cdp_session(tab)
    y = box["y"] + 60

    def send(kind: str, *at: float) -> None:
        points = [{"x": box["x"] + px, "y": y, "id": i} for i, px in enumerate(at)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    send("touchStart", 150, 190)
    for spread in range(0, 100, 10):
        send("touchMove", 150 - spread, 190 + spread)
    send("touchEnd")
    pinched = part(tab)
    assert pinched != "the whole recording"
    send("touchStart", 250)
    for px in range(250, 100, -15):
        send("touchMove", px)
    send("touchEnd")
    assert part(tab) > pinched


def test_three_hours_stay_smooth(look: Callable[..., Any], three_hours: str) -> None:
    assert len(three_hours) < 3e6
    tab = look(three_hours)
    assert tab.locator("tr[data-turn]").count() < 60, "rows out of sight are not in the page"
    tab.evaluate("document.getElementById('rows').scrollTop = 1e9")
    wait_until(tab, "document.querySelector('tr[data-turn=\"2499\"]') !== null")
    assert tab.locator("tr[data-turn]").count() < 60
    tab.keyboard.press("0")
    worst = tab.evaluate(
        """async () => { let worst = 0; for (let i = 0; i < 12; i++) { const t = performance.now();
        document.dispatchEvent(new KeyboardEvent('keydown', { key: i < 6 ? '+' : '-', bubbles: true }));
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        worst = Math.max(worst, performance.now() - t); } return worst; }"""
    )
    assert worst < 400, f"a step of the zoom took {worst:.0f} ms"
