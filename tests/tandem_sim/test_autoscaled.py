from itertools import pairwise

import pytest

from tandem_operator.planner.types import PlannerConfig, Reason
from tandem_perf.latency import DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_perf.slo import Slo, attainment
from tandem_sim.autoscaled import History, Scenario, run
from tandem_sim.cluster import Hardware
from tandem_sim.load import Load, Point

SLO = Slo(ttft=1.0, tpot=0.12, attainment=0.95)
CONFIG = PlannerConfig(SLO, cooldown_up=15, cooldown_down=60)
MODEL = LatencyModel(PrefillModel(0.01, 2e-4, 1e-9), DecodeModel(0.04, 4e-3, 1e-7), TransferModel(0.005, 1e9))
WORKER = Hardware(MODEL, kv_bytes_per_token=10_000, kv_capacity=50_000, start_seconds=30)


def scenario(*curve: Point, seconds: float, maximum: int = 12, seed: int = 0) -> Scenario:
    load = Load(curve, prompt_tokens=1000, output_tokens=20)
    return Scenario(load, WORKER, CONFIG, seconds, maximum=maximum, seed=seed)


def met(history: History, begin: float, end: float) -> tuple[float, float]:
    """Attainment of TTFT and TPOT of the requests that ended between two moments."""
    report = attainment([outcome for at, outcome in history.finished if begin <= at < end], SLO)
    assert report.ttft is not None
    assert report.tpot is not None
    return report.ttft, report.tpot


@pytest.fixture(scope="module")
def rise_and_fall() -> History:
    return run(scenario(Point(0, 2), Point(300, 14), Point(1200, 2), seconds=2100))


def test_load_rises_and_both_pools_grow_until_the_objective_is_met(rise_and_fall: History) -> None:
    calm, busy = rise_and_fall.replicas("prefill", 290), rise_and_fall.replicas("prefill", 1190)
    assert busy > calm
    assert rise_and_fall.replicas("decode", 1190) > rise_and_fall.replicas("decode", 290)
    assert min(met(rise_and_fall, 50, 290)) >= 0.95
    assert min(met(rise_and_fall, 800, 1190)) >= 0.95


def test_load_falls_and_both_pools_shrink_to_what_they_were(rise_and_fall: History) -> None:
    for pool in ("prefill", "decode"):
        assert rise_and_fall.replicas(pool, 2100) <= rise_and_fall.replicas(pool, 290)
    assert min(met(rise_and_fall, 1300, 2100)) >= 0.95


def test_no_request_is_lost(rise_and_fall: History) -> None:
    assert rise_and_fall.unfinished == 0
    assert len(rise_and_fall.finished) > 10_000


def test_every_change_has_a_reason_in_numbers(rise_and_fall: History) -> None:
    for _, decision in rise_and_fall.changes():
        assert decision.reason in set(Reason)
        assert any(character.isdigit() for character in decision.text)


@pytest.mark.parametrize(("rate", "seed"), [(1.0, 0), (3.0, 0), (6.0, 1), (12.0, 0)])
def test_a_steady_noisy_load_does_not_flap(rate: float, seed: int) -> None:
    history = run(scenario(Point(0, rate), seconds=1200, seed=seed))
    for pool in ("prefill", "decode"):
        late = [decision.direction for _, decision in history.changes(since=500) if decision.pool == pool]
        reversals = sum(one != other for one, other in pairwise(late))
        assert reversals == 0, (pool, [str(decision) for _, decision in history.changes()])
    assert min(met(history, 500, 1200)) >= 0.95


def test_replicas_never_leave_the_bounds_and_a_lack_is_said() -> None:
    history = run(scenario(Point(0, 14), seconds=600, maximum=3))
    sizes = {size for moment in history.moments for size in moment.desired.values()}
    assert sizes <= {1, 2, 3}
    assert history.moments[-1].decisions[0].reason is Reason.AT_MAXIMUM


def test_new_replicas_are_waited_for(rise_and_fall: History) -> None:
    for moment in rise_and_fall.moments:
        for decision in moment.decisions:
            if decision.direction == "up":
                assert moment.ready[decision.role] == decision.current


def test_the_same_seed_plays_the_same() -> None:
    one, other = (run(scenario(Point(0, 3), seconds=120, seed=7)) for _ in range(2))
    assert one == other
    assert run(scenario(Point(0, 3), seconds=120, seed=8)) != one
