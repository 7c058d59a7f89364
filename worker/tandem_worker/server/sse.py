"""Server-sent events: one JSON body each, `[DONE]` at the end."""

import asyncio
import json
from typing import Any, Self

from aiohttp import web

WRITE_SECONDS = 60.0
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


def compact(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class EventStream:
    """An answer that is being sent. Raises ConnectionError when the client is gone, or reads no more."""

    def __init__(self, request: web.Request, response: web.StreamResponse) -> None:
        self._request = request
        self._response = response

    @classmethod
    async def open(cls, request: web.Request) -> Self:
        """Sends the status line and the headers: from here on errors are events."""
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        return cls(request, response)

    async def send(self, *bodies: dict[str, Any]) -> None:
        await self._write("".join(f"data: {compact(body)}\n\n" for body in bodies))

    async def close(self) -> web.StreamResponse:
        await self._write("data: [DONE]\n\n")
        await self._response.write_eof()
        return self._response

    async def _write(self, text: str) -> None:
        if not text:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._response.write(text.encode("utf-8"))
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ConnectionResetError("the client has stopped reading") from None
