"""Prefix affinity: prompts that begin alike belong to the same workers, and every router knows to which.

Rendezvous hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded
loads", 2016): an owner that has more than its share passes requests on to the next, so a hot prefix spreads.
"""

from collections.abc import Sequence

from tandem_router.policies import Rating, View
from tandem_router.policies.load import room_taken
from tandem_router.prefix import prefix_key
from tandem_router.rendezvous import slot_of, weight
from tandem_router.types import Endpoint, RequestInfo

LOAD_FACTOR = 1.25
"""Times the mean load that an owner may have."""
SLACK = 3.0
"""Requests that an owner may have beyond that: the mean is of a shortlist, where the idle prevail."""


def by_ownership(key: int, endpoints: Sequence[Endpoint], view: View) -> list[float]:
    """1 for the first owner of `key` that is not overloaded, 0 for all others."""
    slot = slot_of(key)
    weights = [weight(slot, e.name) for e in endpoints]
    ratings = [0.0] * len(endpoints)
    owner = weights.index(max(weights))
    if endpoints[owner].name in view.loads:
        taken = room_taken(endpoints, view)
        bound = LOAD_FACTOR * sum(taken) / len(taken) + SLACK
        free = [index for index, load in enumerate(taken) if load <= bound]
        owner = max(free, key=weights.__getitem__)
    ratings[owner] = 1.0
    return ratings


class PrefixAffinity(Rating):
    """By the prompt's first blocks. Prompts without a full block belong to nobody."""

    prefill_share = 0.8

    def rate(self, request: RequestInfo, endpoints: Sequence[Endpoint], view: View, /) -> Sequence[float]:
        if not request.prefix or not endpoints:
            return [0.0] * len(endpoints)
        return by_ownership(prefix_key(request), endpoints, view)
