"""Answers and streams of chat completions as the Messages and Responses APIs say them."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.translate import Answerer
from tandem_router.translate.messages_answer import MessagesAnswer
from tandem_router.translate.responses_answer import ResponsesAnswer
from tandem_router.translate.responses_schema import ResponsesRequest

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 4,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 5},
}
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = (
        [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, "stop_reason": None}]
    )
    stop = more.pop("stop", None)
    if choices and stop:
        choices[0]["stop_reason"] = stop
    head = {"id": "chatcmpl-r1", "object": "chat.completion.chunk", "created": 11, "model": "m"}
    return b"data: " + json.dumps({**head, "choices": choices, **more}).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""}, usage={"prompt_tokens": 7, "completion_tokens": 0})
TOOL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "find", "arguments": ""}}
SECOND = {"index": 1, "id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}}
EVERYTHING = [
    ROLE,
    chunk({"reasoning_content": "hm"}),
    chunk({"content": "He"}),
    chunk({"content": "llo \u20ac"}),
    chunk({"tool_calls": [TOOL]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"Rome"}'}}]}),
    chunk({"tool_calls": [SECOND]}),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
    DONE,
]
PLAIN = [ROLE, chunk({"content": "Hi"}), chunk({"content": "!"}, "stop"), chunk(usage=USAGE), DONE]


def message_events(stream: Sequence[bytes]) -> list[dict[str, Any]]:
    return events(MessagesAnswer(), stream)


def response_events(stream: Sequence[bytes], **asked: Any) -> list[dict[str, Any]]:
    return events(ResponsesAnswer(ResponsesRequest(model="m", input="hi", **asked)), stream)


def events(answerer: Answerer, stream: Sequence[bytes]) -> list[dict[str, Any]]:
    result = []
    for event in b"".join(map(answerer.feed, stream)).decode().split("\n\n")[:-1]:
        name, data = event.split("\n")
        payload = json.loads(data.removeprefix("data: "))
        assert name == f"event: {payload['type']}"
        result.append(payload)
    return result


def kinds(said: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in said]


def test_a_plain_stream_of_a_message() -> None:
    said = message_events(PLAIN)
    assert kinds(said) == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    start = said[0]["message"]
    assert (start["id"], start["content"], start["stop_reason"]) == ("msg_r1", [], None)
    assert start["usage"]["input_tokens"] == 7
    assert said[3]["delta"] == {"type": "text_delta", "text": "Hi"}
    assert said[6]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    usage = {
        "input_tokens": 2,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "output_tokens": 4,
    }
    assert said[6]["usage"] == usage


def test_blocks_of_a_message_follow_one_another() -> None:
    said = message_events(EVERYTHING)
    blocks = [(e["index"], e["content_block"]["type"]) for e in said if e["type"] == "content_block_start"]
    assert blocks == [(0, "thinking"), (1, "text"), (2, "tool_use"), (3, "tool_use")]
    open_blocks = 0
    for event in said:
        open_blocks += {"content_block_start": 1, "content_block_stop": -1}.get(event["type"], 0)
        assert open_blocks in (0, 1)
    pieces = [e["delta"]["partial_json"] for e in said if e.get("index") == 2 and "delta" in e]
    assert json.loads("".join(pieces)) == {"city": "Rome"}
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("finish", "stop", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("stop", 128009, ("end_turn", None)),
        ("length", None, ("max_tokens", None)),
        ("content_filter", None, ("refusal", None)),
        ("abort", None, ("end_turn", None)),
    ],
)
def test_why_a_message_ended(finish: str, stop: Any, expected: Any) -> None:
    ending = message_events([ROLE, chunk({"content": "a"}, finish, stop=stop), DONE])[-2]["delta"]
    assert (ending["stop_reason"], ending["stop_sequence"]) == expected


def test_a_stream_that_breaks_off() -> None:
    broken = b'data: {"error": {"message": "gone", "code": "decode_broken"}}\n\n'
    said = message_events([*PLAIN[:2], broken])
    assert kinds(said)[-2:] == ["content_block_stop", "error"]
    assert said[-1]["error"] == {"type": "api_error", "message": "gone"}
    failed = response_events([*PLAIN[:2], broken])[-1]
    assert failed["type"] == "response.failed"
    assert (failed["response"]["status"], failed["response"]["error"]["message"]) == ("failed", "gone")
    assert failed["response"]["output"][0]["status"] == "incomplete"


def test_a_plain_stream_of_a_response() -> None:
    said = response_events(PLAIN, instructions="i", metadata={"k": "v"})
    assert kinds(said) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["sequence_number"] for event in said] == list(range(10))
    response = said[-1]["response"]
    assert (response["id"], response["status"], response["store"]) == ("resp_r1", "completed", False)
    assert (response["instructions"], response["metadata"]) == ("i", {"k": "v"})
    assert response["output"][0]["content"][0]["text"] == "Hi!" == said[6]["text"]
    assert response["usage"]["input_tokens_details"]["cached_tokens"] == 5
    assert response["usage"]["total_tokens"] == 11
    assert said[0]["response"]["output"] == []


def test_items_of_a_response_follow_one_another() -> None:
    said = response_events(EVERYTHING)
    output = said[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "function_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert output[1]["content"][0]["text"] == "Hello \u20ac"
    assert (output[2]["call_id"], output[2]["name"]) == ("c1", "find")
    assert json.loads(output[2]["arguments"]) == {"city": "Rome"}
    done = [e for e in said if e["type"] == "response.output_item.done"]
    assert [e["item"] for e in done] == output
    assert [e["output_index"] for e in done] == [0, 1, 2, 3]
    arguments = [e["delta"] for e in said if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(arguments) == '{"city":"Rome"}{}'
    assert len({item["id"] for item in output}) == 4


def test_a_response_that_was_cut() -> None:
    said = response_events([ROLE, chunk({"content": "a"}, "length"), chunk(usage=USAGE), DONE])
    assert said[-1]["type"] == "response.incomplete"
    assert said[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert said[-1]["response"]["output"][0]["status"] == "incomplete"


def test_log_probabilities_go_with_their_text() -> None:
    logprobs = {"content": [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]}
    body = json.loads(PLAIN[1][6:])
    body["choices"][0]["logprobs"] = logprobs
    said = response_events([ROLE, b"data: " + json.dumps(body).encode() + b"\n\n", *PLAIN[2:]])
    assert said[4]["logprobs"] == logprobs["content"]
    assert said[-1]["response"]["output"][0]["content"][0]["logprobs"] == logprobs["content"]


@given(st.sampled_from([PLAIN, EVERYTHING]), st.lists(st.integers(0, 3000), max_size=10), st.booleans())
@settings(max_examples=60)
def test_any_cut_gives_the_same_events(stream: list[bytes], cuts: list[int], crlf: bool) -> None:
    data = b"".join(stream)
    expected = (message_events(stream), response_events(stream))
    if crlf:
        data = data.replace(b"\n", b"\r\n")
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert (message_events(pieces), response_events(pieces)) == expected


WHOLE = {
    "id": "chatcmpl-r1",
    "created": 11,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "reasoning": "hm",
                "content": "Hello \u20ac",
                "tool_calls": [
                    TOOL | {"function": {"name": "find", "arguments": '{"city":"Rome"}'}},
                    SECOND | {"index": None},
                ],
            },
            "finish_reason": "tool_calls",
            "stop_reason": None,
        }
    ],
    "usage": USAGE,
}


def test_a_whole_message_is_what_its_stream_says() -> None:
    message = json.loads(MessagesAnswer().whole(json.dumps(WHOLE).encode()))
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert message["content"][2]["input"] == {"city": "Rome"}
    assert (message["stop_reason"], message["usage"]) == ("tool_use", message_events(EVERYTHING)[-2]["usage"])


def test_a_whole_response_is_what_its_stream_says() -> None:
    answerer = ResponsesAnswer(ResponsesRequest(model="m", input="hi"))
    assert (
        json.loads(answerer.whole(json.dumps(WHOLE).encode())) == response_events(EVERYTHING)[-1]["response"]
    )


@pytest.mark.parametrize(
    ("status", "data", "kind", "message"),
    [
        (400, b'{"error": {"message": "bad"}}', "invalid_request_error", "bad"),
        (401, b'{"error": {"message": "who"}}', "authentication_error", "who"),
        (404, b'{"error": {"message": "no"}}', "not_found_error", "no"),
        (429, b'{"error": "slow down"}', "rate_limit_error", "slow down"),
        (503, b'{"error": {"message": "full"}}', "overloaded_error", "full"),
        (502, b"<html>", "api_error", "<html>"),
        (422, b"[1]", "invalid_request_error", "[1]"),
    ],
)
def test_errors_of_messages(status: int, data: bytes, kind: str, message: str) -> None:
    error = {"type": "error", "error": {"type": kind, "message": message}}
    assert json.loads(MessagesAnswer().error(status, data)) == error


@pytest.mark.parametrize("odd", [b"", b"[]", b'{"choices": []}', b'{"choices": [{}]}'])
def test_an_answer_that_is_none(odd: bytes) -> None:
    for answerer in (MessagesAnswer(), ResponsesAnswer(ResponsesRequest(model="m", input="hi"))):
        with pytest.raises(ValueError, match="no chat completion"):
            answerer.whole(odd)


@pytest.mark.parametrize("odd", [b"{", b"[]", b'{"choices": [3]}', b'{"choices": 3}'])
def test_an_event_that_is_none(odd: bytes) -> None:
    with pytest.raises(ValueError, match=r"no chat chunk|Expecting"):
        MessagesAnswer().feed(b"data: " + odd + b"\n\n")
