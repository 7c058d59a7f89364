"""Requests find the workers that have their prompts cached: more hits than by load alone."""

import asyncio
from dataclasses import replace
from random import Random

import aiohttp
import pytest

from tandem_router.policies import registry
from tandem_sim.engines.settings import EventFormat, Role, Settings
from tandem_sim.fleet import CONFIG, Fleet, fleet
from tandem_wire.router_settings import KvEvents, RouterSettings, Scheduling

BLOCK = 16
BASE = Settings(protocol="nixl", prefix_cache=True, kv_tokens=6000, block_size=BLOCK)
EVENTS_PORT, REPLAY_PORT = 25_557, 25_558


def engines(count: int, base: Settings = BASE) -> list[Settings]:
    """Prefill and decode workers, each at a loopback address of its own."""
    roles: tuple[Role, ...] = ("prefill", "decode")
    return [
        replace(base, role=role, host=f"127.0.7.{10 * index + number + 1}")
        for index in range(count)
        for number, role in enumerate(roles)
    ]


async def ask(running: Fleet, prompts: list[str | list[int]]) -> None:
    """Sends them one after the other in each of four clients."""
    waiting = iter(prompts)

    async def client(session: aiohttp.ClientSession) -> None:
        for prompt in waiting:
            body = {"model": "fake", "prompt": prompt, "max_tokens": 2}
            async with session.post(f"{running.url}/v1/completions", json=body) as response:
                assert response.status == 200, await response.text()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(4)))


def hit_share(running: Fleet) -> float:
    caches = [engine.cache for engine in running.of("prefill")]
    return sum(cache.hit_tokens for cache in caches) / sum(cache.queried_tokens for cache in caches)


async def share_with(scorers: list[str]) -> float:
    """Eight beginnings of 1,000 tokens and four workers that each have room for a few of them."""
    random = Random(5)
    beginnings = [f"{index} " * 2000 for index in range(8)]
    prompts = [f"{random.choice(beginnings)}{random.random()}" for _ in range(80)]
    async with fleet(*engines(4)) as running:
        running.runtime.policy = registry.build([], scorers, "best")
        await ask(running, list(prompts))
        return hit_share(running)


async def test_equal_beginnings_meet_where_they_are_cached() -> None:
    by_load = await share_with(["least-loaded"])
    by_default = await share_with(["prefix-match=0.3", "least-loaded=0.2", "prefix-affinity=0.1"])
    assert by_default > by_load + 0.2, (by_default, by_load)


@pytest.mark.parametrize("fmt", ["array", "map"])
async def test_kv_events_tell_where_a_prompt_is_that_the_router_never_sent(fmt: EventFormat) -> None:
    base = replace(BASE, events=fmt, events_port=EVENTS_PORT, replay_port=REPLAY_PORT)
    events = KvEvents(port=EVENTS_PORT, replay_port=REPLAY_PORT)
    config = replace(CONFIG, settings=RouterSettings(scheduling=Scheduling(kv_events=events)))
    async with fleet(*engines(3, base), config=config) as running:
        prompts = [[100 * index + n % 90 for n in range(20 * BLOCK)] for index in range(1, 7)]
        for index, prompt in enumerate(prompts):
            engine = running.of("prefill")[index % 3]
            body = {"model": "fake", "prompt": prompt, "max_tokens": 1}
            ask_to_keep = {"do_remote_decode": True}
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"http://{engine.settings.host}:{engine.port}/v1/completions",
                    json=body | {"kv_transfer_params": ask_to_keep},
                ) as response,
            ):
                assert response.status == 200, await response.text()
        found = running.runtime.views.index
        assert found is not None
        async with asyncio.timeout(10):
            while len(found) < 6 * 20:  # noqa: ASYNC110 - what is waited for comes over the wire
                await asyncio.sleep(0.01)
        before = sum(engine.cache.hit_tokens for engine in running.of("prefill"))
        await ask(running, list(prompts))
        hits = sum(engine.cache.hit_tokens for engine in running.of("prefill")) - before
        assert hits >= 6 * 19 * BLOCK
