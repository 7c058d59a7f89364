"""Least loaded: prefers workers with few requests and few prompt tokens in flight."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.types import Endpoint, Load, RequestInfo

TOKENS_PER_REQUEST = 2048
"""Prompt tokens in flight that weigh as much as one more request."""


def taken_by(load: Load) -> float:
    """In requests."""
    return load.requests + load.tokens / TOKENS_PER_REQUEST


def room_taken(endpoints: Sequence[Endpoint], view: View) -> list[float]:
    """What this router has in flight on each, in requests."""
    loads = view.loads
    return [taken_by(loads[e.name]) if e.name in loads else 0.0 for e in endpoints]


class LeastLoaded(Rating):
    """1 for an idle worker, towards 0 with load."""

    def rate(self, _request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        return [1 / (1 + taken) for taken in room_taken(endpoints, view)]
