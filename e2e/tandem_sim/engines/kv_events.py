"""vLLM's KV events over ZMQ (vllm/distributed/kv_events.py): PUB with sequence numbers, ROUTER for replay.

Messages are [topic, sequence as 8 bytes big endian, msgpack of [ts, events, data_parallel_rank]]. An event
is a tagged array with hashes as integers (older copies), or a map with `type` and hashes as bytes.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from tandem_sim.engines.prefix_cache import CacheEvent, Cleared, Removed, Stored
from tandem_sim.engines.settings import EventFormat

REMEMBERED_BATCHES = 10_000
END = (-1).to_bytes(8, "big", signed=True)
_MEDIUM = "GPU"


def encode(events: Sequence[CacheEvent], fmt: EventFormat, block_size: int, ts: float) -> bytes:
    """One batch. Pure."""
    one = _as_map if fmt == "map" else _as_array
    return msgspec.msgpack.encode([ts, [one(event, block_size) for event in events], 0])


def as_int(name: bytes) -> int:
    """A hash as older copies publish it: its last 8 bytes."""
    return int.from_bytes(name[-8:], "big")


def _as_array(event: CacheEvent, block_size: int) -> list[Any]:
    match event:
        case Stored(hashes, parent, ids):
            above = None if parent is None else as_int(parent)
            names = [as_int(name) for name in hashes]
            return ["BlockStored", names, above, list(ids), block_size, None, _MEDIUM, None]
        case Removed(hashes):
            return ["BlockRemoved", [as_int(name) for name in hashes], _MEDIUM]
        case Cleared():
            return ["AllBlocksCleared"]


def _as_map(event: CacheEvent, block_size: int) -> dict[str, Any]:
    match event:
        case Stored(hashes, parent, ids):
            return {
                "type": "BlockStored",
                "block_hashes": list(hashes),
                "parent_block_hash": parent,
                "token_ids": list(ids),
                "block_size": block_size,
                "lora_id": None,
                "medium": _MEDIUM,
                "lora_name": None,
                "group_idx": 0,
            }
        case Removed(hashes):
            return {
                "type": "BlockRemoved",
                "block_hashes": list(hashes),
                "medium": _MEDIUM,
                "group_idx": 0,
            }
        case Cleared():
            return {"type": "AllBlocksCleared"}


class Publisher:
    """One engine's events. `port` and `replay_port` are bound."""

    def __init__(self, pub: zmq.Socket[bytes], topic: str, fmt: EventFormat, block_size: int) -> None:
        self._pub, self._topic, self._format = pub, topic.encode(), fmt
        self._block_size = block_size
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED_BATCHES)
        self._next = 0
        self.port = 0
        self.replay_port = 0

    def publish(self, events: Sequence[CacheEvent]) -> None:
        if events:
            payload = encode(events, self._format, self._block_size, time.time())
            self._sent.append((self._next, payload))
            self._pub.send_multipart([self._topic, self._next.to_bytes(8, "big"), payload], zmq.DONTWAIT)
            self._next += 1

    async def serve_replay(self, router: "zmq.asyncio.Socket") -> None:
        """Answers [client, empty, first sequence] with every batch from there on, then one that says -1."""
        while True:
            client, _, first = await router.recv_multipart()
            for number, payload in list(self._sent):
                if number >= int.from_bytes(first, "big"):
                    parts = [client, b"", self._topic, number.to_bytes(8, "big"), payload]
                    await router.send_multipart(parts)
            await router.send_multipart([client, b"", b"", END, b""])


@asynccontextmanager
async def publishing(
    host: str, port: int, replay_port: int, *, topic: str, fmt: EventFormat, block_size: int
) -> AsyncIterator[Publisher]:
    """A publisher on these ports (0: any free one), closed at the end."""
    context = zmq.Context()
    pub = context.socket(zmq.PUB)
    router = zmq.asyncio.Context(context).socket(zmq.ROUTER)
    try:
        publisher = Publisher(pub, topic, fmt, block_size)
        publisher.port = _bind(pub, host, port)
        publisher.replay_port = _bind(router, host, replay_port)
        replay = asyncio.ensure_future(publisher.serve_replay(router))
        try:
            yield publisher
        finally:
            replay.cancel()
    finally:
        pub.close(linger=0)
        router.close(linger=0)
        context.term()


def _bind(socket: Any, host: str, port: int) -> int:
    if port:
        socket.bind(f"tcp://{host}:{port}")
        return port
    return int(socket.bind_to_random_port(f"tcp://{host}"))
