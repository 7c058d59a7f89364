"""A worker process from start to end: HTTP at once, then the model, then KV; at last the drain."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics

from tandem_worker.errors import ConfigError
from tandem_worker.kv_server import start_kv_server
from tandem_worker.loading import Loaded, start_loading
from tandem_worker.metrics import WorkerMetrics
from tandem_worker.server.app import make_app
from tandem_worker.server.serving import Ready, Serving
from tandem_worker.settings import WorkerSettings
from tandem_worker.transfer.grpc_transport import GrpcTransport
from tandem_worker.worker import Worker

logger = logging.getLogger(__name__)

DISTRIBUTION = "tandem-serve"
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A worker that serves; the ports are the real ones."""

    worker: Worker
    http_port: int
    kv_port: int


async def run_until_signal(settings: WorkerSettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains within the drain timeout and returns.

    A signal while the model loads ends it at once. Raises `ConfigError` and `CheckpointError`.
    """
    disable_created_metrics()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with _http(settings) as (serving, http_port):
        loading, stopping = start_loading(settings), loop.create_task(stop.wait())
        either: list[asyncio.Future[Any]] = [loading, stopping]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return
        async with _working(settings, await loading, serving, http_port) as running:
            _log_ready(settings, running)
            await stopping
            logger.info("draining for at most %g s", settings.drain_timeout)
            if not await running.worker.drain(settings.drain_timeout):
                logger.warning("time is up: %d requests are cut off", running.worker.num_running)


@asynccontextmanager
async def serve(settings: WorkerSettings, loaded: Loaded | None = None) -> AsyncIterator[Running]:
    """A worker inside this process, without signals and without a drain."""
    async with _http(settings) as (serving, http_port):
        engine_and_tokenizer = loaded or await start_loading(settings)
        async with _working(settings, engine_and_tokenizer, serving, http_port) as running:
            yield running


@asynccontextmanager
async def _http(settings: WorkerSettings) -> AsyncIterator[tuple[Serving, int]]:
    """Answers health checks from now on, everything else when `Serving.ready` is set."""
    serving = Serving(CollectorRegistry())
    runner = web.AppRunner(
        make_app(serving), handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield serving, int(runner.addresses[0][1])
    except OSError as error:
        if runner.addresses:
            raise
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _working(
    settings: WorkerSettings, loaded: Loaded, serving: Serving, http_port: int
) -> AsyncIterator[Running]:
    metrics = WorkerMetrics(serving.registry, settings.service, settings.pool, settings.role)
    metrics.set_info(settings.model_name, settings.revision, loaded.device)
    worker = Worker(settings, loaded.engine, GrpcTransport(loaded.engine.layout), metrics)
    try:
        kv_server, kv_port = await start_kv_server(worker)
        fingerprint = "-".join(filter(None, ("tandem", version(DISTRIBUTION), settings.revision)))
        serving.ready = Ready(worker, loaded.tokenizer, kv_port, fingerprint, int(time.time()))
        try:
            yield Running(worker, http_port, kv_port)
        finally:
            await kv_server.stop(CLOSE_SECONDS)
    finally:
        await worker.stop()


def _log_ready(settings: WorkerSettings, running: Running) -> None:
    logger.info(
        "ready: %s worker for %s on http://%s:%d, KV on %s:%d",
        settings.role,
        settings.model_name,
        settings.host,
        running.http_port,
        settings.advertise_host,
        running.kv_port,
    )
