"""The streams of the KV service: the load and the changes of the prefix cache. They end with the engine."""

import asyncio
from collections.abc import AsyncIterator

from tandem_wire import kv_pb2
from tandem_worker.kv import AllBlocksCleared, BlocksRemoved, BlockStored, KvEvent
from tandem_worker.settings import Role
from tandem_worker.worker import Worker

WIRE_ROLES = {
    Role.PREFILL: kv_pb2.ROLE_PREFILL,
    Role.DECODE: kv_pb2.ROLE_DECODE,
    Role.MIXED: kv_pb2.ROLE_MIXED,
}


def load_of(worker: Worker) -> kv_pb2.Load:
    load = worker.engine.load
    return kv_pb2.Load(
        num_running=load.num_running,
        num_waiting=worker.num_waiting,
        prefill_backlog_tokens=load.prefill_backlog_tokens,
        kv_blocks_used=load.kv_blocks_used,
        kv_blocks_total=load.kv_blocks_total,
        num_leases=len(worker.leases),
        draining=worker.is_draining,
        role=WIRE_ROLES[worker.role],
    )


async def watch_load(worker: Worker, min_interval: float) -> AsyncIterator[kv_pb2.Load]:
    """The load now, then whenever it differs, at most once in `min_interval` seconds."""
    sent: kv_pb2.Load | None = None
    while worker.engine.failure is None:
        change = worker.changed.ticket()
        load = load_of(worker)
        if load != sent:
            yield load
            sent = load
            await asyncio.sleep(min_interval)
        await change.wait()


async def watch_kv_events(worker: Worker, from_sequence: int) -> AsyncIterator[kv_pb2.KvEvents]:
    """Who reads too slowly for the log's buffer gets a snapshot instead of what it missed."""
    while worker.engine.failure is None:
        change = worker.changed.ticket()
        for batch in worker.kv_events.since(from_sequence):
            yield kv_pb2.KvEvents(sequence=batch.sequence, events=map(_pack, batch.events))
            from_sequence = batch.sequence + 1
        await change.wait()


def _pack(event: KvEvent) -> kv_pb2.KvEvent:
    match event:
        case BlockStored():
            stored = kv_pb2.BlockStored(
                block_hash=event.block_hash, parent_hash=event.parent_hash, token_ids=event.token_ids
            )
            return kv_pb2.KvEvent(stored=stored)
        case BlocksRemoved():
            return kv_pb2.KvEvent(removed=kv_pb2.BlocksRemoved(block_hashes=event.block_hashes))
        case AllBlocksCleared():
            return kv_pb2.KvEvent(cleared=kv_pb2.AllBlocksCleared())
