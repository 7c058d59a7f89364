"""Filter, score, pick: workers, what is known of them and a request in; a choice with its reason out. Pure.

Workers are filtered, shortlisted and rated role by role, then the pairs of the best are scored as pairs. So a
decision among a thousand workers costs little more than one among thirty.
"""

from collections.abc import Iterable, Iterator, Sequence
from random import Random

from tandem_router.candidates import Candidates, Roster, Side, candidates
from tandem_router.policies import Scored, View
from tandem_router.policies.registry import DEFAULT, Policy
from tandem_router.question import Question
from tandem_router.scoring import handovers, wholes
from tandem_router.types import (
    BUSY,
    UNCONSTRAINED,
    Choice,
    Constraint,
    Endpoint,
    NoChoice,
    Path,
    RequestInfo,
    Role,
)


def choose(
    request: RequestInfo,
    endpoints: Iterable[Endpoint],
    view: View,
    rng: Random,
    *,
    policy: Policy = DEFAULT,
    constraint: Constraint = UNCONSTRAINED,
) -> Choice | NoChoice:
    """`decide` for workers that nobody has sorted out yet."""
    found = candidates(endpoints, request.model)
    return decide(request, found, view, rng, policy=policy, constraint=constraint)


def decide(
    request: RequestInfo,
    found: Candidates,
    view: View,
    rng: Random,
    *,
    policy: Policy = DEFAULT,
    constraint: Constraint = UNCONSTRAINED,
) -> Choice | NoChoice:
    """The pair that serves `request`. The same arguments (and state of `rng`) give the same choice."""
    ejected = view.ejected
    barred = constraint.avoid | ejected if ejected else constraint.avoid
    if constraint.full:
        barred |= constraint.full
    return _Decision(Question(request, view, rng, policy, barred), found, constraint).make()


class _Decision:
    """The steps of one decision."""

    __slots__ = ("_ask", "_constraint", "_found")

    def __init__(self, ask: Question, found: Candidates, constraint: Constraint) -> None:
        self._ask, self._found, self._constraint = ask, found, constraint

    def make(self) -> Choice | NoChoice:
        ask, found = self._ask, self._found
        local_only = self._constraint.local_only or ask.request.needs_local or not ask.policy.handovers
        handover = None if local_only else self._handover()
        if handover is None:
            waits = not local_only and self._busy(side.prefills for side in found.sides)
            whole = self._whole(found.mixed if waits else found.wholes)
            if whole is None:
                return NoChoice(BUSY if waits or self._busy((found.wholes,)) else self._why_none())
            return Choice(None, whole.pair.decode, Path.LOCAL, "prefill_busy" if waits else self._why_whole())
        mixed = self._whole(found.mixed) if found.mixed else None
        if (local := ask.policy.stay.local(ask.request, handover, mixed, ask.view)) is not None:
            return Choice(None, local[0].decode, Path.LOCAL, local[1])
        return Choice(handover.pair.prefill, handover.pair.decode, Path.DISAGGREGATED, "pair_available")

    def _whole(self, roster: Roster) -> Scored | None:
        """The best worker for both phases; one that is shunned only if there is no other."""
        shun = self._constraint.shun
        for some in (_without(roster, shun), roster) if shun else (roster,):
            ways = wholes(self._ask, some)
            if ways.pairs:
                index = self._ask.policy.picker.pick(ways.scores, self._ask.rng)
                return Scored(ways.scores[index], ways.pairs[index])
        return None

    def _handover(self) -> Scored | None:
        ask = self._ask
        for sides in self._rounds():
            found = [handovers(ask, side) for side in sides]
            scores = [score for ways in found for score in ways.scores]
            if scores:
                index = ask.policy.picker.pick(scores, ask.rng)
                pairs = [pair for ways in found for pair in ways.pairs]
                return Scored(scores[index], pairs[index])
        return None

    def _busy(self, rosters: Iterable[Roster]) -> bool:
        """Whether one of them has no room but would do."""
        full = self._constraint.full - self._constraint.avoid
        return bool(full) and any(e.name in full for roster in rosters for e in roster)

    def _rounds(self) -> Iterator[Sequence[Side]]:
        """The sides; if workers are shunned, first the pairs without any, then those with one of them."""
        sides, shun = self._found.sides, self._constraint.shun
        if held := self._constraint.held:
            only = frozenset((held,))
            sides = tuple(Side(_only(s.prefills, only), s.decodes) for s in sides)
        if not shun:
            yield sides
            return
        clean = [Side(_without(s.prefills, shun), _without(s.decodes, shun)) for s in sides]
        yield clean
        either: list[Side] = []
        for side, good in zip(sides, clean, strict=True):
            either.append(Side(good.prefills, _only(side.decodes, shun)))
            either.append(Side(_only(side.prefills, shun), good.decodes))
        yield either

    def _why_whole(self) -> str:
        if self._ask.request.needs_local:
            return self._ask.request.needs_local
        if not self._ask.policy.handovers:
            return "never"
        barred = self._constraint.avoid
        prefills = (e for e in self._found.usable if e.role is Role.PREFILL and e.name not in barred)
        return "no_pair" if any(prefills) else "no_prefill_worker"

    def _why_none(self) -> str:
        if not self._found.known:
            return "no_worker"
        left = any(e.name not in self._constraint.avoid for e in self._found.usable)
        return "no_decode_worker" if left else "no_ready_worker"


def _without(roster: Roster, names: frozenset[str]) -> Roster:
    return Roster(e for e in roster if e.name not in names)


def _only(roster: Roster, names: frozenset[str]) -> Roster:
    return Roster(e for e in roster if e.name in names)
