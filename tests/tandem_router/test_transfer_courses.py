"""The hand-over's state machine: invariants over every course of events."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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
from tandem_router.transfer import MAX_STRIKES, Phase, Transfer, start, step
from tandem_router.types import Choice, Constraint, Endpoint, NoChoice, Path, Role

DEADLINE = 100.0


def worker(name: str, role: str) -> Endpoint:
    return Endpoint(name, "10.0.0.1", 8100, Role(role), role, "native", "m", "1")


P1, P2, D1, D2 = (
    worker("p1", "prefill"),
    worker("p2", "prefill"),
    worker("d1", "decode"),
    worker("d2", "decode"),
)
PAIR = Choice(P1, D1, Path.DISAGGREGATED, "pair_available")
OTHER_PAIR = Choice(P2, D2, Path.DISAGGREGATED, "pair_available")
SAME_PREFILL = Choice(P1, D2, Path.DISAGGREGATED, "pair_available")
WORKERS = (P1, P2, D1, D2)
LOCAL = Choice(None, D1, Path.LOCAL, "no_prefill_worker")


BROKEN = Failed(Failure(Leg.DECODE, Kind.STREAM, "it broke off"))


def failed(leg: Leg, kind: Kind = Kind.STATUS) -> Failed:
    return Failed(Failure(leg, kind, "it failed"))


def events_after(effect: Effect, legs: set[Leg], draw: Any, *, can_resume: bool) -> Any:
    """Something that may happen once `effect` is carried out, while these legs are under way."""
    params = st.sampled_from([None, {"remote_request_id": "h"}])
    prefilled = st.builds(Prefilled, params, st.booleans(), st.sampled_from([30.0, 0.0, -5.0]), st.just(5.0))
    course: dict[Leg, st.SearchStrategy[Event]] = {Leg.PREFILL: prefilled, Leg.DECODE: st.just(FirstToken())}
    gone: st.SearchStrategy[Event] = st.just(ClientGone())
    match effect:
        case Choose(constraint, _):
            return draw(st.just(draw(chosen(constraint))) | gone)
        case SendPrefill() | SendDecode() | SendBoth() | AwaitDecode():
            leg = draw(st.sampled_from(sorted(legs)))
            failures = st.builds(failed, st.just(leg), st.sampled_from(Kind))
            refused: st.SearchStrategy[Event] = st.just(Refused(leg))
            return draw(course[leg] | failures | refused | gone)
        case Relay():
            broken = st.just(Failed(BROKEN.failure, can_resume))
            return draw(st.just(Finished()) | broken | gone)
    raise AssertionError(effect)


@st.composite
def chosen(draw: Any, constraint: Constraint) -> Event:
    """What a pipeline may choose, an avoided worker included: the machine does not trust it."""
    choices: list[Choice | NoChoice] = [LOCAL, NoChoice("no_worker")]
    if not constraint.local_only:
        choices += [PAIR, OTHER_PAIR, SAME_PREFILL]
    return Chosen(draw(st.sampled_from(choices)), concurrent=draw(st.booleans()))


@dataclass
class Course:
    """What came of a request so far, by counting effects and events."""

    draw: Any
    now: float = 0.0
    granted: int = 0
    pulled: int = 0
    released: int = 0
    ends: int = 0
    gone: bool = False
    committed: bool = False
    sent: int = 0
    legs: set[Leg] = field(default_factory=set)

    def take(self, effects: tuple[Effect, ...], state: Transfer) -> Effect | None:
        """Notes the effects; gives the one that an event is to follow."""
        waiting = None
        for effect in effects:
            match effect:
                case Release():
                    self.released += 1
                case Cancel(leg):
                    self.legs.remove(leg)
                case AnswerPrefill() | PassRefusal() | GiveUp() | BreakStream():
                    assert isinstance(effect, BreakStream) == self.committed
                    self.ends += 1
                case _:
                    assert waiting is None
                    waiting = effect
            self._send(effect, state)
        return waiting

    def _send(self, effect: Effect, state: Transfer) -> None:
        new = {SendPrefill: {Leg.PREFILL}, SendDecode: {Leg.DECODE}, SendBoth: set(Leg)}.get(type(effect))
        if new is None:
            return
        assert not self.legs
        assert isinstance(effect, SendPrefill | SendDecode | SendBoth)
        self.legs, self.sent = set(new), self.sent + 1
        assert effect.deadline <= DEADLINE
        if isinstance(effect, SendDecode) and effect.handle is not None:
            assert self.now < effect.handle.deadline
            assert effect.handle == state.handle
            assert (
                effect.deadline <= effect.handle.deadline + (0 if state.stream else 5.0) or not state.stream
            )

    def happen(self, event: Event, state: Transfer) -> None:
        match event:
            case Prefilled(params):
                self.granted += params is not None and state.phase is not Phase.BOTH
                self.legs.discard(Leg.PREFILL)
            case FirstToken():
                self.committed = True
                self.pulled += state.handle is not None
                self.legs.discard(Leg.DECODE)
            case Failed(failure):
                self.legs.discard(failure.leg)
            case Refused(leg):
                self.legs.discard(leg)
            case Finished():
                self.ends += 1
            case ClientGone():
                self.gone = True
                # Closing the connection of a serial leg is the same as its end.
                self.legs &= state.legs


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_course_ends_once_and_leaves_no_handle_and_no_leg(data: st.DataObject) -> None:
    draw: Any = data.draw
    course = Course(draw)
    state, effects = start(DEADLINE, stream=draw(st.booleans()))
    while (effect := course.take(effects, state)) is not None:
        event = events_after(effect, course.legs, draw, can_resume=state.stream and draw(st.booleans()))
        course.happen(event, state)
        course.now += draw(st.sampled_from([0.0, 1.0, 60.0]))
        state, effects = step(state, event, course.now)
    assert state.phase is Phase.DONE
    assert course.granted == course.pulled + course.released
    assert course.legs == set()
    assert course.ends == (0 if course.gone else 1)
    assert course.sent <= 2 * (MAX_STRIKES + len(WORKERS))
    assert step(state, ClientGone(), course.now) == (state, ())
