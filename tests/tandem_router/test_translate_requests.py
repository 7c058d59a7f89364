"""Requests of the Messages and Responses APIs as chat completions."""

import json
from typing import Any

import pytest

from tandem_router.errors import ApiError
from tandem_router.openai import Api, parse_request
from tandem_router.translate import messages_request, responses_request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def message(**more: Any) -> dict[str, Any]:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **more}
    chat = messages_request.chat_of(json.dumps(body).encode())
    parse_request(Api.CHAT, json.dumps(chat).encode(), "r1")
    return chat


def respond(**more: Any) -> dict[str, Any]:
    chat = responses_request.chat_of(json.dumps({"model": "m", "input": "hi", **more}).encode()).body
    parse_request(Api.CHAT, json.dumps(chat).encode(), "r1")
    return chat


def test_a_plain_message() -> None:
    assert message(stop_sequences=["x"], temperature=0.5, top_p=0.9, top_k=3, metadata={"user_id": "u"}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "stop": ["x"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "user": "u",
    }


def test_a_streamed_message_asks_for_usage_from_the_start() -> None:
    options = message(stream=True)["stream_options"]
    assert options == {"include_usage": True, "continuous_usage_stats": True}


def test_a_conversation_with_tools_images_and_thoughts() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    conversation = [
        {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image", "source": image}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "look"},
                {"type": "tool_use", "id": "t1", "name": "find", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "so?", "cache_control": {"type": "ephemeral"}},
            ],
        },
    ]
    system = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert message(system=system, messages=conversation)["messages"] == [
        {"role": "system", "content": "a\n\nb"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "content": "look",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "find", "arguments": '{"city":"Rome"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sun"},
        {"role": "user", "content": "so?"},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "find"}, {"type": "function", "function": {"name": "find"}}),
    ],
)
def test_tools_of_a_message(choice: dict[str, Any], expected: Any) -> None:
    tool = {"name": "find", "description": "finds", "input_schema": SCHEMA}
    chat = message(tools=[tool], tool_choice={**choice, "disable_parallel_tool_use": True})
    function = {"name": "find", "description": "finds", "parameters": SCHEMA}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == (expected, False)


def test_thinking_and_structured_output_of_a_message() -> None:
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    chat = message(thinking={"type": "disabled"}, output_config=wanted)
    assert chat["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking"}]}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant", "content": [
            {"type": "tool_result", "tool_use_id": "t"}]}]}, "messages.0.content"),
        ({"temperature": 1.5}, "temperature"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
    ],
)  # fmt: skip
def test_messages_that_are_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        message(**more)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.split(".")[0] in caught.value.message


def test_a_message_without_max_tokens_says_so() -> None:
    data = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    with pytest.raises(ApiError, match="max_tokens: Field required"):
        messages_request.chat_of(data)


def test_a_plain_response() -> None:
    more = {"max_output_tokens": 5, "temperature": 0, "store": False, "truncation": "disabled"}
    assert respond(instructions="be brief", **more) == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 5,
        "temperature": 0,
    }  # fmt: skip


def test_a_whole_conversation_as_input() -> None:
    call = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "find", "arguments": "{}"}
    items = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "see"}, {
            "type": "input_image", "image_url": "http://x/y.png", "detail": "low"}]},
        {"type": "reasoning", "id": "rs", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "look"}]},
        call,
        call | {"call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
    ]  # fmt: skip
    function = {"name": "find", "arguments": "{}"}
    assert respond(input=items)["messages"] == [
        {"role": "system", "content": "d"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "image_url", "image_url": {"url": "http://x/y.png", "detail": "low"}},
            ],
        },
        {
            "role": "assistant",
            "content": "look",
            "tool_calls": [{"id": c, "type": "function", "function": function} for c in ("c1", "c2")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
    ]


def test_tools_and_structured_output_of_a_response() -> None:
    tool = {"type": "function", "name": "find", "parameters": SCHEMA, "strict": True}
    wanted = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}
    chat = respond(tools=[tool], tool_choice={"type": "function", "name": "find"}, text=wanted, stream=True)
    assert chat["tools"][0]["function"] == {"name": "find", "parameters": SCHEMA, "strict": True}
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "find"}}
    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
    }
    assert chat["stream_options"] == {"include_usage": True}


def test_log_probabilities_of_a_response() -> None:
    assert respond(include=["message.output_text.logprobs"])["logprobs"] is True
    assert respond(top_logprobs=3)["top_logprobs"] == 3


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"input": []}, "input"),
        ({"input": 3}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ],
)
def test_responses_that_are_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        respond(**more)
    assert (caught.value.status, caught.value.param) == (400, param)
