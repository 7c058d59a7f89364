"""The router as the official OpenAI client sees it, on every path, over real HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.fleet import Fleet, fleet, pair

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "a word " * 600}]
PROMPT = "a word " * 600


@asynccontextmanager
async def client_of(running: Fleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def reference() -> tuple[str, str]:
    """The texts that a mixed worker gives: chat, completion."""
    async with fleet(Settings(role="mixed")) as running, client_of(running) as client:
        chat = await client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=6)
        text = await client.completions.create(model="fake", prompt=PROMPT, max_tokens=6)
        return chat.choices[0].message.content or "", text.choices[0].text


@pytest.mark.parametrize("protocol", ["nixl", "native"])
async def test_text_through_two_workers_equals_text_through_one(protocol: Protocol) -> None:
    chat_text, plain_text = await reference()
    base = Settings(protocol=protocol)
    async with fleet(*pair(base), *pair(base)) as running, client_of(running) as client:
        chat = await client.chat.completions.with_raw_response.create(
            model="fake", messages=MESSAGES, max_tokens=6
        )
        assert chat.headers["x-tandem-path"] == "disaggregated"
        assert chat.headers["x-tandem-prefill"].startswith("prefill-")
        assert chat.headers["x-tandem-decode"].startswith("decode-")
        assert "prefill;dur=" in chat.headers["server-timing"]
        answer = chat.parse()
        assert answer.choices[0].message.content == chat_text
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 6
        text = await client.completions.create(model="fake", prompt=PROMPT, max_tokens=6)
        assert text.choices[0].text == plain_text
        stream = await client.completions.create(model="fake", prompt=PROMPT, max_tokens=6, stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == plain_text
        handles = [engine.kv.stats() for engine in running.of("prefill")]
        assert sum(stats["pulled"] for stats in handles) == 3
        assert sum(stats["open"] + stats["refused"] for stats in handles) == 0


@pytest.mark.parametrize("tokens_per_event", [1, 4])
async def test_a_chat_stream_with_and_without_usage(tokens_per_event: int) -> None:
    chat_text, _ = await reference()
    base = Settings(tokens_per_event=tokens_per_event)
    async with fleet(*pair(base)) as running, client_of(running) as client:
        for wanted in (True, False):
            more: dict[str, Any] = {"stream_options": {"include_usage": True}} if wanted else {}
            stream = await client.chat.completions.create(
                model="fake", messages=MESSAGES, max_tokens=6, stream=True, **more
            )
            chunks = [chunk async for chunk in stream]
            content = [c.choices[0].delta.content or "" for c in chunks if c.choices]
            assert "".join(content) == chat_text
            assert [c.usage.completion_tokens for c in chunks if c.usage] == ([6] if wanted else [])
            assert chunks[-1].choices == [] if wanted else chunks[-1].choices[0].finish_reason == "length"


async def test_models_are_listed() -> None:
    async with fleet(Settings(), Settings(model="second")) as running, client_of(running) as client:
        assert [model.id async for model in client.models.list()] == ["fake", "second"]
        answer = await client.completions.create(model="second", prompt="hi", max_tokens=1)
        assert answer.model == "second"


async def test_errors_are_those_of_the_client_library() -> None:
    async with fleet(*pair(Settings(max_model_len=100))) as running, client_of(running) as client:
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.completions.create(model="other", prompt="hi")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as refused:
            await client.completions.create(model="fake", prompt="", max_tokens=5)
        assert refused.value.param == "prompt"
        with pytest.raises(openai.BadRequestError) as long:
            await client.completions.create(model="fake", prompt=PROMPT, max_tokens=5, stream=True)
        assert long.value.code == "context_length_exceeded"
        assert [engine.stats.finished for engine in running.engines] == [1, 0]
        running.publish([])
        with pytest.raises(openai.InternalServerError) as none:
            await client.completions.create(model="fake", prompt="hi")
        assert (none.value.status_code, none.value.code) == (503, "no_capacity")
        assert none.value.response.headers["retry-after"] == "30"


async def test_a_stop_at_the_first_token_is_a_whole_answer() -> None:
    async with fleet(*pair()) as running, client_of(running) as client:
        prompt = f"{PROMPT} <eos>"
        whole = await client.completions.with_raw_response.create(model="fake", prompt=prompt, max_tokens=6)
        answer = whole.parse()
        assert (answer.choices[0].finish_reason, whole.headers["x-tandem-path"]) == ("stop", "local")
        assert "kv_transfer_params" not in whole.text
        stream = await client.completions.create(model="fake", prompt=prompt, max_tokens=6, stream=True)
        streamed = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text
        assert streamed[-1].choices[0].finish_reason == "stop"


async def test_paths_follow_the_workers_that_there_are() -> None:
    prefill, decode = pair()
    async with fleet(prefill, decode, Settings()) as running, client_of(running) as client:

        async def path(words: int) -> tuple[str, str | None]:
            answer = await client.completions.with_raw_response.create(
                model="fake", prompt="a word " * words, max_tokens=1
            )
            return answer.headers["x-tandem-path"], answer.headers.get("x-tandem-prefill")

        everyone = running.endpoints()
        assert await path(600) == ("disaggregated", "prefill-0")
        assert await path(5) == ("local", None)
        running.publish([everyone[2]])
        assert await path(600) == ("local", None)
        running.publish([everyone[0], replace(everyone[1], revision="2")])
        assert await path(600) == ("local", None)
        running.publish([everyone[0], replace(everyone[1], ready=False), everyone[2]])
        assert await path(600) == ("local", None)
