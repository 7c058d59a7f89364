"""The workers' side: connections kept and taken up again, stale ones replaced, everything else a failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem_router.http import upstream
from tandem_router.http.head import HttpError, ResponseHead
from tandem_router.http.upstream import Call, ConnectError, Connection, Upstreams

HEAD, BODY = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n", b"{}"
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
CLOSED = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED


class Collect(Call):
    """An answer as (status, body)."""

    def __init__(self, pool: Upstreams, seconds: float = 5.0) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(pool, loop.time() + seconds)
        self.answer: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        self.status, self.body = 0, b""

    def head(self, head: ResponseHead) -> None:
        self.status = head.status

    def data(self, piece: bytes) -> None:
        self.body += piece

    def end(self) -> None:
        self.answer.set_result((self.status, self.body))

    def failed(self, error: Exception) -> None:
        self.answer.set_exception(error)


Reply = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Worker:
    """Answers each request of each connection as the script says; counts both."""

    replies: list[Reply]
    port: int = 0
    connections: int = 0
    requests: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readexactly(len(HEAD + BODY)):
                self.requests += 1
                self.asked.set()
                await self.replies.pop(0)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


def says(data: bytes, *, close: bool = False) -> Reply:
    async def reply(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            raise ConnectionResetError

    return reply


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)


@asynccontextmanager
async def worker(*replies: Reply) -> AsyncIterator[tuple[Worker, Upstreams]]:
    behind = Worker(list(replies))
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    behind.port = server.sockets[0].getsockname()[1]
    upstreams = Upstreams(lambda address, port: (address, port) == ("127.0.0.1", behind.port))
    yield behind, upstreams
    await upstreams.close()
    server.close()


def ask(behind: Worker, upstreams: Upstreams, seconds: float = 5.0) -> Collect:
    call = Collect(upstreams, seconds)
    upstreams.send(("127.0.0.1", behind.port), HEAD, BODY, call)
    return call


async def answer(behind: Worker, upstreams: Upstreams, seconds: float = 5.0) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        return await ask(behind, upstreams, seconds).answer


@pytest.mark.parametrize("kept", [SIZED, CHUNKED, CONTINUED])
async def test_a_connection_is_taken_up_again(kept: bytes) -> None:
    async with worker(*[says(kept)] * 3) as (behind, upstreams):
        assert [await answer(behind, upstreams) for _ in range(3)] == [(200, b"hello")] * 3
        assert behind.connections == 1


@pytest.mark.parametrize(
    "last",
    [
        CLOSED,
        SIZED.replace(b"1.1", b"1.0"),
        SIZED + b"more",
        SIZED.replace(b"OK", b"OK\r\nconnection: close"),
    ],
)
async def test_a_connection_is_not_taken_up_again(last: bytes) -> None:
    replies = [says(last, close=True), says(SIZED)]
    async with worker(*replies) as (behind, upstreams):
        assert [await answer(behind, upstreams) for _ in range(2)] == [(200, b"hello")] * 2
        assert behind.connections == 2


async def test_a_connection_that_went_stale_is_replaced_once() -> None:
    replies = [says(SIZED), says(b"", close=True), says(SIZED)]
    async with worker(*replies) as (behind, upstreams):
        assert [await answer(behind, upstreams) for _ in range(2)] == [(200, b"hello")] * 2
        assert (behind.connections, behind.requests) == (2, 3)


async def test_a_new_connection_that_closes_is_a_failure() -> None:
    async with worker(says(b"", close=True), says(SIZED)) as (behind, upstreams):
        with pytest.raises(ConnectionResetError):
            await answer(behind, upstreams)
        assert behind.requests == 1


async def test_nothing_is_sent_again_once_an_answer_has_begun() -> None:
    async with worker(says(SIZED), says(b"HTTP/1.1 2", close=True), says(SIZED)) as (behind, upstreams):
        await answer(behind, upstreams)
        with pytest.raises(ConnectionResetError):
            await answer(behind, upstreams)
        assert behind.requests == 2


@pytest.mark.parametrize(
    "broken",
    [SIZED[:-1], CHUNKED[:-5], CHUNKED[:-2], b"HTTP/1.1 200 OK\r\ncontent-length: 5", CONTINUED[:25]],
)
async def test_an_answer_that_breaks_off_is_a_failure(broken: bytes) -> None:
    async with worker(says(broken, close=True)) as (behind, upstreams):
        with pytest.raises(ConnectionResetError):
            await answer(behind, upstreams)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0\r\n\r\n",
        b"x" * 40_000,
        CHUNKED.replace(b"3\r\nllo", b"2\r\nllo"),
        SIZED.replace(b"5", b"-5"),
    ],
)
async def test_nonsense_is_a_failure(nonsense: bytes) -> None:
    async with worker(says(nonsense)) as (behind, upstreams):
        with pytest.raises(HttpError):
            await answer(behind, upstreams)
        async with asyncio.timeout(2):
            await behind.gone.wait()


async def test_only_known_workers_are_called() -> None:
    async with worker(says(SIZED)) as (behind, upstreams):
        for address in (
            ("127.0.0.2", behind.port),
            ("127.0.0.1", behind.port + 1),
            ("localhost", behind.port),
        ):
            call = Collect(upstreams)
            upstreams.send(address, HEAD, BODY, call)
            with pytest.raises(ConnectError):
                await call.answer
        assert behind.connections == 0


async def test_a_closed_port_is_a_failure_to_connect() -> None:
    upstreams = Upstreams(lambda _address, _port: True)
    call = Collect(upstreams)
    upstreams.send(("127.0.0.1", 1), HEAD, BODY, call)
    with pytest.raises(ConnectError):
        await call.answer
    await upstreams.close()


async def test_a_silent_worker_meets_the_deadline_and_hears_of_it() -> None:
    async with worker(silent) as (behind, upstreams):
        with pytest.raises(TimeoutError):
            await answer(behind, upstreams, 0.1)
        async with asyncio.timeout(2):
            await behind.gone.wait()


async def test_a_worker_hears_at_once_that_nobody_waits() -> None:
    async with worker(silent) as (behind, upstreams):
        call = ask(behind, upstreams)
        async with asyncio.timeout(2):
            await behind.asked.wait()
            call.close()
            await behind.gone.wait()
        assert not call.answer.done()


async def test_idle_connections_are_closed_before_the_worker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.1)
    async with worker(says(SIZED), says(SIZED)) as (behind, upstreams):
        await answer(behind, upstreams)
        async with asyncio.timeout(2):
            await behind.gone.wait()
        assert await answer(behind, upstreams) == (200, b"hello")
        assert behind.connections == 2


async def test_as_many_connections_as_requests_at_once() -> None:
    async with worker(*[says(SIZED)] * 40) as (behind, upstreams):
        for _ in range(2):
            calls = [ask(behind, upstreams) for _ in range(20)]
            assert await asyncio.gather(*(call.answer for call in calls)) == [(200, b"hello")] * 20
        assert behind.connections == 20


@given(st.sampled_from([SIZED, CHUNKED, CLOSED, CONTINUED]), st.lists(st.integers(0, 120), max_size=8))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_gives_the_same_answer(
    new_wire: Callable[[], asyncio.Transport], data: bytes, cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    async def run() -> tuple[int, bytes]:
        upstreams = Upstreams(lambda _address, _port: True)
        connection, call = Connection(upstreams, ("x", 1)), Collect(upstreams)
        connection.connection_made(new_wire())
        connection.send(HEAD, BODY, call, reused=False)
        for start, end in pairwise(places):
            if end > start:
                connection.data_received(data[start:end])
        connection.connection_lost(None)
        await upstreams.close()
        return await call.answer

    assert asyncio.run(run()) == (200, b"hello")
