"""Every hand-over protocol through the router and strict engines: right text, both legs ended, no KV left."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest

from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.engines.text import EOS, digest_of, tokens_of
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair

PROMPT = "a word " * 600
TEXT = "".join(tokens_of(digest_of(PROMPT), 6))
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
CONCURRENT: tuple[Protocol, ...] = ("nixl-push", "mooncake", "sglang")
LEASE = 5.0
RETRIED = (Fault.ERROR, Fault.DIE, Fault.BUSY)


async def ask(running: Fleet, *, stream: bool, prompt: str = PROMPT) -> tuple[str, str]:
    """The answer's text and its path."""
    body = {"model": "fake", "prompt": prompt, "max_tokens": 6, "stream": stream}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/completions", json=body) as response,
    ):
        text = await response.text()
        assert response.status == 200, text
        assert text.endswith("[DONE]\n\n") or not stream
        return text_of(text, stream=stream), response.headers["x-tandem-path"]


def text_of(answer: str, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(answer)["choices"][0]["text"])
    lines = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: {")]
    return "".join(choice["text"] for line in lines for choice in json.loads(line)["choices"])


def quiet(engine: SimEngine) -> bool:
    return engine.stats.running == 0 and engine.kv.stats()["open"] == 0


async def settled(running: Fleet) -> None:
    """Both legs of everything have ended, and no KV is held on either side."""
    async with asyncio.timeout(5):
        for engine in running.engines:
            await engine.until(partial(quiet, engine))
    assert dict(running.runtime.loads) == {}


def settings(protocol: Protocol, **changes: Any) -> Settings:
    """Leases are long, so that KV that nobody frees is found out."""
    return Settings(protocol=protocol, lease_seconds=LEASE, **changes)


@pytest.fixture(params=PROTOCOLS)
async def one(request: pytest.FixtureRequest) -> AsyncIterator[Fleet]:
    async with fleet(*pair(settings(request.param))) as running:
        yield running


@pytest.mark.parametrize("stream", [True, False])
async def test_text_is_right_and_nothing_is_left(one: Fleet, stream: bool) -> None:
    for _ in range(3):
        assert await ask(one, stream=stream) == (TEXT, "disaggregated")
    await settled(one)
    stats = one.engines[0].kv.stats()
    assert (stats["granted"], stats["pulled"]) == (3, 3)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_ends_at_its_first_token(one: Fleet, stream: bool) -> None:
    prompt = f"{PROMPT} {EOS}"
    text, _ = await ask(one, stream=stream, prompt=prompt)
    assert text == tokens_of(digest_of(prompt), 1)[0]
    if one.engines[0].settings.protocol != "nixl" or stream:
        await settled(one)


async def test_chat_and_many_at_once(one: Fleet) -> None:
    prompts = [f"{number} {PROMPT}" for number in range(24)]
    answers = await asyncio.gather(*(ask(one, stream=n % 2 == 0, prompt=p) for n, p in enumerate(prompts)))
    assert [text for text, _ in answers] == ["".join(tokens_of(digest_of(p), 6)) for p in prompts]
    messages = [{"role": "user", "content": PROMPT}]
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{one.url}/v1/chat/completions", json={"model": "fake", "messages": messages, "max_tokens": 3}
        ) as response,
    ):
        answer = await response.json()
    expected = "".join(tokens_of(digest_of(json.dumps(messages)), 3))
    assert answer["choices"][0]["message"]["content"] == expected
    await settled(one)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("role", "fault"), list(product(["prefill", "decode"], RETRIED)))
async def test_a_leg_that_fails_is_done_again_by_others(protocol: Protocol, role: str, fault: Fault) -> None:
    async with fleet(*pair(settings(protocol)), *pair(settings(protocol))) as running:
        await ask(running, stream=True)
        await ask(running, stream=True)
        for engine in running.of(role)[: 1 if fault is Fault.BUSY else 2]:
            engine.faults.inject(fault)
        texts = [await ask(running, stream=bool(n % 2)) for n in range(4)]
        assert {text for text, _ in texts} == {TEXT}
        # Of the others, KV that was ready before its decode leg failed is left to its lease.
        if protocol in ("native", "sglang") or role == "prefill":
            await settled(running)


@pytest.mark.parametrize(("protocol", "stream"), list(product(CONCURRENT, [True, False])))
@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_client_that_leaves_ends_both_legs(protocol: Protocol, stream: bool, role: str) -> None:
    async with fleet(*pair(settings(protocol))) as running:
        await ask(running, stream=True)
        for engine in running.of(role):
            engine.faults.inject(Fault.HANG)
        asked = asyncio.ensure_future(ask(running, stream=stream))
        (hanging,) = running.of(role)
        async with asyncio.timeout(5):
            await hanging.until(lambda: hanging.stats.running == 1)
            asked.cancel()
            for engine in running.engines:
                await engine.until(partial(idle, engine))
        assert dict(running.runtime.loads) == {}


def idle(engine: SimEngine) -> bool:
    return engine.stats.running == 0


@pytest.mark.parametrize("protocol", CONCURRENT)
async def test_one_dead_leg_takes_the_other_with_it(protocol: Protocol) -> None:
    """The partner of a leg that failed waits for minutes if nobody tells it (SGLang: 300 s)."""
    mixed = replace(settings(protocol), role="mixed")
    async with fleet(*pair(settings(protocol)), mixed) as running:
        await ask(running, stream=True)
        prefill, decode, _ = running.engines
        prefill.faults.inject(Fault.DIE, times=9)
        text, _ = await ask(running, stream=True)
        assert text == TEXT
        async with asyncio.timeout(2):
            await decode.until(partial(idle, decode))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_engine_that_was_started_again(protocol: Protocol) -> None:
    """What was known of its last run is of no use: found out, forgotten, and asked again."""
    async with fleet(*pair(settings(protocol))) as running:
        await ask(running, stream=True)
        running.engines[0].restart()
        text, _ = await ask(running, stream=True)
        assert text == TEXT
        assert await ask(running, stream=False) == (TEXT, "disaggregated")


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p != "sglang"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_prefill_worker_killed_between_the_legs(protocol: Protocol, stream: bool) -> None:
    async with fleet(*pair(settings(protocol))) as running:
        running.engines[0].faults.inject(Fault.KILLED_AFTER_PREFILL)
        assert await ask(running, stream=stream) == (TEXT, "fallback")


async def test_mooncake_engines_with_several_ranks() -> None:
    async with fleet(*pair(settings("mooncake", ranks=3))) as running:
        for _ in range(8):
            assert await ask(running, stream=True) == (TEXT, "disaggregated")
        ranks = {seen.headers["x-data-parallel-rank"] for seen in running.engines[0].seen}
        assert ranks <= {"0", "1", "2"}
        assert len(ranks) > 1
        await settled(running)


async def test_bootstrap_is_asked_once_in_a_run() -> None:
    async with fleet(*pair(settings("mooncake"))) as running:
        prefill = running.endpoints()[0]
        assert running.runtime.peers.get(prefill) is None
        await asyncio.gather(*(ask(running, stream=False) for _ in range(4)))
        assert running.runtime.peers.get(prefill) is not None
        running.publish([replace(endpoint, ready=False) for endpoint in running.endpoints()])
        assert running.runtime.peers.get(prefill) is None


async def test_a_bootstrap_server_that_cannot_be_asked_is_gone_around() -> None:
    async with fleet(*pair(settings("mooncake"))) as running:
        prefill, decode = running.endpoints()
        running.publish([replace(prefill, bootstrap_port=1), decode])
        assert await ask(running, stream=True) == (TEXT, "fallback")


@pytest.mark.parametrize("key", ["secret", "other"])
async def test_trtllm_takes_protected_fields_from_who_has_the_key(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    config = replace(CONFIG, trtllm_auth_key_file=file)
    async with fleet(*pair(settings("trtllm", auth_key="secret")), config=config) as running:
        body = {"model": "fake", "prompt": PROMPT, "max_tokens": 6}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{running.url}/v1/completions", json=body) as response,
        ):
            assert response.status == (200 if key == "secret" else 400)
            assert "secret" not in await response.text()
