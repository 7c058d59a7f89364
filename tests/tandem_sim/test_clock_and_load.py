from random import Random

import pytest

from tandem_sim.clock import Clock
from tandem_sim.load import Load, Point


def test_time_moves_from_event_to_event_and_equal_moments_keep_their_order() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()
    clock.after(2, lambda: seen.append(("late", clock.now)))
    clock.after(1, lambda: seen.append(("first", clock.now)))
    clock.after(1, lambda: clock.after(0, lambda: seen.append(("child", clock.now))))
    clock.run(1.5)
    assert (seen, clock.now) == ([("first", 1), ("child", 1)], 1.5)
    clock.run(2)
    assert seen[-1] == ("late", 2)


def test_the_past_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="past"):
        Clock().after(-1, lambda: None)


def test_arrivals_follow_the_curve_and_lengths_their_mean() -> None:
    load = Load((Point(0, 5), Point(1000, 20), Point(2000, 0)), prompt_tokens=500, output_tokens=50)
    jobs = list(load.jobs(3000, Random(1)))
    early, late = (sum(a <= job.at < b for job in jobs) for a, b in ((0, 1000), (1000, 2000)))
    assert early == pytest.approx(5000, rel=0.05)
    assert late == pytest.approx(20_000, rel=0.05)
    assert len(jobs) == early + late
    assert sum(job.prompt_tokens for job in jobs) / len(jobs) == pytest.approx(500, rel=0.05)
    assert [job.at for job in jobs] == sorted(job.at for job in jobs)
