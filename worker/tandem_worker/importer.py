"""The decode side of a hand-over: makes room, pulls the KV that is missing, and runs the request."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tandem_worker.async_engine import AsyncEngine
from tandem_worker.engine import Engine
from tandem_worker.errors import WorkerError
from tandem_worker.kv import KvLayout
from tandem_worker.lease import EndReason
from tandem_worker.lease_keeper import LeaseKeeper
from tandem_worker.metrics import WorkerMetrics
from tandem_worker.notifier import Notifier
from tandem_worker.output_stream import OutputStream
from tandem_worker.request import ImportPlan, Request, SeedToken
from tandem_worker.transfer.base import KvBlocks, KvTransport, RemoteKv, TransferError
from tandem_worker.transfer.chunks import CHUNKS_PER_CALL

ROOM_SECONDS = 10.0
RETRY_SECONDS = 0.01


class NoRoomError(WorkerError):
    """No KV blocks became free in time."""


@dataclass(frozen=True, slots=True)
class ImportSource:
    """What the prefill leg left for us. `seed` None: the first token is sampled here.

    `num_cached_tokens`: prompt tokens that the prefill worker found in its prefix cache.
    """

    kv: RemoteKv
    seed: SeedToken | None
    reservation_id: str | None
    num_cached_tokens: int


class Importer:
    """Runs requests whose prompt was computed by another worker.

    Imports get room in order of arrival: one at a time asks the engine, the others wait in line.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        layout: KvLayout,
        transport: KvTransport,
        leases: LeaseKeeper,
        metrics: WorkerMetrics,
        changed: Notifier,
    ) -> None:
        self._engine = engine
        self._layout = layout
        self._transport = transport
        self._leases = leases
        self._metrics = metrics
        self._changed = changed
        self._line = asyncio.Lock()
        self._num_waiting = 0
        self._releases: set[asyncio.Task[bool]] = set()

    @asynccontextmanager
    async def submit(self, request: Request, source: ImportSource) -> AsyncIterator[OutputStream]:
        """Like `AsyncEngine.submit`; the KV has arrived when the block is entered.

        Raises `TransferError` and `NoRoomError` too: then the handle stays leased, for another try elsewhere.
        When the caller is cancelled nobody will try again, so the handle is released.
        """
        async with self._engine.open_stream(request.request_id) as stream:
            try:
                plan = await self._make_room(request, source.reservation_id)
                await self._fetch(plan, source.kv)
                await self._engine.commit_import(request.request_id, source.seed)
            except asyncio.CancelledError:
                self._release_later(source.kv, EndReason.CANCELLED)
                raise
            self._release_later(source.kv, EndReason.PULLED)
            yield stream

    @property
    def num_waiting(self) -> int:
        """Requests that wait for room. The engine does not know them yet."""
        return self._num_waiting

    async def close(self) -> None:
        """Waits for the releases that are under way; each has a deadline of its own."""
        await asyncio.gather(*self._releases)

    async def _make_room(self, request: Request, reservation_id: str | None) -> ImportPlan:
        self._wait(1)
        try:
            async with asyncio.timeout(ROOM_SECONDS), self._line:
                return await self._plan(request, reservation_id)
        except TimeoutError:
            raise NoRoomError(f"no KV blocks became free within {ROOM_SECONDS:g} s") from None
        finally:
            self._wait(-1)

    async def _plan(self, request: Request, reservation_id: str | None) -> ImportPlan:
        while True:
            change = self._changed.ticket()
            plan = await self._engine.call(lambda engine: engine.plan_import(request, reservation_id))
            if plan is not None:
                break
            await change.wait()
            await asyncio.sleep(RETRY_SECONDS)  # each try hashes the prompt on the engine's thread
        if reservation_id is not None:
            self._leases.use(reservation_id)
        self._metrics.prefix_hit(plan.first_block * self._layout.block_size)
        return plan

    def _wait(self, change: int) -> None:
        self._num_waiting += change
        self._metrics.imports_waiting(self._num_waiting)
        self._changed.notify()

    async def _fetch(self, plan: ImportPlan, source: RemoteKv) -> None:
        started = time.monotonic()
        num_blocks = len(plan.block_ids)
        arrived: list[KvBlocks] = []
        try:
            async for blocks in self._transport.pull(source, self._layout, plan.first_block, num_blocks):
                arrived.append(blocks)
                if len(arrived) == CHUNKS_PER_CALL:
                    await self._write(plan, arrived)
                    arrived = []
        except TransferError as error:
            self._metrics.transfer_failed(error.reason)
            raise
        if arrived:
            await self._write(plan, arrived)
        self._metrics.transferred("in", num_blocks * self._layout.block_bytes, time.monotonic() - started)

    async def _write(self, plan: ImportPlan, arrived: list[KvBlocks]) -> None:
        def write(engine: Engine) -> None:
            for blocks in arrived:
                at = blocks.first_block - plan.first_block
                engine.write_blocks(plan.block_ids[at : at + blocks.num_blocks], blocks.data)

        await self._engine.call(write)

    def _release_later(self, source: RemoteKv, reason: EndReason) -> None:
        """The first token does not wait for it; it has its own deadline, and the lease is behind it."""
        task = asyncio.get_running_loop().create_task(self._transport.release(source, reason))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
