"""One request in the queue, and a queue in order."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from tandem_router.queueing.tiers import Tier
from tandem_router.types import UNCONSTRAINED, Constraint, RequestInfo


@dataclass(slots=True, eq=False)
class Waiting:
    """A request that has not started. Clock times and seconds.

    `expires`: the request's own end. `latest`: a start after it misses the class's objective. `due`: when
    something is to be done about it. `key`: its place, the smallest first; `serial` breaks ties.
    `seconds`: what it takes of a prefill worker. `size` in bytes. `lane`: which part of the line it is in.
    `later_call`: its session had one before. `charged`: output tokens that its tenant has paid for.
    `constraint`: what earlier attempts rule out; `refused`: the workers that were busy then.
    """

    info: RequestInfo
    tier: Tier
    arrived: float
    expires: float
    serial: int
    size: int = 0
    seconds: float = 0.0
    latest: float = inf
    due: float = inf
    key: float = 0.0
    lane: str = ""
    later_call: bool = False
    charged: int = 0
    constraint: Constraint = UNCONSTRAINED
    refused: frozenset[str] = frozenset()


class Ordered:
    """Waiting requests by a number that does not change while they are here, equal ones by serial."""

    __slots__ = ("_by", "_items", "_places")

    def __init__(self, by: Callable[[Waiting], float] = lambda waiting: waiting.key) -> None:
        self._by = by
        self._places: list[tuple[float, int]] = []
        self._items: list[Waiting] = []

    def add(self, waiting: Waiting) -> None:
        place = (self._by(waiting), waiting.serial)
        index = bisect_left(self._places, place)
        self._places.insert(index, place)
        self._items.insert(index, waiting)

    def remove(self, waiting: Waiting) -> None:
        """Raises ValueError if it is not here."""
        index = bisect_left(self._places, (self._by(waiting), waiting.serial))
        if index == len(self._items) or self._items[index] is not waiting:
            raise ValueError(f"{waiting.info.request_id} is not in this queue")
        del self._places[index], self._items[index]

    def first(self) -> Waiting | None:
        return self._items[0] if self._items else None

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
