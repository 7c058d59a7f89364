"""Streams whose decode worker is lost go on at another one, and the client does not see it."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import openai
import pytest

from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Settings
from tandem_sim.engines.text import digest_of, tokens_of
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair
from tandem_wire.router_settings import Recovery, RouterSettings

PROMPT = " ".join(f"word{index}" for index in range(300))
COUNT = 40
TEXT = "".join(tokens_of(digest_of(PROMPT), COUNT))
NATIVE, VLLM = Settings(protocol="native"), Settings(protocol="nixl")
BREAKS = [Fault.DIE_MID_STREAM, Fault.TRUNCATE, Fault.LATE_ERROR]


def counted(running: Fleet, name: str, **labels: str) -> float:
    labels = {"llmservice": "test", "model": "fake"} | labels
    return running.runtime.metrics.registry.get_sample_value(f"tandem_router_{name}_total", labels) or 0.0


async def events(running: Fleet, path: str = "completions", **changes: Any) -> list[Any]:
    """The events of a stream without [DONE], which must be there."""
    prompt = {"messages": [{"role": "user", "content": PROMPT}]} if "chat" in path else {"prompt": PROMPT}
    body = {"model": "fake", "max_tokens": COUNT, "stream": True, **prompt, **changes}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/{path}", json=body) as response,
    ):
        assert response.status == 200
        lines = [line.removeprefix("data: ") for line in (await response.text()).splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def text_of(chunks: list[Any]) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(c["text"] if "text" in c else c["delta"].get("content") or "" for c in choices)


@pytest.mark.parametrize("settings", [NATIVE, VLLM], ids=["native", "vllm"])
@pytest.mark.parametrize("path", ["completions", "chat/completions"])
@pytest.mark.parametrize("fault", BREAKS)
async def test_a_stream_goes_on(settings: Settings, path: str, fault: Fault) -> None:
    usage = {"stream_options": {"include_usage": True}}
    async with fleet(*pair(settings), *pair(settings)) as running:
        whole = await events(running, path, **usage)
        for engine in running.of("decode"):
            engine.faults.inject(fault, times=1)
        got = await events(running, path, **usage)
        assert text_of(got) == text_of(whole)
        assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in got}) == 1
        finishes = [c["finish_reason"] for chunk in got for c in chunk["choices"] if c["finish_reason"]]
        assert finishes == ["length"]
        for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert got[-1]["usage"][key] == whole[-1]["usage"][key]
        assert 'token_ids": [' not in json.dumps(got)
        assert counted(running, "streams_resumed") == 2, "both decode workers broke it off once"
        assert sum(engine.kv.stats()["open"] for engine in running.engines) == 0
        assert dict(running.runtime.loads) == {}


async def test_the_prompt_is_prefilled_again_elsewhere() -> None:
    async with fleet(*pair(VLLM), *pair(VLLM)) as running:
        for engine in running.of("decode"):
            engine.faults.inject(Fault.DIE_MID_STREAM)
        got = await events(running)
        assert text_of(got) == TEXT
        prefills = [seen.json() for engine in running.of("prefill") for seen in engine.seen]
        lengths = sorted(len(b["prompt"]) for b in prefills if isinstance(b["prompt"], list))
        assert lengths[0] > 300, "by its ids and those of the tokens so far"


async def test_a_chat_without_a_limit_asks_how_long_it_may_be() -> None:
    """vLLM gives a text completion 16 tokens if it names no limit, a chat all that there is room for."""
    settings = replace(VLLM, max_model_len=1000)
    async with fleet(*pair(settings), *pair(settings)) as running:
        running.of("decode")[0].faults.inject(Fault.DIE_MID_STREAM)
        running.of("decode")[1].faults.inject(Fault.DIE_MID_STREAM)
        chunks = await events(running, "chat/completions", max_tokens=None)
        assert len(text_of(chunks).split()) == 1000 - 303, "all that is left beside the prompt"


async def test_ids_that_the_client_asked_for_go_on_too() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        for engine in running.of("decode"):
            engine.faults.inject(Fault.DIE_MID_STREAM)
        got = await events(running, return_token_ids=True)
        ids = [token for chunk in got for c in chunk["choices"] for token in c["token_ids"] or ()]
        assert len(ids) == COUNT
        assert text_of(got) == TEXT


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        (Settings(protocol="sglang"), {}, "engine"),
        (VLLM, {"seed": 3, "temperature": 1}, "seed"),
        (VLLM, {"presence_penalty": 1.0}, "penalties"),
    ],
)
async def test_what_cannot_go_on_exactly_ends_with_an_error(
    settings: Settings, changes: dict[str, Any], reason: str
) -> None:
    async with fleet(*pair(settings), *pair(settings)) as running:
        for engine in running.of("decode"):
            engine.faults.inject(Fault.DIE_MID_STREAM)
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            stream = await client.completions.create(
                model="fake", prompt=PROMPT, max_tokens=COUNT, stream=True, extra_body=changes
            )
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in stream:
                    pass
        assert counted(running, "streams_not_resumed", reason=reason) == 1


async def test_when_all_workers_break_off_the_stream_ends_with_an_error_in_time() -> None:
    async with fleet(*pair(NATIVE), *pair(NATIVE)) as running:
        for engine in running.of("decode"):
            engine.faults.inject(Fault.DIE_MID_STREAM, times=9)
        async with (
            asyncio.timeout(10),
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="x") as client,
        ):
            stream = await client.completions.create(
                model="fake", prompt=PROMPT, max_tokens=COUNT, stream=True
            )
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in stream:
                    pass
        assert dict(running.runtime.loads) == {}


async def test_a_worker_that_goes_silent_has_lost_its_streams() -> None:
    settings = RouterSettings(recovery=Recovery(stall="100ms"))
    config = replace(CONFIG, settings=settings)
    async with fleet(*pair(NATIVE), *pair(NATIVE), config=config) as running, asyncio.timeout(10):
        for engine in running.of("decode"):
            engine.faults.inject(Fault.GO_SILENT)
        assert text_of(await events(running)) == TEXT
        assert counted(running, "streams_resumed") == 2


async def test_the_deadline_holds_while_streams_go_on() -> None:
    """Each decode worker goes silent in its turn; what is left of the request's time is all there is."""
    settings = RouterSettings(recovery=Recovery(stall="200ms"))
    config = replace(CONFIG, request_timeout=0.7, settings=settings)
    async with fleet(*pair(NATIVE), *pair(NATIVE), config=config) as running:
        for engine in running.of("decode"):
            engine.faults.inject(Fault.GO_SILENT, times=9)
        clock = asyncio.get_running_loop().time
        began = clock()
        async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as client:
            stream = await client.completions.create(
                model="fake", prompt=PROMPT, max_tokens=COUNT, stream=True
            )
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in stream:
                    pass
        assert clock() - began < 1.5
        assert dict(running.runtime.loads) == {}
