"""The real queue under more load than a fleet can take, and two routers that share nothing."""

from random import Random

import pytest

from tandem_perf.latency import DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_router.types import Role
from tandem_sim.serving.calls import Shape, poisson
from tandem_sim.serving.fleet import run
from tandem_sim.serving.machine import Machine
from tandem_sim.serving.outcome import Report
from tandem_sim.serving.service import Pool, Service
from tandem_wire.router_settings import RouterSettings

LATENCY = LatencyModel(
    PrefillModel(0.01, 5e-5, 1e-9), DecodeModel(0.008, 1e-4, 2e-8), TransferModel(0.005, 2e10)
)
SUSTAINABLE = 32.0
"""Requests per second that two prefill workers can take of these lengths."""
TTFT = 0.5


def served(rate: float, *, seconds: float = 10.0, doors: int = 1, sheddable: bool = True) -> Report:
    machine = Machine(LATENCY, max_backlog_tokens=4000)
    tier = {"name": "default", "ttft": f"{TTFT}s", "tpot": "50ms", "sheddable": sheddable}
    service = Service(
        (Pool(Role.PREFILL, 2, machine), Pool(Role.DECODE, 2, machine)),
        settings=RouterSettings.model_validate({"classes": [tier]}),
        doors=doors,
    )
    return run(service, poisson(rate, seconds, Shape(), Random(2)))


@pytest.mark.parametrize("sheddable", [True, False])
def test_goodput_survives_three_times_the_load(sheddable: bool) -> None:
    goodputs = {
        times: served(times * SUSTAINABLE, sheddable=sheddable).goodput() for times in (1.0, 1.2, 3.0)
    }
    assert goodputs[3.0] >= 0.9 * max(goodputs.values()), goodputs


def test_nobody_waits_past_the_objective_to_be_refused() -> None:
    report = served(3 * SUSTAINABLE)
    refused = [outcome for outcome in report.outcomes if outcome.refused]
    assert len(refused) > 200
    assert all(outcome.refused_at - outcome.arrived <= TTFT for outcome in refused)
    assert sum(outcome.refused_at == outcome.arrived for outcome in refused) > 0.5 * len(refused)


def test_two_routers_without_shared_state_are_as_good_as_one() -> None:
    one, two = (served(1.1 * SUSTAINABLE, seconds=20.0, doors=doors) for doors in (1, 2))
    assert two.refusals > 0
    assert two.goodput() >= 0.97 * one.goodput(), (one.goodput(), two.goodput())
