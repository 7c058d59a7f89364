"""What filters of workers, and filters of pairs, have in common."""

from tandem_router.policies import View
from tandem_router.types import Endpoint, Pair, RequestInfo


class EndpointFilter:
    """Looks at workers one by one and accepts every pair of those that passed."""

    def pair(self, _request: RequestInfo, _pair: Pair, _view: View, /) -> bool:
        return True


class PairFilter:
    """Looks at pairs only."""

    def endpoint(self, _request: RequestInfo, _endpoint: Endpoint, _view: View, /) -> bool:
        return True
