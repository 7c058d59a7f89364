"""Deadlines of many things, looked at together every few milliseconds: a timer for each would cost more."""

import asyncio
from typing import Generic, Protocol, TypeVar


class Expiring(Protocol):
    deadline: float

    def expire(self) -> None:
        """Called when the deadline (the loop's time) has passed, at each look until it is dropped."""
        ...


T = TypeVar("T", bound=Expiring)


class Deadlines(Generic[T]):
    """What it watches hears within `period` seconds of its deadline. Idle, it costs nothing."""

    def __init__(self, period: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._period = period
        self._watched: set[T] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, item: T) -> None:
        self._watched.add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self._look)

    def drop(self, item: T) -> None:
        self._watched.discard(item)

    def close(self) -> list[T]:
        """Watches nothing any more; returns what it watched."""
        watched = list(self._watched)
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return watched

    def _look(self) -> None:
        now = self._loop.time()
        for item in [item for item in self._watched if item.deadline <= now]:
            item.expire()
        self._timer = self._loop.call_later(self._period, self._look) if self._watched else None
