"""Workers that fail in the ways of real ones: the client gets the right text or one clear error."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import aiohttp
import openai
import pytest

from tandem_router.engines import vllm
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.engines.text import digest_of, tokens_of
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair
from tandem_wire.router_settings import Recovery, RouterSettings

PROMPT = "a word " * 600
TEXT = "".join(tokens_of(digest_of(PROMPT), 6))
QUICK = replace(CONFIG, request_timeout=1.0)
ALONE = replace(CONFIG, settings=RouterSettings(recovery=Recovery(migration=False)))
"""Streams do not go on at another worker."""


@dataclass
class Got:
    status: int
    headers: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        return self.headers["x-tandem-path"]

    @property
    def events(self) -> list[Any]:
        lines = [line.removeprefix("data: ") for line in self.body.splitlines() if line]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    @property
    def text(self) -> str:
        answers = self.events if "event-stream" in self.headers["Content-Type"] else [json.loads(self.body)]
        return "".join(a["choices"][0]["text"] for a in answers if a.get("choices"))

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


async def ask(running: Fleet, *, stream: bool = True, prompt: str = PROMPT) -> Got:
    body = {"model": "fake", "prompt": prompt, "max_tokens": 6, "stream": stream}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/completions", json=body) as response,
    ):
        return Got(response.status, dict(response.headers), await response.text())


def counted(running: Fleet, name: str, **labels: str) -> float:
    labels = {"llmservice": "test", "model": "fake"} | labels
    return running.runtime.metrics.registry.get_sample_value(f"tandem_router_{name}_total", labels) or 0.0


@contextmanager
def busy(running: Fleet, *names: str) -> Iterator[None]:
    """Makes the router see these workers as loaded, so that it asks the others first."""
    for name in names:
        running.runtime.loads.begin(name, 100_000)
    yield
    for name in names:
        running.runtime.loads.end(name, 100_000)


def assert_nothing_left(running: Fleet) -> None:
    assert dict(running.runtime.loads) == {}
    assert running.runtime.admission.in_flight == 0
    assert [engine.stats.running for engine in running.engines] == [0] * len(running.engines)
    assert sum(engine.kv.stats()["open"] for engine in running.engines) == 0


def has_no_handles(engine: SimEngine) -> bool:
    return engine.kv.stats()["open"] == 0


def is_idle(engine: SimEngine) -> bool:
    return engine.stats.running == 0


async def all_released(running: Fleet) -> None:
    async with asyncio.timeout(5):
        for engine in running.engines:
            await engine.until(partial(has_no_handles, engine))


NATIVE = Settings(protocol="native")


@pytest.fixture
async def four() -> AsyncIterator[Fleet]:
    """prefill-0 and decode-1, which are asked first, then prefill-2 and decode-3."""
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        with busy(running, "prefill-2", "decode-3"):
            yield running
        await all_released(running)
        assert_nothing_left(running)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.BUSY, Fault.DIE, Fault.EXPIRED])
async def test_a_failed_prefill_leg_goes_elsewhere(four: Fleet, fault: Fault, stream: bool) -> None:
    four.engines[0].faults.inject(fault)
    got = await ask(four, stream=stream)
    assert (got.status, got.text, got.path) == (200, TEXT, "disaggregated")
    assert got.headers["x-tandem-prefill"] == "prefill-2"
    assert counted(four, "retries", leg="prefill") == 1
    assert four.engines[2].seen[0].headers["x-request-id"].endswith("-a2")


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        *product([Fault.ERROR, Fault.DIE], [True, False]),
        (Fault.STREAM_ERROR, True),
    ],
)
async def test_a_failed_decode_leg_is_prefilled_again(four: Fleet, fault: Fault, stream: bool) -> None:
    four.engines[1].faults.inject(fault)
    got = await ask(four, stream=stream)
    assert (got.status, got.text, got.path) == (200, TEXT, "disaggregated")
    assert got.headers["x-tandem-decode"] == "decode-3"
    assert counted(four, "retries", leg="decode") == 1
    await all_released(four)
    stats = [engine.kv.stats() for engine in four.of("prefill")]
    assert [sum(s[key] for s in stats) for key in ("granted", "pulled", "released")] == [2, 1, 1]
    assert counted(four, "kv_releases", reason="failed") == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_kv_goes_to_another_decode_worker_when_the_first_is_busy(four: Fleet, stream: bool) -> None:
    four.engines[1].faults.inject(Fault.BUSY)
    got = await ask(four, stream=stream)
    assert (got.status, got.text, got.path) == (200, TEXT, "disaggregated")
    assert (got.headers["x-tandem-prefill"], got.headers["x-tandem-decode"]) == ("prefill-0", "decode-3")
    stats = [engine.kv.stats() for engine in four.of("prefill")]
    assert [sum(s[key] for s in stats) for key in ("granted", "pulled", "released")] == [1, 1, 0]


async def test_a_chat_stream_is_not_committed_by_its_role_alone(four: Fleet) -> None:
    async with openai.AsyncOpenAI(base_url=f"{four.url}/v1", api_key="none", max_retries=0) as client:
        four.engines[1].faults.inject(Fault.STREAM_ERROR)
        stream = await client.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": PROMPT}], max_tokens=6, stream=True
        )
        roles = [chunk.choices[0].delta.role async for chunk in stream]
        assert roles == ["assistant"] + [None] * 6


async def test_both_prefill_workers_failing_leaves_the_decode_worker_to_do_both(four: Fleet) -> None:
    for engine in four.of("prefill"):
        engine.faults.inject(Fault.ERROR)
    got = await ask(four)
    assert (got.status, got.text, got.path) == (200, TEXT, "fallback")
    assert "x-tandem-prefill" not in got.headers
    assert counted(four, "path", path="fallback", reason="prefill_error") == 1


@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.STREAM_ERROR, Fault.DIE])
async def test_one_pair_recovers_on_its_decode_worker(fault: Fault) -> None:
    async with fleet(*pair(NATIVE)) as running:
        running.engines[1].faults.inject(fault)
        got = await ask(running)
        assert (got.status, got.text, got.path) == (200, TEXT, "fallback")
        await all_released(running)
        assert_nothing_left(running)


async def test_a_prefill_worker_without_a_connector_is_gone_around() -> None:
    async with fleet(*pair(Settings(hands_over=False))) as running:
        got = await ask(running, stream=False)
        assert (got.text, got.path) == (TEXT, "fallback")
        assert counted(running, "path", path="fallback", reason="no_transfer_params") == 1


async def test_a_dead_prefill_worker_is_an_unreachable_address() -> None:
    async with fleet(*pair()) as running:
        prefill, decode = running.endpoints()
        running.publish([replace(prefill, port=1), decode])
        got = await ask(running)
        assert (got.text, got.path) == (TEXT, "fallback")


async def test_kv_is_not_used_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM answers a decode leg past the lease with wrong text and no error: it is given up before."""
    monkeypatch.setattr(vllm, "LEASE_SECONDS", 0.6)
    async with fleet(*pair(Settings(lease_seconds=0.6))) as running:
        running.engines[1].faults.inject(Fault.HANG)
        got = await ask(running)
        assert (got.text, got.path) == (TEXT, "fallback")
        assert counted(running, "path", path="fallback", reason="decode_timeout") == 1


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_hanging_workers_end_with_the_deadline(role: str) -> None:
    async with fleet(*pair(), config=QUICK) as running:
        for engine in running.engines:
            engine.faults.inject(Fault.HANG, times=9)
        got = await ask(running, stream=role == "decode")
        assert (got.status, got.error["code"]) == (504, "deadline_exceeded")
        async with asyncio.timeout(5):
            for engine in running.engines:
                await engine.until(partial(is_idle, engine))
        assert_nothing_left(running)


@pytest.mark.parametrize("fault", [Fault.DIE_MID_STREAM, Fault.TRUNCATE])
async def test_a_stream_that_breaks_off_ends_with_an_error_event(fault: Fault) -> None:
    async with fleet(*pair(), config=ALONE) as running:
        running.engines[1].faults.inject(fault)
        got = await ask(running)
        assert got.status == 200
        assert TEXT.startswith(got.text)
        assert got.text
        assert got.events[-1]["error"]["code"] == "decode_broken"
        assert "[DONE]" not in got.body
        assert counted(running, "stream_errors", reason="decode_broken") == 1
        assert_nothing_left(running)


async def test_the_client_library_raises_when_a_stream_breaks_off() -> None:
    async with fleet(*pair(), config=ALONE) as running:
        running.engines[1].faults.inject(Fault.DIE_MID_STREAM)
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            stream = await client.completions.create(model="fake", prompt=PROMPT, max_tokens=6, stream=True)
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in stream:
                    pass


async def test_an_error_event_of_the_worker_on_the_way_is_passed_on_and_counted() -> None:
    async with fleet(*pair(), config=ALONE) as running:
        running.engines[1].faults.inject(Fault.LATE_ERROR)
        got = await ask(running)
        assert got.events[-1]["error"]["code"] == 500
        assert counted(running, "stream_errors", reason="engine_error") == 1


async def test_a_request_that_is_too_long_is_refused_once() -> None:
    async with fleet(*pair(Settings(max_model_len=100)), *pair(Settings(max_model_len=100))) as running:
        got = await ask(running)
        assert (got.status, got.error["code"]) == (400, "context_length_exceeded")
        assert sum(len(engine.seen) for engine in running.engines) == 1


async def test_when_nothing_helps_the_error_says_so() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        for engine in running.engines:
            engine.faults.inject(Fault.ERROR, times=9)
        got = await ask(running)
        assert (got.status, got.error["code"]) == (502, "upstream_error")
        assert max(len(engine.seen) for engine in running.engines) <= 2
        assert sum(len(engine.seen) for engine in running.engines) == 3
        assert_nothing_left(running)


async def test_workers_that_stay_busy_are_asked_again_until_the_deadline() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE), config=replace(CONFIG, request_timeout=0.7)) as running:
        for engine in running.engines:
            engine.faults.inject(Fault.BUSY, times=1000)
        got = await ask(running)
        assert (got.status, got.error["code"]) == (504, "deadline_exceeded")
        assert 4 <= sum(len(engine.seen) for engine in running.engines) <= 40
        assert_nothing_left(running)


async def test_a_storm_of_faults_leaves_nothing_behind() -> None:
    """Every answer is the right text or an error, and afterwards no handle, load or request is left."""
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        faults = [Fault.ERROR, Fault.DIE, Fault.BUSY, Fault.STREAM_ERROR, Fault.EXPIRED, Fault.DIE_MID_STREAM]
        for index, engine in enumerate(running.engines):
            for fault in faults[index:] + faults[:index]:
                engine.faults.inject(fault)
        answers = await asyncio.gather(*(ask(running, stream=bool(n % 2)) for n in range(60)))
        for got in answers:
            assert got.status in (200, 502, 503)
            if got.status == 200:
                assert got.text == TEXT or "broke off" in got.body
        assert sum(got.status == 200 for got in answers) > 40
        await all_released(running)
        assert_nothing_left(running)
