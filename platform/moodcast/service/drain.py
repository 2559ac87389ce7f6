"""A refusal reaches its client also where the request's body still comes: what is left of it is read and thrown away, within bounds.

A connection that stays open is read on by the server itself. One that is closed while something unread has arrived is reset, and a client
that asks for it to be closed and sends all of its body before it reads (urllib) never sees the answer. So the answer goes out at once, for
those that look, and the connection is closed when the others have sent.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_AT_A_TIME = 10  # each holds a place at the server's door; further ones are closed at once


@dataclass
class Drained:
    """`app`, with the bodies that it refuses read up to `max_bytes` more, for at most `max_s`."""

    app: ASGIApp
    max_bytes: int
    max_s: float
    under_way: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through; a refusal's end is sent when its body has come."""
        if scope["type"] != "http" or not _closes_on_a_body(scope):
            await self.app(scope, receive, send)
            return
        whole, refused = False, False

        async def heard() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body", False)  # a client that left sends no more either
            return message

        async def told(message: Message) -> None:
            nonlocal refused
            refused = refused or message.get("status", 200) >= 400
            if whole or not refused or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            await self._drain(heard)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app(scope, heard, told)

    async def _drain(self, heard: Receive) -> None:
        if self.under_way >= MAX_AT_A_TIME:
            return
        self.under_way += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.max_s):
                    left = self.max_bytes
                    while left > 0 and (message := await heard()).get("more_body", False):
                        left -= len(message.get("body", b""))
        finally:
            self.under_way -= 1


def _closes_on_a_body(scope: Scope) -> bool:
    headers = {name: value.lower() for name, value in scope["headers"]}
    closes = scope["http_version"] == "1.0" or b"close" in headers.get(b"connection", b"")
    return closes and (b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0")
