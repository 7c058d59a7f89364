"""Filter, score, pick: workers, their loads and a request in; a choice with its reason out. Pure."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

from tandem_router.policies import Loads
from tandem_router.policies.registry import DEFAULT, Policy
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


class Scored(NamedTuple):
    score: float
    pair: Pair


def choose(
    request: RequestInfo,
    endpoints: Iterable[Endpoint],
    loads: Loads,
    rng: Random,
    *,
    policy: Policy = DEFAULT,
    constraint: Constraint = UNCONSTRAINED,
) -> Choice | NoChoice:
    """The pair that serves `request`. The same arguments (and state of `rng`) give the same choice."""
    known = [e for e in endpoints if e.model == request.model]
    usable = [e for e in known if e.name not in constraint.avoid and _passes(request, e, policy)]
    if not usable:
        return NoChoice("no_ready_worker" if known else "no_worker")
    handovers = [] if constraint.local_only else _handovers(request, usable, constraint, policy)
    wholes = _wholes(request, usable, constraint, policy, mixed_only=bool(handovers))
    handover = _best(request, handovers, loads, rng, policy)
    whole = _best(request, wholes, loads, rng, policy)
    if whole is not None and (reason := _why_whole(request, usable, handover, whole)):
        return Choice(None, whole.pair.decode, Path.LOCAL, reason)
    if handover is not None:
        return Choice(handover.pair.prefill, handover.pair.decode, Path.DISAGGREGATED, "pair_available")
    return NoChoice("no_decode_worker")


def _passes(request: RequestInfo, endpoint: Endpoint, policy: Policy) -> bool:
    return all(f.endpoint(request, endpoint) for f in policy.filters)


def _fits(request: RequestInfo, pair: Pair, policy: Policy) -> bool:
    return all(f.pair(request, pair) for f in policy.filters)


def _handovers(
    request: RequestInfo, usable: Sequence[Endpoint], constraint: Constraint, policy: Policy
) -> list[Pair]:
    """Pairs of two workers with the fewest shunned ones; never both shunned."""
    prefills = [e for e in usable if e.role is Role.PREFILL]
    decodes = [e for e in usable if e.role is not Role.PREFILL]
    pairs = [pair for p in prefills for d in decodes if _fits(request, pair := Pair(p, d), policy)]
    if not constraint.shun:
        return pairs
    shunned = [
        (p.prefill.name in constraint.shun) + (p.decode.name in constraint.shun) for p in pairs if p.prefill
    ]
    fewest = min(shunned, default=2)
    return [pair for pair, count in zip(pairs, shunned, strict=True) if count == fewest < 2]


def _wholes(
    request: RequestInfo,
    usable: Sequence[Endpoint],
    constraint: Constraint,
    policy: Policy,
    *,
    mixed_only: bool,
) -> list[Pair]:
    """Workers that could do both phases; shunned ones only if there is no other."""
    candidates = [e for e in usable if e.role is Role.MIXED or not mixed_only]
    pairs = [pair for e in candidates if _fits(request, pair := Pair(None, e), policy)]
    return [pair for pair in pairs if pair.decode.name not in constraint.shun] or pairs


def _best(
    request: RequestInfo, pairs: Sequence[Pair], loads: Loads, rng: Random, policy: Policy
) -> Scored | None:
    if not pairs:
        return None
    totals = [0.0] * len(pairs)
    for scorer, weight in policy.scorers:
        for index, score in enumerate(scorer.score(request, pairs, loads)):
            totals[index] += weight * score
    index = policy.picker.pick(totals, rng)
    return Scored(totals[index], pairs[index])


def _why_whole(
    request: RequestInfo, usable: Sequence[Endpoint], handover: Scored | None, whole: Scored
) -> str | None:
    """Why one worker should do both phases; None if the hand-over is better."""
    if handover is None:
        return "no_pair" if any(e.role is Role.PREFILL for e in usable) else "no_prefill_worker"
    if request.prompt_tokens < SHORT_PROMPT_TOKENS:
        return "short_prompt"
    return "less_loaded" if whole.score > handover.score else None
