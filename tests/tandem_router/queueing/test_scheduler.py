"""Start, wait or refuse: what a client of the router would notice of the queue."""

from typing import Any

from tandem_router.moves import Leg
from tandem_router.queueing.capacity import Limits
from tandem_router.queueing.decisions import Reason, Refuse, Start, Wait
from tandem_router.queueing.state import Bounds
from tandem_router.queueing.tiers import Tier
from tandem_router.types import Constraint, NoChoice

LONG = 16_384  # Half a second of prefill at the pace that is assumed first.


def test_starts_at_once_while_workers_have_room(fleet: Any, ask: Any) -> None:
    scheduler = fleet(prefills=2).scheduler()
    choices = [scheduler.submit(ask(LONG), 0.0) for _ in range(2)]
    assert {start.choice.prefill.name for start in choices} == {"p0", "p1"}
    assert all(start.waited == 0 for start in choices)


def test_waits_for_a_prefill_worker_and_starts_when_its_prefill_ends(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler()
    first, second = ask(LONG), ask(LONG)
    assert isinstance(scheduler.submit(first, 0.0), Start)
    assert scheduler.submit(second, 0.1) == Wait(0.0)
    assert scheduler.ended("nobody", Leg.PREFILL, 0.2) == []
    (start,) = scheduler.ended(first.request_id, Leg.PREFILL, 0.5)
    assert start.request_id == second.request_id
    assert start.waited == 0.4


def test_waits_for_a_decode_worker(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(limits=Limits(decodes=1))
    first, second = ask(1), ask(1)
    scheduler.submit(first, 0.0)
    assert isinstance(scheduler.submit(second, 0.0), Wait)
    assert scheduler.ended(first.request_id, Leg.PREFILL, 0.1) == []
    (start,) = scheduler.ended(first.request_id, Leg.DECODE, 1.0)
    assert start.request_id == second.request_id


def test_least_slack_goes_first(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("slow", ttft=60.0), Tier("quick", ttft=20.0))
    first, slow, quick = ask(LONG), ask(LONG, "slow"), ask(LONG, "quick")
    for request in (first, slow, quick):
        scheduler.submit(request, 0.0)
    (start,) = scheduler.ended(first.request_id, Leg.PREFILL, 0.5)
    assert start.request_id == quick.request_id


def test_refused_at_once_when_the_queue_is_too_long_for_the_class(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("quick", ttft=2.0))
    waits = [scheduler.submit(ask(LONG, "quick"), 0.0) for _ in range(8)]
    refused = [answer for answer in waits if isinstance(answer, Refuse)]
    assert refused
    assert all(answer.reason is Reason.UNATTAINABLE for answer in refused)
    assert all((answer.retry_after or 0) > 0 for answer in refused)
    assert isinstance(waits[1], Wait)


def test_refused_the_moment_its_class_cannot_be_met_any_more(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("quick", ttft=2.0))
    scheduler.submit(ask(LONG, "quick"), 0.0)
    late = ask(LONG, "quick")
    scheduler.submit(late, 0.0)
    assert scheduler.due() == 1.5
    assert scheduler.tick(1.49) == []
    (refused,) = scheduler.tick(1.5)
    assert (refused.request_id, refused.reason) == (late.request_id, Reason.UNATTAINABLE)
    assert scheduler.due() is None


def test_what_is_not_sheddable_waits_until_its_own_end(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("patient", ttft=1.0, sheddable=False))
    scheduler.submit(ask(LONG, "patient"), 0.0)
    waiting = ask(LONG, "patient")
    assert isinstance(scheduler.submit(waiting, 0.0, expires=10.0), Wait)
    (refused,) = scheduler.tick(10.0)
    assert (refused.reason, refused.waited) == (Reason.DEADLINE, 10.0)


def test_no_worker_is_another_refusal_than_no_room(fleet: Any, ask: Any) -> None:
    scheduler = fleet(prefills=0, decodes=0).scheduler(bounds=Bounds(pod_start=40.0))
    refused = scheduler.submit(ask(), 0.0)
    assert (refused.reason, refused.retry_after) == (Reason.NO_CAPACITY, 40.0)


def test_the_queue_is_bounded_by_class(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("other", sheddable=False), bounds=Bounds(requests=1, size=100))
    scheduler.submit(ask(LONG), 0.0)
    assert isinstance(scheduler.submit(ask(LONG), 0.0, size=60), Wait)
    assert scheduler.submit(ask(LONG), 0.0).reason is Reason.QUEUE_FULL
    assert isinstance(scheduler.submit(ask(LONG, "other"), 0.0, size=100), Wait)


def test_a_client_that_leaves_is_out_of_the_queue_at_once(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler()
    running, leaving, staying = ask(LONG), ask(LONG), ask(LONG)
    for request in (running, leaving, staying):
        scheduler.submit(request, 0.0)
    assert scheduler.left(leaving.request_id, 0.1) == []
    assert scheduler.depths["default"].requests == 1
    (start,) = scheduler.left(running.request_id, 0.2)
    assert start.request_id == staying.request_id


def test_a_worker_that_refuses_gets_nothing_for_a_moment(fleet: Any, ask: Any) -> None:
    scheduler = fleet(prefills=2).scheduler()
    refused = ask(1)
    name = scheduler.submit(refused, 0.0).choice.prefill.name
    scheduler.busy(name, 0.0)
    assert scheduler.submit(ask(1), 0.0).choice.prefill.name != name
    assert name in {scheduler.submit(ask(1), 1.0).choice.prefill.name for _ in range(3)}


def test_when_all_refuse_the_first_to_open_is_asked_again(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler()
    scheduler.submit(ask(1), 0.0)
    scheduler.busy("p0", 0.0)
    waiting = ask(1)
    assert isinstance(scheduler.submit(waiting, 0.0, expires=60.0), Wait)
    due = scheduler.due()
    assert 0 < due < 0.1
    (start,) = scheduler.tick(due)
    assert start.request_id == waiting.request_id


def test_a_request_that_every_worker_refuses_waits_in_its_place(fleet: Any, ask: Any) -> None:
    scheduler = fleet(prefills=2).scheduler()
    request, avoid = ask(1), frozenset[str]()
    choice = scheduler.submit(request, 0.0).choice
    for _ in range(2):
        name = choice.prefill.name if choice.prefill else ""
        avoid |= {name}
        scheduler.busy(name, 0.0)
        answer = scheduler.again(request.request_id, Constraint(avoid=avoid), 0.0)
        if isinstance(answer, Start):
            assert answer.choice.prefill is not None
            assert answer.choice.prefill.name not in avoid
            choice = answer.choice
    assert isinstance(answer, Wait)
    (start,) = scheduler.tick(scheduler.due())
    assert start.request_id == request.request_id


def test_a_request_without_workers_left_is_told_so(fleet: Any, ask: Any) -> None:
    workers = fleet()
    scheduler = workers.scheduler()
    request = ask(1)
    scheduler.submit(request, 0.0)
    answer = scheduler.again(request.request_id, Constraint(avoid=frozenset({"p0"})), 0.1)
    assert isinstance(answer, NoChoice)
    assert len(workers.loads) == 0


def test_a_request_that_waited_again_in_vain_has_no_workers(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("quick", ttft=1.0))
    request = ask(1, "quick")
    scheduler.submit(request, 0.0)
    for now in (0.0, 0.9):
        scheduler.busy("p0", now)
    avoid = Constraint(avoid=frozenset({"p0"}))
    assert isinstance(scheduler.again(request.request_id, avoid, 0.9), Wait)
    scheduler.busy("p0", 0.95)
    (refused,) = scheduler.tick(1.0)
    assert refused.reason is Reason.UNATTAINABLE
    assert isinstance(scheduler.again(request.request_id, avoid, 1.0), NoChoice)
    assert scheduler.left(request.request_id, 1.0) == []
