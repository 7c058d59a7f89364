"""A client that leaves: both legs hear of it at once, also in silence, and the KV is given back."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tandem_router.types import Endpoint, Role
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair

NATIVE = Settings(protocol="native")
SLOW = replace(NATIVE, token_seconds=30.0)


def request(running: Fleet, session: aiohttp.ClientSession, *, stream: bool) -> Any:
    body = {"model": "fake", "prompt": "a word " * 600, "max_tokens": 6, "stream": stream}
    return session.post(f"{running.url}/v1/completions", json=body)


def counted(running: Fleet, name: str, **labels: str) -> float | None:
    labels = {"llmservice": "test", "model": "fake"} | labels
    return running.runtime.metrics.registry.get_sample_value(f"tandem_router_{name}_total", labels)


async def leave_when(running: Fleet, role: str, *, stream: bool, clients: int = 1) -> None:
    """Sends requests, leaves once the worker of this role runs all of them, waits until it has heard."""
    (engine,) = running.of(role)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asked = [asyncio.ensure_future(request(running, session, stream=stream)) for _ in range(clients)]
        async with asyncio.timeout(10):
            await engine.until(lambda: engine.stats.running == clients)
        for task in asked:
            task.cancel()
        async with asyncio.timeout(2):
            await engine.until(lambda: engine.stats.aborted == clients)
        assert engine.stats.running == 0


async def assert_nothing_left(running: Fleet) -> None:
    assert dict(running.runtime.loads) == {}
    assert running.runtime.admission.in_flight == 0
    async with asyncio.timeout(5):
        for engine in running.engines:
            await engine.until(partial(has_no_handles, engine))
    await running.runtime.releaser.close()


def has_no_handles(engine: SimEngine) -> bool:
    return engine.kv.stats()["open"] == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_during_the_prefill_leg(stream: bool) -> None:
    async with fleet(*pair(NATIVE)) as running:
        running.engines[0].faults.inject(Fault.HANG)
        await leave_when(running, "prefill", stream=stream)
        assert counted(running, "client_disconnects", phase="prefill") == 1
        assert len(running.engines[1].seen) == 0
        await assert_nothing_left(running)


@pytest.mark.parametrize("stream", [True, False])
async def test_before_the_decode_worker_has_pulled(stream: bool) -> None:
    async with fleet(*pair(NATIVE)) as running:
        prefill, decode = running.engines
        decode.faults.inject(Fault.HANG)
        await leave_when(running, "decode", stream=stream)
        await assert_nothing_left(running)
        assert prefill.kv.stats()["released"] == 1
        assert counted(running, "client_disconnects", phase="decode") == 1
        assert counted(running, "kv_releases", reason="cancelled") == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_while_the_decode_worker_is_silent(stream: bool) -> None:
    async with fleet(*pair(SLOW)) as running:
        await leave_when(running, "decode", stream=stream)
        await assert_nothing_left(running)


async def test_between_two_tokens_of_a_stream() -> None:
    async with fleet(*pair(replace(NATIVE, token_seconds=0.2))) as running:
        decode = running.engines[1]
        async with aiohttp.ClientSession() as session:
            async with request(running, session, stream=True) as response:
                await response.content.readline()
                response.close()
            async with asyncio.timeout(2):
                await decode.until(lambda: decode.stats.aborted == 1)
        await assert_nothing_left(running)


async def test_a_hundred_at_once() -> None:
    async with fleet(*pair(SLOW)) as running:
        await leave_when(running, "decode", stream=True, clients=100)
        await assert_nothing_left(running)


async def test_a_client_that_reads_slowly_holds_the_worker_back() -> None:
    event, total, written = b"data: " + b"x" * 65_536 + b"\n\n", 2000, [0]
    aborted = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for _ in range(total):
                await response.write(event)
                written[0] += 1
        except (asyncio.CancelledError, ConnectionResetError):
            aborted.set()
            raise
        return response

    app = web.Application()
    app.router.add_post("/v1/completions", endless)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    worker = Endpoint("w", "127.0.0.1", runner.addresses[0][1], Role.MIXED, "p", "vllm", "fake", "1")
    async with fleet(config=CONFIG) as running, aiohttp.ClientSession(read_bufsize=2**10) as session:
        running.publish([worker])
        async with request(running, session, stream=True) as response:
            await response.content.readexactly(10)
            before = -1
            while before != written[0]:
                before = written[0]
                await asyncio.sleep(0.2)
            assert written[0] < total / 4
            response.close()
        async with asyncio.timeout(2):
            await aborted.wait()
        await assert_nothing_left(running)
    await runner.cleanup()
