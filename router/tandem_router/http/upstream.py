"""The connections to workers: kept alive, taken up again, and one request on each at a time."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from tandem_router.http.deadlines import Deadlines
from tandem_router.http.framing import Body, response_body
from tandem_router.http.head import END, MAX_HEAD_BYTES, ResponseHead, bad_request, read_response

CONNECT_SECONDS = 2.0
IDLE_SECONDS = 3.0
"""Below the 5 s after which uvicorn, in front of vLLM, closes an idle connection."""
MAX_IDLE = 512
"""Idle connections kept to one worker."""
TICK_SECONDS = 0.02
"""How late a deadline may be noticed."""

Address = tuple[str, int]
_log = logging.getLogger(__name__)


class ConnectError(OSError):
    """The worker cannot be reached, or is none that the router knows."""


class Call(ABC):
    """One request on its way to a worker; subclasses take in the answer. Past `deadline` it fails.

    After `failed`, `end` or `close` nothing comes any more.
    """

    __slots__ = ("closed", "connection", "deadline", "pool", "retried")

    def __init__(self, pool: "Upstreams", deadline: float) -> None:
        self.pool, self.deadline = pool, deadline
        self.connection: Connection | None = None
        self.closed = self.retried = False

    def head(self, head: ResponseHead) -> None:  # noqa: B027 - a call that took an answer over has no head to come
        """The answer begins."""

    @abstractmethod
    def data(self, piece: bytes) -> None:
        """Raises ValueError for what cannot be understood."""

    @abstractmethod
    def end(self) -> None:
        """The answer is complete."""

    @abstractmethod
    def failed(self, error: Exception) -> None:
        """There will be no answer, or no more of it."""

    def close(self) -> None:
        """Nobody waits any more. The worker learns of it by its connection."""
        if not self.closed:
            self.closed = True
            self.pool.deadlines.drop(self)
            if self.connection is not None:
                self.connection.abort()

    def hand_to(self, other: "Call") -> None:
        """What comes from now on goes to `other`, under its deadline."""
        self.closed = True
        self.pool.deadlines.drop(self)
        self.pool.deadlines.watch(other)
        if self.connection is not None:
            self.connection.take_over(other)

    def expire(self) -> None:
        self.close()
        self.failed(TimeoutError("the deadline passed"))


class Connection(asyncio.Protocol):
    """One connection to a worker."""

    __slots__ = (
        "_body",
        "_call",
        "_heard",
        "_keep",
        "_pool",
        "_request",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(self, pool: "Upstreams", address: Address) -> None:
        self._pool, self.address = pool, address
        self._call: Call | None = None
        self._request: tuple[bytes, bytes] | None = None
        self._heard = b""
        self._body: Body | None = None
        self._keep = False
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def send(self, head: bytes, body: bytes, call: Call, *, reused: bool) -> None:
        """Sends a request; what comes of it goes to `call`."""
        self._call, self._body, self._heard = call, None, b""
        self._request = (head, body) if reused else None
        call.connection = self
        self._transport.writelines((head, body))

    def data_received(self, data: bytes) -> None:
        call, body = self._call, self._body
        if call is None:
            self._transport.abort()
            return
        try:
            if body is None:
                self._request = None
                data = self._read_head(call, data)
                body = self._body
                if body is None:
                    return
            if data and (piece := body.feed(data)):
                (self._call or call).data(piece)
            if body.done and self._call is not None:
                self._done(self._call, body)
        except ValueError as error:
            now = self._call
            self.abort()
            if now is not None:
                self._fail(now, error)

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def expire(self) -> None:
        """It was idle for too long."""
        self._transport.abort()

    def abort(self) -> None:
        """Closes at once; the call hears nothing of it."""
        self._call = None
        self._transport.abort()

    def take_over(self, call: Call) -> None:
        """From now on the answer goes to this call."""
        self._call = call
        call.connection = self

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        call, self._call = self._call, None
        if call is None:
            return
        if self._body is not None and self._body.until_close and error is None:
            self._complete(call)
        elif self._request is not None and not call.retried:
            # It had been idle, and the worker closed it before a byte of an answer: it went by unread.
            call.retried = True
            self._pool.open(self.address, *self._request, call)
        else:
            self._fail(call, error or ConnectionResetError("the worker closed the connection"))

    def _read_head(self, call: Call, data: bytes) -> bytes:
        """Returns what follows the head once that is there; `_body` is set then."""
        data = self._heard + data if self._heard else data
        end = data.find(END)
        if end < 0 and len(data) <= MAX_HEAD_BYTES:
            self._heard = data
            return b""
        head = read_response(data[:end]) if 0 <= end <= MAX_HEAD_BYTES else None
        if head is None:
            raise bad_request("the head of an answer is too long")
        self._heard, rest = b"", data[end + len(END) :]
        if head.status < 200:
            return self._read_head(call, rest) if rest else b""
        self._keep = head.keep_alive
        self._body = response_body(head)
        call.head(head)
        return rest

    def _done(self, call: Call, body: Body) -> None:
        if self._keep and not body.rest and not self._transport.get_write_buffer_size():
            self._call = self._body = None
            self._pool.keep(self)
        else:
            self.abort()
        self._complete(call)

    def _complete(self, call: Call) -> None:
        call.closed = True
        self._pool.deadlines.drop(call)
        call.end()

    def _fail(self, call: Call, error: Exception) -> None:
        call.closed = True
        self._pool.deadlines.drop(call)
        call.failed(error)


class Upstreams:
    """All connections to workers. `knows` says whether an address is a worker's: no other is called."""

    def __init__(self, knows: Callable[[str, int], bool]) -> None:
        self._knows = knows
        self.loop = asyncio.get_running_loop()
        self._idle: dict[Address, list[Connection]] = {}
        self._stale: Deadlines[Connection] = Deadlines(IDLE_SECONDS / 4)
        self._opening: set[asyncio.Task[None]] = set()
        self.deadlines: Deadlines[Call] = Deadlines(TICK_SECONDS)

    def send(self, address: Address, head: bytes, body: bytes, call: Call) -> None:
        """Sends a request; all that comes of it, failures too, goes to `call`."""
        if not self._knows(*address):
            call.closed = True
            call.failed(ConnectError("no such worker is known"))
            return
        self.deadlines.watch(call)
        connection = self._take(address)
        if connection is None:
            self.open(address, head, body, call)
        else:
            connection.send(head, body, call, reused=True)

    def open(self, address: Address, head: bytes, body: bytes, call: Call) -> None:
        """Sends it over a new connection."""
        task = self.loop.create_task(self._open(address, head, body, call))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def keep(self, connection: Connection) -> None:
        """Takes back a connection that is idle now."""
        idle = self._idle.setdefault(connection.address, [])
        if len(idle) >= MAX_IDLE:
            connection.abort()
            return
        connection.deadline = self.loop.time() + IDLE_SECONDS
        idle.append(connection)
        self._stale.watch(connection)

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._stale.drop(connection)
        idle = self._idle.get(connection.address)
        if idle is not None and connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.address, None)

    async def close(self) -> None:
        """Closes the idle connections; calls that are under way belong to their owners."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for idle in list(self._idle.values()):
            for connection in list(idle):
                connection.abort()
        self._idle.clear()
        self._stale.close()
        self.deadlines.close()

    def _take(self, address: Address) -> Connection | None:
        """The connection that was used last, if it still can be."""
        idle = self._idle.get(address)
        now = self.loop.time()
        while idle:
            connection = idle.pop()
            self._stale.drop(connection)
            if connection.usable and connection.deadline > now:
                return connection
            connection.abort()
        return None

    async def _open(self, address: Address, head: bytes, body: bytes, call: Call) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self, address), address[0], address[1]
                )
        except OSError as error:
            _log.debug("cannot connect to %s:%d: %s", *address, error)
            if not call.closed:
                call.close()
                call.failed(ConnectError("no connection"))
            return
        if call.closed:
            connection.abort()
        else:
            connection.send(head, body, call, reused=False)
