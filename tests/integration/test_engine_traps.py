"""What real engines were seen to do, shown by strict ones: the client behind the router is none the wiser."""

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import aiohttp
import pytest

from tandem_router.engines import vllm
from tandem_router.types import Pair, RequestInfo
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.engines.text import digest_of, tokens_of
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair
from tandem_wire.router_settings import Disaggregation, RouterSettings

PROMPT = "a word " * 600
TEXT = "".join(tokens_of(digest_of(PROMPT), 6))
ALWAYS = replace(CONFIG, settings=RouterSettings(disaggregation=Disaggregation(mode="always")))
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


def post(running: Fleet, session: aiohttp.ClientSession, *, stream: bool, **changes: Any) -> Any:
    body = {"model": "fake", "prompt": PROMPT, "max_tokens": 6, "stream": stream} | changes
    return session.post(f"{running.url}/v1/completions", json=body)


async def ask(running: Fleet, *, stream: bool, **changes: Any) -> tuple[str, str]:
    """The answer's body and its path."""
    async with (
        aiohttp.ClientSession() as session,
        post(running, session, stream=stream, **changes) as response,
    ):
        body = await response.text()
        assert response.status == 200, body
        return body, response.headers["x-tandem-path"]


def predicts(running: Fleet) -> bool:
    """Whether the router has seen enough to say how long decoding takes."""
    info = RequestInfo("id", "fake", 1200, stream=False, max_tokens=6)
    views, (prefill, decode) = running.runtime.views, running.endpoints()
    predictor = views.predictor
    return (
        predictor is not None and predictor.predict(info, Pair(prefill, decode), views.of(info)) is not None
    )


def chunks(body: str) -> list[Any]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


def text_of(body: str) -> str:
    answers = chunks(body) or [json.loads(body)]
    return "".join(choice["text"] for answer in answers for choice in answer["choices"])


@pytest.mark.parametrize("stream", [True, False])
async def test_kv_that_is_pulled_after_its_lease_is_never_served(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """vLLM says 200 and gives wrong tokens. Without a stream, decoding has to be predictable."""
    monkeypatch.setattr(vllm, "LEASE_SECONDS", 0.6)
    settings = Settings(lease_seconds=0.6, slow_seconds=5.0, token_seconds=0.002)
    async with fleet(*pair(settings), config=ALWAYS) as running:
        async with asyncio.timeout(20):
            while not predicts(running):
                await ask(running, stream=True, max_tokens=12)
        running.engines[1].faults.inject(Fault.LATE_PULL)
        body, path = await ask(running, stream=stream)
        assert (text_of(body), path) == (TEXT, "fallback")


async def test_wrong_kv_would_show_in_the_text() -> None:
    """The test above can fail: without the router's deadline this is what comes."""
    async with fleet(*pair(Settings(lease_seconds=0.1, slow_seconds=0.2))) as running:
        running.engines[1].faults.inject(Fault.LATE_PULL)
        body, path = await ask(running, stream=False)
        assert path == "disaggregated"
        assert text_of(body) != TEXT


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p not in ("native", "trtllm")])
async def test_an_error_as_the_first_event_of_a_stream_never_shows(protocol: Protocol) -> None:
    async with fleet(*pair(Settings(protocol=protocol))) as running:
        await ask(running, stream=True)
        running.engines[1].faults.inject(Fault.STREAM_ERROR)
        body, _ = await ask(running, stream=True)
        assert text_of(body) == TEXT
        assert "error" not in body
        assert body.endswith("data: [DONE]\n\n")


async def test_a_prefill_worker_killed_between_the_legs_costs_no_waiting() -> None:
    async with fleet(*pair(Settings())) as running:
        running.engines[0].faults.inject(Fault.KILLED_AFTER_PREFILL)
        async with asyncio.timeout(1):
            body, path = await ask(running, stream=True)
        assert (text_of(body), path) == (TEXT, "fallback")


async def test_tokens_are_counted_by_usage_not_by_events() -> None:
    async with fleet(*pair(Settings(tokens_per_event=4))) as running:
        body, _ = await ask(running, stream=True, max_tokens=10)
        with_text = [chunk for chunk in chunks(body) if chunk["choices"] and chunk["choices"][0]["text"]]
        assert len(with_text) == 3
        assert text_of(body) == "".join(tokens_of(digest_of(PROMPT), 10))
        labels = {"llmservice": "test", "model": "fake"}
        count = partial(running.runtime.metrics.registry.get_sample_value, labels=labels)
        assert count("tandem_router_output_tokens_total") == 10


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_leaves_a_silent_stream_is_heard_by_both_engines(protocol: Protocol) -> None:
    async with (
        fleet(*pair(Settings(protocol=protocol, token_seconds=30))) as running,
        aiohttp.ClientSession() as session,
    ):
        asked = asyncio.ensure_future(post(running, session, stream=True))
        prefill, decode = running.engines
        async with asyncio.timeout(5):
            await prefill.until(lambda: prefill.kv.counters.pulled == 1)
            await decode.until(lambda: decode.stats.running == 1)
        asked.cancel()
        async with asyncio.timeout(2):
            for engine in running.engines:
                await engine.until(partial(idle, engine))
        assert decode.stats.aborted == 1


def idle(engine: SimEngine) -> bool:
    return engine.stats.running == 0 and engine.kv.stats()["open"] == 0
