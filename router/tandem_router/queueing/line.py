"""The requests of one model that wait, in lanes: what cannot start in one lane holds up no other."""

from collections.abc import Iterator
from math import inf

from tandem_router.queueing.fair import TenantCounters
from tandem_router.queueing.just_enough import pick
from tandem_router.queueing.waiting import Ordered, Waiting

LATE, OFFLINE, PARKED = "late", "offline", "parked"
"""Too late for its objective; fills room; not yet let in. All other lanes are for requests on their way."""
LATE_EVERY = 20
"""One start in so many goes to the late: they take little from the others, and do not starve."""


class Lane:
    """Waiting requests by their keys; with `fair`, within a class by tenant, least served first."""

    def __init__(self, fair: TenantCounters | None, *, just_enough: bool) -> None:
        self._fair, self._just_enough = fair, just_enough
        self._queues: dict[tuple[str, str], Ordered] = {}
        self._count = 0

    def add(self, waiting: Waiting) -> None:
        self._queues.setdefault(self._queue_of(waiting), Ordered()).add(waiting)
        self._count += 1

    def remove(self, waiting: Waiting) -> None:
        name = self._queue_of(waiting)
        queue = self._queues[name]
        queue.remove(waiting)
        self._count -= 1
        if not queue:
            del self._queues[name]

    def first(self, now: float, rate: float) -> Waiting | None:
        best: Waiting | None = None
        for queue in self._next_queues():
            found = pick(queue, now, rate) if self._just_enough else queue.first()
            if found is not None and (best is None or found.key < best.key):
                best = found
        return best

    def seconds_before(self, waiting: Waiting) -> float:
        """Prefill work that goes first. A fair lane gives each tenant as much as the request's own."""
        own = self._queue_of(waiting)
        ahead = {name: _seconds_before(queue, waiting.key) for name, queue in self._queues.items()}
        limit = ahead.get(own, 0.0) + waiting.seconds if self._fair is not None else inf
        return sum(min(seconds, limit) if name != own else seconds for name, seconds in ahead.items())

    def of_tenant(self, waiting: Waiting) -> int:
        return len(self._queues.get(self._queue_of(waiting), ()))

    def __iter__(self) -> Iterator[Waiting]:
        return (waiting for queue in self._queues.values() for waiting in queue)

    def __len__(self) -> int:
        return self._count

    def _queue_of(self, waiting: Waiting) -> tuple[str, str]:
        return ("", "") if self._fair is None else (waiting.tier.name, waiting.info.tenant)

    def _next_queues(self) -> Iterator[Ordered]:
        if self._fair is None:
            yield from self._queues.values()
            return
        least: dict[str, tuple[float, Ordered]] = {}
        for (tier, tenant), queue in self._queues.items():
            served = self._fair.served(tenant)
            if tier not in least or served < least[tier][0]:
                least[tier] = (served, queue)
        for _, queue in least.values():
            yield queue


class Line:
    """All lanes of one model."""

    def __init__(self, fair: TenantCounters | None, *, just_enough: bool) -> None:
        self._fair, self._just_enough = fair, just_enough
        self._lanes: dict[str, Lane] = {}
        self._starts = 0
        self._count = 0

    def add(self, waiting: Waiting) -> None:
        """Into the lane that `waiting` names."""
        if waiting.lane not in self._lanes:
            special = waiting.lane in (LATE, OFFLINE)
            self._lanes[waiting.lane] = Lane(self._fair, just_enough=self._just_enough and not special)
        self._lanes[waiting.lane].add(waiting)
        self._count += 1

    def remove(self, waiting: Waiting) -> None:
        lane = self._lanes[waiting.lane]
        lane.remove(waiting)
        self._count -= 1
        if not lane:
            del self._lanes[waiting.lane]

    def started(self) -> None:
        self._starts += 1

    def heads(self, now: float, rate: float) -> list[Waiting]:
        """Who may start next, the most pressing first: one of each lane."""
        found = (
            lane.first(now, rate) for name, lane in self._lanes.items() if name not in (LATE, OFFLINE, PARKED)
        )
        heads = sorted((head for head in found if head is not None), key=lambda head: head.key)
        late = self.first_of(LATE)
        if late is not None:
            heads.insert(0 if self._starts % LATE_EVERY == LATE_EVERY - 1 else len(heads), late)
        if not heads and (offline := self.first_of(OFFLINE)) is not None:
            heads.append(offline)
        return heads

    def first_of(self, lane: str) -> Waiting | None:
        return self._lanes[lane].first(0.0, 1.0) if lane in self._lanes else None

    def goes_before(self, waiting: Waiting) -> bool:
        """Whether somebody in line has to start before it."""
        if waiting.lane in (LATE, OFFLINE):
            return any(name != PARKED for name in self._lanes)
        return waiting.lane in self._lanes

    def of_tenant(self, waiting: Waiting) -> int:
        """How many of its tenant and class wait in its lane."""
        return self._lanes[waiting.lane].of_tenant(waiting) if waiting.lane in self._lanes else 0

    def seconds_before(self, waiting: Waiting) -> float:
        """Prefill work that goes first, of requests that are on time; offline ones let everybody go first."""
        if waiting.lane == OFFLINE:
            return sum(other.seconds for lane in self._lanes.values() for other in lane)
        return sum(
            lane.seconds_before(waiting)
            for name, lane in self._lanes.items()
            if name not in (LATE, OFFLINE, PARKED)
        )

    def __len__(self) -> int:
        return self._count


def _seconds_before(queue: Ordered, key: float) -> float:
    total = 0.0
    for waiting in queue:
        if waiting.key > key:
            break
        total += waiting.seconds
    return total
