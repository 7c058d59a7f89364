"""Just enough service: of those that wait, as many as possible still meet their deadlines.

After JITServe's goodput per unit of service: everybody in deadline order, and when somebody would be late,
whoever costs most for the same gain stands back (Moore and Hodgson's rule, optimal for one server).
"""

from collections.abc import Iterable
from heapq import heappush, heapreplace

from tandem_router.queueing.waiting import Waiting

WINDOW = 64
"""So many are looked at; those behind them are not urgent."""


def pick(line: Iterable[Waiting], now: float, rate: float) -> Waiting | None:
    """Who of `line`, ordered by deadline, starts next; `rate` is the service that starts each second."""
    kept: list[tuple[float, int, Waiting]] = []
    busy = 0.0
    for index, waiting in zip(range(WINDOW), line, strict=False):
        cost = waiting.seconds / rate
        if now + busy <= waiting.latest:
            # The moment that counts is the start: what comes after it is in `latest` already.
            heappush(kept, (-cost, -index, waiting))
            busy += cost
        elif kept and cost < -kept[0][0]:
            busy += cost + heapreplace(kept, (-cost, -index, waiting))[0]
    return max(kept, key=lambda entry: entry[1])[2] if kept else None
