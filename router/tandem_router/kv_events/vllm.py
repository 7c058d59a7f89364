"""KV events of vLLM and SGLang over ZMQ: a PUB socket with sequence numbers, a ROUTER socket for old ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager

import zmq
import zmq.asyncio

from tandem_router.kv_events import Cleared, KvEvent
from tandem_router.kv_events.decode import decode_batch

Apply = Callable[[KvEvent], None]

REPLAY_SECONDS = 2.0
"""A publisher that says nothing for so long when it is asked for old batches has none."""
_HEARTBEAT_MS, _SILENCE_MS = 5_000, 15_000
_QUEUED_BATCHES = 100_000
_AT_ONCE = 32
"""So many batches are taken in before others get their turn."""


class KvStream:
    """One publisher, followed from its oldest batch on. A gap that cannot be filled clears what is known."""

    def __init__(
        self, context: zmq.asyncio.Context, host: str, port: int, replay_port: int, apply: Apply
    ) -> None:
        self._context, self._apply = context, apply
        address = f"[{host}]" if ":" in host else host
        self._events, self._replay = f"tcp://{address}:{port}", f"tcp://{address}:{replay_port}"
        self._next = 0
        self._newest = -1

    async def run(self) -> None:
        """Until cancelled. Raises BadEventsError, or OSError when the publisher is gone."""
        with _connected(self._context, zmq.SUB, self._events) as socket:
            monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            tasks = (
                asyncio.ensure_future(self._listen(socket)),
                asyncio.ensure_future(monitor.recv_multipart()),
            )
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[0].done():
                    tasks[0].result()
                raise ConnectionResetError("the connection was closed")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                socket.disable_monitor()

    async def _listen(self, socket: zmq.asyncio.Socket) -> None:
        await self._catch_up(None)
        taken = 0
        while True:
            parts = await socket.recv_multipart()
            await self._arrived(int.from_bytes(parts[-2], "big"), parts[-1])
            taken += 1
            if taken % _AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _arrived(self, number: int, payload: bytes) -> None:
        restarted, self._newest = number <= self._newest, number
        if restarted:
            self._apply(Cleared())
            self._next = 0
        if number > self._next:
            await self._catch_up(number)
        if number >= self._next:
            self._take(number, payload)

    async def _catch_up(self, until: int | None) -> None:
        """Asks for the batches from the next on, which may be more than those before `until`."""
        async for number, payload in self._old_batches():
            if number > self._next:
                self._apply(Cleared())
            if number >= self._next:
                self._take(number, payload)
        if until is not None and self._next < until:
            self._apply(Cleared())

    def _take(self, number: int, payload: bytes) -> None:
        for event in decode_batch(payload):
            self._apply(event)
        self._next = number + 1

    async def _old_batches(self) -> AsyncIterator[tuple[int, bytes]]:
        with _connected(self._context, zmq.DEALER, self._replay) as socket:
            await socket.send_multipart([b"", self._next.to_bytes(8, "big")])
            while await socket.poll(REPLAY_SECONDS * 1000):
                parts = await socket.recv_multipart()
                number = int.from_bytes(parts[-2], "big", signed=True)
                if number < 0:
                    return
                yield number, parts[-1]


@contextmanager
def _connected(context: zmq.asyncio.Context, kind: int, address: str) -> Iterator[zmq.asyncio.Socket]:
    with closing(context.socket(kind)) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RCVHWM, _QUEUED_BATCHES)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
        if kind == zmq.SUB:
            socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.connect(address)
        yield socket
