"""Gives a fake engine its ports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.kv_service import serve_kv
from tandem_sim.engines.settings import Settings


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[SimEngine]:
    """An engine that listens on `engine.port`; a client that leaves aborts its request, as with vLLM."""
    async with aiohttp.ClientSession() as session:
        engine = SimEngine(settings, session)
        runner = web.AppRunner(
            engine.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.port).start()
        engine.port = engine.kv_port = runner.addresses[0][1]
        kv_server = None
        if settings.flavour == "native":
            kv_server, engine.kv_port = await serve_kv(engine.kv, settings.host)
        try:
            yield engine
        finally:
            if kv_server is not None:
                await kv_server.stop(grace=None)
            await runner.cleanup()
