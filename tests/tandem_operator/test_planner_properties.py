from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_operator.planner.plan import plan
from tandem_operator.planner.types import (
    Missing,
    Observation,
    PlannedPool,
    PlannerConfig,
    PlannerState,
    PoolObservation,
    Reason,
)
from tandem_perf.slo import Slo

CONFIG = PlannerConfig(Slo(ttft=0.5, tpot=0.04), cooldown_up=15, cooldown_down=60)
share = st.floats(0, 1)
count = st.integers(0, 500)
few = settings(max_examples=60, deadline=None)


def pool_observations() -> st.SearchStrategy[PoolObservation]:
    return st.builds(
        PoolObservation,
        workers=st.integers(1, 12),
        running=count,
        waiting=st.sampled_from([0, 0, 0, 3, 400]),
        backlog_tokens=st.sampled_from([0, 0, 2000, 10**6]),
        kv_usage=share,
        queue_wait=st.sampled_from([None, 0.0, 0.0, 0.1, 0.3, 4.0]),
        prefill_busy=share,
        prefill_rate=st.none() | st.floats(1, 1e6),
        decode_step=st.none() | st.floats(1e-4, 1),
        rate=st.floats(0, 1000),
    )


def observations(*names: str) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        window=st.just(10.0),
        requests=st.none() | st.floats(0, 1000),
        ttft_attainment=st.none() | share,
        tpot_attainment=st.none() | share,
        pools=st.fixed_dictionaries({}, optional={name: pool_observations() for name in names}),
    )


@st.composite
def fleets(draw: st.DrawFn) -> list[PlannedPool]:
    pools = []
    for name, role in (("p", "prefill"), ("d", "decode"), ("m", "mixed")):
        low = draw(st.integers(0, 4))
        high = draw(st.integers(low, 12))
        current = draw(st.integers(0, 14))
        pools.append(PlannedPool(name, role, current, draw(st.integers(0, current)), low, high))  # type: ignore[arg-type]
    return pools


seen_or_not = observations("p", "d", "m") | st.just(Missing("unreachable", "no answer"))
histories = st.lists(st.tuples(st.floats(0.5, 90), seen_or_not, st.booleans()), min_size=1, max_size=25)


@few
@given(fleets(), histories)
def test_bounds_steps_cooldown_and_missing_data_hold_over_any_history(
    pools: list[PlannedPool], history: list[tuple[float, Observation | Missing, bool]]
) -> None:
    now, state = 0.0, PlannerState()
    grown_at: dict[str, float] = {}
    shrunk_at: dict[str, float] = {}
    for seconds, observation, become_ready in history:
        now += seconds
        result = plan(observation, pools, state, now, CONFIG)
        state = result.state
        assert [d.pool for d in result.decisions] == [p.name for p in pools]
        for pool, decision in zip(pools, result.decisions, strict=True):
            assert pool.minimum <= decision.desired <= pool.maximum
            assert decision.text
            if not decision.changes or decision.reason is Reason.BOUNDS:
                continue
            assert isinstance(observation, Observation)
            assert pool.name in observation.pools
            assert observation.requests is not None
            last = max(grown_at.get(pool.name, -1e9), shrunk_at.get(pool.name, -1e9))
            if decision.direction == "up":
                assert decision.desired <= 2 * pool.current
                assert now - last >= CONFIG.cooldown_up
                grown_at[pool.name] = now
            else:
                assert decision.desired == pool.current - 1 >= 1
                assert now - last >= CONFIG.cooldown_down
                assert pool.ready == pool.current
                shrunk_at[pool.name] = now
        pools = [
            replace(pool, current=d.desired, ready=d.desired if become_ready else min(pool.ready, d.desired))
            for pool, d in zip(pools, result.decisions, strict=True)
        ]


@few
@given(fleets(), observations("p", "d", "m"), st.data())
def test_more_load_never_gives_fewer_replicas(
    pools: list[PlannedPool], calm: Observation, data: st.DataObject
) -> None:
    def more(seen: PoolObservation) -> PoolObservation:
        return replace(
            seen,
            running=seen.running + data.draw(count),
            waiting=seen.waiting + data.draw(count),
            backlog_tokens=seen.backlog_tokens + data.draw(count),
            kv_usage=max(seen.kv_usage, data.draw(share)),
            queue_wait=None if seen.queue_wait is None else seen.queue_wait + data.draw(share),
        )

    crowded = replace(calm, pools={name: more(seen) for name, seen in calm.pools.items()})
    state = PlannerState()
    for now in (0, 20, 40, 60):
        state = plan(calm, pools, state, now, CONFIG).state
    low, high = (plan(seen, pools, state, 80, CONFIG).decisions for seen in (calm, crowded))
    busiest_may_move = calm.tpot_attainment is not None and calm.tpot_attainment < CONFIG.slo.attainment
    for before, after in zip(low, high, strict=True):
        if not (busiest_may_move and before.reason is Reason.TPOT):
            assert after.desired >= before.desired


@few
@given(fleets(), histories)
def test_the_same_history_gives_the_same_decisions(
    pools: list[PlannedPool], history: list[tuple[float, Observation | Missing, bool]]
) -> None:
    def replay() -> list[object]:
        now, state, plans = 0.0, PlannerState(), []
        for seconds, observation, _ in history:
            now += seconds
            result = plan(observation, pools, state, now, CONFIG)
            state = result.state
            plans.append(result)
        return list(plans)

    assert replay() == replay()
