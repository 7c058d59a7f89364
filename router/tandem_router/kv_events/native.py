"""KV events of Tandem's own worker: the stream WatchKvEvents, which begins with what is cached."""

import asyncio
from collections.abc import Callable

import grpc

from tandem_router.kv_events import Cleared, KvEvent, Removed, Stored
from tandem_wire import kv_pb2
from tandem_wire.kv_pb2_grpc import WorkerStub

_AT_ONCE = 8


async def follow(channel: grpc.aio.Channel, apply: Callable[[KvEvent], None]) -> None:
    """Until cancelled. Raises grpc.aio.AioRpcError when the stream breaks off."""
    stream = WorkerStub(channel).WatchKvEvents(kv_pb2.WatchKvEventsRequest(from_sequence=0))
    taken = 0
    async for batch in stream:
        for event in batch.events:
            if (read := _read(event)) is not None:
                apply(read)
        taken += 1
        if taken % _AT_ONCE == 0:
            await asyncio.sleep(0)


def _read(event: kv_pb2.KvEvent) -> KvEvent | None:
    match event.WhichOneof("event"):
        case "stored":
            stored = event.stored
            token_ids, parent = tuple(stored.token_ids), stored.parent_hash or None
            return Stored((stored.block_hash,), parent, token_ids, len(token_ids))
        case "removed":
            return Removed(tuple(event.removed.block_hashes))
        case "cleared":
            return Cleared()
    return None
