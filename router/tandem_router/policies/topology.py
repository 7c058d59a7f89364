"""Topology: KV is handed over within one zone, rack or host if that can be; as a filter, always."""

from collections.abc import Sequence

from tandem_router.policies import View
from tandem_router.policies.filters import PairFilter
from tandem_router.types import Pair, RequestInfo


def is_near(pair: Pair) -> bool:
    """Whether no KV leaves the place. Workers of unknown place are near nobody."""
    prefill, decode = pair.prefill, pair.decode
    return prefill is None or (prefill.topology != "" and prefill.topology == decode.topology)


class Near:
    """1 for a pair in one place, 0 for another."""

    looks_at_places = True

    def score(self, _request: RequestInfo, pairs: Sequence[Pair], _view: View, /) -> Sequence[float]:
        return [float(is_near(pair)) for pair in pairs]


class OnlyNear(PairFilter):
    """Passes only pairs in one place."""

    looks_at_places = True

    def pair(self, _request: RequestInfo, pair: Pair, _view: View, /) -> bool:
        return is_near(pair)
