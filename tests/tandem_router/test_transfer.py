"""The hand-over's state machine: invariants over every course of events, then the courses that matter."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tandem_router.transfer import MAX_ATTEMPTS, Phase, Transfer, start, step
from tandem_router.types import Choice, Endpoint, NoChoice, Path, Role

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
LOCAL = Choice(None, D1, Path.LOCAL, "no_prefill_worker")
HOLDS = Prefilled({"remote_request_id": "h"}, finished=False, lease=30.0)


def failed(leg: Leg, kind: Kind = Kind.STATUS) -> Failed:
    return Failed(Failure(leg, kind, "it failed"))


def events_after(effect: Effect, draw: Callable[[st.SearchStrategy[Event]], Event]) -> Event:
    """Something that may happen once `effect` is carried out."""
    failures = st.builds(failed, st.just(Leg.DECODE), st.sampled_from(Kind))
    gone: st.SearchStrategy[Event] = st.just(ClientGone())
    refused: st.SearchStrategy[Event] = st.just(Refused())
    match effect:
        case Choose(constraint, _):
            choices = [LOCAL, NoChoice("no_worker")] + ([] if constraint.local_only else [PAIR, OTHER_PAIR])
            return draw(st.builds(Chosen, st.sampled_from(choices)))
        case SendPrefill():
            params = st.sampled_from([None, {"remote_request_id": "h"}])
            prefilled = st.builds(Prefilled, params, st.booleans(), st.sampled_from([30.0, 0.0, -5.0]))
            failures = st.builds(failed, st.just(Leg.PREFILL), st.sampled_from(Kind))
            return draw(prefilled | failures | refused | gone)
        case SendDecode():
            return draw(st.just(FirstToken()) | failures | refused | gone)
        case Relay():
            return draw(st.just(Finished()) | failures | gone)
    raise AssertionError(effect)


@given(st.data())
@settings(max_examples=250)
def test_every_course_ends_once_and_leaves_no_handle(data: st.DataObject) -> None:
    draw: Any = data.draw
    now, granted, pulled, released, ends, committed, legs = 0.0, 0, 0, 0, 0, False, 0
    state, effects = start(DEADLINE, stream=draw(st.booleans()))
    gone = False
    while True:
        released += sum(isinstance(effect, Release) for effect in effects)
        ends += sum(isinstance(e, AnswerPrefill | PassRefusal | GiveUp | BreakStream) for e in effects)
        waiting = [e for e in effects if isinstance(e, Choose | SendPrefill | SendDecode | Relay)]
        if not waiting:
            break
        assert len(waiting) == 1
        effect = waiting[0]
        if isinstance(effect, SendPrefill | SendDecode):
            legs += 1
            assert not committed
            assert effect.deadline <= DEADLINE
        if isinstance(effect, SendDecode) and effect.handle is not None:
            assert now < effect.handle.deadline <= now + 15.0
            assert effect.handle == state.handle
        event = events_after(effect, draw)
        granted += isinstance(event, Prefilled) and event.params is not None
        if isinstance(event, FirstToken):
            committed = True
            pulled += state.handle is not None
        ends += isinstance(event, Finished)
        gone = gone or isinstance(event, ClientGone)
        now += draw(st.sampled_from([0.0, 1.0, 60.0]))
        state, effects = step(state, event, now)
    assert state.phase is Phase.DONE
    assert granted == pulled + released
    assert ends == (0 if gone else 1)
    assert legs <= 2 * MAX_ATTEMPTS
    assert step(state, ClientGone(), now) == (state, ())


def run(*events: Event, stream: bool = True, now: float = 0.0) -> tuple[Transfer, tuple[Effect, ...]]:
    state, effects = start(DEADLINE, stream=stream)
    for event in events:
        state, effects = step(state, event, now)
    return state, effects


def test_the_good_course() -> None:
    state, effects = run(Chosen(PAIR))
    assert effects == (SendPrefill(PAIR, 1, 50.0),)
    state, (send,) = step(state, HOLDS, 1.0)
    assert isinstance(send, SendDecode)
    assert (send.choice, send.attempt, send.deadline) == (PAIR, 1, 16.0)
    state, effects = step(state, FirstToken(), 2.0)
    assert effects == (Relay(),)
    assert step(state, Finished(), 3.0)[1] == ()


def test_a_plain_answer_may_come_after_the_lease() -> None:
    _, (send,) = run(Chosen(PAIR), HOLDS, stream=False)
    assert isinstance(send, SendDecode)
    assert send.deadline == DEADLINE


def test_a_failed_prefill_is_tried_once_more_elsewhere_then_done_locally() -> None:
    state, (again,) = run(Chosen(PAIR), failed(Leg.PREFILL))
    assert isinstance(again, Choose)
    assert (again.constraint.avoid, again.constraint.local_only, again.retry) == (
        frozenset({"p1"}),
        False,
        Leg.PREFILL,
    )
    state, (send,) = step(state, Chosen(OTHER_PAIR), 0.0)
    assert isinstance(send, SendPrefill)
    assert send.attempt == 2
    state, (again,) = step(state, failed(Leg.PREFILL), 0.0)
    assert isinstance(again, Choose)
    assert (again.constraint.avoid, again.constraint.local_only) == (frozenset({"p1", "p2"}), True)
    state, (last,) = step(state, Chosen(LOCAL), 0.0)
    assert isinstance(last, SendDecode)
    assert (last.choice.path, last.choice.reason, last.attempt) == (Path.FALLBACK, "prefill_error", 3)
    _, effects = step(state, failed(Leg.DECODE, Kind.CONNECT), 0.0)
    assert effects == (GiveUp(Failure(Leg.DECODE, Kind.CONNECT, "it failed")),)


def test_a_failed_decode_leg_releases_and_prefills_again() -> None:
    state, effects = run(Chosen(PAIR), HOLDS, failed(Leg.DECODE))
    release, again = effects
    assert isinstance(release, Release)
    assert isinstance(again, Choose)
    assert (again.constraint.shun, again.retry) == (frozenset({"p1", "d1"}), Leg.DECODE)
    assert state.handle is None


def test_an_unreachable_decode_worker_alone_is_to_blame() -> None:
    state, _ = run(Chosen(PAIR), HOLDS, failed(Leg.DECODE, Kind.CONNECT))
    assert (state.constraint.avoid, state.constraint.shun) == (frozenset({"d1"}), frozenset())


def test_without_another_pair_the_work_is_done_locally() -> None:
    state, (again,) = run(Chosen(PAIR), failed(Leg.PREFILL), Chosen(NoChoice("no_decode_worker")))
    assert isinstance(again, Choose)
    assert again.constraint.local_only
    _, effects = step(state, Chosen(NoChoice("no_ready_worker")), 0.0)
    assert effects == (GiveUp(Failure(Leg.PREFILL, Kind.STATUS, "it failed")),)


@pytest.mark.parametrize("lease", [0.0, -3.0])
def test_kv_whose_lease_has_ended_is_not_used(lease: float) -> None:
    state, effects = run(Chosen(PAIR), Prefilled({"remote_request_id": "h"}, finished=False, lease=lease))
    assert [type(effect) for effect in effects] == [Release, Choose]
    assert state.failure is not None
    assert state.failure.kind is Kind.LEASE


def test_a_stop_at_the_first_token() -> None:
    stopped = Prefilled(None, finished=True, lease=0.0)
    assert run(Chosen(PAIR), stopped, stream=False)[1] == (AnswerPrefill(),)
    _, (send,) = run(Chosen(PAIR), stopped)
    assert isinstance(send, SendDecode)
    assert (send.handle, send.choice.path, send.choice.reason) == (
        None,
        Path.FALLBACK,
        "finished_at_first_token",
    )
    _, effects = run(Chosen(PAIR), Prefilled(HOLDS.params, finished=True, lease=30.0), stream=False)
    assert [type(effect) for effect in effects] == [Release, AnswerPrefill]


def test_a_prefill_worker_that_keeps_nothing_leads_to_decode_only() -> None:
    _, (send,) = run(Chosen(PAIR), Prefilled(None, finished=False, lease=0.0))
    assert isinstance(send, SendDecode)
    assert (send.handle, send.choice.reason, send.attempt) == (None, "no_transfer_params", 2)


def test_after_the_first_token_nothing_is_tried_again() -> None:
    _, effects = run(Chosen(PAIR), HOLDS, FirstToken(), failed(Leg.DECODE, Kind.STREAM))
    assert effects == (BreakStream(Failure(Leg.DECODE, Kind.STREAM, "it failed")),)


def test_the_request_deadline_ends_all_attempts() -> None:
    state, _ = run(Chosen(PAIR))
    _, effects = step(state, failed(Leg.PREFILL), DEADLINE)
    (end,) = effects
    assert isinstance(end, GiveUp)
    assert isinstance(end.why, Failure)
    assert end.why.kind is Kind.TIMEOUT
