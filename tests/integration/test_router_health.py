"""Workers that fail get no requests for a while, so that later requests do not pay for them."""

from dataclasses import replace
from itertools import count

import aiohttp

from tandem_router.moves import Failure, Kind, Leg
from tandem_router.types import Choice, Path
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import Fleet, fleet, pair

NATIVE = Settings(protocol="native")

numbers = count()


async def ask(running: Fleet) -> int:
    """Each prompt is new, so that no worker is preferred for what it has cached."""
    body = {"model": "fake", "prompt": f"{next(numbers)} " * 600, "max_tokens": 4}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/completions", json=body) as response,
    ):
        return response.status


def sample(running: Fleet, name: str, **labels: str) -> float:
    registry = running.runtime.metrics.registry
    return registry.get_sample_value(f"tandem_router_{name}", {"llmservice": "test"} | labels) or 0.0


def retries(running: Fleet) -> float:
    return sum(sample(running, "retries_total", model="fake", leg=leg) for leg in ("prefill", "decode"))


async def test_a_dead_worker_is_paid_for_a_few_times_only() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        prefill, dead, *others = running.endpoints()
        running.publish([prefill, replace(dead, port=1), *others])
        for _ in range(40):
            assert await ask(running) == 200
            if running.runtime.health.ejected():
                break
        assert running.runtime.health.ejected() == {dead.name}
        before = retries(running)
        assert before == 5
        for _ in range(20):
            assert await ask(running) == 200
        assert retries(running) <= before + 1, "at most the first probe"
        assert sample(running, "ejections_total", pool="decode", reason="failures_in_a_row") >= 1
        assert sample(running, "worker_ejected", pool="decode", worker=dead.name) == 1
        running.publish([prefill, *others])
        assert sample(running, "worker_ejected", pool="decode", worker=dead.name) == 0


async def test_busy_workers_are_not_ejected() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        prefill, decode, *_ = running.endpoints()
        choice = Choice(prefill, decode, Path.DISAGGREGATED, "")
        for leg in Leg:
            for _ in range(20):
                running.runtime.health.failed(Failure(leg, Kind.BUSY, ""), choice, pulls=True)
        assert running.runtime.health.ejected() == frozenset()
        for _ in range(20):
            running.runtime.health.failed(Failure(Leg.PREFILL, Kind.STATUS, ""), choice, pulls=True)
        assert running.runtime.health.ejected() == {prefill.name}


async def test_the_last_decode_worker_is_asked_however_it_fails() -> None:
    async with fleet(*pair(NATIVE)) as running:
        for engine in running.engines:
            engine.faults.inject(Fault.ERROR, times=30)
        for _ in range(8):
            assert await ask(running) == 502
        assert running.runtime.health.ejected() <= {"prefill-0"}
        for engine in running.engines:
            engine.faults.waiting.clear()
        assert await ask(running) == 200
