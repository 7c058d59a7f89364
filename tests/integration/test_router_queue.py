"""Requests that wait in the router and requests that it refuses, over HTTP."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import CONFIG, Fleet, fleet
from tandem_wire.router_settings import RouterSettings

BODY: dict[str, Any] = {"model": "fake", "prompt": "a word " * 20, "max_tokens": 2}
SETTINGS = RouterSettings.model_validate(
    {
        "classes": [{"name": "quick", "ttft": "200ms"}, {"name": "batch", "offline": True}],
        "queueing": {"decodes": 1, "maxWaiting": 1, "podStart": "45s"},
    }
)
Answer = tuple[int, dict[str, Any], dict[str, str]]


@asynccontextmanager
async def one_at_a_time(*engines: Settings) -> AsyncIterator[Fleet]:
    async with fleet(*engines, config=replace(CONFIG, settings=SETTINGS)) as fakes:
        yield fakes


async def post(fakes: Fleet, service_class: str = "", **changes: Any) -> Answer:
    headers = {"x-tandem-class": service_class} if service_class else {}
    url = f"{fakes.url}/v1/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json={**BODY, **changes}, headers=headers) as answer,
    ):
        return answer.status, await answer.json(), {name.lower(): v for name, v in answer.headers.items()}


async def occupied(fakes: Fleet) -> asyncio.Task[Answer]:
    """A request that runs until it is cancelled."""
    (engine,) = fakes.engines
    engine.faults.inject(Fault.HANG)
    task = asyncio.ensure_future(post(fakes))
    async with asyncio.timeout(5):
        await engine.until(lambda: engine.stats.running == 1)
    return task


async def waiting(fakes: Fleet, number: int) -> None:
    async with asyncio.timeout(5):
        while sum((await series(fakes, "router_queue_requests")).values()) != number:
            pass


async def series(fakes: Fleet, name: str) -> dict[str, float]:
    async with aiohttp.ClientSession() as session, session.get(f"{fakes.url}/metrics") as answer:
        text = await answer.text()
    lines = re.findall(rf"^tandem_{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in lines}


async def test_a_request_waits_until_there_is_room_and_says_how_long() -> None:
    async with one_at_a_time(Settings()) as fakes:
        running = await occupied(fakes)
        second = asyncio.ensure_future(post(fakes))
        await waiting(fakes, 1)
        assert fakes.engines[0].stats.running == 1
        assert (await series(fakes, "router_queue_requests"))['class="default",llmservice="test"'] == 1
        await asyncio.sleep(0.1)
        running.cancel()
        status, _, headers = await second
        assert status == 200
        waited = re.match(r"queue;dur=([0-9.]+)", headers["server-timing"])
        assert waited is not None
        assert 100 <= float(waited[1]) < 5000
        counts = await series(fakes, "router_queue_wait_seconds_count")
        assert counts['class="default",llmservice="test"'] == 1


async def test_refusals_say_why_and_until_when() -> None:
    async with one_at_a_time(Settings()) as fakes:
        running = await occupied(fakes)
        second = asyncio.ensure_future(post(fakes))
        await waiting(fakes, 1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, body, headers = await post(fakes, "quick")
        assert (status, body["error"]["code"], headers["retry-after"]) == (429, "class_unattainable", "1")
        assert loop.time() - began < 1
        status, body, headers = await post(fakes)
        assert (status, body["error"]["code"], headers["retry-after"]) == (429, "queue_full", "1")
        refused = await series(fakes, "router_refused_total")
        assert refused == {
            'class="quick",llmservice="test",reason="class_unattainable"': 1,
            'class="default",llmservice="test",reason="queue_full"': 1,
        }
        for task in (running, second):
            task.cancel()


async def test_without_a_worker_the_answer_tells_when_one_is_expected() -> None:
    async with one_at_a_time() as fakes:
        status, body, headers = await post(fakes)
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "no_capacity", "45")


async def test_a_class_that_does_not_exist_is_named_with_those_that_do() -> None:
    async with one_at_a_time(Settings()) as fakes:
        status, body, _ = await post(fakes, "urgent")
        assert (status, body["error"]["code"]) == (400, "unknown_class")
        assert "batch, default, quick" in json.dumps(body)
        assert (await post(fakes, "batch"))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_the_queue_is_gone_at_once(stream: bool) -> None:
    async with one_at_a_time(Settings()) as fakes:
        running = await occupied(fakes)
        second = asyncio.ensure_future(post(fakes, stream=stream))
        await waiting(fakes, 1)
        second.cancel()
        await waiting(fakes, 0)
        running.cancel()
        assert (await post(fakes))[0] == 200
        assert fakes.engines[0].stats.finished == 1


async def test_all_workers_busy_is_waited_out() -> None:
    async with fleet(Settings(), Settings()) as fakes:
        for engine in fakes.engines:
            engine.faults.inject(Fault.BUSY)
        status, _, _ = await post(fakes)
        assert status == 200
