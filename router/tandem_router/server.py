"""Runs a router: discovery beside the HTTP API, until a signal; then requests in flight end first."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from tandem_router.access.desk import Desk
from tandem_router.access.keys import KeysError
from tandem_router.access.keys_file import KeysFile
from tandem_router.admission import Admission
from tandem_router.app import ColdApi, HotApi
from tandem_router.config import RouterConfig, read_secret
from tandem_router.directory import Directory
from tandem_router.discovery import Discovery, Publish
from tandem_router.engines import engines
from tandem_router.health_watch import HealthWatch
from tandem_router.http.front import Front
from tandem_router.http.tls import HANDSHAKE_SECONDS, Certificate
from tandem_router.http.upstream import Upstreams
from tandem_router.legs import ask_peer
from tandem_router.metrics import RouterMetrics
from tandem_router.peers import Peers
from tandem_router.policies.registry import DEFAULT, Policy
from tandem_router.queueing.tiers import Tier, tiers
from tandem_router.release import KvReleaser
from tandem_router.runtime import Runtime
from tandem_router.types import Endpoint
from tandem_router.watchers import Watchers

BACKLOG = 1024
PROBE_SECONDS = 2.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_log = logging.getLogger(__name__)


@asynccontextmanager
async def new_runtime(config: RouterConfig, policy: Policy = DEFAULT) -> AsyncIterator[Runtime]:
    """What a router needs, opened and closed."""
    directory = Directory(config.model)
    classes = tiers(config.settings.classes, Tier(ttft=config.slo_ttft, tpot=config.slo_tpot))
    metrics = RouterMetrics(config.service, config.slo_ttft, config.slo_tpot, classes)
    if config.model:
        metrics.expect(config.model)
    releaser = KvReleaser(directory.knows_address)
    admission = Admission(config.max_in_flight)
    upstreams = Upstreams(directory.knows)
    # Not the loop's time: uvloop counts whole milliseconds.
    clock = time.monotonic
    peers = Peers(lambda prefill, probe: ask_peer(upstreams, prefill, probe, clock() + PROBE_SECONDS))
    try:
        health = HealthWatch(config.settings.recovery, metrics, clock)
        runtime = Runtime(
            config,
            upstreams,
            clock,
            directory,
            metrics,
            releaser,
            admission,
            peers,
            health,
            engines(trtllm_auth_key=read_secret(config.trtllm_auth_key_file)),
            policy,
        )
        runtime.desk = new_desk(config)
        runtime.views.ejected = health.ejected
        runtime.watchers = Watchers(
            config.settings.scheduling, runtime.views, directory.knows, runtime.gate.reported
        )
        try:
            yield runtime
        finally:
            runtime.gate.close()
            await runtime.watchers.close()
    finally:
        await peers.close()
        await upstreams.close()
        await releaser.close()


def new_desk(config: RouterConfig) -> Desk:
    """Raises KeysError for a keys file that cannot be used, or that is missing although one is wanted."""
    if config.api_keys is not None:
        return Desk(config.settings, KeysFile(config.api_keys))
    if config.settings.access.keys_secret is not None:
        raise KeysError("access.keysSecret is set, but no file is given with --api-keys")
    return Desk(config.settings)


@asynccontextmanager
async def listening(runtime: Runtime) -> AsyncIterator[int]:
    """Serves the API; gives the port, which the system chose if the configured one is 0.

    A client that leaves cancels its handler, also while its stream is silent.
    """
    cold = ColdApi(runtime)
    runner = web.AppRunner(
        cold.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("aiohttp's runner has no server after its set-up")
    hot = HotApi(runtime, runner.server)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        if runtime.config.shared:
            stack.callback(loop.create_task(cold.keep_fresh()).cancel)
        certificate = _certificate(runtime.config)
        if certificate is not None:
            stack.callback(loop.create_task(certificate.follow()).cancel)
        stack.push_async_callback(hot.close)
        servers = []
        for host in dict.fromkeys(runtime.config.hosts):
            server = await loop.create_server(
                lambda: Front(hot, loop),
                host,
                runtime.config.port,
                backlog=BACKLOG,
                ssl=None if certificate is None else certificate.context,
                ssl_handshake_timeout=None if certificate is None else HANDSHAKE_SECONDS,
                reuse_port=runtime.config.shared,
            )
            stack.callback(server.close)
            servers.append(server)
        yield servers[0].sockets[0].getsockname()[1]


def _certificate(config: RouterConfig) -> Certificate | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return Certificate(config.tls_cert, config.tls_key)


def publisher(runtime: Runtime) -> Publish:
    """What discovery calls: from then on requests go to these workers."""

    def publish(endpoints: Sequence[Endpoint]) -> None:
        runtime.directory.publish(endpoints)
        runtime.peers.keep(endpoints)
        runtime.gate.workers_changed(endpoints)
        runtime.health.know(endpoints)
        runtime.forecaster.keep(frozenset(e.name for e in endpoints))
        if runtime.watchers is not None:
            runtime.watchers.know(endpoints)
        runtime.metrics.endpoints(runtime.directory.endpoints)
        _log.info("%d workers, %d of them ready", len(endpoints), sum(e.ready for e in endpoints))

    return publish


async def serve(config: RouterConfig, policy: Policy, discovery: Discovery) -> None:
    """Runs until SIGTERM or SIGINT, then for `drain_timeout` at most. Raises what discovery failed with."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    async with new_runtime(config, policy) as runtime, listening(runtime) as port:
        for host in dict.fromkeys(config.hosts):
            _log.info("listening on %s:%d", host, port)
        watching = asyncio.ensure_future(discovery.run(publisher(runtime)))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((watching, stopping), return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            await _drain(runtime)
        finally:
            watching.cancel()
            stopping.cancel()


async def _drain(runtime: Runtime) -> None:
    """Lets requests in flight end. A second signal kills at once: its handler is gone."""
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.remove_signal_handler(number)
    _log.info("stopping; %d requests in flight", runtime.admission.in_flight)
    try:
        async with asyncio.timeout(runtime.config.drain_timeout):
            await runtime.admission.drain()
    except TimeoutError:
        _log.warning("%d requests did not end in time", runtime.admission.in_flight)
