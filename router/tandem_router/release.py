"""Gives KV handles back over gRPC, in the background: a client that left waits for nothing."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

import grpc

from tandem_router.engines.base import ReleaseCall
from tandem_wire.kv_pb2 import ReleaseRequest
from tandem_wire.kv_pb2_grpc import WorkerStub

TIMEOUT_SECONDS = 2.0
MAX_CHANNELS = 256
MAX_PENDING = 1024

_log = logging.getLogger(__name__)


class KvReleaser:
    """Sends Release calls, to known workers only. One that fails is logged; its lease ends all the same."""

    def __init__(self, knows_address: Callable[[str], bool]) -> None:
        self._knows_address = knows_address
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._pending: set[asyncio.Task[None]] = set()

    def submit(self, call: ReleaseCall, reason: str, released: Callable[[], None]) -> None:
        """Starts a release and returns; `released` is called when the worker had the handle and freed it."""
        if not self._knows_address(call.host):
            _log.warning("a handle of %s, which is no known worker, is left to its lease", call.host)
        elif len(self._pending) >= MAX_PENDING:
            _log.warning("%d releases are under way: a handle is left to its lease", MAX_PENDING)
        else:
            task = asyncio.get_running_loop().create_task(self._release(call, reason, released))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

    async def close(self) -> None:
        """Waits for the releases under way, each of which has its timeout, and closes the channels."""
        await asyncio.gather(*self._pending)
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def _release(self, call: ReleaseCall, reason: str, released: Callable[[], None]) -> None:
        # The service knows two reasons of a router; what is neither was not needed any more.
        request = ReleaseRequest(handle=call.handle, reason="failed" if reason == "failed" else "cancelled")
        try:
            channel = await self._channel(call)
            reply = await WorkerStub(channel).Release(request, timeout=TIMEOUT_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.warning("cannot release a handle at %s: %s", call.host, error.code().name)
            return
        if reply.released:
            released()

    async def _channel(self, call: ReleaseCall) -> grpc.aio.Channel:
        host = f"[{call.host}]" if ":" in call.host else call.host
        target = f"{host}:{call.port}"
        if target not in self._channels:
            self._channels[target] = grpc.aio.insecure_channel(target)
        self._channels.move_to_end(target)
        channel = self._channels[target]
        if len(self._channels) > MAX_CHANNELS:
            _, oldest = self._channels.popitem(last=False)
            await oldest.close(grace=TIMEOUT_SECONDS)
        return channel
