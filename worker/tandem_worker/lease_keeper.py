"""Keeps the leases of this worker: grants them, and frees their blocks when they end."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tandem_worker.async_engine import AsyncEngine
from tandem_worker.lease import EndReason, LeaseTable
from tandem_worker.metrics import WorkerMetrics
from tandem_worker.notifier import Notifier


@dataclass(frozen=True, slots=True)
class HeldPrompt:
    """KV of a prompt that waits for another worker, under the id of the request that computed it."""

    num_tokens: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ReservedRoom:
    """Blocks set aside for a prompt that comes from another worker."""

    num_tokens: int


Holding = HeldPrompt | ReservedRoom


class LeaseKeeper:
    """Times are seconds of `clock`; what leaves the worker is Unix time, see `unix_time`."""

    def __init__(
        self,
        engine: AsyncEngine,
        metrics: WorkerMetrics,
        changed: Notifier,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._changed = changed
        self._clock = clock
        self._table = LeaseTable()
        self._holdings: dict[str, Holding] = {}
        self._granted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, handle: object) -> bool:
        return handle in self._table

    def grant(self, handle: str, holding: Holding, ttl: float) -> float:
        """Returns when the lease ends."""
        lease = self._table.grant(handle, ttl, self._clock())
        self._holdings[handle] = holding
        self._granted.set()
        self._publish()
        return lease.expires_at

    def find(self, handle: str) -> Holding | None:
        """What the handle stands for; None: unknown, or its time is over."""
        self.sweep()
        return self._holdings.get(handle)

    def has_room_for(self, reservation_id: str | None) -> bool:
        """Whether this reservation is leased now."""
        return reservation_id is not None and isinstance(self.find(reservation_id), ReservedRoom)

    def renew(self, handle: str, ttl: float) -> float | None:
        """When the lease ends now; None: there is none. It never gets shorter."""
        self.sweep()
        lease = self._table.renew(handle, ttl, self._clock())
        return None if lease is None else lease.expires_at

    def release(self, handle: str, reason: EndReason) -> bool:
        """Ends the lease and frees its blocks before the next step. False: there was none."""
        self.sweep()
        if not self._table.release(handle, reason):
            return False
        self._free(handle)
        self._ended(reason)
        return True

    def use(self, reservation_id: str) -> None:
        """The engine has taken the reserved blocks for their request: nothing is left to free."""
        if isinstance(self._holdings.get(reservation_id), ReservedRoom):
            self._table.release(reservation_id, EndReason.USED)
            del self._holdings[reservation_id]
            self._ended(EndReason.USED)

    def sweep(self) -> None:
        """Ends the leases whose time has come."""
        for handle in self._table.expire(self._clock()):
            self._free(handle)
            self._ended(EndReason.EXPIRED)

    async def run(self) -> None:
        """Sweeps whenever a lease is due, until cancelled."""
        while True:
            self.sweep()
            self._granted.clear()
            due = self._table.next_expiry()
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._granted.wait()
            except TimeoutError:
                continue

    def unix_time(self, at: float) -> float:
        return time.time() + at - self._clock()

    def _free(self, handle: str) -> None:
        if isinstance(self._holdings.pop(handle), HeldPrompt):
            self._engine.post(lambda engine: engine.release_held(handle))
        else:
            self._engine.post(lambda engine: engine.release_reservation(handle))

    def _ended(self, reason: EndReason) -> None:
        self._metrics.lease_ended(reason)
        self._publish()

    def _publish(self) -> None:
        self._metrics.leases_open(len(self._table))
        self._changed.notify()
