"""Agents' programs: a session's next call keeps the place of its first, and its KV is kept for a while.

After Continuum: first come, first served by program, and a time to live for KV across tool calls.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import inf

MAX_SESSIONS = 65_536
LONGEST_CREDIT = 600.0
"""A call goes at most this much before its own time, in seconds: newcomers wait a bounded time."""
SHORTEST_TTL = 1.0
LONGEST_TTL = 120.0


@dataclass(slots=True)
class Session:
    """One program. `first`: its first call's arrival; `idle_since`: None while a call runs or waits."""

    first: float
    calls: int = 0
    idle_since: float | None = None


class Programs:
    """The sessions seen of late, and how long they are away between two calls."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._gap = 5.0
        self._deviation = 5.0

    @property
    def ttl(self) -> float:
        """Seconds after a call within which nearly every next call of a program comes."""
        return min(LONGEST_TTL, max(SHORTEST_TTL, self._gap + 3 * self._deviation))

    def arrived(self, session: str, now: float) -> float:
        """A call came. Its program's arrival; an expired program begins anew."""
        known = self._sessions.get(session)
        if known is not None and not self._alive(known, now):
            del self._sessions[session]
            known = None
        if known is None:
            known = self._sessions[session] = Session(now)
            self._bound()
        elif known.idle_since is not None:
            self._learn(now - known.idle_since)
        self._sessions.move_to_end(session)
        known.calls += 1
        known.idle_since = None
        return max(known.first, now - LONGEST_CREDIT)

    def ended(self, session: str, now: float) -> None:
        """A call was answered, or left."""
        known = self._sessions.get(session)
        if known is None:
            return
        known.calls = max(0, known.calls - 1)
        if not known.calls:
            known.idle_since = now

    def expiry(self, session: str) -> float:
        """Clock time until which a next call is likely; infinite while one is under way."""
        known = self._sessions.get(session)
        if known is None:
            return 0.0
        return inf if known.idle_since is None else known.idle_since + self.ttl

    def _alive(self, session: Session, now: float) -> bool:
        return session.idle_since is None or now - session.idle_since <= self.ttl

    def _learn(self, gap: float) -> None:
        error = gap - self._gap
        self._gap += 0.05 * error
        self._deviation += 0.05 * (abs(error) - self._deviation)

    def _bound(self) -> None:
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
