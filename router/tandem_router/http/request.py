"""One request of a client, and the way to answer it: whole, or as a stream."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from time import gmtime, strftime, time
from typing import Protocol

from tandem_router.http.head import RequestHead

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Source(Protocol):
    """Where a stream comes from: held back while the client does not read, closed when it leaves."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class Connection(Protocol):
    """The connection that a request came over."""

    transport: asyncio.Transport
    paused: bool

    @property
    def closing(self) -> bool: ...

    def answered(self, *, keep_alive: bool) -> None: ...


class Client(Protocol):
    """A request, whoever stands between the client and its answer."""

    body: bytes

    @property
    def path(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def received(self) -> float: ...

    @property
    def status(self) -> int: ...

    @property
    def started(self) -> bool: ...

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None: ...

    def start(self, status: int, headers: Mapping[str, str], first: bytes) -> None: ...

    def write(self, piece: bytes) -> None: ...

    def finish(self) -> None: ...

    def feed_from(self, source: Source) -> None: ...

    def abort(self) -> None: ...


class Request:
    """`received`: monotonic time. An answer is `respond`; or `start`, `write` and `finish`; or `abort`."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_keep_alive",
        "_transport",
        "body",
        "head",
        "received",
        "source",
        "status",
    )

    def __init__(self, connection: Connection, head: RequestHead, body: bytes, received: float) -> None:
        self._connection, self.head, self.body, self.received = connection, head, body, received
        self._transport = connection.transport
        self.source: Source | None = None
        self.status = 0
        self._chunked = head.version == "1"
        self._keep_alive = head.keep_alive

    @property
    def started(self) -> bool:
        return self.status != 0

    @property
    def path(self) -> str:
        return self.head.target.partition("?")[0]

    @property
    def headers(self) -> Mapping[str, str]:
        """By names in lower case."""
        return self.head.headers

    def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer."""
        self.status = status
        keep_alive = self._keep_alive and not self._connection.closing
        framing = f"content-length: {len(body)}\r\n"
        head = encode_head(status, headers, framing + _connection(self.head.version, keep_alive))
        self._transport.writelines((head, body))
        self._connection.answered(keep_alive=keep_alive)

    def start(self, status: int, headers: Mapping[str, str], first: bytes) -> None:
        """Begins a stream with its first bytes."""
        self.status = status
        # Before HTTP/1.1 a stream ends with its connection.
        self._keep_alive = self._keep_alive and self._chunked and not self._connection.closing
        framing = "transfer-encoding: chunked\r\n" if self._chunked else ""
        head = encode_head(status, headers, framing + _connection(self.head.version, self._keep_alive))
        if self._chunked:
            first = b"%x\r\n%b\r\n" % (len(first), first)
        self._transport.writelines((head, first))

    def write(self, piece: bytes) -> None:
        """More of a stream."""
        if self._chunked:
            if not piece:
                return  # an empty chunk would be the end
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        self._transport.write(piece)

    def finish(self) -> None:
        """Ends a stream that is complete."""
        self.source = None
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._connection.answered(keep_alive=self._keep_alive)

    def feed_from(self, source: Source) -> None:
        """From now on this source waits for the client, and ends when the client leaves."""
        self.source = source
        if self._connection.paused:
            source.pause()

    def abort(self) -> None:
        """Cuts the connection, so that the client does not take what it has for complete."""
        self._transport.abort()


def encode_head(status: int, headers: Mapping[str, str], framing: str) -> bytes:
    """An answer's head. Raises ValueError for a header that would be more than one line."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header of the answer has a line break in it")
    phrase = _PHRASES.get(status, "")
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}{framing}{_date()}\r\n".encode("latin-1", "replace")


def _connection(version: str, keep_alive: bool) -> str:
    if keep_alive:
        return "" if version == "1" else "connection: keep-alive\r\n"
    return "connection: close\r\n"


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    """The date header, made once a second."""
    global _dated
    now = int(time())
    if _dated[0] != now:
        _dated = (now, strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime(now)))
    return _dated[1]
