"""A prefill worker's side of the hand-over in the native protocol: Pull and Release of `Worker`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from tandem_sim.engines.kv import KvGoneError, KvStore
from tandem_wire.kv_pb2 import KvChunk, PullRequest, ReleaseReply, ReleaseRequest
from tandem_wire.kv_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server


class KvService(WorkerServicer):
    """The KV of a handle is the digest of its prompt."""

    def __init__(self, kv: KvStore) -> None:
        self._kv = kv

    async def Pull(  # noqa: N802 - gRPC's name
        self, request: PullRequest, context: grpc.aio.ServicerContext[PullRequest, KvChunk]
    ) -> AsyncIterator[KvChunk]:
        try:
            yield KvChunk(data=self._kv.look(request.handle, request.engine_id).encode())
        except KvGoneError:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no KV under {request.handle}")

    async def Release(  # noqa: N802 - gRPC's name
        self, request: ReleaseRequest, _context: grpc.aio.ServicerContext[ReleaseRequest, ReleaseReply]
    ) -> ReleaseReply:
        return ReleaseReply(released=self._kv.end(request.handle, pulled=request.reason == "pulled"))


@asynccontextmanager
async def serving_kv(kv: KvStore, host: str) -> AsyncIterator[int]:
    """A running server; gives its port."""
    server = grpc.aio.server()
    add_WorkerServicer_to_server(KvService(kv), server)
    port = server.add_insecure_port(f"{host}:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)
