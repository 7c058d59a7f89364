"""Leases on KV blocks: who holds what until when. Pure: the clock, in seconds, is an argument."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class EndReason(StrEnum):
    """How a lease ended: its blocks arrived elsewhere, served a request here, or were given up."""

    PULLED = "pulled"
    USED = "used"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Lease:
    handle: str
    expires_at: float


class LeaseTable:
    """Every lease that was granted ends exactly once; `ended` counts how."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self.num_granted = 0
        self.ended: Counter[EndReason] = Counter()

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, handle: object) -> bool:
        return handle in self._leases

    def grant(self, handle: str, ttl: float, now: float) -> Lease:
        """ValueError: the handle is leased already, or the time to live is not positive."""
        if handle in self._leases:
            raise ValueError(f"handle {handle!r} is leased already")
        if not ttl > 0:
            raise ValueError(f"a lease needs a positive time to live, not {ttl}")
        self.num_granted += 1
        self._leases[handle] = lease = Lease(handle, now + ttl)
        return lease

    def renew(self, handle: str, ttl: float, now: float) -> Lease | None:
        """Makes the lease last at least `ttl` from now; it never gets shorter. None: no such lease."""
        lease = self._leases.get(handle)
        if lease is None:
            return None
        self._leases[handle] = renewed = Lease(handle, max(lease.expires_at, now + ttl))
        return renewed

    def release(self, handle: str, reason: EndReason) -> bool:
        """False: no such lease, so nothing to free."""
        if self._leases.pop(handle, None) is None:
            return False
        self.ended[reason] += 1
        return True

    def expire(self, now: float) -> list[str]:
        """Ends the leases whose time has come and gives their handles."""
        handles = [lease.handle for lease in self._leases.values() if lease.expires_at <= now]
        for handle in handles:
            self.release(handle, EndReason.EXPIRED)
        return handles

    def next_expiry(self) -> float | None:
        return min((lease.expires_at for lease in self._leases.values()), default=None)

    def check_integrity(self) -> None:
        """AssertionError when a lease was lost or ended twice."""
        if self.num_granted != len(self._leases) + self.ended.total():
            raise AssertionError(f"{self.num_granted} granted, {len(self)} open, {dict(self.ended)} ended")
