"""A client's connection without sockets, a service that notes its requests, and both kinds of event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvloop

from tandem_router.http.deadlines import Deadlines
from tandem_router.http.front import Front, Handler
from tandem_router.http.head import HttpError, RequestHead
from tandem_router.http.request import Request


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Each test on both kinds of loop: transports differ in when they write and what they are."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Wire(asyncio.Transport):
    """Takes what is written; `close` and `abort` are noted."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = self.aborted = self.reading_paused = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0


class Elsewhere(asyncio.Protocol):
    """Whoever takes a connection over."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(b"\r\n\r\n"):
            self.transport.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
            self.transport.close()


@dataclass
class Noting:
    """Answers POSTs below /hot with what it was sent, or as `answer` says; notes all that happens."""

    max_body_bytes: int = 1000
    closing: bool = False
    requests: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    answer: Callable[[Request], Awaitable[None]] | None = None
    elsewhere: list[Elsewhere] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadlines: Deadlines[Front] = Deadlines(0.02)

    def handler(self, head: RequestHead) -> Handler | None:
        return self.handle if head.method == "POST" and head.target.startswith("/hot") else None

    async def handle(self, request: Request) -> None:
        self.requests.append((request.path, request.headers, request.body))
        if self.answer is not None:
            await self.answer(request)
        else:
            request.respond(200, {"x-length": str(len(request.body))}, request.body)

    def other(self) -> asyncio.Protocol:
        self.elsewhere.append(Elsewhere())
        return self.elsewhere[-1]

    def refusal(self, error: HttpError) -> tuple[Mapping[str, str], bytes]:
        self.refused.append((error.status, error.code))
        return {}, error.code.encode()


@pytest.fixture
def new_wire() -> Callable[[], Wire]:
    return Wire


@pytest.fixture
def new_service() -> Callable[..., Noting]:
    return Noting


Serving = Callable[[Noting], Any]


@pytest.fixture
def serving() -> Serving:
    """async with serving(service) as port: a real socket."""

    @asynccontextmanager
    async def serve(service: Noting) -> AsyncIterator[int]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Front(service, loop), "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        stopped = [front.stop() for front in service.deadlines.close()]
        await asyncio.gather(*(task for task in stopped if task is not None), return_exceptions=True)

    return serve
