"""Keys that need a pass: each once in the queue, one pass of a key at a time, failures again later."""

import asyncio
import random
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_RETRY = 0.5
LAST_RETRY = 60.0


class WorkQueue(Generic[Key]):
    """`add` what changed, `take` it, `done` it. A key added during its pass comes again afterwards."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """The key needs a pass now; a retry that waits for it is dropped."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    async def take(self) -> Key:
        """The next key; every one that is taken has to be handed to `done`."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._running.add(key)
        return key

    def done(self, key: Key, *, failed: bool = False) -> None:
        """The pass ended. A failed key comes again after a delay that doubles with every failure in a row."""
        self._running.discard(key)
        if not failed:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif failed:
            self._retry(key)

    def _retry(self, key: Key) -> None:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 16)) * self._rng.uniform(0.5, 1.0)
        self._timers[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)
