"""Cost: prefers cheaper workers."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.types import Endpoint, RequestInfo


class Cost(Rating):
    """1 for a worker that costs nothing, one half at a cost of 1, towards 0."""

    def rate(self, _request: RequestInfo, endpoints: Sequence[Endpoint], _view: View, /) -> Sequence[float]:
        return [1 / (1 + e.cost) for e in endpoints]
