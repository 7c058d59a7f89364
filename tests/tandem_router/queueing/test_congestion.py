"""How many sessions run at once, by what the caches show."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.moves import Leg
from tandem_router.queueing.congestion import Congestion, CongestionLimits
from tandem_router.queueing.decisions import Start, Wait
from tandem_router.queueing.policy import QueuePolicy
from tandem_router.queueing.programs import Programs


class TestCongestion:
    def test_sessions_beyond_the_window_wait_for_one_to_go(self, fleet: Any, ask: Any) -> None:
        policy = QueuePolicy(programs=Programs(), congestion=CongestionLimits(least=1))
        scheduler = fleet(prefills=8).scheduler(policy=policy)
        calls = [ask(1, session=f"s{i}") for i in range(17)]
        answers = [scheduler.submit(call, 0.0) for call in calls]
        assert sum(isinstance(answer, Start) for answer in answers) == 16
        assert isinstance(answers[16], Wait)
        assert isinstance(scheduler.submit(ask(1), 0.0), Start)  # No session: not an agent.
        assert isinstance(scheduler.submit(ask(1, session="s0"), 0.0), Start)  # A session inside.
        scheduler.ended(calls[1].request_id, Leg.DECODE, 1.0)
        due = scheduler.due()
        (start,) = scheduler.tick(due)
        assert start.request_id == calls[16].request_id

    def test_misses_and_full_caches_shrink_the_window_and_hits_widen_it(self) -> None:
        for bad in ({"hit": 0.1, "kv_used": None}, {"hit": None, "kv_used": 0.99}):
            window = Congestion(CongestionLimits(), window=100.0)
            window.signal(0.0, **bad)
            window.signal(0.1, **bad)  # Of the same congestion.
            assert window.window == pytest.approx(70.0)
            window.signal(10.0, **bad)
            assert window.window == pytest.approx(49.0)
        window = Congestion(CongestionLimits(), window=10.0)
        for _ in range(10):
            window.signal(0.0, hit=0.9, kv_used=0.5)
        assert 10.9 < window.window < 11.0

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=200))
    @settings(max_examples=30, deadline=None)
    def test_the_window_stays_within_its_limits(self, signals: list[tuple[float, float]]) -> None:
        window = Congestion(CongestionLimits(least=4, most=20))
        for now, (hit, used) in enumerate(signals):
            window.signal(float(now * 3), hit=hit, kv_used=used)
            assert 4 <= window.window <= 20
