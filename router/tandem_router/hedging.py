"""When a prefill takes so long that a second worker should try it (Dean, The Tail at Scale, 2013). Pure."""

from bisect import bisect_left, insort
from collections import deque

REMEMBERED = 256
MIN_KNOWN = 32
"""Of fewer prefills nothing can be said about the slow ones."""
BASE_TOKENS = 256
"""A prefill takes about as long as this many tokens more than it has."""


class Hedger:
    """`share`: of prefills, how many answer before the second worker is asked."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._recent: deque[float] = deque()
        self._ranked: list[float] = []

    def took(self, tokens: int, seconds: float) -> None:
        """A prefill was answered, the one that was sent first or, where both were, the quicker one."""
        pace = seconds / (tokens + BASE_TOKENS)
        if len(self._recent) == REMEMBERED:
            del self._ranked[bisect_left(self._ranked, self._recent.popleft())]
        self._recent.append(pace)
        insort(self._ranked, pace)

    def delay(self, tokens: int) -> float | None:
        """Seconds to wait for the first worker; None while too little is known."""
        if len(self._ranked) < MIN_KNOWN:
            return None
        return self._ranked[int(self._share * len(self._ranked))] * (tokens + BASE_TOKENS)
