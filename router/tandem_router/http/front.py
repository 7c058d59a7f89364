"""The clients' side: requests out of a connection's bytes, one answered at a time, in their order."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import Protocol, cast

from tandem_router.http.deadlines import Deadlines
from tandem_router.http.framing import Body, Chunked, Sized
from tandem_router.http.head import (
    END,
    MAX_HEAD_BYTES,
    HttpError,
    RequestHead,
    read_request,
    too_many_headers,
)
from tandem_router.http.request import Request, encode_head

REQUEST_SECONDS = 30.0
"""A client has this long to send a whole request."""
KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 2.0
"""After a refusal the rest of a request is read for so long, or the client would not see the answer."""
MAX_AHEAD_BYTES = 64 * 2**10
"""What is read ahead of requests that follow before their answers; then the client waits."""

Handler = Callable[[Request], Coroutine[None, None, None]]
"""Answers a request in any case, and raises nothing. It is cancelled when the client leaves."""


class Service(Protocol):
    """What is served. `closing`: answers are the last ones of their connections."""

    max_body_bytes: int
    deadlines: "Deadlines[Front]"

    @property
    def closing(self) -> bool: ...

    def handler(self, head: RequestHead, /) -> Handler | None:
        """Who answers; None: somebody else shall take over the connection."""
        ...

    def other(self) -> asyncio.Protocol: ...

    def refusal(self, error: HttpError, /) -> tuple[Mapping[str, str], bytes]:
        """Headers and body for a client that does not get as far as a handler."""
        ...


class Front(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_body", "_buffer", "_handler", "_head", "_loop", "_pieces", "_refused", "_request", "_service",
        "_size", "_task", "deadline", "paused", "transport",
    )  # fmt: skip

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._service, self._loop = service, loop
        self._buffer = b""
        self._head: RequestHead | None = None
        self._handler: Handler | None = None
        self._body: Body | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._refused = self.paused = False
        self.deadline = inf

    @property
    def closing(self) -> bool:
        return self._service.closing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self.deadline = self._loop.time() + KEEPALIVE_SECONDS
        self._service.deadlines.watch(self)

    def data_received(self, data: bytes) -> None:
        if self._request is not None:
            self._read_ahead(data)
        elif self._refused:
            return
        elif self._head is not None:
            self._read_body(data)
        else:
            if not self._buffer:
                self.deadline = self._loop.time() + REQUEST_SECONDS
            self._buffer += data
            self._read_head()

    def eof_received(self) -> bool:
        self._left()
        self.transport.abort()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._service.deadlines.drop(self)
        self._left()

    def pause_writing(self) -> None:
        self.paused = True
        if self._request is not None and self._request.source is not None:
            self._request.source.pause()

    def resume_writing(self) -> None:
        self.paused = False
        if self._request is None:
            self._next()
        elif self._request.source is not None:
            self._request.source.resume()

    def expire(self) -> None:
        """Nothing came for too long."""
        if self._refused or (self._head is None and not self._buffer):
            self.transport.abort()
        else:
            self._refuse(HttpError(408, "the request did not arrive in time", "body_timeout"))

    def stop(self) -> asyncio.Task[None] | None:
        """Ends the connection; the work for it, if any, is cancelled and returned."""
        task = self._task if self._request is not None else None
        if task is None:
            self.transport.close()
        else:
            self._left()
            self.transport.abort()
        return task

    def answered(self, *, keep_alive: bool) -> None:
        """The request that was under way has its answer."""
        self._request = None
        # Also when it closes: a client that never reads would keep its last answer here for ever.
        self.deadline = self._loop.time() + KEEPALIVE_SECONDS
        if not keep_alive:
            self.transport.close()
            return
        if self._buffer:
            self.transport.resume_reading()
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        """Goes on to a request that was read ahead, once the client has read its last answer."""
        if self._buffer and self._request is None and not self.paused and not self.transport.is_closing():
            self.deadline = self._loop.time() + REQUEST_SECONDS
            self._read_head()

    def _left(self) -> None:
        """The client is gone: whatever worked for it stops."""
        request, self._request = self._request, None
        if request is None:
            return
        if request.source is not None:
            request.source.close()
        if self._task is not None:
            self._task.cancel()

    def _read_ahead(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > MAX_AHEAD_BYTES:
            self.transport.pause_reading()

    def _read_head(self) -> None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            # An empty line before a request is to be ignored (RFC 9112, 2.2).
            self._buffer = buffer = buffer[2:]
        end = buffer.find(END, 0, MAX_HEAD_BYTES + len(END))
        try:
            if end < 0:
                if len(buffer) > MAX_HEAD_BYTES:
                    raise too_many_headers()
                return
            head = read_request(buffer[:end])
            handler = self._service.handler(head)
            if handler is None:
                self._hand_over()
                return
            self._buffer = b""
            self._begin(head, handler, buffer[end + len(END) :])
        except HttpError as error:
            self._refuse(error)

    def _hand_over(self) -> None:
        """Gives the connection away, with all that was read of it."""
        buffer, self._buffer = self._buffer, b""
        other = self._service.other()
        self._service.deadlines.drop(self)
        self.transport.set_protocol(other)
        other.connection_made(self.transport)
        if buffer:
            other.data_received(buffer)

    def _begin(self, head: RequestHead, handler: Handler, rest: bytes) -> None:
        """Starts to read a body. Raises HttpError."""
        expects = head.headers.get("expect")
        if expects is not None and expects.lower() != "100-continue":
            raise HttpError(417, f"cannot meet the expectation {expects!r}", "bad_request")
        if head.length is not None and head.length > self._service.max_body_bytes:
            raise self._too_large()
        self._head, self._handler, self._size = head, handler, 0
        self._body = Chunked() if head.length is None else Sized(head.length)
        if expects is not None and not rest and not self._body.done:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._read_body(rest)

    def _too_large(self) -> HttpError:
        limit = self._service.max_body_bytes
        return HttpError(413, f"the body is longer than {limit} bytes", "body_too_large")

    def _read_body(self, data: bytes) -> None:
        body, head, handler = self._body, self._head, self._handler
        if body is None or head is None or handler is None:
            return
        try:
            piece = body.feed(data)
            self._size += len(piece)
            if self._size > self._service.max_body_bytes:
                raise self._too_large()
        except HttpError as error:
            self._refuse(error)
            return
        if not body.done:
            if piece:
                self._pieces.append(piece)
            return
        if self._pieces:
            self._pieces.append(piece)
            piece = b"".join(self._pieces)
            self._pieces = []
        self._buffer = body.rest
        self._head = self._handler = self._body = None
        self._answer(head, handler, piece)

    def _answer(self, head: RequestHead, handler: Handler, body: bytes) -> None:
        self.deadline = inf
        self._request = Request(self, head, body, time.monotonic())
        self._task = self._loop.create_task(handler(self._request))

    def _refuse(self, error: HttpError) -> None:
        """Answers with an error and closes; what still comes is read for a moment and thrown away."""
        self._refused = True
        self._buffer, self._pieces = b"", []
        self._head = self._handler = self._body = None
        headers, body = self._service.refusal(error)
        framing = f"content-length: {len(body)}\r\nconnection: close\r\n"
        self.transport.writelines((encode_head(error.status, headers, framing), body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.deadline = self._loop.time() + LINGER_SECONDS
