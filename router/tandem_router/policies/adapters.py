"""LoRA adapters: prefers workers that have the request's adapter loaded, then those with few adapters."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.policies.filters import EndpointFilter
from tandem_router.types import Endpoint, Report, RequestInfo

_SILENT = Report()


class AdapterLoaded(Rating):
    """1 where the adapter is loaded; elsewhere one half at most, and less the more others are loaded."""

    def rate(self, request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        if not request.adapter:
            return [0.0] * len(endpoints)
        loaded = [view.reports.get(e.name, _SILENT).adapters or frozenset() for e in endpoints]
        return [1.0 if request.adapter in names else 0.5 / (1 + len(names)) for names in loaded]


class HasAdapter(EndpointFilter):
    """Passes workers that have the adapter loaded, for engines that load none on demand."""

    def endpoint(self, request: RequestInfo, endpoint: Endpoint, view: View, /) -> bool:
        if not request.adapter:
            return True
        return request.adapter in (view.reports.get(endpoint.name, _SILENT).adapters or ())
