"""Filter, score, pick: workers, their loads and a request in; a choice with its reason out. Pure.

What only depends on the workers is worked out once, in `candidates`; `decide` runs for each request.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from tandem_router.policies import Filter, Loads
from tandem_router.policies.registry import DEFAULT, REQUIRED, Policy
from tandem_router.types import (
    UNCONSTRAINED,
    Choice,
    Constraint,
    Endpoint,
    NoChoice,
    Pair,
    Path,
    RequestInfo,
    Role,
)

SHORT_PROMPT_TOKENS = 256
"""Below this a mixed worker takes the request whole: the hand-over costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every way to serve one model: hand-overs, or whole on one worker. `known`: a worker names the model."""

    known: bool
    usable: tuple[Endpoint, ...]
    handovers: tuple[Pair, ...]
    wholes: tuple[Pair, ...]
    mixed: tuple[Pair, ...]


class Scored(NamedTuple):
    score: float
    pair: Pair


def candidates(endpoints: Iterable[Endpoint], model: str) -> Candidates:
    """What passes the filters that always hold. Good until the workers change."""
    probe = RequestInfo("", model, prompt_tokens=0, stream=False)
    known = [e for e in endpoints if e.model == model]
    usable = [e for e in known if _passes(probe, e, REQUIRED)]
    prefills = [e for e in usable if e.role is Role.PREFILL]
    wholes = [Pair(None, e) for e in usable if _fits(probe, Pair(None, e), REQUIRED)]
    pairs = [Pair(p, whole.decode) for p in prefills for whole in wholes]
    return Candidates(
        known=bool(known),
        usable=tuple(usable),
        handovers=tuple(pair for pair in pairs if _fits(probe, pair, REQUIRED)),
        wholes=tuple(wholes),
        mixed=tuple(whole for whole in wholes if whole.decode.role is Role.MIXED),
    )


def choose(
    request: RequestInfo,
    endpoints: Iterable[Endpoint],
    loads: Loads,
    rng: Random,
    *,
    policy: Policy = DEFAULT,
    constraint: Constraint = UNCONSTRAINED,
) -> Choice | NoChoice:
    """`decide` for workers that nobody has sorted out yet."""
    found = candidates(endpoints, request.model)
    return decide(request, found, loads, rng, policy=policy, constraint=constraint)


def decide(
    request: RequestInfo,
    found: Candidates,
    loads: Loads,
    rng: Random,
    *,
    policy: Policy = DEFAULT,
    constraint: Constraint = UNCONSTRAINED,
) -> Choice | NoChoice:
    """The pair that serves `request`. The same arguments (and state of `rng`) give the same choice."""
    handovers = () if constraint.local_only else _allowed(request, found.handovers, policy, constraint)
    handovers = _least_shunned(handovers, constraint.shun)
    wholes = _allowed(request, found.mixed if handovers else found.wholes, policy, constraint)
    wholes = [pair for pair in wholes if pair.decode.name not in constraint.shun] or wholes
    handover = _best(request, handovers, loads, rng, policy)
    whole = _best(request, wholes, loads, rng, policy)
    if whole is not None and (reason := _why_whole(request, found, handover, whole, constraint)):
        return Choice(None, whole.pair.decode, Path.LOCAL, reason)
    if handover is not None:
        return Choice(handover.pair.prefill, handover.pair.decode, Path.DISAGGREGATED, "pair_available")
    return NoChoice(_why_none(found, constraint))


def _passes(request: RequestInfo, endpoint: Endpoint, filters: Sequence[Filter]) -> bool:
    return all(f.endpoint(request, endpoint) for f in filters)


def _fits(request: RequestInfo, pair: Pair, filters: Sequence[Filter]) -> bool:
    return all(f.pair(request, pair) for f in filters)


def _allowed(
    request: RequestInfo, pairs: Sequence[Pair], policy: Policy, constraint: Constraint
) -> Sequence[Pair]:
    """The pairs without an avoided worker that pass the named filters as well."""
    if constraint.avoid:
        pairs = [pair for pair in pairs if not any(e.name in constraint.avoid for e in pair.workers)]
    for f in policy.filters:
        pairs = [
            pair
            for pair in pairs
            if all(f.endpoint(request, e) for e in pair.workers) and f.pair(request, pair)
        ]
    return pairs


def _least_shunned(handovers: Sequence[Pair], shun: frozenset[str]) -> Sequence[Pair]:
    """Those with the fewest shunned workers; never both shunned."""
    if not shun:
        return handovers
    counts = [sum(e.name in shun for e in pair.workers) for pair in handovers]
    fewest = min(counts, default=2)
    return [pair for pair, count in zip(handovers, counts, strict=True) if count == fewest < 2]


def _best(
    request: RequestInfo, pairs: Sequence[Pair], loads: Loads, rng: Random, policy: Policy
) -> Scored | None:
    if not pairs:
        return None
    totals = [0.0] * len(pairs)
    for scorer, weight in policy.scorers:
        scores = scorer.score(request, pairs, loads)
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    index = policy.picker.pick(totals, rng)
    return Scored(totals[index], pairs[index])


def _why_whole(
    request: RequestInfo, found: Candidates, handover: Scored | None, whole: Scored, constraint: Constraint
) -> str | None:
    """Why one worker should do both phases; None if the hand-over is better."""
    if handover is None:
        prefills = (e for e in found.usable if e.role is Role.PREFILL and e.name not in constraint.avoid)
        return "no_pair" if any(prefills) else "no_prefill_worker"
    if request.prompt_tokens < SHORT_PROMPT_TOKENS:
        return "short_prompt"
    return "less_loaded" if whole.score > handover.score else None


def _why_none(found: Candidates, constraint: Constraint) -> str:
    if not found.known:
        return "no_worker"
    left = any(e.name not in constraint.avoid for e in found.usable)
    return "no_decode_worker" if left else "no_ready_worker"
