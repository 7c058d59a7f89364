"""The scores of a side's workers and pairs. Pure.

What rates workers is asked once for each worker, not for each pair; what only shows in pairs is asked for the
pairs of the best rated workers, and for those of them that are near each other.
"""

from collections.abc import Sequence
from itertools import islice, product
from typing import NamedTuple

from tandem_router.candidates import Roster, Side
from tandem_router.policies import Scorer
from tandem_router.policies.load import LeastLoaded
from tandem_router.question import Question
from tandem_router.shortlist import neighbours, shortlist
from tandem_router.types import Endpoint, Pair

MAX_PAIRS = 9
"""So many pairs of a side are all scored; of more, those of the best rated workers."""
_BEST = 2
MAX_LOOKED_AT = 4096
"""So many pairs are looked at for one that passes the filters, when none of the shortlist does."""

_SPARE = LeastLoaded()


class Ways(NamedTuple):
    """Pairs and their scores, side by side."""

    pairs: list[Pair]
    scores: list[float]


class _Rated(NamedTuple):
    """`promise` orders the workers, `rating` is their part of their pairs' scores."""

    promise: float
    rating: float
    endpoint: Endpoint


def wholes(ask: Question, roster: Roster) -> Ways:
    """Both phases on one worker: those of the workers that are worth scoring."""
    few = shortlist(ask, roster)
    pairs = ask.passing([Pair(None, e) for e in few])
    if not pairs and len(few) < len(roster):
        pairs = ask.passing([Pair(None, e) for e in ask.allowed(roster)])
    return Ways(pairs, _scored(ask, pairs, [0.0] * len(pairs), ask.policy.scorers))


def handovers(ask: Question, side: Side) -> Ways:
    """The pairs of a side that pass the filters and are worth scoring."""
    decodes, prefills = shortlist(ask, side.decodes), shortlist(ask, side.prefills)
    if ask.policy.looks_at_places and len(prefills) < len(side.prefills):
        prefills = [*prefills, *neighbours(ask, decodes, prefills, side.prefills)]
    if not prefills or not decodes:
        return Ways([], [])
    rows = _best_rows(ask, _rated(ask, prefills, prefill=True), _rated(ask, decodes, prefill=False))
    pairs = [Pair(p.endpoint, d.endpoint) for p, d in rows]
    ratings = [p.rating + d.rating for p, d in rows]
    if not ask.policy.pair_filters:
        return Ways(pairs, _scored(ask, pairs, ratings, ask.policy.pairings))
    kept = [index for index, pair in enumerate(pairs) if ask.passing([pair])]
    if kept:
        pairs, ratings = [pairs[index] for index in kept], [ratings[index] for index in kept]
        return Ways(pairs, _scored(ask, pairs, ratings, ask.policy.pairings))
    everything = islice(product(ask.allowed(side.decodes), ask.allowed(side.prefills)), MAX_LOOKED_AT)
    pairs = ask.passing([Pair(p, d) for d, p in everything])
    return Ways(pairs, _scored(ask, pairs, [0.0] * len(pairs), ask.policy.scorers))


def _rated(ask: Question, endpoints: Sequence[Endpoint], *, prefill: bool) -> list[_Rated]:
    """Without scorers that rate workers, spare room and a cached prompt promise most."""
    request, view = ask.request, ask.view
    totals = [0.0] * len(endpoints)
    for scorer, weight in ask.policy.ratings:
        part = weight * (scorer.prefill_share if prefill else 1 - scorer.prefill_share)
        if part:
            ratings = scorer.rate(request, endpoints, view)
            totals = [total + part * rating for total, rating in zip(totals, ratings, strict=True)]
    promises = totals
    if not ask.policy.ratings:
        tokens = max(request.prompt_tokens, 1)
        spare = _SPARE.rate(request, endpoints, view)
        cached = (view.matches.get(e.name, 0) / tokens for e in endpoints)
        promises = [room + share for room, share in zip(spare, cached, strict=True)]
    return list(map(_Rated, promises, totals, endpoints))


def _best_rows(ask: Question, prefills: list[_Rated], decodes: list[_Rated]) -> list[tuple[_Rated, _Rated]]:
    """All pairs if they are few; else those of the best of each role, and of the best near each other."""
    if len(prefills) * len(decodes) <= MAX_PAIRS:
        return list(product(prefills, decodes))
    best_prefills, best_decodes = _best(ask, prefills), _best(ask, decodes)
    rows = list(product(best_prefills, best_decodes))
    if ask.policy.looks_at_places:
        taken = {p.endpoint.name for p in best_prefills}
        for decode in best_decodes:
            place = decode.endpoint.topology
            near = [p for p in prefills if p.endpoint.topology == place and p.endpoint.name not in taken]
            if place and near:
                rows.append((max(near, key=_promise), decode))
    return rows


def _best(ask: Question, rated: list[_Rated]) -> list[_Rated]:
    """Of equals some, by chance."""
    if len(rated) <= _BEST:
        return rated
    turn = ask.rng.randrange(len(rated))
    return sorted(rated[turn:] + rated[:turn], key=_promise, reverse=True)[:_BEST]


def _promise(rated: _Rated) -> float:
    return rated.promise


def _scored(
    ask: Question, pairs: list[Pair], totals: list[float], scorers: Sequence[tuple[Scorer, float]]
) -> list[float]:
    if pairs:
        for scorer, weight in scorers:
            scores = scorer.score(ask.request, pairs, ask.view)
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    return totals
