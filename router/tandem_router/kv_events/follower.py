"""Follows the KV events of all workers, a task for each, and keeps the index."""

import asyncio
from collections.abc import Iterable

import grpc
import zmq
import zmq.asyncio

from tandem_router.backoff import keep_up
from tandem_router.kv_events import KvEvent
from tandem_router.kv_events.decode import BadEventsError
from tandem_router.kv_events.native import follow
from tandem_router.kv_events.vllm import KvStream
from tandem_router.kv_index import KvIndex
from tandem_router.types import Endpoint
from tandem_wire.router_settings import KvEvents

_FAILURES = (grpc.aio.AioRpcError, zmq.ZMQError, BadEventsError, OSError)
_NATIVE = "native"
_OVER_ZMQ = ("vllm", "sglang")


class KvFollower:
    """A worker whose events cannot be followed has nothing in the index, and is tried again."""

    def __init__(self, settings: KvEvents, index: KvIndex) -> None:
        self._settings, self._index = settings, index
        self._context = zmq.asyncio.Context()
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def know(self, endpoints: Iterable[Endpoint]) -> None:
        """These are the workers now: the ready ones are followed."""
        ready = {e for e in endpoints if e.ready and (e.engine != _NATIVE or e.kv_port)}
        for endpoint in self._tasks.keys() - ready:
            self._tasks.pop(endpoint).cancel()
            self._index.forget(endpoint.name)
        for endpoint in ready - self._tasks.keys():
            if endpoint.engine == _NATIVE or endpoint.engine.startswith(_OVER_ZMQ):
                self._tasks[endpoint] = asyncio.get_running_loop().create_task(self._keep_up(endpoint))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._context.destroy(linger=0)

    async def _keep_up(self, endpoint: Endpoint) -> None:
        def apply(event: KvEvent) -> None:
            self._index.apply(endpoint.name, endpoint.model, event)

        async def attempt() -> None:
            if endpoint.engine == _NATIVE:
                async with grpc.aio.insecure_channel(_target(endpoint)) as channel:
                    await follow(channel, apply)
            else:
                ports = self._settings.port, self._settings.replay_port
                await KvStream(self._context, endpoint.address, *ports, apply).run()

        def failed() -> None:
            self._index.forget(endpoint.name)

        await keep_up(attempt, failed, _FAILURES, f"following the KV events of {endpoint.name}")


def _target(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.kv_port}"
