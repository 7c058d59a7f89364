"""Session affinity: the requests of one session go to the same workers while these have room."""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.policies.prefix_affinity import by_ownership
from tandem_router.prefix import session_key
from tandem_router.types import Endpoint, RequestInfo


class SessionAffinity(Rating):
    """Of equal weight for both roles: the decode worker has the KV of the session's last answer."""

    def rate(self, request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        if not request.session or not endpoints:
            return [0.0] * len(endpoints)
        return by_ownership(session_key(request), endpoints, view)
