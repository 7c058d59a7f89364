"""What happened when, for questions about the last seconds."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Log(Generic[Event]):
    """Events with their moments, added in order of time."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, Event]] = []

    def add(self, at: float, event: Event) -> None:
        self._entries.append((at, event))

    def since(self, at: float) -> list[Event]:
        """Events after `at`, latest first."""
        return [event for _, event in self._recent(at)]

    def all(self) -> tuple[tuple[float, Event], ...]:
        return tuple(self._entries)

    def _recent(self, at: float) -> Iterator[tuple[float, Event]]:
        for entry in reversed(self._entries):
            if entry[0] <= at:
                return
            yield entry
