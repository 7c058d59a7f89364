"""The official OpenAI client against a worker."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest


@pytest.fixture
async def worker(start_worker: Any) -> Any:
    return await start_worker()


@pytest.fixture
async def client(worker: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{worker.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_chat(client: openai.AsyncOpenAI) -> None:
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 12,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
        "extra_body": {"ignore_eos": True},
    }
    whole = await client.chat.completions.create(**body)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    assert whole.choices[0].finish_reason == "length"
    stream = await client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    logprobs = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices]
    tokens = [entry.token for part in logprobs if part is not None for entry in part.content or []]
    assert len(tokens) == 12


async def test_completions(client: openai.AsyncOpenAI) -> None:
    body: dict[str, Any] = {"model": "tiny", "prompt": "hello", "max_tokens": 12, "temperature": 0}
    whole = await client.completions.create(**body)
    stream = await client.completions.create(**body, stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == whole.choices[0].text
    assert [model.id async for model in client.models.list()] == ["tiny"]


async def test_errors_are_the_clients_own(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist") as not_found:
        await client.completions.create(model="other", prompt="hello")
    assert not_found.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="top_p") as bad:
        await client.completions.create(model="tiny", prompt="hello", top_p=7)
    assert bad.value.param == "top_p"


async def test_closing_a_stream_frees_the_blocks(client: openai.AsyncOpenAI, worker: Any) -> None:
    stream = await client.completions.create(
        model="tiny", prompt="hello", max_tokens=200, stream=True, extra_body={"ignore_eos": True}
    )
    async for _ in stream:
        break
    await stream.close()
    await worker.until(lambda it: it.engine.load.kv_blocks_used == 0 and it.num_running == 0)
