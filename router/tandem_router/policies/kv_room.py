"""KV room: prefers decode workers with free KV blocks; the filter leaves out those that lack room."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.policies.filters import EndpointFilter
from tandem_router.types import Endpoint, Report, RequestInfo, Role

FULL = 0.95
"""A share of used blocks from which on a worker preempts rather than starts."""

_SILENT = Report()


class KvRoom(Rating):
    """The free share of the KV blocks; one half while a worker does not tell."""

    prefill_share = 0.0

    def rate(self, _request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        reports = [view.reports.get(e.name, _SILENT) for e in endpoints]
        return [0.5 if r.kv_used is None or not r.fresh else 1 - min(1.0, r.kv_used) for r in reports]


class HasKvRoom(EndpointFilter):
    """Passes workers that have room for the prompt or do not tell."""

    def endpoint(self, request: RequestInfo, endpoint: Endpoint, view: View, /) -> bool:
        report = view.reports.get(endpoint.name)
        if report is None or not report.fresh or report.kv_used is None or endpoint.role is Role.PREFILL:
            return True
        if report.kv_tokens is None:
            return report.kv_used < FULL
        return request.prompt_tokens <= (1 - report.kv_used) * report.kv_tokens
