import math

import pytest

from tandem_perf.slo import LoadPoint, Outcome, Slo, attainment, goodput, highest_rate, mean_tpot

SLO = Slo(ttft=0.5, tpot=0.04)


def test_attainment_counts_each_objective_and_both() -> None:
    outcomes = [Outcome(0.5, 0.04), Outcome(0.6, 0.01), Outcome(0.1, 0.05), Outcome(0.1), Outcome(math.inf)]
    report = attainment(outcomes, SLO)
    assert (report.requests, report.ttft, report.tpot, report.both) == (5, 3 / 5, 4 / 5, 2 / 5)
    assert goodput(outcomes, SLO, seconds=4) == 0.5


def test_no_requests_have_no_attainment() -> None:
    assert attainment([], SLO).both is None
    assert goodput([], SLO, seconds=1) == 0


def test_goodput_is_the_highest_rate_before_the_first_miss() -> None:
    points = [LoadPoint(4, 0.91), LoadPoint(1, 1.0), LoadPoint(3, 0.5), LoadPoint(2, 0.9)]
    assert highest_rate(points, 0.9) == 2
    assert highest_rate(points, 1.0) == 1
    assert highest_rate([LoadPoint(1, 0.5)], 0.9) == 0


def test_tpot_leaves_out_the_first_token() -> None:
    assert mean_tpot(ttft=0.2, duration=1.2, output_tokens=11) == pytest.approx(0.1)
    assert mean_tpot(ttft=0.2, duration=0.2, output_tokens=1) is None


@pytest.mark.parametrize(
    ("ttft", "tpot", "share"), [(0, 1, 0.9), (1, -1, 0.9), (1, 1, 0), (1, 1, 1.1), (math.nan, 1, 1)]
)
def test_impossible_objectives_are_refused(ttft: float, tpot: float, share: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Slo(ttft, tpot, share)
