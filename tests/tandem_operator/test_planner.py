from dataclasses import replace

import pytest

from tandem_operator.planner.plan import plan
from tandem_operator.planner.types import (
    Decision,
    Missing,
    Observation,
    PlannedPool,
    PlannerConfig,
    PlannerState,
    PoolObservation,
    Reason,
)
from tandem_perf.slo import Slo

CONFIG = PlannerConfig(Slo(ttft=0.5, tpot=0.04, attainment=0.95), cooldown_up=15, cooldown_down=60)
QUIET = PoolObservation(
    workers=2,
    running=0,
    waiting=0,
    backlog_tokens=0,
    kv_usage=0.0,
    queue_wait=0.0,
    prefill_busy=0.0,
    prefill_rate=None,
)
PREFILL = PlannedPool("prefill", "prefill", current=2, ready=2, minimum=1, maximum=6)
DECODE = PlannedPool("decode", "decode", current=2, ready=2, minimum=1, maximum=6)


def observation(
    pool: str,
    seen: PoolObservation,
    *,
    requests: float = 100.0,
    ttft_attainment: float = 1.0,
    tpot_attainment: float = 1.0,
) -> Observation:
    return Observation(10.0, requests, ttft_attainment, tpot_attainment, {pool: seen})


def decide(
    pool: PlannedPool,
    seen: PoolObservation,
    *,
    passes: int = 2,
    requests: float = 100.0,
    ttft_attainment: float = 1.0,
    tpot_attainment: float = 1.0,
) -> Decision:
    """The last decision of `passes` equal observations, 5 s apart."""
    state = PlannerState()
    same = observation(
        pool.name, seen, requests=requests, ttft_attainment=ttft_attainment, tpot_attainment=tpot_attainment
    )
    for number in range(passes):
        result = plan(same, [pool], state, 1000 + 5.0 * number, CONFIG)
        state = result.state
    return result.decisions[0]


def test_prefill_grows_when_the_queue_eats_the_ttft_and_says_so() -> None:
    decision = decide(PREFILL, replace(QUIET, queue_wait=0.31))
    assert str(decision) == "prefill 2 -> 3: queue wait 0.31 s of 0.50 s TTFT"
    assert decision.reason is Reason.QUEUE_WAIT


def test_a_far_too_small_pool_doubles() -> None:
    assert decide(PREFILL, replace(QUIET, queue_wait=5.0)).desired == 4


def test_prefill_grows_for_a_backlog_that_takes_too_long() -> None:
    seen = replace(QUIET, backlog_tokens=3000, prefill_rate=5000.0)
    decision = decide(PREFILL, seen)
    assert decision.desired == 3
    assert decision.text == "backlog of 3000 tokens drains in 0.30 s of 0.50 s TTFT"
    assert not decide(PREFILL, replace(seen, backlog_tokens=1000)).changes


def test_the_prefill_rate_is_remembered_while_nothing_is_computed() -> None:
    learned = plan(
        observation("prefill", replace(QUIET, prefill_rate=5000.0)), [PREFILL], PlannerState(), 0, CONFIG
    )
    stuck = observation("prefill", replace(QUIET, backlog_tokens=9000))
    first = plan(stuck, [PREFILL], learned.state, 5, CONFIG)
    assert plan(stuck, [PREFILL], first.state, 10, CONFIG).decisions[0].reason is Reason.BACKLOG


def test_missed_ttft_grows_only_a_prefill_pool_that_is_busy() -> None:
    busy = replace(QUIET, prefill_busy=0.8)
    decision = decide(PREFILL, busy, ttft_attainment=0.8)
    assert str(decision) == "prefill 2 -> 3: TTFT met by 80% of requests, target 95%"
    assert decide(PREFILL, replace(QUIET, prefill_busy=0.2), ttft_attainment=0.8).desired == 2
    assert decide(PREFILL, busy, ttft_attainment=0.8, requests=3.0).desired == 2
    assert decide(DECODE, busy, ttft_attainment=0.8).desired == 2


@pytest.mark.parametrize(
    ("seen", "tpot_attainment", "reason"),
    [
        (replace(QUIET, kv_usage=0.9, running=8), 1.0, Reason.KV_USAGE),
        (replace(QUIET, waiting=5, running=8), 1.0, Reason.WAITING),
        (replace(QUIET, queue_wait=0.3, running=8), 1.0, Reason.QUEUE_WAIT),
        (replace(QUIET, running=8), 0.9, Reason.TPOT),
    ],
)
def test_decode_grows_for_each_of_its_signals(
    seen: PoolObservation, tpot_attainment: float, reason: Reason
) -> None:
    decision = decide(DECODE, seen, tpot_attainment=tpot_attainment)
    assert (decision.desired, decision.reason) == (3, reason)


def test_missed_tpot_does_not_grow_workers_that_run_one_request_each() -> None:
    assert decide(DECODE, replace(QUIET, running=2), tpot_attainment=0.5).desired == 2


def test_a_mixed_pool_answers_to_both_roles() -> None:
    mixed = replace(PREFILL, name="all", role="mixed")
    assert decide(mixed, replace(QUIET, kv_usage=0.95)).reason is Reason.KV_USAGE
    assert decide(mixed, replace(QUIET, prefill_busy=0.9), ttft_attainment=0.5).reason is Reason.TTFT


def test_of_two_prefill_pools_only_the_busiest_answers_for_the_service() -> None:
    pools = [PREFILL, replace(PREFILL, name="slow")]
    busy = {"prefill": replace(QUIET, prefill_busy=0.6), "slow": replace(QUIET, prefill_busy=0.9)}
    seen = replace(observation("prefill", QUIET, ttft_attainment=0.7), pools=busy)
    state = plan(seen, pools, PlannerState(), 0, CONFIG).state
    decisions = plan(seen, pools, state, 5, CONFIG).decisions
    assert [d.desired for d in decisions] == [2, 3]


def test_one_bad_pass_is_not_a_trend() -> None:
    assert decide(PREFILL, replace(QUIET, queue_wait=5.0), passes=1).reason is Reason.CONFIRMING


def test_no_second_growth_while_replicas_start_or_the_metrics_are_old() -> None:
    crowded = observation("prefill", replace(QUIET, queue_wait=5.0))
    pool, state, history = replace(PREFILL, maximum=64), PlannerState(), []
    for now in range(0, 200, 5):
        if now == 40:
            pool = replace(pool, ready=pool.current)
        result = plan(crowded, [pool], state, now, CONFIG)
        state, decision = result.state, result.decisions[0]
        pool = replace(pool, current=decision.desired)
        history.append((now, decision.desired, decision.reason))
    changes = [now for now, _, reason in history if reason is Reason.QUEUE_WAIT]
    assert changes[:2] == [5, 45]  # 30 s of starting, then the first window with all four
    assert (10, 4, Reason.STARTING) in history
    assert (40, 4, Reason.SETTLING) in history


def test_a_replica_that_never_starts_stops_holding_growth_back() -> None:
    crowded, state = observation("prefill", replace(QUIET, queue_wait=5.0)), PlannerState()
    stuck = replace(PREFILL, ready=1)
    decisions = []
    for now in range(0, 130, 5):
        result = plan(crowded, [stuck], state, now, CONFIG)
        state = result.state
        decisions.append(result.decisions[0])
        if decisions[-1].changes:
            break
    assert now == CONFIG.start_patience
    assert decisions[-1].desired == 4
    assert {d.reason for d in decisions[:-1]} == {Reason.STARTING}


def test_growth_stops_at_the_maximum_and_says_what_it_lacks() -> None:
    decision = decide(replace(PREFILL, maximum=2), replace(QUIET, queue_wait=5.0))
    assert (decision.desired, decision.reason) == (2, Reason.AT_MAXIMUM)
    assert "queue wait 5.00 s" in decision.text


def shrink_times(pool: PlannedPool, seen: PoolObservation, until: int) -> list[int]:
    state, times = PlannerState(), []
    for now in range(0, until, 5):
        result = plan(observation(pool.name, replace(seen, workers=pool.current)), [pool], state, now, CONFIG)
        state, decision = result.state, result.decisions[0]
        if decision.changes:
            times.append(now)
            assert decision.desired == pool.current - 1
        pool = replace(pool, current=decision.desired, ready=decision.desired)
    return times


@pytest.mark.parametrize("pool", [PREFILL, DECODE])
def test_an_idle_pool_shrinks_step_by_step_with_a_cooldown_between(pool: PlannedPool) -> None:
    assert shrink_times(replace(pool, current=4, ready=4), QUIET, until=400) == [60, 125, 190]


def test_a_pool_whose_smaller_size_would_not_fit_stays() -> None:
    assert shrink_times(PREFILL, replace(QUIET, prefill_busy=0.5), until=200) == []
    assert shrink_times(DECODE, replace(QUIET, kv_usage=0.5), until=200) == []
    assert shrink_times(replace(DECODE, current=4, ready=4), replace(QUIET, kv_usage=0.4), until=100) == [60]


def test_nothing_shrinks_while_its_objective_is_missed() -> None:
    assert not decide(PREFILL, QUIET, passes=40, ttft_attainment=0.9).changes
    assert not decide(DECODE, QUIET, passes=40, tpot_attainment=0.9).changes
    assert decide(PREFILL, QUIET, passes=13, tpot_attainment=0.9).desired == 1


def test_nothing_shrinks_on_the_word_of_some_of_the_workers() -> None:
    decision = decide(PREFILL, replace(QUIET, workers=1), passes=40)
    assert str(decision) == "prefill stays 2: 1 of 2 replicas are ready and report"


def test_a_size_that_was_too_small_for_a_load_is_not_tried_again_at_that_load() -> None:
    crowded = observation("decode", replace(QUIET, running=10, waiting=6))
    first = plan(crowded, [DECODE], PlannerState(), 0, CONFIG)
    grown = plan(crowded, [DECODE], first.state, 5, CONFIG)
    three, state = replace(DECODE, current=3, ready=3), grown.state
    assert grown.decisions[0].desired == 3
    for now in range(10, 300, 5):
        result = plan(
            observation("decode", replace(QUIET, workers=3, running=15)), [three], state, now, CONFIG
        )
        state = result.state
        assert not result.decisions[0].changes
    assert result.decisions[0].text == "15 requests at once: 2 were too few for 16"
    for now in range(300, 365, 5):
        result = plan(
            observation("decode", replace(QUIET, workers=3, running=9)), [three], state, now, CONFIG
        )
        state = result.state
    assert result.decisions[0].desired == 2


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (Missing("unreachable", "Prometheus does not answer"), "Prometheus does not answer"),
        (observation("other", QUIET), "no metrics from any worker of the pool"),
        (replace(observation("prefill", QUIET), requests=None), "no metrics from any router"),
    ],
)
def test_missing_data_changes_nothing_and_is_named(seen: Observation | Missing, text: str) -> None:
    state = PlannerState()
    for now in range(0, 300, 5):
        result = plan(seen, [PREFILL], state, now, CONFIG)
        state = result.state
        assert result.decisions[0] == Decision("prefill", "prefill", 2, 2, Reason.NO_DATA, text)


def test_bounds_hold_even_without_data() -> None:
    nothing = Missing("unreachable", "no answer")
    low, high = replace(PREFILL, current=0, minimum=1), replace(DECODE, current=9)
    decisions = plan(nothing, [low, high], PlannerState(), 0, CONFIG).decisions
    assert [d.desired for d in decisions] == [1, 6]
    assert str(decisions[1]) == "decode 9 -> 6: outside the bounds 1 to 6"


def test_a_pool_that_somebody_scaled_to_zero_stays_there_and_none_is_shrunk_to_zero() -> None:
    off = replace(PREFILL, current=0, ready=0, minimum=0)
    assert decide(off, QUIET).reason is Reason.SCALED_TO_ZERO
    assert not decide(
        replace(PREFILL, current=1, ready=1, minimum=0), replace(QUIET, workers=1), passes=40
    ).changes


def test_a_change_by_hand_starts_the_cooldown() -> None:
    crowded, state = observation("prefill", replace(QUIET, queue_wait=0.3)), PlannerState()
    quiet = observation("prefill", replace(QUIET, workers=4))
    for now in range(0, 55, 5):
        state = plan(observation("prefill", QUIET), [PREFILL], state, now, CONFIG).state
    four = replace(PREFILL, current=4, ready=4)
    assert plan(quiet, [four], state, 65, CONFIG).decisions[0].desired == 4
    assert not plan(crowded, [four], state, 65, CONFIG).decisions[0].changes
