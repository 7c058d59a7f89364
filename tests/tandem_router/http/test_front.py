"""The clients' side: requests however cut, refusals, keep-alive, hand-overs, clients that leave."""

import asyncio
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem_router.http import front
from tandem_router.http.front import Front
from tandem_router.http.request import Request

HEAD = b"POST /hot HTTP/1.1\r\nhost: x\r\n"
SIZED = HEAD + b"content-length: 5\r\n\r\nhello"
CHUNKED = b"\r\n" + HEAD + b"transfer-encoding: chunked\r\nx-a: b\r\n\r\n3\r\nhel\r\n2;e=1\r\nlo\r\n0\r\n\r\n"
EMPTY = HEAD + b"\r\n"
BIG = HEAD + b"content-length: 900\r\n\r\n" + b"z" * 900


async def exchange(port: int, data: bytes) -> bytes:
    """All that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def answers(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    """Bodies of answers that come with their length."""
    found = []
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(await reader.readexactly(length))
    return found


@given(
    st.lists(st.sampled_from([SIZED, CHUNKED, EMPTY, BIG]), max_size=4),
    st.lists(st.integers(0, 2500), max_size=8),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_gives_the_same_requests(
    new_service: Callable[..., Any], new_wire: Callable[[], Any], sent: list[bytes], cuts: list[int]
) -> None:
    bodies = {SIZED: b"hello", CHUNKED: b"hello", EMPTY: b"", BIG: b"z" * 900}
    data = b"".join(sent)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    async def run() -> tuple[Any, Any]:
        service, wire = new_service(), new_wire()
        protocol = Front(service, asyncio.get_running_loop())
        protocol.connection_made(wire)
        for start, end in pairwise(places):
            if end > start:
                protocol.data_received(data[start:end])
            await asyncio.sleep(0)
        for _ in range(3 * len(sent)):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        service.deadlines.close()
        return service, wire

    service, wire = asyncio.run(run())
    assert [body for _, _, body in service.requests] == [bodies[request] for request in sent]
    assert wire.written.count(b"HTTP/1.1 200 OK\r\n") == len(sent)
    assert not wire.closed


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"content-length: 2000\r\n\r\n" + b"z" * 2000, 413),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"100\r\n" + b"z" * 256 + b"\r\n") * 5, 413),
        (HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc", 400),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"x: " + b"y" * 40_000, 431),
        (HEAD + b"x: y\r\n" * 120 + b"\r\n", 431),
        (HEAD + b"expect: the-best\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
async def test_refusals_reach_the_client_and_close(
    serving: Any, new_service: Callable[..., Any], data: bytes, status: int
) -> None:
    service = new_service()
    async with serving(service) as port:
        got = await exchange(port, data)
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close\r\n" in got
        assert [code for code, _ in service.refused] == [status]
        assert service.requests == []


async def test_expected_continue(serving: Any, new_service: Callable[..., Any]) -> None:
    service = new_service()
    async with serving(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert await answers(reader, 1) == [b"hello"]
        writer.close()


async def test_too_large_is_said_before_the_body_is_sent(
    serving: Any, new_service: Callable[..., Any]
) -> None:
    async with serving(new_service()) as port:
        got = await exchange(port, HEAD + b"expect: 100-continue\r\ncontent-length: 5000\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("begun", [HEAD[:20], HEAD + b"content-length: 5\r\n\r\nhe"])
async def test_a_request_that_does_not_arrive(
    serving: Any, new_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(front, "REQUEST_SECONDS", 0.1)
    async with serving(new_service()) as port:
        assert (await exchange(port, begun)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed_without_a_word(
    serving: Any, new_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "KEEPALIVE_SECONDS", 0.1)
    async with serving(new_service()) as port:
        assert await exchange(port, b"") == b""
        assert (await exchange(port, SIZED)).endswith(b"\r\n\r\nhello")


async def test_requests_follow_each_other(serving: Any, new_service: Callable[..., Any]) -> None:
    async with serving(new_service()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SIZED + CHUNKED + EMPTY)
        assert await answers(reader, 3) == [b"hello", b"hello", b""]
        writer.write(SIZED)
        assert await answers(reader, 1) == [b"hello"]
        writer.close()


async def test_old_clients_and_closing_routers_get_their_last_answer(
    serving: Any, new_service: Callable[..., Any]
) -> None:
    service = new_service()
    async with serving(service) as port:
        old = SIZED.replace(b"1.1", b"1.0")
        assert b"connection: close" in await exchange(port, old)
        service.closing = True
        assert b"connection: close" in await exchange(port, SIZED)


async def stream_of_three(request: Request) -> None:
    request.start(200, {"content-type": "text/event-stream"}, b"one")
    request.write(b"two")
    request.write(b"three")
    request.finish()


async def test_streams_are_chunked_or_end_with_the_connection(
    serving: Any, new_service: Callable[..., Any]
) -> None:
    async with serving(new_service(answer=stream_of_three)) as port:
        got = await exchange(port, SIZED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        assert got.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
        old = await exchange(port, SIZED.replace(b"1.1", b"1.0"))
        assert old.endswith(b"\r\n\r\nonetwothree")
        assert b"chunked" not in old


@pytest.mark.parametrize("half", [False, True])
async def test_a_client_that_leaves_in_silence_cancels_at_once(
    serving: Any, new_service: Callable[..., Any], half: bool
) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def silent(request: Request) -> None:
        request.start(200, {}, b"first")
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(new_service(answer=silent)) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SIZED)
        async with asyncio.timeout(2):
            await begun.wait()
            if half:
                writer.write_eof()
            else:
                writer.close()
            await cancelled.wait()
        writer.close()


async def test_what_is_not_hot_is_handed_over_with_every_byte(
    serving: Any, new_service: Callable[..., Any]
) -> None:
    service = new_service()
    async with serving(service) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(SIZED)
        assert await answers(reader, 1) == [b"hello"]
        cold = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
        writer.write(cold)
        assert (await reader.read()).startswith(b"HTTP/1.1 204")
        assert service.elsewhere[0].received == cold
        writer.close()


async def test_a_flood_of_requests_ahead_waits(new_service: Callable[..., Any], new_wire: Any) -> None:
    released = asyncio.Event()

    async def slow(request: Request) -> None:
        await released.wait()
        request.respond(200, {}, b"")

    service, wire = new_service(answer=slow), new_wire()
    protocol = Front(service, asyncio.get_running_loop())
    protocol.connection_made(wire)
    protocol.data_received(BIG)
    for _ in range(100):
        protocol.data_received(BIG)
        if wire.reading_paused:
            break
    assert wire.reading_paused
    released.set()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(service.requests) >= 70
    assert not wire.reading_paused
    protocol.connection_lost(None)
    service.deadlines.close()


async def test_a_client_that_does_not_read_its_answers_gets_no_more(
    new_service: Callable[..., Any], new_wire: Any
) -> None:
    service, wire = new_service(), new_wire()
    protocol = Front(service, asyncio.get_running_loop())
    protocol.connection_made(wire)
    protocol.pause_writing()
    protocol.data_received(SIZED * 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(service.requests) == 1
    protocol.resume_writing()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(service.requests) == 3
    protocol.connection_lost(None)
    service.deadlines.close()


async def test_a_last_answer_that_is_never_read_is_given_up(
    new_service: Callable[..., Any], new_wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "KEEPALIVE_SECONDS", 0.05)
    service, wire = new_service(closing=True), new_wire()
    protocol = Front(service, asyncio.get_running_loop())
    protocol.connection_made(wire)
    protocol.data_received(SIZED)
    await asyncio.sleep(0)
    assert wire.closed
    assert not wire.aborted
    await asyncio.sleep(0.15)
    assert wire.aborted
    protocol.connection_lost(None)
    service.deadlines.close()


async def test_small_pieces_are_not_held_back_by_the_kernel(
    serving: Any, new_service: Callable[..., Any]
) -> None:
    options: list[int] = []

    async def look(request: Request) -> None:
        (protocol,) = service.deadlines.close()
        sock = protocol.transport.get_extra_info("socket")
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        request.respond(200, {}, b"")

    service = new_service(answer=look)
    async with serving(service) as port:
        await exchange(port, SIZED.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    assert options[0] != 0


async def test_a_header_of_two_lines_is_never_sent(serving: Any, new_service: Callable[..., Any]) -> None:
    failures = []

    async def forged(request: Request) -> None:
        try:
            request.respond(200, {"x": "a\r\nset-cookie: b"}, b"")
        except ValueError as error:
            failures.append(error)
            request.abort()

    async with serving(new_service(answer=forged)) as port:
        assert await exchange(port, SIZED) == b""
    assert len(failures) == 1
