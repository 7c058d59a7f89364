"""Virtual time: callbacks in the order of their moment, and of their asking where moments are equal."""

import heapq
from collections.abc import Callable
from itertools import count


class Clock:
    """Starts at 0 seconds and moves only in `run`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Calls back once, `seconds` from now."""
        if seconds < 0:
            raise ValueError(f"the past cannot be changed: {seconds}")
        heapq.heappush(self._events, (self.now + seconds, next(self._order), callback))

    def run(self, until: float) -> None:
        """Plays everything that is due up to and including `until`, and what that gives rise to."""
        while self._events and self._events[0][0] <= until:
            self.now, _, callback = heapq.heappop(self._events)
            callback()
        self.now = max(self.now, until)
