"""How many agents' sessions run at once: additive increase, multiplicative decrease by what the cache tells.

After CONCUR: when too many agents share a cache they evict each other's KV, and every call computes it again.
"""

from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True, slots=True)
class CongestionLimits:
    """`kv_used` above `high_kv`, or a session's later call with less than `low_hit` of its prompt cached, is
    congestion. After one decrease, signals of `patience` seconds are taken to be about the time before it."""

    least: int = 4
    most: int = 4096
    high_kv: float = 0.9
    low_hit: float = 0.5
    decrease: float = 0.7
    patience: float = 2.0


@dataclass(slots=True)
class Congestion:
    """The window of one model and the sessions inside it, by when they go unless a call of theirs runs."""

    limits: CongestionLimits
    window: float = 16.0
    _inside: dict[str, float] = field(default_factory=dict)
    _decreased: float = -inf

    def admits(self, session: str, now: float) -> bool:
        """Whether a call of the session may start."""
        return session in self._inside or len(self._active(now)) < int(self.window)

    def started(self, session: str) -> None:
        self._inside[session] = inf

    def ended(self, session: str, until: float) -> None:
        """No call of the session is under way; it keeps its place until `until`, in clock time."""
        if session in self._inside:
            self._inside[session] = until

    def next_leaving(self) -> float:
        """Clock time at which a place gets free if nothing happens."""
        return min(self._inside.values(), default=inf)

    def signal(self, now: float, *, hit: float | None, kv_used: float | None) -> None:
        """A call ended: the cached share of its prompt (None for a session's first), and of KV in use."""
        limits = self.limits
        congested = (hit is not None and hit < limits.low_hit) or (
            kv_used is not None and kv_used > limits.high_kv
        )
        if not congested:
            self.window = min(limits.most, self.window + 1 / self.window)
        elif now - self._decreased >= limits.patience:
            self._decreased = now
            self.window = max(limits.least, self.window * limits.decrease)

    def _active(self, now: float) -> dict[str, float]:
        for session in [session for session, until in self._inside.items() if until <= now]:
            del self._inside[session]
        return self._inside
