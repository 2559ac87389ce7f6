from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moodcast import page, timeline
from moodcast.timeline import ChunkRow, Segment, Timeline

RATE = 16_000
CLASSES = ("angry", "happy", "neutral", "sad")
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --autoplay-policy=no-user-gesture-required"
).split()


def sure(name: str, p: float = 1.0) -> dict[str, float]:
    return {other: p if other == name else (1 - p) / (len(CLASSES) - 1) for other in CLASSES}


def turn(speaker: str, start_s: float, stop_s: float, emotion: str = "happy", p: float = 1.0, **more: Any) -> Segment:
    return Segment(speaker=speaker, start_s=start_s, stop_s=stop_s, emotion=emotion, emotions=sure(emotion, p), confidence=p, **more)


def conversation() -> Timeline:
    chunks = (
        ChunkRow(start_s=10, stop_s=12, emotions=sure("sad")),
        ChunkRow(start_s=11, stop_s=13, emotions=sure("angry")),
        ChunkRow(start_s=12, stop_s=14, emotions=sure("angry")),
    )
    rows = (
        turn("Anna", 1, 5, "happy"),
        turn("Ben", 5, 9, "angry", 0.5, overlap=True),
        turn("Anna", 10, 14, "angry", chunks=chunks, text=HOSTILE),
        Segment(speaker="Ben", start_s=15, stop_s=15.2, status="too_short"),
        turn("Ben", 16, 20, "sad"),
    )
    return Timeline(uri=f"a talk {HOSTILE}", duration_s=20, classes=CLASSES, segments=rows, provenance={"bundle": HOSTILE})


def hum(seconds: float = 20.0) -> NDArray[np.float32]:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.2 * np.sin(2 * np.pi * 180 * t) * (1 + np.sin(2 * np.pi * 3 * t))).astype(np.float32)


# ---- without a browser ----


def lab_under(matrix: NDArray[np.float64], colour: str) -> NDArray[np.float64]:
    """CIELAB (D65) of an sRGB colour seen through a matrix on linear RGB."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(matrix @ linear, 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    xyz = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision deficiency, 2009, severity 1.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("theme", "paper"), [(0, "#ffffff"), (1, "#1c1a20")])
def test_emotions_look_different_to_every_kind_of_colour_vision(vision: str, theme: int, paper: str) -> None:
    seen = {name: lab_under(VISIONS[vision], pair[theme]) for name, pair in page.COLOURS.items()}
    ground = lab_under(VISIONS[vision], paper)
    common = {"angry", "happy", "neutral", "sad", "fear", "disgust", "enthusiasm"}
    for a, b in itertools.combinations(seen, 2):
        apart = float(np.linalg.norm(seen[a] - seen[b]))
        assert apart > (20 if {a, b} <= common else 12), f"{a} and {b} are {apart:.1f} apart"
    for name in common:
        assert float(np.linalg.norm(seen[name] - ground)) > 30, f"{name} is lost on the page"


def test_classes_of_other_corpora_get_colours_of_their_own() -> None:
    classes = ("angry", *(f"mood{i}" for i in range(14)))
    colours = page.colours_of(classes)
    assert colours["angry"] == page.COLOURS["angry"]
    assert len(set(colours.values())) == len(classes)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.2, 3)), min_size=1, max_size=12), st.floats(31, 40))
def test_cells_of_a_turn_lie_side_by_side_and_cover_it(chunks: list[tuple[float, float]], stop_s: float) -> None:
    rows = tuple(ChunkRow(start_s=a, stop_s=min(a + length, stop_s), emotions=sure("sad")) for a, length in sorted(chunks))
    cells = page.cells_of(turn("A", 0.0, stop_s, chunks=rows))
    assert cells[0][0] == 0.0
    assert cells[-1][1] == round(stop_s, 3)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(cells))
    assert all(a < b for a, b, _ in cells)


@given(st.text())
def test_no_tag_can_begin_inside_the_data_of_the_script(text: str) -> None:
    written = page.script_json({"text": text})
    assert not set("<>&") & set(written)
    assert written.isascii()
    assert json.loads(written) == {"text": text}


def test_the_sound_inside_lasts_as_long_as_the_recording_and_stays_in_step() -> None:
    wave = np.zeros(10 * RATE, dtype=np.float32)
    wave[round(7.25 * RATE) : round(7.35 * RATE)] = hum(0.1)
    track = page.track_of((wave, RATE))
    assert track.data is not None
    with av.open(io.BytesIO(track.data)) as container:
        back = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
    assert abs(len(back) / RATE - 10) < 0.05
    assert abs(np.argmax(np.abs(back)) / RATE - 7.3) < 0.07
    assert len(track.peaks) == 10 * page.PEAKS_PER_S
    assert set(np.flatnonzero(track.peaks)) == {145, 146}
    assert len(track.data) < 10 * page.BIT_RATE / 8 * 1.2


def test_silence_has_no_peaks() -> None:
    assert page.track_of((np.zeros(RATE, dtype=np.float32), RATE)).peaks.tolist() == [0] * page.PEAKS_PER_S


def test_shares_of_a_speaker_add_up() -> None:
    found = page.speaker_summary(conversation(), "Ben")
    assert (found["turns"], round(found["seconds"], 3)) == (3, 8.2)
    assert sum(share for _, share in found["emotions"]) == pytest.approx(1)
    assert [name for name, _ in found["emotions"]][-1] == ""


def test_the_page_names_no_address_and_can_load_nothing() -> None:
    html = page.render(conversation(), (hum(), RATE))
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html
    assert "<script>window" not in html


# ---- in a real browser ----


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def look(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`look(html, width=..., dark=...)` opens a page from a file and fails the test if it complains or asks for anything else."""
    complaints: list[str] = []
    opened: list[Any] = []

    def open_page(html: str, width: int = 1280, height: int = 900, dark: bool = False, **options: Any) -> Any:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options)
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: None if request.url.startswith(("file:", "blob:")) else complaints.append(request.url))
        tab.goto(path.as_uri())
        wait_until(tab, "document.getElementById('lanes').width > 100")
        opened.append(tab)
        return tab

    yield open_page
    for tab in opened:
        tab.close()
    assert complaints == []


def wait_until(tab: Any, expression: str, timeout_s: float = 10.0) -> None:
    """playwright's own wait_for_function evaluates text, which the page's security policy forbids."""
    end = time.monotonic() + timeout_s
    while not tab.evaluate(expression):
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout_s} s in vain for {expression}")
        tab.wait_for_timeout(20)


def lane_point(tab: Any, t: float, lane: int, duration: float = 20.0) -> tuple[float, float]:
    box = tab.locator("#lanes").bounding_box()
    return box["x"] + box["width"] * t / duration, box["y"] + lane * 100 + 60


def pixel(tab: Any, t: float, y: float, duration: float = 20.0) -> str:
    found = tab.evaluate(
        """([share, y]) => { const shown = document.getElementById('lanes'), scale = shown.width / shown.clientWidth;
        const c = new OffscreenCanvas(shown.width, shown.height), pen = c.getContext('2d', { willReadFrequently: true });
        pen.drawImage(shown, 0, 0);
        return [...pen.getImageData(Math.round(share * c.width), Math.round(y * scale), 1, 1).data]; }""",
        [t / duration, y],
    )
    return "#" + "".join(f"{part:02X}" for part in found[:3])


def rows_of(tab: Any) -> list[int]:
    found = tab.evaluate("[...document.querySelectorAll('tr[data-turn]')].map(row => Number(row.dataset.turn))")
    return [int(turn) for turn in found]


def heard_at(tab: Any) -> float:
    return float(tab.evaluate("document.getElementById('audio').currentTime"))


@pytest.mark.browser
def test_names_and_words_are_shown_and_never_run(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
    tab.evaluate("document.querySelectorAll('tr[data-turn]')[2].click()")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("h1").inner_text() == f"a talk {HOSTILE}"
    assert HOSTILE in tab.locator("tr[data-turn='2']").inner_text()
    assert HOSTILE in tab.locator("#now .words").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_chunks_are_painted_in_the_colour_of_their_emotion(look: Callable[..., Any], dark: bool) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)), dark=dark)
    colours = {name: page.COLOURS[name][dark] for name in CLASSES}
    foot = 22 + 66 - 3  # the band at the foot of the first lane; the second lies 100 pixels lower
    assert pixel(tab, 3, foot) == colours["happy"]
    assert pixel(tab, 10.7, foot) == colours["sad"]
    assert pixel(tab, 13, foot) == colours["angry"]
    assert pixel(tab, 18, foot + 100) == colours["sad"]
    unsure = pixel(tab, 7, foot + 100)
    assert unsure not in colours.values()
    assert pixel(tab, 9.5, foot) not in colours.values()


@pytest.mark.browser
def test_a_click_on_a_turn_plays_it_and_the_playhead_follows(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
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


@pytest.mark.browser
def test_the_keyboard_plays_moves_and_zooms(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
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


@pytest.mark.browser
def test_a_row_of_the_table_plays_its_turn_and_the_legend_picks_emotions(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
    tab.click("tr[data-turn='4'] .time")
    wait_until(tab, "document.getElementById('audio').currentTime > 16.05")
    foot = 22 + 66 - 3
    tab.click(".key >> text=happy")
    assert rows_of(tab) == [0]
    assert tab.locator("#count").inner_text() == "1 of 5 turns"
    tab.wait_for_timeout(100)
    assert pixel(tab, 3, foot) == page.COLOURS["happy"][0]
    assert pixel(tab, 18, foot + 100) != page.COLOURS["sad"][0]
    tab.click(".key >> text=too short")
    assert rows_of(tab) == [0, 3]
    tab.click(".key >> text=happy")
    assert rows_of(tab) == [3]
    tab.click("#clear")
    assert rows_of(tab) == [0, 1, 2, 3, 4]
    assert not tab.locator("#clear").is_visible()


@pytest.mark.browser
def test_hovering_tells_the_chunk_under_the_pointer(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
    tab.mouse.move(*lane_point(tab, 10.7, 0))
    assert "sad" in tab.locator("#now .said").inner_text()
    assert "the whole turn angry" in tab.locator("#now .said").inner_text()
    tab.mouse.move(*lane_point(tab, 15.1, 1))
    assert "too short to say" in tab.locator("#now .said").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(look: Callable[..., Any], width: int) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)), width=width, height=800, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    box = tab.locator("#lanes").bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + 60)
    wait_until(tab, "document.getElementById('audio').currentTime > 10.05")
    assert tab.locator("#play").bounding_box()["height"] >= 44


@pytest.mark.browser
def test_no_speech_and_no_sound_make_a_page_too(look: Callable[..., Any]) -> None:
    tab = look(page.render(Timeline(uri="nothing", duration_s=0, classes=CLASSES)))
    assert "No speech was found" in tab.locator("main").inner_text()
    tab.close()
    tab = look(page.render(conversation()))
    assert not tab.locator("#play").is_visible()
    tab.mouse.click(*lane_point(tab, 3.0, 0))
    assert "Anna" in tab.locator("#now .who").inner_text()


@pytest.mark.browser
def test_a_sound_file_beside_the_page_is_played_from_there(look: Callable[..., Any], write_wav: Callable[..., Path]) -> None:
    write_wav("the talk.wav", hum(), RATE)
    tab = look(page.render(conversation(), "the talk.wav"))
    tab.mouse.click(*lane_point(tab, 7.0, 1))
    wait_until(tab, "document.getElementById('audio').currentTime > 7.2")


@pytest.mark.browser
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


@pytest.mark.browser
def test_the_keyboard_walks_the_table_and_lists_its_keys(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
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


@pytest.mark.browser
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
    painted = {pixel(tab, 0.2 * i, 22 + 66 - 3) for i in range(95)}
    assert not painted & {page.COLOURS[name][0] for name in CLASSES}, "no emotion is made up"


@pytest.mark.browser
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


def test_columns_over_time_hold_every_second_of_speech() -> None:
    rows = (
        turn("A", 0, 3, "sad"),
        turn("A", 5, 25, "happy"),
        Segment(speaker="A", start_s=30, stop_s=34, status="silence"),
        turn("B", 40, 60),
    )
    made = Timeline(uri="a talk", duration_s=60, classes=CLASSES, segments=rows)
    seconds = page.over_time(made, "A", 10.0)
    assert seconds[:, CLASSES.index("happy")].tolist() == [5, 10, 5, 0, 0, 0]
    assert seconds[:, CLASSES.index("sad")].tolist() == [3, 0, 0, 0, 0, 0]
    assert seconds[:, -1].tolist() == [0, 0, 0, 4, 0, 0]
    assert page.over_time(made, "B", 10.0).sum() == pytest.approx(20)
    assert page.columns(seconds, 10.0)[0] == (1, "M0 50.0h0.84v50.0h-0.84zM1 0.0h0.84v100.0h-0.84zM2 50.0h0.84v50.0h-0.84z")


@pytest.mark.parametrize(("duration_s", "wanted_s"), [(0.0, 1), (20, 1), (360, 10), (3600, 60), (3 * 3600, 60), (12 * 3600, 300)])
def test_a_column_is_a_minute_where_that_is_not_too_fine(duration_s: float, wanted_s: float) -> None:
    assert page.step_of(duration_s) == wanted_s


@pytest.mark.browser
def test_the_columns_of_a_speaker_play_their_moment(look: Callable[..., Any]) -> None:
    tab = look(page.render(conversation(), (hum(), RATE)))
    tab.locator(".course").nth(1).evaluate("chart => chart.scrollIntoView({ block: 'center' })")
    box = tab.locator(".course").nth(1).bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 17.5 / 20, box["y"] + 20)
    assert tab.locator(".note").nth(1).inner_text() == "0:17: sad 1.0 s"
    tab.mouse.click(box["x"] + box["width"] * 17.5 / 20, box["y"] + 20)
    assert heard_at(tab) == pytest.approx(17, abs=0.3)


def long_talk(turns: int = 2500, hours: float = 3.0) -> Timeline:
    rows = []
    for i in range(turns):
        start_s = hours * 3600 / turns * i
        chunks = tuple(ChunkRow(start_s=start_s + k, stop_s=start_s + k + 1, emotions=sure(CLASSES[(i + k) % 4], 0.6)) for k in range(4))
        rows.append(turn(f"S{i % 5}", start_s, start_s + 4, CLASSES[i % 4], 0.6, chunks=chunks, text=f"sentence {i}"))
    return Timeline(uri="long", duration_s=hours * 3600, classes=CLASSES, segments=tuple(rows))


def part(tab: Any) -> str:
    tab.wait_for_timeout(80)
    return str(tab.locator("#part").inner_text())


@pytest.mark.browser
def test_hours_are_zoomed_by_wheel_keys_and_map(look: Callable[..., Any]) -> None:
    tab = look(page.render(long_talk()))
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


@pytest.mark.browser
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


@pytest.mark.browser
def test_three_hours_stay_smooth(look: Callable[..., Any]) -> None:
    html = page.render(long_talk())
    assert len(html) < 3e6
    tab = look(html)
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
