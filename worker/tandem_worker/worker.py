"""One worker: its engine, its leases and its part in hand-overs, behind one door for both servers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from tandem_wire.digest import prompt_digest
from tandem_worker.async_engine import AsyncEngine, EngineDeadError
from tandem_worker.engine import Engine
from tandem_worker.engine_thread import EngineUpdate
from tandem_worker.errors import WorkerError
from tandem_worker.importer import Importer, ImportSource
from tandem_worker.kv import HeldKv
from tandem_worker.kv_event_log import KvEventLog
from tandem_worker.lease_keeper import HeldPrompt, LeaseKeeper
from tandem_worker.metrics import WorkerMetrics
from tandem_worker.notifier import Notifier
from tandem_worker.output_stream import OutputStream
from tandem_worker.request import Request
from tandem_worker.settings import Role, WorkerSettings
from tandem_worker.transfer.base import KvTransport

KV_EVENT_BATCHES = 4096


class DrainingError(WorkerError):
    """The worker is about to leave: it takes nothing new."""


class WrongRoleError(WorkerError):
    """The worker's role does not take this leg; one of another role does."""


@dataclass(frozen=True, slots=True)
class KeptKv:
    """Prompt KV that waits for a decode worker. `expires_at` is Unix time."""

    held: HeldKv
    expires_at: float


class Worker:
    """Create it inside a running event loop, and `stop` it there.

    Every role serves whole requests, so that a lone pool can always answer; a prefill worker refuses decode
    legs and a decode worker prefill legs.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        engine: Engine,
        transport: KvTransport,
        metrics: WorkerMetrics,
    ) -> None:
        self.settings = settings
        self.engine_id = str(uuid4())
        self.role = settings.role
        self.layout = engine.layout
        self.num_blocks = engine.num_blocks
        self.max_model_len = engine.max_model_len
        self.vocab_size = engine.vocab_size
        self.eos_token_ids = engine.eos_token_ids
        self.metrics = metrics
        self.changed = Notifier()
        self.kv_events = KvEventLog(KV_EVENT_BATCHES, first_sequence=int(time.time() * 1000))
        max_open = settings.engine.max_num_seqs + settings.max_waiting
        self.engine = AsyncEngine(engine, max_open, self._take_update)
        self.leases = LeaseKeeper(self.engine, metrics, self.changed)
        self._importer = Importer(self.engine, self.layout, transport, self.leases, metrics, self.changed)
        self._transport = transport
        self._is_draining = False
        self._sweeper = asyncio.get_running_loop().create_task(self.leases.run())

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    @property
    def num_running(self) -> int:
        """Requests that somebody waits for."""
        return self.engine.num_open

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a place, in the engine or for one there."""
        return self.engine.load.num_waiting + self._importer.num_waiting

    @asynccontextmanager
    async def run(self, request: Request, source: ImportSource | None = None) -> AsyncIterator[OutputStream]:
        """Runs a request, its prompt from `source` if there is one; leaving the block early aborts it.

        KV that the request holds is freed with the block too, unless `keep` has leased it.
        Raises `DrainingError`, `WrongRoleError`, and what `AsyncEngine.submit` and `Importer.submit` raise.
        """
        self._check_takes(request, source)
        started = self._importer.submit(request, source) if source else self.engine.submit(request)
        try:
            async with started as outputs:
                self.metrics.accepted(len(request.prompt_token_ids))
                yield outputs
        finally:
            if request.hold_kv and request.request_id not in self.leases:
                self.engine.post(lambda engine: engine.release_held(request.request_id))
            self.changed.notify()

    async def keep(self, request: Request) -> KeptKv:
        """Leases the KV of a finished request that holds it."""
        held = await self.engine.call(lambda engine: engine.held(request.request_id))
        holding = HeldPrompt(held.num_tokens, prompt_digest(request.prompt_token_ids))
        expires_at = self.leases.grant(request.request_id, holding, self.settings.lease_ttl)
        return KeptKv(held, self.leases.unix_time(expires_at))

    def set_role(self, role: Role) -> Role:
        """For what comes from now on. Returns the role before."""
        before, self.role = self.role, role
        self.metrics.set_role(role)
        self.changed.notify()
        return before

    async def drain(self, seconds: float) -> bool:
        """Refuses new work and waits for what runs and is leased. False: time was up first."""
        self._is_draining = True
        self.changed.notify()
        try:
            async with asyncio.timeout(seconds):
                while self.engine.failure is None and (self.num_running or len(self.leases)):
                    await self.changed.ticket().wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """Fails what is still open."""
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.engine.stop()
        await self._importer.close()
        await self._transport.close()

    def _check_takes(self, request: Request, source: ImportSource | None) -> None:
        if self.engine.failure is not None:
            raise EngineDeadError(self.engine.failure)
        is_expected = source is not None and self.leases.has_room_for(source.reservation_id)
        if self._is_draining and not is_expected:
            raise DrainingError("the worker is draining: it takes no new requests")
        if self.role is Role.PREFILL and source is not None:
            raise WrongRoleError("this is a prefill worker: it takes no decode legs")
        if self.role is Role.DECODE and request.hold_kv:
            raise WrongRoleError("this is a decode worker: it takes no prefill legs")

    def _take_update(self, update: EngineUpdate | None) -> None:
        if update is not None:
            self.metrics.observe(update)
            if update.kv_events:
                self.kv_events.append(update.kv_events)
        self.changed.notify()
