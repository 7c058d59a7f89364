"""How many requests the router takes on at once, and the end of taking any."""

import asyncio

from tandem_router.errors import overloaded


class Admission:
    """Counts requests in flight, up to `limit`. While draining it still takes some on: load balancers lag."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle = asyncio.Event()
        self._idle.set()
        self.in_flight = 0
        self.draining = False

    def enter(self) -> None:
        """Takes one request on; `leave` ends it. Raises ApiError (429) at the limit."""
        if self.in_flight >= self._limit:
            raise overloaded(self._limit)
        self.in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def drain(self) -> None:
        """Waits until nothing is in flight."""
        self.draining = True
        await self._idle.wait()
