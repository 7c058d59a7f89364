"""A few workers of many that are worth rating: where the prompt may be cached, the least loaded, others."""

from collections.abc import Sequence
from heapq import nlargest, nsmallest
from random import Random

from tandem_router.policies import View
from tandem_router.policies.load import room_taken
from tandem_router.prefix import affinity_keys
from tandem_router.rendezvous import ranked
from tandem_router.types import Endpoint, RequestInfo

ENOUGH = 16
"""So many workers of a role are all rated."""
_OWNERS = _MATCHED = _LEAST_LOADED = 4
_SAMPLED = 2


def shortlist(
    request: RequestInfo, endpoints: Sequence[Endpoint], view: View, rng: Random
) -> Sequence[Endpoint]:
    """At most `ENOUGH` of the workers, all of one role; the same for the same arguments."""
    if len(endpoints) <= ENOUGH:
        return endpoints
    turn = rng.randrange(len(endpoints))
    picked = dict.fromkeys(_least_loaded(endpoints, view, turn))
    for key in affinity_keys(request):
        picked.update(dict.fromkeys(ranked(key, endpoints, _OWNERS)))
    if view.matches:
        picked.update(dict.fromkeys(_matched(endpoints, view)))
    if len(picked) < ENOUGH:
        picked.update(dict.fromkeys(rng.randrange(len(endpoints)) for _ in range(_SAMPLED)))
    return [endpoints[index] for index in list(picked)[:ENOUGH]]


def _least_loaded(endpoints: Sequence[Endpoint], view: View, turn: int) -> list[int]:
    """Equals are taken from `turn` on, so that routers which see the same do not all take the same."""
    taken = room_taken(endpoints, view)
    order = (*range(turn, len(endpoints)), *range(turn))
    return nsmallest(_LEAST_LOADED, order, key=taken.__getitem__)


def _matched(endpoints: Sequence[Endpoint], view: View) -> list[int]:
    matches = view.matches
    found = [index for index, e in enumerate(endpoints) if e.name in matches]
    return nlargest(_MATCHED, found, key=lambda index: matches[endpoints[index].name])


def neighbours(
    decodes: Sequence[Endpoint], picked: Sequence[Endpoint], prefills: Sequence[Endpoint], rng: Random
) -> list[Endpoint]:
    """Prefill workers in those places where there are decode workers, and none that was picked."""
    places = {e.topology for e in decodes if e.topology} - {e.topology for e in picked}
    found: list[Endpoint] = []
    turn = rng.randrange(len(prefills)) if places else 0
    for index in range(turn, turn + len(prefills)):
        if not places:
            break
        endpoint = prefills[index % len(prefills)]
        if endpoint.topology in places:
            places.remove(endpoint.topology)
            found.append(endpoint)
    return found
