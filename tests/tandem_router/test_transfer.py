"""The hand-over's state machine: the courses that matter."""

from dataclasses import replace

import pytest

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
from tandem_router.transfer import Phase, Transfer, start, step
from tandem_router.types import UNCONSTRAINED, Choice, Endpoint, NoChoice, Path, Role

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
HOLDS = Prefilled({"remote_request_id": "h"}, finished=False, lease=30.0)


BROKEN = Failed(Failure(Leg.DECODE, Kind.STREAM, "it broke off"))


def failed(leg: Leg, kind: Kind = Kind.STATUS) -> Failed:
    return Failed(Failure(leg, kind, "it failed"))


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
    _, effects = step(state, Chosen(LOCAL), 0.0)
    assert [type(effect) for effect in effects] == [SendDecode]


def test_when_nothing_else_is_left_a_worker_that_failed_is_asked_once_more() -> None:
    """Some engines' decode workers cannot serve whole requests, and one failure may be a passing one."""
    nothing = Chosen(NoChoice("no_ready_worker"))
    state, effects = run(Chosen(PAIR), failed(Leg.PREFILL), nothing, nothing)
    assert effects == (Choose(UNCONSTRAINED),)
    state, (send,) = step(state, Chosen(PAIR), 0.0)
    assert isinstance(send, SendPrefill)
    assert send.attempt == 2
    for kind in (Kind.CONNECT, Kind.BUSY):
        _, effects = run(Chosen(PAIR), failed(Leg.PREFILL, kind), nothing, nothing)
        assert effects == (GiveUp(Failure(Leg.PREFILL, kind, "it failed")),)


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


def test_a_busy_prefill_worker_costs_no_strike_but_is_not_asked_again() -> None:
    state, (again,) = run(Chosen(PAIR), failed(Leg.PREFILL, Kind.BUSY))
    assert isinstance(again, Choose)
    assert (again.constraint.avoid, state.strikes) == (frozenset({"p1"}), 0)
    _, (send,) = step(state, Chosen(OTHER_PAIR), 0.0)
    assert isinstance(send, SendPrefill)
    assert send.attempt == 2
    state, (again,) = step(state, Chosen(PAIR), 0.0)
    assert isinstance(again, Choose)
    assert again.constraint.local_only
    _, effects = step(state, Chosen(NoChoice("no_ready_worker")), 0.0)
    assert effects == (GiveUp(Failure(Leg.PREFILL, Kind.BUSY, "it failed")),)


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.CONNECT])
def test_kv_that_a_decode_worker_did_not_take_goes_to_another(kind: Kind) -> None:
    state, (again,) = run(Chosen(PAIR), HOLDS, failed(Leg.DECODE, kind))
    assert isinstance(again, Choose)
    assert (again.constraint.held, again.constraint.avoid) == ("p1", frozenset({"d1"}))
    state, (send,) = step(state, Chosen(SAME_PREFILL), 1.0)
    assert isinstance(send, SendDecode)
    assert send.handle is not None
    assert (send.choice, send.handle.prefill, send.deadline) == (SAME_PREFILL, P1, 15.0)


@pytest.mark.parametrize(
    ("choice", "now"), [(NoChoice("no_decode_worker"), 1.0), (OTHER_PAIR, 1.0), (SAME_PREFILL, 15.0)]
)
def test_kv_that_nobody_can_take_in_time_is_released(choice: Choice | NoChoice, now: float) -> None:
    state, _ = run(Chosen(PAIR), HOLDS, failed(Leg.DECODE, Kind.BUSY))
    state, effects = step(state, Chosen(choice), now)
    assert [type(effect) for effect in effects] == [Release, Choose]
    assert (state.handle, state.constraint.held) == (None, "")


def test_a_plain_answer_may_take_as_long_as_its_decoding_is_known_to_take() -> None:
    _, (send,) = run(
        Chosen(PAIR), Prefilled({"remote_request_id": "h"}, False, 30.0, decode_seconds=4.0), stream=False
    )
    assert isinstance(send, SendDecode)
    assert send.deadline == 19.0


def test_both_legs_go_out_at_once() -> None:
    state, effects = run(Chosen(PAIR, concurrent=True))
    assert effects == (SendBoth(PAIR, 1, 50.0, 50.0),)
    state, effects = step(state, Prefilled(None, finished=False, lease=0.0), 1.0)
    assert effects == (AwaitDecode(),)
    state, effects = step(state, FirstToken(), 2.0)
    assert effects == (Relay(),)
    assert step(state, Finished(), 3.0)[1] == ()


def test_a_prefill_leg_that_outlives_the_first_token_is_cancelled_with_the_request() -> None:
    state, effects = run(Chosen(PAIR, concurrent=True), FirstToken())
    assert effects == (Relay(),)
    assert step(state, Finished(), 1.0)[1] == (Cancel(Leg.PREFILL),)
    assert step(state, ClientGone(), 1.0)[1] == (Cancel(Leg.PREFILL),)
    assert step(state, failed(Leg.PREFILL), 1.0)[1] == ()


@pytest.mark.parametrize(("leg", "other"), [(Leg.PREFILL, Leg.DECODE), (Leg.DECODE, Leg.PREFILL)])
def test_one_leg_that_fails_takes_the_other_with_it(leg: Leg, other: Leg) -> None:
    state, effects = run(Chosen(PAIR, concurrent=True), failed(leg))
    assert [type(effect) for effect in effects] == [Cancel, Choose]
    assert effects[0] == Cancel(other)
    _, (send,) = step(state, Chosen(OTHER_PAIR, concurrent=True), 0.0)
    assert isinstance(send, SendBoth)
    assert send.attempt == 2
    assert run(Chosen(PAIR, concurrent=True), Refused(leg))[1] == (Cancel(other), PassRefusal())
    assert set(run(Chosen(PAIR, concurrent=True), ClientGone())[1]) == {Cancel(leg), Cancel(other)}


def test_a_stop_at_the_first_token_of_two_legs_ends_the_decode_leg() -> None:
    stopped = Prefilled(None, finished=True, lease=0.0)
    effects = run(Chosen(PAIR, concurrent=True), stopped, stream=False)[1]
    assert effects == (Cancel(Leg.DECODE), AnswerPrefill())
    effects = run(Chosen(PAIR, concurrent=True), stopped)[1]
    assert [type(effect) for effect in effects] == [Cancel, SendDecode]


def test_a_broken_stream_goes_on_elsewhere_where_it_can() -> None:
    resumable = replace(BROKEN, resumable=True)
    state, (again,) = run(Chosen(PAIR), HOLDS, FirstToken(), resumable)
    assert isinstance(again, Choose)
    assert (again.constraint.avoid, again.retry) == (frozenset({"d1"}), Leg.DECODE)
    state, (send,) = step(state, Chosen(OTHER_PAIR), 5.0)
    assert isinstance(send, SendPrefill)
    state, _ = step(state, HOLDS, 6.0)
    state, effects = step(state, FirstToken(), 7.0)
    assert effects == (Relay(),)
    state, _ = step(state, resumable, 8.0)
    state, (send,) = step(state, Chosen(replace(LOCAL, decode=P2)), 9.0)
    assert isinstance(send, SendDecode)
    state, _ = step(state, FirstToken(), 10.0)
    _, effects = step(state, resumable, 11.0)
    assert effects == (BreakStream(BROKEN.failure),)


def test_what_cannot_be_resumed_after_all_breaks_the_stream() -> None:
    state, _ = run(Chosen(PAIR), HOLDS, FirstToken(), replace(BROKEN, resumable=True))
    for _ in range(4):
        state, effects = step(state, Chosen(NoChoice("no_worker")), 1.0)
    assert effects == (BreakStream(BROKEN.failure),)
    state, _ = run(Chosen(PAIR), HOLDS, FirstToken(), replace(BROKEN, resumable=True), Chosen(LOCAL))
    assert state.phase is not Phase.DONE
    state, _ = run(Chosen(PAIR), HOLDS, FirstToken(), replace(BROKEN, resumable=True), Chosen(OTHER_PAIR))
    (end,) = step(state, Refused(Leg.PREFILL), 1.0)[1]
    assert isinstance(end, BreakStream)
