"""A slow prefill is sent to a second worker; the loser's KV is given back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import aiohttp
import pytest

from tandem_router.hedging import MIN_KNOWN
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.engines.text import digest_of, tokens_of
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair
from tandem_wire.router_settings import Recovery, RouterSettings

PROMPT = " ".join(f"word{index}" for index in range(300))
TEXT = "".join(tokens_of(digest_of(PROMPT), 6))
NATIVE = Settings(protocol="native")
HEDGING = replace(CONFIG, settings=RouterSettings(recovery=Recovery(hedge=0.9)))


async def ask(running: Fleet) -> str:
    body = {"model": "fake", "prompt": PROMPT, "max_tokens": 6}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/completions", json=body) as response,
    ):
        assert response.status == 200
        text: str = (await response.json())["choices"][0]["text"]
        return text


def hedges(running: Fleet) -> float:
    labels = {"llmservice": "test", "model": "fake"}
    return running.runtime.metrics.registry.get_sample_value("tandem_router_hedges_total", labels) or 0.0


def is_idle(engine: SimEngine) -> bool:
    return engine.stats.running == engine.kv.stats()["open"] == 0


@pytest.fixture
async def experienced() -> AsyncIterator[Fleet]:
    """A router that knows that prefills take 20 ms here; nothing is left behind afterwards."""
    async with fleet(*pair(NATIVE), *pair(NATIVE), config=HEDGING) as running, asyncio.timeout(15):
        assert running.runtime.hedger is not None
        for _ in range(MIN_KNOWN):
            running.runtime.hedger.took(300, 0.02)
        yield running
        for engine in running.engines:
            await engine.until(partial(is_idle, engine))


async def test_a_worker_that_hangs_is_not_waited_for(experienced: Fleet) -> None:
    for _ in range(4):
        await ask(experienced)
        favourite = max(experienced.of("prefill"), key=lambda engine: len(engine.seen))
        favourite.faults.inject(Fault.HANG)
        assert await ask(experienced) == TEXT
        favourite.faults.waiting.clear()
    assert hedges(experienced) >= 1
    stats = [engine.kv.stats() for engine in experienced.of("prefill")]
    assert sum(s["granted"] for s in stats) == sum(s["pulled"] + s["released"] for s in stats)


async def test_if_the_second_worker_fails_the_first_one_counts(experienced: Fleet) -> None:
    slow, other = experienced.of("prefill")
    for engine in (slow, other):
        engine.settings = engine.compute._settings = replace(engine.settings, prefill_seconds=0.2)
    assert await ask(experienced) == TEXT
    assert hedges(experienced) == 1
    other.faults.inject(Fault.ERROR)
    slow.faults.inject(Fault.ERROR)
    assert await ask(experienced) == TEXT


async def test_it_is_off_unless_asked_for() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        assert running.runtime.hedger is None
