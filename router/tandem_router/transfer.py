"""The hand-over as a state machine: events and the time in, the next state and effects out. Pure.

choosing -> prefill -> decode -> streaming -> done, or choosing -> both -> streaming -> done where both legs
go out at once. Failures lead back to choosing, at most MAX_STRIKES times; a worker that is merely busy costs
no strike, only its place among the workers left. Every handle that a prefill leg grants is either pulled (a
first token came) or released, once, and every leg that is sent ends or is cancelled, once.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

from tandem_router.blame import ALONE, is_ruled_out, ruled_out
from tandem_router.moves import (
    AnswerPrefill,
    AwaitDecode,
    BreakStream,
    Cancel,
    Choose,
    Chosen,
    ClientGone,
    Effect,
    Event,
    Failed,
    Failure,
    Finished,
    FirstToken,
    GiveUp,
    Handle,
    Kind,
    Leg,
    PassRefusal,
    Prefilled,
    Refused,
    Relay,
    Release,
    SendBoth,
    SendDecode,
    SendPrefill,
)
from tandem_router.types import UNCONSTRAINED, Choice, Constraint, NoChoice, Path
from tandem_router.values import quick, replace

MAX_STRIKES = 3
"""The first choice, another one, and at last one without a hand-over."""
LEASE_SHARE = 0.5
"""Part of a lease in which the decode leg must have pulled: engines past it may answer with wrong tokens."""

_NONE: frozenset[Leg] = frozenset()
_BOTH = frozenset(Leg)


class Phase(StrEnum):
    CHOOSING = "choosing"
    PREFILL = "prefill"
    BOTH = "both"
    DECODE = "decode"
    STREAMING = "streaming"
    DONE = "done"


@quick
@dataclass(frozen=True, slots=True)
class Transfer:
    """One request on its way through the workers. `deadline` is the request's, in clock time.

    `attempt` numbers what was sent, `strikes` counts failures; `legs` are those of a SendBoth that have not
    ended; `committed`: the client has a part of the answer, so there is no other answer any more.
    """

    deadline: float
    stream: bool
    phase: Phase = Phase.CHOOSING
    attempt: int = 0
    strikes: int = 0
    constraint: Constraint = UNCONSTRAINED
    choice: Choice | None = None
    handle: Handle | None = None
    legs: frozenset[Leg] = _NONE
    failure: Failure | None = None
    given_up_handover: str | None = None
    committed: bool = False


Step = tuple[Transfer, tuple[Effect, ...]]


def start(deadline: float, *, stream: bool) -> Step:
    return Transfer(deadline, stream), (Choose(),)


def step(state: Transfer, event: Event, now: float) -> Step:
    """What follows from `event` at time `now`. A done transfer ignores everything."""
    if state.phase is Phase.DONE:
        return state, ()
    match event:
        case Chosen(choice, concurrent, waited_for):
            if waited_for:
                constraint = replace(state.constraint, avoid=state.constraint.avoid - waited_for)
                state = replace(state, constraint=constraint)
            return _chosen(state, choice, now, concurrent=concurrent)
        case Prefilled():
            return _prefilled(state, event, now)
        case Failed():
            return _failed(state, event, now)
        case Refused(leg):
            return _refused(replace(state, legs=state.legs - {leg}), leg)
        case FirstToken():
            legs = state.legs - {Leg.DECODE}
            return replace(state, phase=Phase.STREAMING, handle=None, legs=legs, committed=True), (Relay(),)
        case Finished():
            return _end(state, None, "finished")
        case ClientGone():
            return _end(state, None, "cancelled")


def _end(state: Transfer, effect: Effect | None, reason: str) -> Step:
    state, effects = _let_go(state, reason)
    last = () if effect is None else (effect,)
    return replace(state, phase=Phase.DONE), effects + last


def _let_go(state: Transfer, reason: str) -> Step:
    """Without what is still held: legs in flight are cancelled, the handle is given back."""
    effects: list[Effect] = [Cancel(leg) for leg in sorted(state.legs)]
    if state.handle is not None:
        effects.append(Release(state.handle, reason))
    return replace(state, legs=_NONE, handle=None), tuple(effects)


def _fail(state: Transfer, why: Failure | NoChoice) -> Step:
    """The end with an error: as an answer, or in the stream that has begun."""
    if not state.committed:
        return _end(state, GiveUp(why), "failed")
    failure = why if isinstance(why, Failure) else Failure(Leg.DECODE, Kind.STREAM, "no worker can go on")
    return _end(state, BreakStream(failure), "failed")


def _too_late(state: Transfer, leg: Leg) -> Step:
    return _fail(state, Failure(leg, Kind.TIMEOUT, "the request's deadline passed"))


def _refused(state: Transfer, leg: Leg) -> Step:
    if state.committed:
        return _fail(state, Failure(leg, Kind.STATUS, f"the {leg} worker refused to go on"))
    return _end(state, PassRefusal(), "refused")


def _chosen(state: Transfer, choice: Choice | NoChoice, now: float, *, concurrent: bool) -> Step:
    if now >= state.deadline:
        return _too_late(state, Leg.PREFILL)
    if isinstance(choice, Choice) and is_ruled_out(state.constraint, choice):
        choice = NoChoice("no_ready_worker")
    if state.handle is not None:
        return _chosen_for_held(state, state.handle, choice, now)
    if isinstance(choice, NoChoice):
        return _nothing_chosen(state, choice)
    if choice.prefill is None:
        if state.given_up_handover:
            choice = replace(choice, path=Path.FALLBACK, reason=state.given_up_handover)
        return _decode_only(state, choice, now)
    attempt, half = state.attempt + 1, now + (state.deadline - now) / 2
    state = replace(state, attempt=attempt, choice=choice)
    if concurrent:
        deadline = half if state.stream else state.deadline
        state = replace(state, phase=Phase.BOTH, legs=_BOTH)
        return state, (SendBoth(choice, attempt, half, deadline),)
    return replace(state, phase=Phase.PREFILL), (SendPrefill(choice, attempt, half),)


def _nothing_chosen(state: Transfer, choice: NoChoice) -> Step:
    """Without a pair, one worker for both phases; without that, once more the workers that failed."""
    constraint, failure = state.constraint, state.failure
    if not constraint.local_only and (state.attempt or failure is not None):
        constraint = replace(constraint, local_only=True)
    elif failure is not None and failure.kind not in ALONE and constraint.avoid | constraint.shun:
        constraint = UNCONSTRAINED
    else:
        return _fail(state, failure or choice)
    return replace(state, constraint=constraint), (Choose(constraint),)


def _chosen_for_held(state: Transfer, handle: Handle, choice: Choice | NoChoice, now: float) -> Step:
    """Another decode worker for KV that is there already; without one, all begins anew."""
    same = isinstance(choice, Choice) and choice.prefill == handle.prefill
    if isinstance(choice, Choice) and same and now < handle.deadline:
        return _pull(state, choice, handle)
    state, released = _let_go(state, "failed")
    constraint = replace(state.constraint, held="")
    return replace(state, constraint=constraint), (*released, Choose(constraint))


def _decode_only(state: Transfer, choice: Choice, now: float) -> Step:
    attempt = state.attempt + 1
    last = state.strikes >= MAX_STRIKES - 1 or not state.stream
    deadline = state.deadline if last else now + (state.deadline - now) / 2
    state = replace(state, phase=Phase.DECODE, attempt=attempt, choice=choice)
    return state, (SendDecode(choice, attempt, None, deadline),)


def _prefilled(state: Transfer, event: Prefilled, now: float) -> Step:
    choice = state.choice
    if choice is None or choice.prefill is None:
        raise ValueError("a prefill answer without a prefill leg")
    prefill = event.prefill or choice.prefill
    if event.prefill is not None:
        choice = replace(choice, prefill=prefill)
        state = replace(state, choice=choice)
    both = state.phase is Phase.BOTH
    state = replace(state, legs=state.legs - {Leg.PREFILL})
    if event.params is not None and not both:
        deadline = now + event.lease * LEASE_SHARE
        state = replace(state, handle=Handle(prefill, event.params, deadline))
    if now >= state.deadline:
        return _too_late(state, Leg.PREFILL)
    if event.finished and not state.stream:
        return _end(state, AnswerPrefill(), "finished")
    if both and not event.finished:
        return state, (AwaitDecode(),)
    if state.handle is None:
        why = "finished_at_first_token" if event.finished else "no_transfer_params"
        state, cancelled = _let_go(state, "failed")
        state, send = _decode_only(state, Choice(None, choice.decode, Path.FALLBACK, why), now)
        return state, cancelled + send
    if state.handle.deadline <= now:
        return _failed(state, Failed(Failure(Leg.PREFILL, Kind.LEASE, "the KV lease had ended")), now)
    return _pull(state, choice, state.handle, event.decode_seconds)


def _pull(state: Transfer, choice: Choice, handle: Handle, decode_seconds: float = math.inf) -> Step:
    """The decode leg for KV that is held. A stream shows when it was pulled, a plain answer comes later."""
    allowed = handle.deadline + (0.0 if state.stream else decode_seconds)
    state = replace(state, phase=Phase.DECODE, choice=choice)
    return state, (SendDecode(choice, state.attempt, handle, min(allowed, state.deadline)),)


def _failed(state: Transfer, event: Failed, now: float) -> Step:
    failure, streaming = event.failure, state.phase is Phase.STREAMING
    state = replace(state, legs=state.legs - {failure.leg})
    if streaming and failure.leg is Leg.PREFILL:
        return state, ()
    if streaming and not event.resumable:
        return _end(state, BreakStream(failure), "failed")
    kept = _keeps_handle(state, failure, now)
    state, effects = (state, ()) if kept else _let_go(state, "failed")
    state = replace(_blamed(state, failure, streaming=streaming), phase=Phase.CHOOSING, failure=failure)
    if now >= state.deadline:
        state, more = _too_late(state, failure.leg)
    elif state.strikes >= MAX_STRIKES:
        state, more = _fail(state, failure)
    else:
        more = (Choose(state.constraint, failure.leg),)
    return state, effects + more


def _keeps_handle(state: Transfer, failure: Failure, now: float) -> bool:
    """Whether the KV still waits: a decode worker that cannot be reached or refuses has not pulled it."""
    fresh = state.handle is not None and now < state.handle.deadline
    return fresh and failure.leg is Leg.DECODE and failure.kind in ALONE


def _blamed(state: Transfer, failure: Failure, *, streaming: bool) -> Transfer:
    """Notes which workers not to take again, and whether the hand-over has had its chances."""
    strikes = state.strikes + (failure.kind is not Kind.BUSY)
    choice, constraint = state.choice, state.constraint
    if choice is None:
        return replace(state, strikes=strikes)
    constraint = ruled_out(constraint, choice, failure, streaming=streaming)
    last = strikes >= MAX_STRIKES - 1 and state.handle is None
    held = "" if state.handle is None else state.handle.prefill.name
    constraint = replace(constraint, local_only=constraint.local_only or last, held=held)
    handover = failure.reason if choice.prefill is not None else state.given_up_handover
    return replace(state, strikes=strikes, constraint=constraint, given_up_handover=handover)
