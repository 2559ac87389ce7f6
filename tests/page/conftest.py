"""The page of a conversation, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moodcast import page
from tests.page.opened import wait_until
from tests.page.talks import RATE, conversation, hum


@pytest.fixture(scope="session")
def spoken() -> str:
    """The page of `conversation`, with its sound inside."""
    return page.render(conversation(), (hum(), RATE))


@pytest.fixture
def look(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`look(html, width=..., dark=...)` opens a page from a file; the test fails where the page complains or asks for anything else."""
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
