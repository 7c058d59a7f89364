"""A few workers of many that are worth rating: where the prompt may be cached, and the least loaded. Pure."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter

from tandem_router.candidates import Roster
from tandem_router.policies.load import taken_by
from tandem_router.prefix import affinity_keys
from tandem_router.question import Question
from tandem_router.types import Endpoint

ENOUGH = 9
"""So many workers of a role are all rated."""
_TOO_FEW = 3
_MATCHED, _LEAST_LOADED = 2, 3
_LOOKED_AT, _COMPARED = 256, 16


def shortlist(ask: Question, roster: Roster) -> Sequence[Endpoint]:
    """All workers that may be taken if they are few, else at most `ENOUGH` of them."""
    if len(roster) > ENOUGH:
        few = ask.allowed(_worthwhile(ask, roster))
        if len(few) >= _TOO_FEW:
            return few
    allowed = ask.allowed(roster)
    return allowed if len(allowed) <= ENOUGH else _worthwhile(ask, Roster(allowed))


def neighbours(
    ask: Question, decodes: Sequence[Endpoint], picked: Sequence[Endpoint], prefills: Roster
) -> Sequence[Endpoint]:
    """Prefill workers in those places where there are decode workers, and none that was picked."""
    places = {e.topology for e in decodes if e.topology} - {e.topology for e in picked}
    found: list[Endpoint] = []
    for index in _from_anywhere(ask, prefills) if places else ():
        endpoint = prefills[index]
        if endpoint.topology in places:
            places.remove(endpoint.topology)
            found.append(endpoint)
            if not places:
                break
    return ask.allowed(found)


def _worthwhile(ask: Question, roster: Roster) -> list[Endpoint]:
    picked = dict.fromkeys(_least_loaded(ask, roster))
    for key in affinity_keys(ask.request):
        picked.update(dict.fromkeys(roster.owners(key)))
    if ask.view.matches:
        picked.update(dict.fromkeys(_matched(ask, roster)))
    return [roster[index] for index in islice(picked, ENOUGH)]


def _least_loaded(ask: Question, roster: Roster) -> list[int]:
    """Nobody has less to do than the idle; else the best of some, far better than one by chance."""
    loads, barred, names = ask.view.loads, ask.barred, roster.names
    idle: list[int] = []
    busy: list[tuple[float, int]] = []
    for index in islice(_from_anywhere(ask, roster), _LOOKED_AT):
        name = names[index]
        if name in barred:
            continue
        load = loads.get(name)
        if load is None:
            idle.append(index)
            if len(idle) == _LEAST_LOADED:
                return idle
        elif len(busy) < _COMPARED:
            busy.append((taken_by(load), index))
    busy.sort(key=itemgetter(0))
    return idle + [index for _, index in busy[: _LEAST_LOADED - len(idle)]]


def _matched(ask: Question, roster: Roster) -> list[int]:
    places = roster.places
    found = [(tokens, places[name]) for name, tokens in ask.view.matches.items() if name in places]
    return [index for _, index in sorted(found, reverse=True)[:_MATCHED]]


def _from_anywhere(ask: Question, roster: Roster) -> Iterator[int]:
    """All indices, from one by chance on: routers that see the same should not all take the same."""
    turn = int(ask.rng.random() * len(roster))
    return chain(range(turn, len(roster)), range(turn))
