"""What is accepted, what is refused with which field, and what is stripped."""

import json
from typing import Any

import pytest

from tandem_router.engines.limits import why_local
from tandem_router.errors import ApiError
from tandem_router.features import Feature
from tandem_router.openai import Api, Asker, ParsedRequest, parse_request

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}


def parse(body: dict[str, Any]) -> ParsedRequest:
    api = Api.CHAT if "messages" in body else Api.COMPLETION
    return parse_request(api, json.dumps(body).encode(), "r1")


@pytest.mark.parametrize(
    "more",
    [
        {
            "temperature": 0,
            "top_p": 1,
            "seed": -5,
            "stop": ["a"],
            "n": 1,
            "logprobs": True,
            "top_logprobs": 5,
        },
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"temperature": None, "stop": None, "max_tokens": None, "stream": None, "stream_options": None},
        {"max_completion_tokens": 7, "tools": [{"type": "function"}], "anything": {"else": [1]}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]},
    ],
)
def test_chat_requests_that_pass(more: dict[str, Any]) -> None:
    assert parse(CHAT | more).info.model == "m"


@pytest.mark.parametrize("prompt", ["hi", ["hi"], [1, 2, 3], [[1, 2, 3]]])
def test_prompts_that_pass(prompt: Any) -> None:
    assert parse(TEXT | {"prompt": prompt, "logprobs": 3, "best_of": 1}).info.request_id == "r1"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": CHAT["messages"]}, "model", "missing_required_parameter"),
        (CHAT | {"model": ""}, "model", "invalid_value"),
        (CHAT | {"model": 3}, "model", "invalid_value"),
        (CHAT | {"messages": []}, "messages", "invalid_value"),
        (CHAT | {"messages": "hi"}, "messages", "invalid_value"),
        (CHAT | {"messages": [{"content": "hi"}]}, "messages.0.role", "missing_required_parameter"),
        (CHAT | {"messages": ["hi"]}, "messages.0", "invalid_value"),
        (CHAT | {"n": 129}, "n", "invalid_value"),
        (CHAT | {"n": 0}, "n", "invalid_value"),
        (CHAT | {"max_tokens": 0}, "max_tokens", "invalid_value"),
        (CHAT | {"max_tokens": -1}, "max_tokens", "invalid_value"),
        (CHAT | {"max_tokens": 10**30}, "max_tokens", "invalid_value"),
        (CHAT | {"max_tokens": True}, "max_tokens", "invalid_value"),
        (CHAT | {"max_tokens": "5"}, "max_tokens", "invalid_value"),
        (CHAT | {"max_completion_tokens": 1.5}, "max_completion_tokens", "invalid_value"),
        (CHAT | {"temperature": -0.1}, "temperature", "invalid_value"),
        (CHAT | {"temperature": 2.1}, "temperature", "invalid_value"),
        (CHAT | {"top_p": 0}, "top_p", "invalid_value"),
        (CHAT | {"top_k": -2}, "top_k", "invalid_value"),
        (CHAT | {"min_p": 1.1}, "min_p", "invalid_value"),
        (CHAT | {"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        (CHAT | {"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
        (CHAT | {"seed": 2**63}, "seed", "invalid_value"),
        (CHAT | {"stop": ""}, "stop", "invalid_value"),
        (CHAT | {"stop": ["a"] * 17}, "stop", "invalid_value"),
        (CHAT | {"stop": [1]}, "stop", "invalid_value"),
        (CHAT | {"stream": "yes"}, "stream", "invalid_value"),
        (CHAT | {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        (
            CHAT | {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "invalid_value",
        ),
        (CHAT | {"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        (CHAT | {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"model": "m", "prompt": ""}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": []}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": None}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": ["a", ""]}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": ["a", 1]}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": [[1], []]}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": 7}, "prompt", "invalid_value"),
        (TEXT | {"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"model": "m", "prompt": [1, -1]}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": [True]}, "prompt", "invalid_value"),
        ({"model": "m", "prompt": [1, "a"]}, "prompt", "invalid_value"),
        ({"model": "m"}, "prompt", "missing_required_parameter"),
        (TEXT | {"best_of": 0}, "best_of", "invalid_value"),
        (TEXT | {"logprobs": True}, "logprobs", "invalid_value"),
    ],
)
def test_requests_that_are_refused(body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    error = json.loads(caught.value.encode())["error"]
    assert error["type"] == "invalid_request_error"
    assert param.split(".")[-1] in error["message"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"model": "m", "model": "m"}', b"\xff"])
def test_invalid_json_is_a_400(data: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse_request(Api.CHAT, data, "r1")
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_numbers_that_overflow_are_refused() -> None:
    data = b'{"model": "m", "prompt": "hi", "temperature": 1e999}'
    with pytest.raises(ApiError, match="temperature"):
        parse_request(Api.COMPLETION, data, "r1")


def test_internal_fields_are_stripped_wherever_engines_read_them() -> None:
    forged = {"do_remote_prefill": True, "remote_host": "10.0.0.1"}
    body = TEXT | {
        "kv_transfer_params": forged,
        "ec_transfer_params": forged,
        "disaggregated_params": forged,
        "bootstrap_host": "10.0.0.1",
        "bootstrap_room": 7,
        "data_parallel_rank": 1,
        "disagg_prefill_dp_rank": 1,
        "routed_dp_rank": 1,
        "request_id": "somebody-else",
        "rid": "somebody-else",
        "lora_path": "/etc/passwd",
        "lora_request": {"lora_path": "/etc/passwd"},
        "cache_hit_threshold": 0.9,
        "sampling_params": {"top_k": 2, "extra_args": {"kv_transfer_params": forged, "keep": 1}},
        "vllm_xargs": {"kv_transfer_params": forged, "bootstrap_port": 1, "keep": 2},
        "user": "kv_transfer_params",
    }
    stripped = dict(parse(body).body)
    assert stripped == TEXT | {
        "sampling_params": {"top_k": 2, "extra_args": {"keep": 1}},
        "vllm_xargs": {"keep": 2},
        "user": "kv_transfer_params",
    }


def test_the_prompt_is_measured_for_the_policies() -> None:
    assert parse(TEXT | {"prompt": [5] * 321}).info.prompt_tokens == 321
    assert 900 < parse(TEXT | {"prompt": "word " * 800}).info.prompt_tokens < 1100


def test_usage_is_wanted_only_when_asked_for() -> None:
    assert not parse(CHAT | {"stream": True}).wants_usage
    assert not parse(CHAT | {"stream": True, "stream_options": {"include_usage": False}}).wants_usage
    assert parse(CHAT | {"stream": True, "stream_options": {"include_usage": True}}).wants_usage


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"n": 1, "best_of": 1, "prompt_logprobs": None, "echo": False, "use_beam_search": False}, set()),
        ({"n": 2}, {Feature.N}),
        ({"best_of": 3}, {Feature.BEST_OF}),
        ({"use_beam_search": True}, {Feature.BEAM_SEARCH}),
        ({"prompt_logprobs": 0}, {Feature.PROMPT_LOGPROBS}),
        ({"echo": True}, {Feature.ECHO}),
        ({"echo": True, "logprobs": 0}, {Feature.ECHO, Feature.ECHO_LOGPROBS}),
        ({"echo": True, "max_tokens": 0}, {Feature.ECHO, Feature.NO_TOKENS}),
        ({"prompt": ["a", "b"]}, {Feature.BATCH}),
        ({"prompt": [[1], [2]]}, {Feature.BATCH}),
        ({"suffix": "z"}, {Feature.SUFFIX}),
    ],
)
def test_what_not_every_path_can_do_is_noticed(more: dict[str, Any], expected: set[Feature]) -> None:
    assert parse(TEXT | more).features == expected


def test_chats_can_ask_for_several_choices_and_prompt_logprobs() -> None:
    assert parse(CHAT | {"n": 2, "prompt_logprobs": 3}).features == {Feature.N, Feature.PROMPT_LOGPROBS}
    assert parse(CHAT).features == frozenset()


def test_embeddings_are_checked_and_marked() -> None:
    parsed = parse_request(Api.EMBEDDING, b'{"model": "e", "input": ["a", "b"], "dimensions": 4}', "r1")
    assert parsed.features == {Feature.EMBEDDINGS}
    assert json.loads(parsed.body.encode()) == {"model": "e", "input": ["a", "b"], "dimensions": 4}
    with pytest.raises(ApiError, match="input must not be empty"):
        parse_request(Api.EMBEDDING, b'{"model": "e", "input": []}', "r1")


def test_who_asks_goes_into_what_policies_see() -> None:
    data = json.dumps(CHAT | {"max_tokens": 3, "max_completion_tokens": 9, "user": "u"}).encode()
    info = parse_request(Api.CHAT, data, "r1", Asker("acme", "batch", "")).info
    assert (info.tenant, info.service_class, info.session, info.max_tokens) == ("acme", "batch", "u", 9)
    info = parse_request(Api.CHAT, data, "r1", Asker(session="s")).info
    assert (info.tenant, info.service_class, info.session) == ("", "default", "s")
    assert parse(CHAT | {"user": "u", "prompt_cache_key": "k"}).info.session == "k"


@pytest.mark.parametrize("engine", ["native", "vllm", "vllm-mooncake", "trtllm", "of tomorrow"])
def test_features_of_several_sequences_stay_on_one_worker(engine: str) -> None:
    assert why_local([engine], frozenset({Feature.N, Feature.BATCH})) == "batched_prompts"
    assert why_local([engine], frozenset()) == ""
    assert why_local(["sglang"], frozenset({Feature.N, Feature.BATCH})) == ""


def test_echo_alone_is_no_matter_for_most() -> None:
    assert why_local(["vllm"], frozenset({Feature.ECHO})) == ""
    assert why_local(["vllm", "trtllm"], frozenset({Feature.ECHO})) == "echo"
