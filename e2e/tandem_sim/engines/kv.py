"""The KV that an engine keeps for others: leased handles, and how each of them ended."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tandem_sim.engines.changes import Changes


class KvGoneError(Exception):
    """The handle is unknown, of another run, or freed: real blocks would hold something else by now."""


class WrongEngineError(KvGoneError):
    """The handle is of another engine, or of another run of this one."""


@dataclass(slots=True)
class Counters:
    """Handles by what became of them, and `refused` pulls of handles that were gone."""

    granted: int = 0
    pulled: int = 0
    released: int = 0
    expired: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    digest: str
    expires: float


@dataclass(slots=True)
class KvStore:
    """Handles with leases on the given clock (seconds)."""

    engine_id: str
    clock: Callable[[], float]
    changes: Changes = field(default_factory=Changes)
    counters: Counters = field(default_factory=Counters)
    leases: dict[str, Lease] = field(default_factory=dict)
    _arrivals: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def grant(self, handle: str, digest: str, seconds: float) -> None:
        if handle in self.leases:
            raise ValueError(f"{handle} is leased already: request ids must not repeat")
        self.leases[handle] = Lease(digest, self.clock() + seconds)
        self.counters.granted += 1
        if (arrival := self._arrivals.pop(handle, None)) is not None and not arrival.done():
            arrival.set_result(None)
        self.changes.notify()

    def look(self, handle: str, engine_id: str) -> str:
        """The digest of the prompt whose KV this is. Raises KvGoneError, or WrongEngineError which is one."""
        self._expire()
        if engine_id == self.engine_id and handle in self.leases:
            return self.leases[handle].digest
        self.counters.refused += 1
        self.changes.notify()
        if engine_id != self.engine_id:
            raise WrongEngineError(handle)
        raise KvGoneError(handle)

    async def ended(self, handle: str) -> None:
        """Returns once nobody holds the handle any more."""
        await self.changes.until(lambda: handle not in self.leases)

    async def fetch(self, handle: str) -> str:
        """Waits for the handle, for ever if it never comes or was freed; gives its digest and ends it."""
        self._expire()
        while handle not in self.leases:
            arrival = self._arrivals[handle] = asyncio.get_running_loop().create_future()
            await arrival
            self._expire()
        digest = self.leases[handle].digest
        self.end(handle, pulled=True)
        return digest

    def end(self, handle: str, *, pulled: bool) -> bool:
        """Frees the KV because it was pulled or because nobody wants it; False if it was gone already."""
        self._expire()
        if self.leases.pop(handle, None) is None:
            return False
        if pulled:
            self.counters.pulled += 1
        else:
            self.counters.released += 1
        self.changes.notify()
        return True

    def forget(self, engine_id: str) -> None:
        """A new run: nothing of the old one is left."""
        self.engine_id = engine_id
        self.counters.expired += len(self.leases)
        self.leases.clear()
        self.changes.notify()

    def stats(self) -> dict[str, int]:
        """The counters, and how many handles are `open` now."""
        self._expire()
        return asdict(self.counters) | {"open": len(self.leases)}

    def _expire(self) -> None:
        now = self.clock()
        for handle in [h for h, lease in self.leases.items() if lease.expires <= now]:
            del self.leases[handle]
            self.counters.expired += 1
            self.changes.notify()
