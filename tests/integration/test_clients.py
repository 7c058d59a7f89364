"""The official OpenAI and Anthropic clients against the router, over real HTTP, in front of two workers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, get_args

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tandem_router.access.desk import Desk
from tandem_router.access.keys import KeyRing, parse_keys
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.engines.text import EOS
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair
from tandem_wire.router_settings import Access, RouterSettings

WORDS = "a word " * 600
ENDING = f"{WORDS} {EOS} ."
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": WORDS}]
SCHEMA: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL: ChatCompletionToolParam = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}
FLAT: Any = {"type": "function", "name": "find", "parameters": SCHEMA, "strict": None}
KEY, OTHER = "sk-secret-of-acme", "sk-secret-of-umbrella"


@asynccontextmanager
async def openai_of(running: Fleet, key: str = "none", **more: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0, **more) as client:
        yield client


@asynccontextmanager
async def anthropic_of(
    running: Fleet, key: str = "none", **more: Any
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key=key, max_retries=0, **more) as client:
        yield client


@asynccontextmanager
async def two(protocol: Protocol = "nixl", **changes: Any) -> AsyncIterator[Fleet]:
    async with fleet(*pair(Settings(protocol=protocol, **changes))) as running:
        yield running


def decoded(running: Fleet) -> Any:
    """The last body that a decode worker saw."""
    return running.of("decode")[-1].seen[-1].json()


class Fixed:
    def __init__(self, *keys: dict[str, Any]) -> None:
        self._ring = parse_keys(json.dumps({"keys": keys}))

    def ring(self, _now: float) -> KeyRing:
        return self._ring


async def test_openai_tools_whole_and_streamed() -> None:
    async with two() as running, openai_of(running) as client:
        more: Any = {"model": "fake", "messages": MESSAGES, "tools": [TOOL], "max_tokens": 4}
        whole = await client.chat.completions.create(**more)
        assert whole.choices[0].finish_reason == "tool_calls"
        calls = whole.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].type == "function"
        assert calls[0].function.name == "find"
        stream = await client.chat.completions.create(**more, stream=True)
        pieces = [
            call.function.arguments or ""
            async for chunk in stream
            for choice in chunk.choices
            for call in choice.delta.tool_calls or ()
            if call.function
        ]
        assert "".join(pieces) == calls[0].function.arguments
        assert decoded(running)["tools"] == [TOOL]


async def test_openai_structured_output_and_seeds_reach_the_workers() -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    async with two() as running, openai_of(running) as client:
        await client.chat.completions.create(
            model="fake", messages=MESSAGES, response_format=wanted, seed=7, stop=["x"], max_tokens=3
        )
        for engine in running.engines:
            body = engine.seen[-1].json()
            assert (body["response_format"], body["seed"], body["stop"]) == (wanted, 7, ["x"])


@pytest.mark.parametrize("protocol", ["nixl", "native"])
async def test_openai_log_probabilities(protocol: Protocol) -> None:
    async with two(protocol) as running, openai_of(running) as client:
        chat = await client.chat.completions.create(
            model="fake", messages=MESSAGES, logprobs=True, top_logprobs=1, max_tokens=3
        )
        logprobs = chat.choices[0].logprobs
        assert logprobs is not None
        assert [len(token.top_logprobs) for token in logprobs.content or ()] == [1, 1, 1]


async def test_openai_several_choices_stay_on_one_worker() -> None:
    async with two() as running, openai_of(running) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="fake", messages=MESSAGES, n=3, max_tokens=2
        )
        assert raw.headers["x-tandem-path"] == "local"
        assert [choice.index for choice in raw.parse().choices] == [0, 1, 2]


async def test_openai_usage_tells_what_the_prefill_worker_had_cached() -> None:
    async with two(prefix_cache=True) as running, openai_of(running) as client:
        for expected in (0, 1200):
            whole = await client.chat.completions.create(model="fake", messages=MESSAGES, max_tokens=2)
            assert whole.usage is not None
            details = whole.usage.prompt_tokens_details
            assert abs(((details and details.cached_tokens) or 0) - expected) < 32
        stream = await client.chat.completions.create(
            model="fake", messages=MESSAGES, max_tokens=2, stream=True, stream_options={"include_usage": True}
        )
        usage = [chunk.usage async for chunk in stream][-1]
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert abs((usage.prompt_tokens_details.cached_tokens or 0) - 1200) < 32


async def test_openai_embeddings_and_models() -> None:
    names = Access.model_validate(
        {
            "aliases": [{"name": "chat", "models": [{"model": "fake"}]}],
            "adapters": [{"name": "sql", "model": "fake"}],
        }
    )
    async with fleet(*pair()) as running, openai_of(running) as client:
        running.runtime.desk = Desk(RouterSettings(access=names))
        answer = await client.embeddings.create(model="fake", input=["a b", "c"], encoding_format="float")
        assert [item.index for item in answer.data] == [0, 1]
        assert [model.id async for model in client.models.list()] == ["fake", "chat", "sql"]
        assert (await client.models.retrieve("sql")).id == "sql"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("other")
        await client.chat.completions.create(model="chat", messages=MESSAGES, max_tokens=1)
        assert decoded(running)["model"] == "fake"
        await client.chat.completions.create(model="sql", messages=MESSAGES, max_tokens=1)
        assert decoded(running)["model"] == "sql"


@pytest.mark.parametrize("protocol", ["nixl", "native", "trtllm"])
async def test_openai_responses(protocol: Protocol) -> None:
    async with two(protocol) as running, openai_of(running) as client:
        raw = await client.responses.with_raw_response.create(
            model="fake", input=WORDS, instructions="be brief", max_output_tokens=5
        )
        assert raw.headers["x-tandem-path"] == "disaggregated"
        response = raw.parse()
        assert (response.status, response.incomplete_details and response.incomplete_details.reason) == (
            "incomplete",
            "max_output_tokens",
        )
        assert response.usage is not None
        assert response.usage.output_tokens == 5
        async with client.responses.stream(
            model="fake", input=WORDS, instructions="be brief", max_output_tokens=5
        ) as stream:
            events = [event async for event in stream]
        text = "".join([event.delta for event in events if event.type == "response.output_text.delta"])
        assert events[-1].type == "response.incomplete"
        assert text == response.output_text == events[-1].response.output_text
        assert len(text.split()) == 5


async def test_openai_responses_with_tools() -> None:
    async with two() as running, openai_of(running) as client:
        response = await client.responses.create(model="fake", input=WORDS, tools=[FLAT], max_output_tokens=3)
        call = response.output[0]
        assert call.type == "function_call"
        assert call.name == "find"
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
        again: Any = [{"role": "user", "content": WORDS}, call.model_dump(exclude_none=True), output]
        await client.responses.create(model="fake", input=again, max_output_tokens=3)
        roles = [message["role"] for message in decoded(running)["messages"]]
        assert roles == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    "more", [{"store": True}, {"background": True}, {"previous_response_id": "resp_1"}, {"conversation": "c"}]
)
async def test_openai_responses_that_would_need_a_memory(more: dict[str, Any]) -> None:
    async with two() as running, openai_of(running) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="fake", input="hi", **more)
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(more)))


@pytest.mark.parametrize("protocol", ["nixl", "native", "trtllm"])
async def test_anthropic_messages(protocol: Protocol) -> None:
    async with two(protocol) as running, anthropic_of(running) as client:
        more: Any = {"model": "fake", "max_tokens": 5, "messages": [{"role": "user", "content": WORDS}]}
        raw = await client.messages.with_raw_response.create(**more)
        assert raw.headers["x-tandem-path"] == "disaggregated"
        message = await raw.parse()
        assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)
        assert message.usage.input_tokens > 1000
        async with client.messages.stream(**more) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert message.content[0].type == final.content[0].type == "text"
        assert text == message.content[0].text == final.content[0].text
        assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 5)
        assert final.usage.input_tokens == message.usage.input_tokens


async def test_anthropic_tools_and_token_counts() -> None:
    tool: Any = {"name": "find", "input_schema": SCHEMA}
    conversation: Any = [
        {"role": "user", "content": WORDS},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "find", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sun"}]},
    ]
    async with two() as running, anthropic_of(running) as client:
        more: Any = {"model": "fake", "max_tokens": 5, "messages": conversation, "tools": [tool]}
        message = await client.messages.create(**more, tool_choice={"type": "any"})
        assert (message.stop_reason, message.content[0].type) == ("tool_use", "tool_use")
        async with client.messages.stream(**more) as stream:
            kinds = [event.type async for event in stream]
        assert "input_json" in kinds
        assert (await stream.get_final_message()).content[0].type == "tool_use"
        counted = await client.messages.count_tokens(model="fake", messages=conversation, tools=[tool])
        assert 600 < counted.input_tokens < 2000
        assert decoded(running)["tool_choice"] == "auto" if "tool_choice" in decoded(running) else True


async def test_anthropic_models() -> None:
    async with two() as running, anthropic_of(running) as client:
        assert [model.id async for model in client.models.list()] == ["fake"]
        assert (await client.models.retrieve("fake")).display_name == "fake"


async def test_an_answer_that_ends_at_its_first_token_in_every_api() -> None:
    async with two() as running, openai_of(running) as first, anthropic_of(running) as second:
        chat = await first.chat.completions.create(
            model="fake", messages=[{"role": "user", "content": ENDING}]
        )
        assert chat.choices[0].finish_reason == "stop"
        response = await first.responses.create(model="fake", input=ENDING)
        assert response.status == "completed"
        message = await second.messages.create(
            model="fake", max_tokens=9, messages=[{"role": "user", "content": ENDING}]
        )
        assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 1)


async def test_errors_have_the_clients_own_classes() -> None:
    config = replace(CONFIG, max_body_bytes=32_768)
    async with (
        fleet(*pair(), config=config) as running,
        openai_of(running) as first,
        anthropic_of(running) as second,
    ):
        hello: Any = [{"role": "user", "content": "hi"}]
        with pytest.raises(openai.BadRequestError) as bad:
            await first.chat.completions.create(model="fake", messages=hello, temperature=3)
        assert bad.value.param == "temperature"
        with pytest.raises(openai.NotFoundError) as missing:
            await first.chat.completions.create(model="other", messages=hello)
        assert missing.value.code == "model_not_found"
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            await second.messages.create(model="fake", max_tokens=0, messages=hello)
        with pytest.raises(anthropic.NotFoundError) as unknown:
            await second.messages.create(model="other", max_tokens=1, messages=hello)
        assert unknown.value.type == "not_found_error"
        assert unknown.value.request_id
        big: Any = [{"role": "user", "content": "x" * 40_000}]
        with pytest.raises(openai.APIStatusError) as long:
            await first.chat.completions.create(model="fake", messages=big)
        assert long.value.status_code == 413
        running.publish([])
        with pytest.raises(openai.InternalServerError) as away:
            await first.chat.completions.create(model="fake", messages=hello)
        assert away.value.status_code == 503
        with pytest.raises(anthropic.InternalServerError):
            await second.messages.create(model="fake", max_tokens=1, messages=hello)


async def test_a_broken_stream_is_an_error_of_both_clients() -> None:
    async with (
        fleet(*pair(), *pair()) as running,
        openai_of(running) as first,
        anthropic_of(running) as second,
    ):
        for engine in running.of("decode"):
            engine.faults.inject(Fault.LATE_ERROR, 20)
        with pytest.raises(openai.APIError):
            async for _ in await first.chat.completions.create(model="fake", messages=MESSAGES, stream=True):
                pass
        with pytest.raises(anthropic.APIStatusError):
            async with second.messages.stream(
                model="fake", max_tokens=9, messages=[{"role": "user", "content": WORDS}]
            ) as stream:
                await stream.get_final_message()


async def test_the_clients_time_out_and_the_workers_hear_of_it() -> None:
    async with (
        two() as running,
        openai_of(running, timeout=0.8) as first,
        anthropic_of(running, timeout=0.8) as second,
    ):
        prefill = running.of("prefill")[0]
        prefill.faults.inject(Fault.HANG, 2)
        with pytest.raises(openai.APITimeoutError):
            await first.chat.completions.create(model="fake", messages=MESSAGES)
        with pytest.raises(anthropic.APITimeoutError):
            await second.messages.create(
                model="fake", max_tokens=1, messages=[{"role": "user", "content": WORDS}]
            )
        await prefill.until(lambda: prefill.stats.aborted == 2)


async def test_keys_limits_and_salts() -> None:
    keys = Fixed(
        {"key": KEY, "tenant": "acme", "requestsPerMinute": 2},
        {"key": OTHER, "tenant": "umbrella", "models": ["nothing"]},
    )
    hello: Any = [{"role": "user", "content": "hi"}]
    async with two() as running:
        running.runtime.desk = Desk(RouterSettings(), keys)
        async with openai_of(running, "sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(model="fake", messages=hello)
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
            with pytest.raises(openai.AuthenticationError):
                await client.responses.create(model="fake", input="hi")
        async with anthropic_of(running, OTHER) as other:
            with pytest.raises(anthropic.PermissionDeniedError):
                await other.messages.create(model="fake", max_tokens=1, messages=hello)
            assert [model.id async for model in other.models.list()] == []
        async with openai_of(running, KEY) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model="fake", messages=hello, max_tokens=1
            )
            assert raw.headers["x-ratelimit-remaining-requests"] == "1"
            assert len(decoded(running)["cache_salt"]) == 32
            await client.responses.create(model="fake", input="hi", max_output_tokens=1)
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="fake", messages=hello)
            assert caught.value.code == "rate_limited"
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 30
        async with anthropic_of(running, KEY) as second:
            with pytest.raises(anthropic.RateLimitError):
                await second.messages.create(model="fake", max_tokens=1, messages=hello)


FORGED = {
    "x-prefiller-host-port": "10.0.0.1:80",
    "x-data-parallel-rank": "3",
    "x-data-parallel-host-port": "10.0.0.1:80",
    "x-encoder-hosts-ports": "10.0.0.1:80",
    "x-kv-cache-source-host-port": "10.0.0.1:80",
    "x-trtllm-disagg-auth": "sha256=00",
    "x-gateway-destination-endpoint": "10.0.0.1:80",
    "authorization": "Bearer secret",
    "x-api-key": "secret",
    "x-tandem-session": "s",
    "cookie": "a=b",
}


@pytest.mark.parametrize("protocol", get_args(Protocol))
async def test_forged_headers_and_fields_reach_no_worker(protocol: Protocol) -> None:
    body = {
        "kv_transfer_params": {"do_remote_prefill": True, "remote_host": "10.0.0.1"},
        "disaggregated_params": {"request_type": "generation_only"},
        "bootstrap_host": "10.0.0.1",
        "rid": "x",
        "lora_request": {"lora_path": "/etc"},
    }
    async with two(protocol) as running, openai_of(running) as client:
        await client.chat.completions.create(
            model="fake", messages=MESSAGES, max_tokens=2, extra_body=body, extra_headers=FORGED
        )
        for engine in running.engines:
            seen = engine.seen[-1]
            assert not FORGED.items() & seen.headers.items()
            assert b"10.0.0.1" not in seen.body
            assert b"/etc" not in seen.body
            assert "rid" not in seen.json()
