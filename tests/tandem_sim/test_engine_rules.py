"""The fake engine keeps vLLM's rules: KV must be there, leases end, and wrong KV means wrong text."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.kv import KvGoneError, KvStore
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Protocol, Settings

PROMPT = {"model": "fake", "prompt": "the program is free software", "max_tokens": 4}
ASK = {"kv_transfer_params": {"do_remote_decode": True}}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def post(
    session: aiohttp.ClientSession, engine: SimEngine, body: dict[str, Any], request_id: str = "r"
) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{engine.port}/v1/completions"
    async with session.post(url, json=body, headers={"x-request-id": request_id}) as response:
        return response.status, await response.json()


def text(answer: Any) -> str:
    whole: str = answer["choices"][0]["text"]
    return whole


async def handed_over(
    session: aiohttp.ClientSession, prefill: SimEngine, decode: SimEngine, pause: float = 0
) -> tuple[int, Any]:
    _, answer = await post(session, prefill, PROMPT | ASK | {"max_tokens": 1})
    await asyncio.sleep(pause)
    return await post(session, decode, PROMPT | {"kv_transfer_params": answer["kv_transfer_params"]})


@pytest.mark.parametrize("protocol", ["nixl", "native"])
async def test_a_hand_over_gives_the_same_text_as_none(
    session: aiohttp.ClientSession, protocol: Protocol
) -> None:
    base = Settings(protocol=protocol)
    async with (
        running(replace(base, role="prefill")) as prefill,
        running(replace(base, role="decode")) as decode,
        running(base) as mixed,
    ):
        status, answer = await handed_over(session, prefill, decode)
        _, whole = await post(session, mixed, PROMPT)
        assert status == 200
        assert text(answer) == text(whole)
        assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 9, "completion_tokens": 4}
        assert prefill.kv.stats() == {
            "granted": 1, "pulled": 1, "released": 0, "expired": 0, "refused": 0, "open": 0
        }  # fmt: skip


async def test_kv_past_its_lease_means_wrong_text_and_no_error(session: aiohttp.ClientSession) -> None:
    async with (
        running(Settings(role="prefill", lease_seconds=0.01)) as prefill,
        running(Settings(role="decode")) as decode,
    ):
        status, answer = await handed_over(session, prefill, decode, pause=0.02)
        _, whole = await post(session, decode, PROMPT)
        assert status == 200
        assert text(answer) != text(whole)
        assert (prefill.kv.stats()["expired"], prefill.kv.stats()["refused"]) == (1, 1)


@pytest.mark.parametrize(("policy", "status"), [("fail", 500), ("recompute", 200)])
async def test_a_dead_prefill_worker(session: aiohttp.ClientSession, policy: Any, status: int) -> None:
    async with running(Settings(role="decode", on_load_failure=policy)) as decode:
        gone = {"do_remote_prefill": True, "remote_host": "127.0.0.1", "remote_port": 1}
        params = gone | {"remote_request_id": "h", "remote_engine_id": "e"}
        got, _ = await post(session, decode, PROMPT | {"kv_transfer_params": params})
        assert got == status


async def test_a_client_that_leaves_aborts_its_request(session: aiohttp.ClientSession) -> None:
    async with running(Settings(role="mixed")) as engine:
        engine.faults.inject(Fault.HANG)
        request = asyncio.ensure_future(post(session, engine, PROMPT))
        async with asyncio.timeout(5):
            await engine.until(lambda: engine.stats.running == 1)
            request.cancel()
            await engine.until(lambda: engine.stats.aborted == 1)
        assert engine.stats.running == 0


async def test_the_wrong_leg_and_long_prompts_are_refused(session: aiohttp.ClientSession) -> None:
    async with running(Settings(role="prefill", max_model_len=8)) as engine:
        assert (await post(session, engine, PROMPT | {"max_tokens": 1}))[0] == 500
        status, answer = await post(session, engine, PROMPT | ASK)
        assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")


async def test_faults_and_counters_over_http(session: aiohttp.ClientSession) -> None:
    async with running(Settings()) as engine:
        url = f"http://127.0.0.1:{engine.port}/sim"
        async with session.post(f"{url}/faults", json={"fault": "error", "times": 2}) as response:
            assert response.status == 204
        assert [(await post(session, engine, PROMPT))[0] for _ in range(3)] == [500, 500, 200]
        async with session.get(f"{url}/stats") as response:
            stats = await response.json()
        assert stats["requests"] == {"running": 0, "finished": 3, "aborted": 0}


def test_a_handle_ends_once() -> None:
    now = [0.0]
    kv = KvStore("engine", lambda: now[0])
    for handle in "abc":
        kv.grant(handle, "digest", 10.0)
    with pytest.raises(ValueError, match="leased already"):
        kv.grant("a", "digest", 10.0)
    assert kv.look("a", "engine") == "digest"
    with pytest.raises(KvGoneError):
        kv.look("a", "engine before its restart")
    assert [kv.end("a", pulled=True), kv.end("a", pulled=False), kv.end("b", pulled=False)] == [
        True,
        False,
        True,
    ]
    now[0] = 10.0
    assert not kv.end("c", pulled=True)
    assert kv.stats() == {"granted": 3, "pulled": 1, "released": 1, "expired": 1, "refused": 1, "open": 0}
