"""The hand-over as a state machine: events and the time in, the next state and effects out. Pure.

choosing -> prefill -> decode -> streaming -> done, with at most MAX_ATTEMPTS choices on the way. Every handle
that a prefill leg grants is either pulled (a first token came) or released, once.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from tandem_router.moves import (
    AnswerPrefill,
    BreakStream,
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
    SendDecode,
    SendPrefill,
)
from tandem_router.types import UNCONSTRAINED, Choice, Constraint, NoChoice, Path

MAX_ATTEMPTS = 3
"""The first choice, another one, and at last one without a hand-over."""
LEASE_SHARE = 0.5
"""Part of a lease in which the decode leg must have pulled: engines past it may answer with wrong tokens."""


class Phase(StrEnum):
    CHOOSING = "choosing"
    PREFILL = "prefill"
    DECODE = "decode"
    STREAMING = "streaming"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One request on its way through the workers. `deadline` is the request's, in clock time."""

    deadline: float
    stream: bool
    phase: Phase = Phase.CHOOSING
    attempt: int = 0
    constraint: Constraint = UNCONSTRAINED
    choice: Choice | None = None
    handle: Handle | None = None
    failure: Failure | None = None
    given_up_handover: str | None = None


Step = tuple[Transfer, tuple[Effect, ...]]


def start(deadline: float, *, stream: bool) -> Step:
    return Transfer(deadline, stream), (Choose(),)


def step(state: Transfer, event: Event, now: float) -> Step:
    """What follows from `event` at time `now`. A done transfer ignores everything."""
    if state.phase is Phase.DONE:
        return state, ()
    match event:
        case Chosen(choice):
            return _chosen(state, choice, now)
        case Prefilled():
            return _prefilled(state, event, now)
        case Failed(failure):
            return _failed(state, failure, now)
        case Refused():
            return _end(state, PassRefusal(), "refused")
        case FirstToken():
            return replace(state, phase=Phase.STREAMING, handle=None), (Relay(),)
        case Finished():
            return _end(state, None, "finished")
        case ClientGone():
            return _end(state, None, "cancelled")


def _end(state: Transfer, effect: Effect | None, reason: str) -> Step:
    effects = () if effect is None else (effect,)
    return replace(state, phase=Phase.DONE, handle=None), _releases(state, reason) + effects


def _releases(state: Transfer, reason: str) -> tuple[Effect, ...]:
    return () if state.handle is None else (Release(state.handle, reason),)


def _too_late(state: Transfer, leg: Leg) -> Step:
    return _end(state, GiveUp(Failure(leg, Kind.TIMEOUT, "the request's deadline passed")), "failed")


def _chosen(state: Transfer, choice: Choice | NoChoice, now: float) -> Step:
    if now >= state.deadline:
        return _too_late(state, Leg.PREFILL)
    if isinstance(choice, NoChoice):
        if state.attempt == 0 or state.constraint.local_only:
            return _end(state, GiveUp(state.failure or choice), "failed")
        local = replace(state.constraint, local_only=True)
        return replace(state, constraint=local), (Choose(local),)
    if choice.prefill is None:
        if state.given_up_handover:
            choice = replace(choice, path=Path.FALLBACK, reason=state.given_up_handover)
        return _decode_only(state, choice, now)
    attempt = state.attempt + 1
    deadline = now + (state.deadline - now) / 2
    state = replace(state, phase=Phase.PREFILL, attempt=attempt, choice=choice)
    return state, (SendPrefill(choice, attempt, deadline),)


def _decode_only(state: Transfer, choice: Choice, now: float) -> Step:
    attempt = state.attempt + 1
    last = attempt >= MAX_ATTEMPTS or not state.stream
    deadline = state.deadline if last else now + (state.deadline - now) / 2
    state = replace(state, phase=Phase.DECODE, attempt=attempt, choice=choice)
    return state, (SendDecode(choice, attempt, None, deadline),)


def _prefilled(state: Transfer, event: Prefilled, now: float) -> Step:
    choice = state.choice
    if choice is None or choice.prefill is None:
        raise ValueError("a prefill answer without a prefill leg")
    if event.params is not None:
        state = replace(state, handle=Handle(choice.prefill, event.params, now + event.lease * LEASE_SHARE))
    if now >= state.deadline:
        return _too_late(state, Leg.PREFILL)
    if event.finished and not state.stream:
        return _end(state, AnswerPrefill(), "finished")
    if state.handle is None:
        why = "finished_at_first_token" if event.finished else "no_transfer_params"
        return _decode_only(state, Choice(None, choice.decode, Path.FALLBACK, why), now)
    if state.handle.deadline <= now:
        return _failed(state, Failure(Leg.PREFILL, Kind.LEASE, "the KV lease had ended"), now)
    # Only a stream shows when the KV was pulled; a plain answer comes long after.
    deadline = min(state.handle.deadline, state.deadline) if state.stream else state.deadline
    state = replace(state, phase=Phase.DECODE)
    return state, (SendDecode(choice, state.attempt, state.handle, deadline),)


def _failed(state: Transfer, failure: Failure, now: float) -> Step:
    if state.phase is Phase.STREAMING:
        return _end(state, BreakStream(failure), "failed")
    releases = _releases(state, "failed")
    state = replace(_blamed(state, failure), phase=Phase.CHOOSING, handle=None, failure=failure)
    if now >= state.deadline:
        state, effects = _too_late(state, failure.leg)
    elif state.attempt >= MAX_ATTEMPTS:
        state, effects = _end(state, GiveUp(failure), "failed")
    else:
        effects = (Choose(state.constraint, failure.leg),)
    return state, releases + effects


def _blamed(state: Transfer, failure: Failure) -> Transfer:
    """Notes which workers not to take again, and whether the hand-over has had its chances."""
    choice, constraint = state.choice, state.constraint
    if choice is None:
        return state
    if choice.prefill is None:
        constraint = replace(constraint, avoid=constraint.avoid | {choice.decode.name})
    elif failure.leg is Leg.PREFILL:
        constraint = replace(constraint, avoid=constraint.avoid | {choice.prefill.name})
    elif failure.kind in (Kind.CONNECT, Kind.BUSY):
        constraint = replace(constraint, avoid=constraint.avoid | {choice.decode.name})
    else:
        constraint = replace(constraint, shun=constraint.shun | {choice.prefill.name, choice.decode.name})
    constraint = replace(constraint, local_only=constraint.local_only or state.attempt >= MAX_ATTEMPTS - 1)
    handover = failure.reason if choice.prefill is not None else state.given_up_handover
    return replace(state, constraint=constraint, given_up_handover=handover)
