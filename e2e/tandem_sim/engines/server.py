"""Gives a simulated engine its ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import web

from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.kv_events import publishing
from tandem_sim.engines.kv_service import KvService, serving_kv
from tandem_sim.engines.settings import Settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[SimEngine]:
    """An engine that listens on `engine.port`; a client that leaves aborts its request, as with real ones.

    `engine.kill` ends it as a killed process ends: connections break, nothing listens any more.
    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        engine = SimEngine(settings, session)
        site, host = engine.site, settings.host
        http = await stack.enter_async_context(_listening(engine.application(), host, settings.port))
        site.port = _port(http)
        runners = [http]
        if settings.protocol in ("mooncake", "sglang"):
            app = engine.bootstrap_application()
            runners.append(await stack.enter_async_context(_listening(app, host, settings.bootstrap_port)))
            site.bootstrap_port = _port(runners[-1])
        if settings.protocol == "native":
            service = KvService(settings, engine.kv, engine.changes, engine.load)
            site.kv_port = await stack.enter_async_context(serving_kv(service, host, settings.kv_port))
        if settings.events != "none":
            engine.publisher = await stack.enter_async_context(
                publishing(
                    host,
                    settings.events_port,
                    settings.replay_port,
                    topic=settings.events_topic,
                    fmt=settings.events,
                    block_size=settings.block_size,
                )
            )
        killing: set[asyncio.Task[None]] = set()

        def kill() -> None:
            engine.restart()
            for runner in runners:
                _break(runner)
                killing.add(asyncio.ensure_future(_stop(runner)))

        engine.kill = kill
        yield engine
        await asyncio.gather(*killing)


@asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner
    finally:
        await runner.cleanup()


def _port(runner: web.AppRunner) -> int:
    port: int = runner.addresses[0][1]
    return port


def _break(runner: web.AppRunner) -> None:
    if runner.server is not None:
        for connection in runner.server.connections:
            if connection.transport is not None:
                connection.transport.close()


async def _stop(runner: web.AppRunner) -> None:
    for site in list(runner.sites):
        await site.stop()
