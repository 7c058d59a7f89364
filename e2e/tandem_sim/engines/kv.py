"""The KV that a fake engine keeps for others: leased handles, and how each of them ended."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field


class KvGoneError(Exception):
    """The handle is unknown, of another run, or freed: real blocks would hold something else by now."""


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
    """Handles with leases on the given clock (seconds). `changed` is called after each change."""

    engine_id: str
    clock: Callable[[], float]
    changed: Callable[[], None]
    counters: Counters = field(default_factory=Counters)
    leases: dict[str, Lease] = field(default_factory=dict)

    def grant(self, handle: str, digest: str, seconds: float) -> None:
        if handle in self.leases:
            raise ValueError(f"{handle} is leased already: request ids must not repeat")
        self.leases[handle] = Lease(digest, self.clock() + seconds)
        self.counters.granted += 1
        self.changed()

    def look(self, handle: str, engine_id: str) -> str:
        """The digest of the prompt whose KV this is. Raises KvGoneError."""
        self._expire()
        if engine_id != self.engine_id or handle not in self.leases:
            self.counters.refused += 1
            self.changed()
            raise KvGoneError(handle)
        return self.leases[handle].digest

    def end(self, handle: str, *, pulled: bool) -> bool:
        """Frees the KV because it was pulled or because nobody wants it; False if it was gone already."""
        self._expire()
        if self.leases.pop(handle, None) is None:
            return False
        if pulled:
            self.counters.pulled += 1
        else:
            self.counters.released += 1
        self.changed()
        return True

    def stats(self) -> dict[str, int]:
        """The counters, and how many handles are `open` now."""
        self._expire()
        return asdict(self.counters) | {"open": len(self.leases)}

    def _expire(self) -> None:
        now = self.clock()
        for handle in [h for h, lease in self.leases.items() if lease.expires <= now]:
            del self.leases[handle]
            self.counters.expired += 1
            self.changed()
