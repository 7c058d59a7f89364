"""The requests of one model that wait."""

from collections.abc import Iterator

from tandem_router.queueing.waiting import Ordered, Waiting


class Line:
    """In the order of their keys."""

    def __init__(self) -> None:
        self._ordered = Ordered()

    def add(self, waiting: Waiting) -> None:
        self._ordered.add(waiting)

    def remove(self, waiting: Waiting) -> None:
        self._ordered.remove(waiting)

    def first(self, _now: float) -> Waiting | None:
        """Who starts next."""
        return self._ordered.first()

    def seconds_before(self, key: float) -> float:
        """Prefill work of those that go before `key`."""
        total = 0.0
        for waiting in self._ordered:
            if waiting.key > key:
                break
            total += waiting.seconds
        return total

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._ordered)

    def __len__(self) -> int:
        return len(self._ordered)
