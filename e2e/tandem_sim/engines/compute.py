"""The device of a simulated engine: one prompt at a time, a batch of decodes, and room for KV."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tandem_perf.latency import Chunk
from tandem_sim.engines.settings import Settings


class BusyError(Exception):
    """The engine takes on no more."""


class Compute:
    """Who computes when. `running` have a place, `waiting` want one; `kv_used` counts tokens."""

    def __init__(self, settings: Settings, changed: Callable[[], None]) -> None:
        self._settings, self._changed = settings, changed
        self._prompts = asyncio.Lock()
        self._queue: deque[tuple[asyncio.Future[None], int]] = deque()
        self._step: asyncio.Future[None] | None = None
        self._decoding = 0
        self.running = 0
        self.kv_used = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def place(self, tokens: int) -> AsyncIterator[None]:
        """A place for a request with this many tokens at its end, waited for. Raises BusyError."""
        if self._queue or not self._fits(tokens):
            await self._wait(tokens)
        else:
            self._take(tokens)
        try:
            yield
        finally:
            self.running -= 1
            self.kv_used -= tokens
            self._admit()

    async def prefill(self, new_tokens: int, cached_tokens: int) -> None:
        """Computes a prompt; prompts are computed one after another."""
        latency = self._settings.latency
        seconds = self._settings.prefill_seconds
        if latency is not None:
            seconds = latency.prefill.seconds([Chunk(new_tokens, cached_tokens)])
        if seconds > 0:
            async with self._prompts:
                await asyncio.sleep(seconds)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """A part in the decode batch."""
        self._decoding += 1
        try:
            yield
        finally:
            self._decoding -= 1

    async def tokens(self, count: int) -> None:
        """Waits until this many more steps of the batch have ended."""
        for _ in range(count if self._step_seconds() > 0 else 1):
            await self._next_step()

    async def _next_step(self) -> None:
        seconds = self._step_seconds()
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if self._step is None or self._step.done():
            loop = asyncio.get_running_loop()
            self._step = loop.create_future()
            loop.call_later(seconds, _finish, self._step)
        await asyncio.shield(self._step)

    def _step_seconds(self) -> float:
        latency = self._settings.latency
        if latency is None:
            return self._settings.token_seconds
        return latency.decode.seconds(max(self._decoding, 1), self.kv_used)

    def _fits(self, tokens: int) -> bool:
        places, room = self._settings.max_running, self._settings.kv_tokens
        return not (places and self.running >= places) and not (
            room and self.running and self.kv_used + tokens > room
        )

    async def _wait(self, tokens: int) -> None:
        limit = self._settings.max_waiting
        if limit is not None and len(self._queue) >= limit:
            raise BusyError
        turn = asyncio.get_running_loop().create_future()
        entry = (turn, tokens)
        self._queue.append(entry)
        self._changed()
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._queue:
                self._queue.remove(entry)
            elif not turn.cancelled():
                self._leave(tokens)
            raise

    def _admit(self) -> None:
        while self._queue and self._fits(self._queue[0][1]):
            turn, tokens = self._queue.popleft()
            if not turn.done():
                self._take(tokens)
                turn.set_result(None)
        self._changed()

    def _take(self, tokens: int) -> None:
        self.running += 1
        self.kv_used += tokens

    def _leave(self, tokens: int) -> None:
        self.running -= 1
        self.kv_used -= tokens
        self._admit()


def _finish(step: asyncio.Future[None]) -> None:
    if not step.done():
        step.set_result(None)
