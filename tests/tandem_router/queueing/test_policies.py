"""Each policy of the queue: what it changes, and that it can be switched on."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.moves import Leg
from tandem_router.queueing.build import scheduler as build
from tandem_router.queueing.capacity import Limits
from tandem_router.queueing.decisions import Refuse, Served, Start, Wait
from tandem_router.queueing.fair import TenantCounters, TokenWeights
from tandem_router.queueing.fences import ShortPromptWorkers, UrgentWorkers
from tandem_router.queueing.just_enough import pick
from tandem_router.queueing.lengths import Lengths
from tandem_router.queueing.line import LATE_EVERY
from tandem_router.queueing.offline import OfflineBudget
from tandem_router.queueing.order import aged, by_arrival, by_slack
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.programs import LONGEST_CREDIT, Programs
from tandem_router.queueing.tiers import Tier
from tandem_router.queueing.waiting import Ordered, Waiting
from tandem_router.types import RequestInfo
from tandem_wire.router_settings import RouterSettings

LONG = 16_384  # Half a second of prefill at the pace that is assumed first.


def order_of(scheduler: Any, first: RequestInfo, *, step: float = 0.5, limit: int = 100) -> list[str]:
    """The ids in the order in which they start, one prefill after the other."""
    started: list[str] = []
    last, now = first, step
    while len(started) < limit:
        decisions = [d for d in scheduler.ended(last.request_id, Leg.PREFILL, now) if isinstance(d, Start)]
        if not decisions:
            return started
        started += [decision.request_id for decision in decisions]
        last = RequestInfo(started[-1], "m", 0, stream=True)
        now += step
    return started


def waiting(
    number: int, *, arrived: float = 0.0, latest: float, seconds: float = 1.0, **tier: Any
) -> Waiting:
    info = RequestInfo(f"r{number}", "m", 1, stream=True)
    made = Waiting(info, Tier(**tier), arrived, 1e9, number, seconds=seconds, latest=latest)
    made.key = latest
    return made


def test_arrival_order_ignores_deadlines(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(
        Tier("slow", ttft=60.0), Tier("quick", ttft=20.0), policy=QueuePolicy(order=by_arrival)
    )
    first, slow, quick = ask(LONG), ask(LONG, "slow"), ask(LONG, "quick")
    for now, request in enumerate((first, slow, quick)):
        scheduler.submit(request, now / 100)
    assert order_of(scheduler, first) == [slow.request_id, quick.request_id]


def test_higher_priority_goes_first(fleet: Any, ask: Any) -> None:
    scheduler = fleet().scheduler(Tier("low", priority=-1, ttft=60.0), Tier("high", priority=1, ttft=60.0))
    first, low, high = ask(LONG), ask(LONG, "low"), ask(LONG, "high")
    for now, request in enumerate((first, low, high)):
        scheduler.submit(request, now / 100)
    assert order_of(scheduler, first) == [high.request_id, low.request_id]


@given(
    ageing=st.floats(0.1, 100.0),
    arrivals=st.lists(
        st.tuples(st.floats(0, 1000), st.integers(-100, 100), st.floats(0.0, 10.0)), min_size=2, max_size=20
    ),
)
@settings(max_examples=60, deadline=None)
def test_ageing_bounds_who_may_go_before_a_request(
    ageing: float, arrivals: list[tuple[float, int, float]]
) -> None:
    """Whoever comes more than the span of priorities and objectives later goes later: nobody starves."""
    order = aged(by_slack, ageing)
    items = [
        waiting(i, arrived=at, latest=at + slack, priority=priority)
        for i, (at, priority, slack) in enumerate(arrivals)
    ]
    span = 200 * ageing + 10.0
    for one in items:
        for other in items:
            if other.arrived > one.arrived + span:
                assert order(one) < order(other)


def test_a_late_request_that_is_not_sheddable_starts_within_a_bounded_number_of_starts(
    fleet: Any, ask: Any
) -> None:
    scheduler = fleet().scheduler(Tier("firm", ttft=1.0, sheddable=False), Tier("calm", ttft=1000.0))
    first, late = ask(LONG), ask(LONG, "firm")
    scheduler.submit(first, 0.0)
    scheduler.submit(late, 0.0)
    for _ in range(3 * LATE_EVERY):
        scheduler.submit(ask(LONG, "calm"), 0.1)
    scheduler.tick(5.0)
    started = order_of(scheduler, first, step=5.0)
    assert 1 < started.index(late.request_id) + 1 <= LATE_EVERY


class TestFairness:
    def test_one_tenants_backlog_goes_before_at_most_one_request_of_another(
        self, fleet: Any, ask: Any
    ) -> None:
        scheduler = fleet().scheduler(policy=QueuePolicy(fair=TenantCounters(TokenWeights())))
        first = ask(LONG, tenant="heavy")
        heavy = [ask(LONG, tenant="heavy") for _ in range(3)]
        light = ask(LONG, tenant="light")
        for now, request in enumerate([first, *heavy, light]):
            scheduler.submit(request, now / 100)
        assert light.request_id in order_of(scheduler, first)[:2]

    def test_one_tenant_cannot_fill_the_queue_nor_get_others_refused(self, fleet: Any, ask: Any) -> None:
        scheduler = fleet().scheduler(
            Tier("quick", ttft=5.0), policy=QueuePolicy(fair=TenantCounters(TokenWeights()))
        )
        flood = [scheduler.submit(ask(LONG, "quick", tenant="heavy"), 0.0) for _ in range(40)]
        assert any(isinstance(answer, Refuse) for answer in flood)
        assert isinstance(scheduler.submit(ask(LONG, "quick", tenant="light"), 0.1), Wait)

    def test_output_counts_as_it_was_and_not_as_it_was_expected(self, fleet: Any, ask: Any) -> None:
        counters = TenantCounters(TokenWeights(prompt=1.0, output=2.0))
        scheduler = fleet().scheduler(policy=QueuePolicy(fair=counters))
        request = ask(100, tenant="one")
        scheduler.submit(request, 0.0)
        scheduler.ended(request.request_id, Leg.DECODE, 1.0, Served(output_tokens=10))
        assert counters.served("one") == 120

    def test_being_away_gives_no_credit(self) -> None:
        counters = TenantCounters(TokenWeights())
        counters.arrived("busy")
        counters.charge("busy", 1000, 0)
        counters.arrived("back")
        assert counters.served("back") == counters.served("busy") == 1000

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 500)), min_size=30, max_size=120))
    @settings(max_examples=30, deadline=None)
    def test_backlogged_tenants_are_served_alike(self, work: list[tuple[str, int]]) -> None:
        """The difference between two that always wait stays within one request's tokens (VTC's bound)."""
        queues = {name: [tokens for owner, tokens in work if owner == name] for name in "abc"}
        counters = TenantCounters(TokenWeights())
        for name in "abc":
            for _ in queues[name]:
                counters.arrived(name)
        while all(queues.values()):
            name = min(queues, key=counters.served)
            counters.charge(name, queues[name].pop(0), 0)
            counters.left(name)
            served = [counters.served(other) for other in "abc"]
            assert max(served) - min(served) <= 500


class TestPrograms:
    def test_a_sessions_next_call_goes_before_later_programs(self, fleet: Any, ask: Any) -> None:
        scheduler = fleet().scheduler(policy=QueuePolicy(programs=Programs(), keep_place=True))
        first_call = ask(LONG, session="agent")
        scheduler.submit(first_call, 0.0)
        scheduler.ended(first_call.request_id, Leg.DECODE, 1.0)
        busy, other, next_call = ask(LONG), ask(LONG, session="new"), ask(LONG, session="agent")
        for now, request in ((1.5, busy), (2.0, other), (3.0, next_call)):
            scheduler.submit(request, now)
        assert order_of(scheduler, busy, step=4.0)[0] == next_call.request_id

    def test_the_time_to_live_follows_the_gaps_between_calls(self) -> None:
        programs = Programs()
        for call in range(200):
            programs.arrived("agent", call * 3.0)
            programs.ended("agent", call * 3.0 + 1.0)
        assert 2.0 <= programs.ttl <= 4.0
        assert programs.expiry("agent") == pytest.approx(598.0 + programs.ttl)
        assert programs.arrived("agent", 700.0) == 700.0

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 100.0)), max_size=30))
    @settings(max_examples=40, deadline=None)
    def test_a_place_is_never_too_far_back_nor_in_the_future(self, calls: list[tuple[str, float]]) -> None:
        programs, now = Programs(), 0.0
        for session, gap in calls:
            now += gap
            assert now - LONGEST_CREDIT <= programs.arrived(session, now) <= now
            programs.ended(session, now)


class TestLanes:
    def test_short_prompts_find_a_worker_while_long_ones_queue(self, fleet: Any, ask: Any) -> None:
        policy = QueuePolicy(fences=(ShortPromptWorkers(4096, 0.5),))
        scheduler = fleet(prefills=2).scheduler(policy=policy)
        answers = [scheduler.submit(ask(LONG), 0.0) for _ in range(4)]
        assert sum(isinstance(answer, Start) for answer in answers) == 1
        assert isinstance(scheduler.submit(ask(100), 0.0), Start)

    def test_a_single_worker_serves_both(self, fleet: Any, ask: Any) -> None:
        scheduler = fleet().scheduler(policy=QueuePolicy(fences=(ShortPromptWorkers(4096, 0.5),)))
        assert isinstance(scheduler.submit(ask(LONG), 0.0), Start)


class TestUrgent:
    def test_a_request_near_its_deadline_gets_a_reserved_worker(self, fleet: Any, ask: Any) -> None:
        policy = QueuePolicy(fences=(UrgentWorkers(0.5, 0.4),))
        scheduler = fleet(prefills=2).scheduler(Tier("quick", ttft=2.0), policy=policy)
        assert isinstance(scheduler.submit(ask(LONG, "quick"), 0.0), Start)
        calm = ask(LONG, "quick")
        assert isinstance(scheduler.submit(calm, 0.0), Wait)
        assert scheduler.tick(0.6) == []
        due = scheduler.due()
        assert due == pytest.approx(2.0 - 0.5 - 0.8)
        (start,) = scheduler.tick(due)
        assert start.request_id == calm.request_id

    def test_requests_without_an_objective_never_get_one(self, fleet: Any, ask: Any) -> None:
        policy = QueuePolicy(fences=(UrgentWorkers(0.5, 0.4),))
        scheduler = fleet(prefills=2).scheduler(policy=policy)
        scheduler.submit(ask(LONG), 0.0)
        scheduler.submit(ask(LONG), 0.0)
        assert scheduler.tick(100.0) == []


class TestJustEnough:
    def test_who_costs_most_stands_back_when_not_all_can_be_met(self) -> None:
        line = Ordered()
        for item in (
            waiting(0, latest=1.0, seconds=10.0),
            waiting(1, latest=2.0, seconds=1.0),
            waiting(2, latest=3.0, seconds=1.0),
        ):
            line.add(item)
        chosen = pick(line, 0.0, 1.0)
        assert chosen is not None
        assert chosen.info.request_id == "r1"

    def test_the_least_slack_goes_first_when_all_can_be_met(self) -> None:
        line = Ordered()
        for item in (waiting(0, latest=1.0, seconds=10.0), waiting(1, latest=20.0, seconds=1.0)):
            line.add(item)
        chosen = pick(line, 0.0, 1.0)
        assert chosen is not None
        assert chosen.info.request_id == "r0"

    @given(
        st.lists(st.tuples(st.floats(0.1, 20.0), st.floats(0.1, 10.0)), min_size=1, max_size=20),
    )
    @settings(max_examples=80, deadline=None)
    def test_meets_at_least_as_many_as_least_slack_first(self, jobs: list[tuple[float, float]]) -> None:
        def met(*, just_enough: bool) -> int:
            line, now, count = Ordered(), 0.0, 0
            for number, (latest, seconds) in enumerate(jobs):
                line.add(waiting(number, latest=latest, seconds=seconds))
            while len(line):
                for item in [item for item in line if item.latest < now]:
                    line.remove(item)
                chosen = pick(line, now, 1.0) if just_enough else line.first()
                if chosen is not None:
                    line.remove(chosen)
                    count += 1
                    now += chosen.seconds
            return count

        assert met(just_enough=True) >= met(just_enough=False)

    def test_lengths_are_quantiles_of_the_group(self) -> None:
        lengths = Lengths()
        assert lengths.expect("chat", 100, 50) == 50
        for tokens in range(1, 101):
            lengths.learn("chat", 100, tokens)
        assert lengths.expect("chat", 120, None, 0.5) == pytest.approx(69, abs=1)
        assert lengths.expect("chat", 120, None, 0.9) > 90
        assert lengths.expect("chat", 120, 10, 0.9) == 10


class TestOffline:
    BATCH = Tier("batch", offline=True, sheddable=False)

    def test_offline_work_starts_only_when_nobody_online_waits(self, fleet: Any, ask: Any) -> None:
        scheduler = fleet().scheduler(self.BATCH)
        first, batch, online = ask(LONG), ask(64, "batch"), ask(LONG)
        for request in (first, batch, online):
            scheduler.submit(request, 0.0)
        assert order_of(scheduler, first) == [online.request_id, batch.request_id]

    def test_offline_work_leaves_an_online_request_its_latency(self, fleet: Any, ask: Any) -> None:
        budget = OfflineBudget(seconds=0.1, decodes=64)
        scheduler = fleet(prefills=2).scheduler(self.BATCH, policy=QueuePolicy(offline=budget))
        answers = [scheduler.submit(ask(1024, "batch"), 0.0) for _ in range(20)]
        assert sum(isinstance(answer, Start) for answer in answers) <= 2 * 4
        assert isinstance(scheduler.submit(ask(1024), 0.0), Start)

    def test_offline_work_leaves_decode_room(self, fleet: Any, ask: Any) -> None:
        policy = QueuePolicy(offline=OfflineBudget(seconds=10.0, decodes=2))
        scheduler = fleet().scheduler(self.BATCH, policy=policy, limits=Limits(decodes=4))
        answers = [scheduler.submit(ask(1, "batch"), 0.0) for _ in range(4)]
        assert sum(isinstance(answer, Start) for answer in answers) == 2
        assert isinstance(scheduler.submit(ask(1), 0.0), Start)

    def test_a_prompt_longer_than_the_budget_still_runs_on_an_idle_fleet(self, fleet: Any, ask: Any) -> None:
        scheduler = fleet().scheduler(self.BATCH)
        assert isinstance(scheduler.submit(ask(1_000_000, "batch"), 0.0), Start)


@pytest.mark.parametrize(
    "queueing",
    [
        {"order": "arrival"},
        {"order": "just-enough"},
        {"ageing": "1s"},
        {"fairness": {}},
        {"programs": True},
        {"lanes": {}},
        {"urgent": {}},
        {"agents": {}},
        {"offline": {"budget": "50ms"}},
        {"fairness": {}, "programs": True, "lanes": {}, "urgent": {}, "agents": {}, "order": "just-enough"},
    ],
)
def test_every_policy_can_be_switched_on_and_loses_nobody(fleet: Any, ask: Any, queueing: Any) -> None:
    workers = fleet(prefills=2, decodes=2)
    found = RouterSettings.model_validate(
        {
            "classes": [
                {"name": "chat", "ttft": "2s"},
                {"name": "batch", "offline": True, "sheddable": False},
            ],
            "queueing": queueing,
        }
    )
    scheduler = build(found, workers.choose, workers.loads, workers.reports, default=Tier(sheddable=False))
    scheduler.workers_changed(workers.endpoints(), 0.0)
    running: list[str] = []
    ended: set[str] = set()
    submitted = set()
    now = 0.0

    def take(decisions: Any) -> None:
        for decision in decisions:
            if isinstance(decision, Start):
                running.append(decision.request_id)
            elif isinstance(decision, Refuse):
                ended.add(decision.request_id)

    for number in range(60):
        now = number * 0.01
        request = replace(
            ask(1024 * (1 + number % 12), ("chat", "batch", "default")[number % 3]),
            session=f"s{number % 20}",
            tenant=f"t{number % 5}",
        )
        submitted.add(request.request_id)
        take([scheduler.submit(request, now, expires=1000.0)])
    while running or (due := scheduler.due()) is not None:
        if running:
            now += 0.05
            done = running.pop(0)
            take(scheduler.ended(done, Leg.PREFILL, now))
            take(scheduler.first_token(done, now + 0.01))
            take(scheduler.ended(done, Leg.DECODE, now + 0.02, Served(10, 0.8)))
            ended.add(done)
        else:
            assert due is not None
            now = max(now, due)
            take(scheduler.tick(now))
    assert ended == submitted
    assert len(workers.loads) == 0
    assert all(depth.requests == depth.size == 0 for depth in scheduler.depths.values())
