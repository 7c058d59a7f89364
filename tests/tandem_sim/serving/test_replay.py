"""What the predictor, the choice and the queue promise, on the real router core in virtual time."""

from dataclasses import replace
from random import Random

from tandem_router.types import Objective
from tandem_sim.serving.calls import Load, Shape, bursty, poisson
from tandem_sim.serving.direct import Direct
from tandem_sim.serving.experiments import by_prediction, chat, fleet, modes, overload, replicas
from tandem_sim.serving.fleet import run, sustainable

SUSTAINABLE = 62.0
"""Calls per second of `chat` on two prefill and two decode workers, nine of ten within their objectives."""


def long_prompts(rate: float, seconds: float) -> Load:
    """As in Mooncake's trace: long, very different prompts with shared beginnings."""
    return poisson(rate, seconds, Shape(12_000, 340, spread=1.2, shared=2_048, prefixes=4), Random(1))


def test_predictions_are_near_what_comes_while_workers_differ_from_their_profile() -> None:
    report = run(fleet(2, 2), chat(0.7 * SUSTAINABLE, 25))
    assert report.ttft_error() < 0.1
    assert report.tpot_error() < 0.05


def test_predictions_are_near_what_comes_with_long_prompts() -> None:
    report = run(fleet(3, 2, objective=Objective(5.0, 0.05)), long_prompts(2.0, 150))
    assert report.ttft_error() < 0.1
    assert report.tpot_error() < 0.1


def test_predictions_are_found_without_a_profile() -> None:
    report = run(replace(fleet(2, 2), profile=None), chat(0.6 * SUSTAINABLE, 25))
    assert report.ttft_error() < 0.1
    assert report.tpot_error() < 0.1


def test_goodput_at_three_times_the_sustainable_load_stays_near_the_best() -> None:
    found = overload(fleet(2, 2), chat(SUSTAINABLE, 25), (1.0, 1.5, 3.0))
    assert found.kept(3.0) >= 0.9
    assert found.latest_refusal <= 1.0


def test_two_routers_that_share_nothing_are_as_good_as_one() -> None:
    found = replicas(fleet(2, 2), chat(0.9 * SUSTAINABLE, 30))
    assert found[2].goodput() >= 0.97 * found[1].goodput()


def test_hand_overs_by_cost_are_as_good_as_the_better_of_always_and_never() -> None:
    for offered in (chat(0.8 * SUSTAINABLE, 20), poisson(6.0, 20, Shape(100, 400), Random(1))):
        found = {mode: report.goodput() for mode, report in modes(fleet(2, 2), offered).items()}
        assert found["auto"] >= 0.97 * max(found.values())


def test_a_queue_in_the_router_beats_queues_at_the_workers_when_load_comes_in_bursts() -> None:
    offered = bursty(1.1 * SUSTAINABLE, 25, Shape(1200, 200), Random(1))
    with_queue = fleet(2, 2)
    without = replace(with_queue, make_scheduler=Direct)
    assert run(with_queue, offered).goodput() > 1.05 * run(without, offered).goodput()


def test_the_sustainable_rate_is_found() -> None:
    service = replace(fleet(1, 1), policy=by_prediction("always"))
    assert 0.4 * SUSTAINABLE < 20 * sustainable(service, chat(20, 20), within=0.2) < 0.6 * SUSTAINABLE
