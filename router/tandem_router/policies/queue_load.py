"""Queue load: prefers workers with few requests, as they report themselves, whoever sent them."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.types import IDLE, Endpoint, Report, RequestInfo

WAITING_WEIGHT = 4
"""A waiting request says more than a running one: the batch is full."""

_SILENT = Report()


class QueueLoad(Rating):
    """1 for an empty worker, towards 0 with its queue; by what this router has in flight if that is more."""

    def rate(self, _request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        ratings = []
        for endpoint in endpoints:
            report = view.reports.get(endpoint.name, _SILENT)
            own = view.loads.get(endpoint.name, IDLE).requests
            seen = report.running + WAITING_WEIGHT * report.waiting if report.fresh else 0
            ratings.append(1 / (1 + max(seen, own) / 8))
        return ratings
