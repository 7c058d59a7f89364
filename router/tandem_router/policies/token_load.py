"""Token load: prefers workers with few prompt tokens still to compute."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.types import IDLE, Endpoint, Report, RequestInfo

HALF_TOKENS = 8192
"""Tokens in flight at which the rating is one half."""

_SILENT = Report()


class TokenLoad(Rating):
    """1 without prompt tokens in flight, towards 0 with them; the worker's own count if that is higher."""

    prefill_share = 0.8

    def rate(self, _request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        ratings = []
        for endpoint in endpoints:
            report = view.reports.get(endpoint.name, _SILENT)
            own = view.loads.get(endpoint.name, IDLE).tokens
            tokens = max(own, report.backlog_tokens or 0) if report.fresh else own
            ratings.append(HALF_TOKENS / (HALF_TOKENS + tokens))
        return ratings
