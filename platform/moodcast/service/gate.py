"""Gate: how many analyses run at a time and how many may wait; beyond that a client hears "busy" at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moodcast.service.errors import busy


class Gate:
    """Admission in two steps: `admitted` before a body is read, `running` while its decoded audio is held."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self._places = max_running + max_waiting
        self._slots = asyncio.Semaphore(max_running)
        self._admitted = 0
        self._running = 0

    @property
    def load(self) -> dict[str, int]:
        """Analyses under way: running ones, and those that read their upload or wait."""
        return {"running": self._running, "waiting": self._admitted - self._running}

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """A place in the house. Raises ServiceError 503 where there is none."""
        if self._admitted >= self._places:
            raise busy(self._running, self._admitted - self._running)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """One of the slots that may hold decoded audio; waits for it."""
        async with self._slots:
            self._running += 1
            try:
                yield
            finally:
                self._running -= 1
