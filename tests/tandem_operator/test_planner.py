import math
from dataclasses import replace

import pytest

from tandem_operator.planner.plan import plan
from tandem_operator.planner.shrink import predicted_step
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
    prefill_rate=5000.0,
    decode_step=None,
    rate=1.0,
)
BACKLOG = replace(QUIET, waiting=1, backlog_tokens=3000, queue_wait=0.31)
CROWDED = replace(QUIET, waiting=9, backlog_tokens=100_000, queue_wait=5.0)
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
    decision = decide(PREFILL, BACKLOG)
    backlog = "backlog of 3000 tokens drains in 0.30 s"
    assert str(decision) == f"prefill 2 -> 3: queue wait 0.31 s of 0.50 s TTFT, {backlog}"
    assert decision.reason is Reason.QUEUE_WAIT


def test_a_far_too_small_pool_doubles() -> None:
    assert decide(PREFILL, CROWDED).desired == 4


def test_neither_one_long_prompt_nor_a_queue_of_the_past_makes_prefill_grow() -> None:
    assert not decide(PREFILL, replace(BACKLOG, queue_wait=0.02)).changes
    assert not decide(PREFILL, replace(BACKLOG, backlog_tokens=100)).changes


def test_prefill_grows_for_a_backlog_of_which_nothing_starts() -> None:
    decision = decide(PREFILL, replace(BACKLOG, queue_wait=None))
    assert (decision.desired, decision.reason) == (3, Reason.BACKLOG)
    assert decision.text == "backlog of 3000 tokens drains in 0.30 s of 0.50 s TTFT"


def test_prefill_grows_by_the_measured_wait_before_its_speed_is_known() -> None:
    decision = decide(PREFILL, replace(BACKLOG, prefill_rate=None))
    assert str(decision) == "prefill 2 -> 3: queue wait 0.31 s of 0.50 s TTFT"


def test_a_queue_that_is_clearing_needs_no_more_workers() -> None:
    def after(tokens: int) -> Decision:
        state = PlannerState()
        for now, backlog in ((0, 100_000), (5, 100_000), (10, tokens)):
            seen = observation("prefill", replace(CROWDED, backlog_tokens=backlog, queue_wait=50.0))
            pool = replace(PREFILL, maximum=2 if now < 10 else 6)
            result = plan(seen, [pool], state, now, CONFIG)
            state = result.state
        return result.decisions[0]

    assert after(80_000).text.endswith("backlog of 80000 tokens drains in 8.00 s; gone in 20 s")
    assert after(80_000).reason is Reason.SETTLING
    assert after(99_000).desired == 4
    assert after(120_000).desired == 4


def test_the_prefill_rate_is_remembered_while_nothing_is_computed() -> None:
    state = plan(observation("prefill", QUIET), [PREFILL], PlannerState(), 0, CONFIG).state
    stuck = observation("prefill", replace(BACKLOG, queue_wait=None, prefill_rate=None))
    state = plan(stuck, [PREFILL], state, 5, CONFIG).state
    assert plan(stuck, [PREFILL], state, 10, CONFIG).decisions[0].reason is Reason.BACKLOG


def test_missed_ttft_grows_only_a_prefill_pool_that_is_busy() -> None:
    busy = replace(QUIET, prefill_busy=0.8, waiting=1, backlog_tokens=1000)
    decision = decide(PREFILL, busy, ttft_attainment=0.8)
    assert str(decision) == "prefill 2 -> 3: TTFT met by 80% of requests, target 95%"
    assert decide(PREFILL, replace(busy, prefill_busy=0.2), ttft_attainment=0.8).desired == 2
    assert decide(PREFILL, replace(busy, waiting=0), ttft_attainment=0.8).desired == 2
    assert decide(PREFILL, replace(busy, backlog_tokens=100), ttft_attainment=0.8).desired == 2
    assert decide(PREFILL, busy, ttft_attainment=0.8, requests=3.0).desired == 2
    assert decide(DECODE, busy, ttft_attainment=0.8).desired == 2


@pytest.mark.parametrize(
    ("seen", "tpot_attainment", "reason"),
    [
        (replace(QUIET, kv_usage=0.9, running=8), 1.0, Reason.KV_USAGE),
        (replace(QUIET, waiting=5, running=8, queue_wait=0.1), 1.0, Reason.WAITING),
        (replace(QUIET, waiting=5, running=8, queue_wait=None), 1.0, Reason.WAITING),
        (replace(QUIET, waiting=1, queue_wait=0.3, running=8), 1.0, Reason.QUEUE_WAIT),
        (replace(QUIET, running=8), 0.9, Reason.TPOT),
    ],
)
def test_decode_grows_for_each_of_its_signals(
    seen: PoolObservation, tpot_attainment: float, reason: Reason
) -> None:
    decision = decide(DECODE, seen, tpot_attainment=tpot_attainment)
    assert (decision.desired, decision.reason) == (3, reason)


def test_requests_that_only_wait_for_the_next_step_are_no_queue() -> None:
    assert not decide(DECODE, replace(QUIET, waiting=50, running=8, queue_wait=0.01)).changes


def test_missed_tpot_does_not_grow_workers_that_run_one_request_each() -> None:
    assert decide(DECODE, replace(QUIET, running=2), tpot_attainment=0.5).desired == 2


def test_a_mixed_pool_answers_to_both_roles() -> None:
    mixed = replace(PREFILL, name="all", role="mixed")
    assert decide(mixed, replace(QUIET, kv_usage=0.95)).reason is Reason.KV_USAGE
    busy = replace(QUIET, prefill_busy=0.9, waiting=1, backlog_tokens=1000)
    assert decide(mixed, busy, ttft_attainment=0.5).reason is Reason.TTFT


def test_of_two_prefill_pools_only_the_busiest_answers_for_the_service() -> None:
    pools = [PREFILL, replace(PREFILL, name="slow")]
    some = replace(QUIET, waiting=1, backlog_tokens=1000)
    busy = {"prefill": replace(some, prefill_busy=0.6), "slow": replace(some, prefill_busy=0.9)}
    seen = replace(observation("prefill", QUIET, ttft_attainment=0.7), pools=busy)
    state = plan(seen, pools, PlannerState(), 0, CONFIG).state
    decisions = plan(seen, pools, state, 5, CONFIG).decisions
    assert [d.desired for d in decisions] == [2, 3]


def test_where_the_busiest_pool_cannot_grow_the_next_one_does() -> None:
    pools = [PREFILL, replace(PREFILL, name="full", maximum=2)]
    some = replace(QUIET, waiting=1, backlog_tokens=1000)
    busy = {"prefill": replace(some, prefill_busy=0.6), "full": replace(some, prefill_busy=0.9)}
    seen = replace(observation("prefill", QUIET, ttft_attainment=0.7), pools=busy)
    state = plan(seen, pools, PlannerState(), 0, CONFIG).state
    assert [d.desired for d in plan(seen, pools, state, 5, CONFIG).decisions] == [3, 2]


def test_growth_is_followed_by_a_cooldown() -> None:
    pool, state, grown = replace(DECODE, maximum=64), PlannerState(), []
    for now in range(0, 40, 2):
        seen = observation("decode", replace(QUIET, kv_usage=0.9, workers=pool.current))
        result = plan(seen, [pool], state, now, CONFIG)
        state, desired = result.state, result.decisions[0].desired
        if desired != pool.current:
            grown.append(now)
        pool = replace(pool, current=desired, ready=desired)
    assert grown == [2, 18, 34]


def test_one_bad_pass_is_not_a_trend() -> None:
    assert decide(PREFILL, CROWDED, passes=1).reason is Reason.CONFIRMING


def grow(
    seen: PoolObservation, *, ready_at: int, until: int, ttft_attainment: float = 1.0
) -> list[tuple[int, int, Reason]]:
    """Time, replicas and reason of each pass over an overload that does not end; new replicas start once."""
    crowded = observation("prefill", seen, ttft_attainment=ttft_attainment)
    pool, state, history = replace(PREFILL, maximum=64), PlannerState(), []
    for now in range(0, until, 5):
        if now == ready_at:
            pool = replace(pool, ready=pool.current)
        result = plan(crowded, [pool], state, now, CONFIG)
        state, decision = result.state, result.decisions[0]
        pool = replace(pool, current=decision.desired)
        history.append((now, decision.desired, decision.reason))
    return history


def test_no_second_growth_while_replicas_start() -> None:
    history = grow(CROWDED, ready_at=40, until=60)
    assert [now for now, _, reason in history if reason is Reason.QUEUE_WAIT] == [5, 40]
    assert (10, 4, Reason.STARTING) in history


def test_no_second_growth_while_attainment_is_of_the_smaller_pool() -> None:
    busy = replace(QUIET, prefill_busy=0.9, waiting=1, backlog_tokens=1000)
    history = grow(busy, ready_at=40, until=60, ttft_attainment=0.5)
    assert [now for now, _, reason in history if reason is Reason.TTFT] == [5, 45]
    assert (40, 3, Reason.SETTLING) in history


def test_a_replica_that_never_starts_stops_holding_growth_back() -> None:
    crowded, state = observation("prefill", CROWDED), PlannerState()
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
    decision = decide(replace(PREFILL, maximum=2), CROWDED)
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
    assert str(decide(pool, QUIET, passes=13)) == f"{pool.name} 2 -> 1: idle: 1 would do for 60 s"


def test_a_pool_whose_smaller_size_would_not_fit_stays() -> None:
    assert shrink_times(PREFILL, replace(QUIET, prefill_busy=0.5), until=200) == []
    assert shrink_times(DECODE, replace(QUIET, kv_usage=0.5), until=200) == []
    assert shrink_times(replace(DECODE, current=4, ready=4), replace(QUIET, kv_usage=0.4), until=100) == [60]


def changes(pool: PlannedPool, seen: Observation, until: int) -> int:
    """Decisions that change a pool which nevertheless stays as it is, over passes 5 s apart."""
    state, count = PlannerState(), 0
    for now in range(0, until, 5):
        result = plan(seen, [pool], state, now, CONFIG)
        state, count = result.state, count + result.decisions[0].changes
    return count


def test_nothing_shrinks_while_its_objective_is_missed() -> None:
    assert changes(PREFILL, observation("prefill", QUIET, ttft_attainment=0.9), until=200) == 0
    assert changes(DECODE, observation("decode", QUIET, tpot_attainment=0.9), until=200) == 0
    assert changes(PREFILL, observation("prefill", QUIET, tpot_attainment=0.9), until=200) > 0


def test_nothing_shrinks_on_the_word_of_some_of_the_workers() -> None:
    decision = decide(PREFILL, replace(QUIET, workers=1), passes=40)
    assert str(decision) == "prefill stays 2: 1 of 2 replicas are ready and report"


def test_a_size_that_was_too_small_for_a_load_is_not_tried_again_at_that_load() -> None:
    crowded = observation("decode", replace(QUIET, rate=10.0, waiting=6, queue_wait=0.2))
    first = plan(crowded, [DECODE], PlannerState(), 0, CONFIG)
    grown = plan(crowded, [DECODE], first.state, 5, CONFIG)
    three, state = replace(DECODE, current=3, ready=3), grown.state
    assert grown.decisions[0].desired == 3
    for now in range(10, 300, 5):
        result = plan(observation("decode", replace(QUIET, workers=3, rate=9.0)), [three], state, now, CONFIG)
        state = result.state
        assert not result.decisions[0].changes
    assert result.decisions[0].text == "9.0 requests/s: 2 were too few for 10.0"
    for now in range(300, 365, 5):
        result = plan(observation("decode", replace(QUIET, workers=3, rate=7.0)), [three], state, now, CONFIG)
        state = result.state
    assert result.decisions[0].desired == 2


def test_that_a_size_was_too_small_is_forgotten_in_time() -> None:
    crowded = observation("decode", replace(QUIET, rate=10.0, waiting=6, queue_wait=0.2))
    state = plan(crowded, [DECODE], PlannerState(), 0, CONFIG).state
    state = plan(crowded, [DECODE], state, 5, CONFIG).state
    three = replace(DECODE, current=3, ready=3)
    same = observation("decode", replace(QUIET, workers=3, rate=10.0))
    shrunk = []
    for now in range(10, 2000, 30):
        result = plan(same, [three], state, now, CONFIG)
        state = result.state
        shrunk += [now] if result.decisions[0].changes else []
    assert shrunk[0] > CONFIG.remember


@pytest.mark.parametrize(("step", "shrinks"), [(0.010, True), (0.013, True), (0.020, False), (0.030, False)])
def test_decode_does_not_shrink_into_batches_that_are_too_slow(step: float, shrinks: bool) -> None:
    state = plan(
        observation("decode", replace(QUIET, decode_step=0.01)), [DECODE], PlannerState(), 0, CONFIG
    ).state
    busy = observation("decode", replace(QUIET, running=6, decode_step=step))
    for now in range(5, 100, 5):
        result = plan(busy, [DECODE], state, now, CONFIG)
        state = result.state
        if result.decisions[0].changes:
            break
    assert result.decisions[0].changes is shrinks
    if step == 0.020:
        assert result.decisions[0].text == "20 ms a token: 1 would give an endless queue"


def test_a_predicted_step_follows_the_batch() -> None:
    assert predicted_step(0.01, 0.01, 2) == pytest.approx(0.01)
    assert predicted_step(0.01, 0.0125, 2) == pytest.approx(0.01 / 0.6)
    assert predicted_step(0.01, 0.02, 2) == math.inf
    assert predicted_step(0.01, 0.009, 2) == pytest.approx(0.01)


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
    crowded, state = observation("prefill", BACKLOG), PlannerState()
    quiet = observation("prefill", replace(QUIET, workers=4))
    for now in range(0, 55, 5):
        state = plan(observation("prefill", QUIET), [PREFILL], state, now, CONFIG).state
    four = replace(PREFILL, current=4, ready=4)
    assert plan(quiet, [four], state, 65, CONFIG).decisions[0].desired == 4
    assert not plan(crowded, [four], state, 65, CONFIG).decisions[0].changes
