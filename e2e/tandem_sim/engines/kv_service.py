"""The gRPC service of the native protocol: KV to pull and to release, and what the worker is and does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc

from tandem_sim.engines.changes import Changes
from tandem_sim.engines.kv import KvGoneError, KvStore
from tandem_sim.engines.settings import Settings
from tandem_wire.kv_pb2 import (
    DescribeRequest,
    Description,
    KvChunk,
    KvLayout,
    Load,
    PullRequest,
    ReleaseReply,
    ReleaseRequest,
    WatchLoadRequest,
)
from tandem_wire.kv_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server


class KvService(WorkerServicer):
    """The KV of a handle is the digest of its prompt. `load` tells the present load."""

    def __init__(self, settings: Settings, kv: KvStore, changes: Changes, load: Callable[[], Load]) -> None:
        self._settings, self._kv, self._changes, self._load = settings, kv, changes, load

    async def Describe(
        self, _request: DescribeRequest, _context: grpc.aio.ServicerContext[DescribeRequest, Description]
    ) -> Description:
        settings = self._settings
        return Description(
            protocol_version=1,
            engine_id=self._kv.engine_id,
            model=settings.model,
            layout=KvLayout(block_size=settings.block_size),
            num_blocks=settings.kv_tokens // settings.block_size,
        )

    async def WatchLoad(
        self, request: WatchLoadRequest, _context: grpc.aio.ServicerContext[WatchLoadRequest, Load]
    ) -> AsyncIterator[Load]:
        while True:
            told = self._load()
            yield told
            await asyncio.sleep(request.min_interval_ms / 1000)
            await self._changes.until(partial(self._differs, told))

    def _differs(self, told: Load) -> bool:
        return self._load() != told

    async def Pull(
        self, request: PullRequest, context: grpc.aio.ServicerContext[PullRequest, KvChunk]
    ) -> AsyncIterator[KvChunk]:
        try:
            yield KvChunk(data=self._kv.look(request.handle, request.engine_id).encode())
        except KvGoneError:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no KV under {request.handle}")

    async def Release(
        self, request: ReleaseRequest, _context: grpc.aio.ServicerContext[ReleaseRequest, ReleaseReply]
    ) -> ReleaseReply:
        return ReleaseReply(released=self._kv.end(request.handle, pulled=request.reason == "pulled"))


@asynccontextmanager
async def serving_kv(service: KvService, host: str, port: int) -> AsyncIterator[int]:
    """A running server; gives its port."""
    server = grpc.aio.server()
    add_WorkerServicer_to_server(service, server)
    bound = server.add_insecure_port(f"{host}:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=None)
