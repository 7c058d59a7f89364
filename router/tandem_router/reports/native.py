"""The load of Tandem's own worker: the stream WatchLoad."""

from collections.abc import Callable

import grpc

from tandem_router.types import Report
from tandem_wire import kv_pb2
from tandem_wire.kv_pb2_grpc import WorkerStub

MIN_INTERVAL_MS = 100


async def follow_load(channel: grpc.aio.Channel, tell: Callable[[Report], None]) -> None:
    """Until cancelled. Raises grpc.aio.AioRpcError when the stream breaks off."""
    stub = WorkerStub(channel)
    layout = (await stub.Describe(kv_pb2.DescribeRequest(), timeout=5.0)).layout
    async for load in stub.WatchLoad(kv_pb2.WatchLoadRequest(min_interval_ms=MIN_INTERVAL_MS)):
        tell(_report(load, layout.block_size))


def _report(load: kv_pb2.Load, block_size: int) -> Report:
    total = load.kv_blocks_total
    return Report(
        running=load.num_running,
        waiting=load.num_waiting,
        backlog_tokens=load.prefill_backlog_tokens,
        kv_used=load.kv_blocks_used / total if total else None,
        kv_tokens=total * block_size,
        draining=load.draining,
    )
