"""What is wrong with a request is said in the OpenAI shape, with its place; the worker goes on."""

import asyncio
import json
from io import BytesIO
from typing import Any

import pytest

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
USER = [{"role": "user", "content": "hi"}]
PULL = {
    "do_remote_prefill": True,
    "remote_engine_id": "e",
    "remote_request_id": "r",
    "remote_host": "127.0.0.1",
    "remote_port": 1,
}

# path, fields (None: taken out), status, code, param, a word of the message
BAD: list[tuple[str, dict[str, Any], int, str | None, str | None, str]] = [
    (TEXT, {"model": "gpt-9"}, 404, "model_not_found", "model", "gpt-9"),
    (CHAT, {"model": "gpt-9"}, 404, "model_not_found", "model", "gpt-9"),
    (TEXT, {"model": None}, 400, None, "model", "string"),
    (TEXT, {"model": 7}, 400, None, "model", "string"),
    (TEXT, {"prompt": ""}, 400, "empty_prompt", "prompt", "empty"),
    (TEXT, {"prompt": []}, 400, "empty_prompt", "prompt", "empty"),
    (TEXT, {"prompt": [[]]}, 400, "empty_prompt", "prompt", "empty"),
    (TEXT, {"prompt": None}, 400, None, "prompt", ""),
    (TEXT, {"prompt": {"a": 1}}, 400, None, "prompt", ""),
    (TEXT, {"prompt": [1, "a"]}, 400, None, "prompt", ""),
    (TEXT, {"prompt": ["a", "b"]}, 400, None, "prompt", "one prompt"),
    (TEXT, {"prompt": [[1], [2]]}, 400, None, "prompt", "one prompt"),
    (TEXT, {"prompt": [1, 260]}, 400, None, "prompt", "259"),
    (TEXT, {"prompt": [-1]}, 400, None, "prompt", ""),
    (TEXT, {"prompt": "\ud800"}, 400, None, "prompt", "Unicode"),
    (TEXT, {"prompt": "x" * 256}, 400, "context_length_exceeded", "prompt", "257 tokens"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": "x" * 256}]},
        400,
        "context_length_exceeded",
        "messages",
        "",
    ),
    (TEXT, {"max_tokens": 256}, 400, "context_length_exceeded", "max_tokens", "256"),
    (TEXT, {"max_tokens": 10**9}, 400, "context_length_exceeded", "max_tokens", ""),
    (TEXT, {"max_tokens": 10**30}, 400, None, "max_tokens", "less"),
    (TEXT, {"max_tokens": 0}, 400, None, "max_tokens", "greater"),
    (TEXT, {"max_tokens": -5}, 400, None, "max_tokens", "greater"),
    (TEXT, {"max_tokens": "5"}, 400, None, "max_tokens", "integer"),
    (TEXT, {"max_tokens": 1.5}, 400, None, "max_tokens", "integer"),
    (TEXT, {"max_tokens": True}, 400, None, "max_tokens", "integer"),
    (CHAT, {"max_completion_tokens": 0}, 400, None, "max_completion_tokens", "greater"),
    (TEXT, {"temperature": -0.1}, 400, None, "temperature", "greater"),
    (TEXT, {"temperature": 2.1}, 400, None, "temperature", "less"),
    (TEXT, {"temperature": "hot"}, 400, None, "temperature", "number"),
    (TEXT, {"top_p": 0}, 400, None, "top_p", "greater"),
    (TEXT, {"top_p": 1.1}, 400, None, "top_p", "less"),
    (TEXT, {"top_k": -2}, 400, None, "top_k", "greater"),
    (TEXT, {"min_p": -0.1}, 400, None, "min_p", "greater"),
    (TEXT, {"repetition_penalty": 0}, 400, None, "repetition_penalty", "greater"),
    (TEXT, {"presence_penalty": 3}, 400, None, "presence_penalty", "less"),
    (TEXT, {"frequency_penalty": -3}, 400, None, "frequency_penalty", "greater"),
    (TEXT, {"seed": 2**63}, 400, None, "seed", "less"),
    (TEXT, {"seed": "x"}, 400, None, "seed", "integer"),
    (TEXT, {"n": 2}, 400, None, "n", "n=1"),
    (TEXT, {"n": 0}, 400, None, "n", "n=1"),
    (TEXT, {"best_of": 3}, 400, None, "best_of", "best_of"),
    (TEXT, {"echo": True}, 400, None, "echo", "not supported"),
    (TEXT, {"logit_bias": {"1": 2}}, 400, None, "logit_bias", "not supported"),
    (TEXT, {"stop": ["a"] * 17}, 400, None, "stop", "16"),
    (TEXT, {"stop": ""}, 400, None, "stop.0", "at least 1"),
    (TEXT, {"stop": [7]}, 400, None, "stop.0", "string"),
    (TEXT, {"stop": {"a": 1}}, 400, None, "stop", "list"),
    (TEXT, {"stop_token_ids": [260]}, 400, None, "stop_token_ids", "259"),
    (TEXT, {"stop_token_ids": 5}, 400, None, "stop_token_ids", "list"),
    (TEXT, {"logprobs": 21}, 400, None, "logprobs", "less"),
    (TEXT, {"logprobs": True}, 400, None, "logprobs", "integer"),
    (CHAT, {"logprobs": 5}, 400, None, "logprobs", "boolean"),
    (CHAT, {"top_logprobs": 2}, 400, None, "top_logprobs", "logprobs=true"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, None, "top_logprobs", "less"),
    (TEXT, {"stream": "yes"}, 400, None, "stream", "boolean"),
    (TEXT, {"stream_options": {"include_usage": True}}, 400, None, "stream_options", "stream=true"),
    (CHAT, {"messages": []}, 400, None, "messages", "at least 1"),
    (CHAT, {"messages": None}, 400, None, "messages", "list"),
    (CHAT, {"messages": "hi"}, 400, None, "messages", "list"),
    (CHAT, {"messages": ["hi"]}, 400, None, "messages.0", ""),
    (CHAT, {"messages": [{"content": "hi"}]}, 400, None, "messages.0.role", "required"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, 400, None, "messages.0.content", "string"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        400,
        None,
        "messages.0.content",
        "",
    ),
    (CHAT, {"messages": [{"role": "user", "content": "\udfff"}]}, 400, None, "messages", "Unicode"),
    (CHAT, {"tools": [{"type": "function"}]}, 400, None, "tools", "not supported"),
    (CHAT, {"response_format": {"type": "json_object"}}, 400, None, "response_format", "text"),
    (TEXT, {"kv_transfer_params": 5}, 400, None, "kv_transfer_params", ""),
    (
        TEXT,
        {"kv_transfer_params": {"do_remote_prefill": True}},
        400,
        None,
        "kv_transfer_params",
        "remote_host",
    ),
    (
        TEXT,
        {"kv_transfer_params": {**PULL, "do_remote_decode": True}},
        400,
        None,
        "kv_transfer_params",
        "exclude",
    ),
    (
        TEXT,
        {"kv_transfer_params": {**PULL, "remote_port": 70000}},
        400,
        None,
        "kv_transfer_params.remote_port",
        "less",
    ),
    (
        TEXT,
        {"kv_transfer_params": {**PULL, "first_token_ids": [260]}},
        400,
        None,
        "kv_transfer_params.first_token_ids",
        "259",
    ),
    (TEXT, {"kv_transfer_params": {"do_remote_decode": True}, "stream": True}, 400, None, "stream", "stream"),
]


def _is_openai_error(answer: Any) -> bool:
    return list(answer) == ["error"] and list(answer["error"]) == ["message", "type", "param", "code"]


async def test_each_mistake_has_its_own_error(start_worker: Any) -> None:
    worker = await start_worker()
    for path, fields, status, code, param, word in BAD:
        good: dict[str, Any] = {"prompt": "hi"} if path == TEXT else {"messages": USER}
        got, answer = await worker.post(path, **{**good, **fields})
        case = (path, str(fields)[:80], answer)
        assert got == status, case
        assert _is_openai_error(answer), case
        error = answer["error"]
        assert error["type"] == "invalid_request_error", case
        assert (error["code"], error["param"]) == (code, param), case
        assert word in error["message"], case
    assert worker.worker.num_running == 0
    assert (await worker.complete(prompt="hi", max_tokens=1))["usage"]["completion_tokens"] == 1


BODIES = [
    (b"", "invalid_json", "JSON"),
    (b"{", "invalid_json", "JSON"),
    (b"[1]", "invalid_json", "object"),
    (b"null", "invalid_json", "object"),
    (b'{"model": "tiny", "prompt": "\xff"}', "invalid_json", "JSON"),
    (b'{"model": "tiny", "prompt": "a", "temperature": NaN}', "invalid_json", "NaN"),
    (b'{"model": "tiny", "prompt": "a", "seed": Infinity}', "invalid_json", "Infinity"),
    (b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}", "invalid_json", "JSON"),
    (b'{"model": "tiny", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json", "nested"),
    (b'{"model": "tiny", "prompt": "a", "prompt": "b"}', "duplicate_key", "prompt"),
    (b'{"model": "tiny", "a": {"b": 1, "b": 2}, "prompt": "b", "a": 1}', "duplicate_key", "'a'"),
]


@pytest.mark.parametrize("path", [TEXT, CHAT])
async def test_bodies_that_are_no_clear_object(start_worker: Any, path: str) -> None:
    worker = await start_worker()
    for body, code, word in BODIES:
        async with worker.session.post(worker.url + path, data=body) as response:
            answer = await response.json()
        assert response.status == 400, (body[:60], answer)
        assert _is_openai_error(answer)
        assert answer["error"]["code"] == code, (body[:60], answer)
        assert word in answer["error"]["message"]


async def test_a_key_twice_below_the_top_is_not_our_business(start_worker: Any) -> None:
    worker = await start_worker()
    body = b'{"model": "tiny", "prompt": "a", "max_tokens": 1, "metadata": {"b": 1, "b": 2}}'
    async with worker.session.post(worker.url + TEXT, data=body) as response:
        assert response.status == 200


async def test_a_body_over_the_limit(start_worker: Any) -> None:
    worker = await start_worker()
    body = json.dumps({"model": "tiny", "prompt": "x" * (16 << 20)}).encode()
    async with worker.session.post(worker.url + TEXT, data=BytesIO(body)) as response:
        answer = await response.json()
    assert response.status == 413
    assert answer["error"]["code"] == "request_too_large"
    assert str(16 << 20) in answer["error"]["message"]


async def test_a_body_that_never_comes(start_worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem_worker.server.body.BODY_SECONDS", 0.02)
    worker = await start_worker()
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.running.http_port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("method", "path", "status"), [("GET", TEXT, 405), ("POST", "/v1/nothing", 404)])
async def test_unknown_routes(start_worker: Any, method: str, path: str, status: int) -> None:
    worker = await start_worker()
    async with worker.session.request(method, worker.url + path) as response:
        assert response.status == status
        assert _is_openai_error(await response.json())


async def test_others_go_on_while_bad_requests_rain(start_worker: Any) -> None:
    worker = await start_worker()
    expected = await worker.complete(prompt="hello", max_tokens=100, ignore_eos=True)
    good = asyncio.create_task(worker.complete(prompt="hello", max_tokens=100, ignore_eos=True))
    bad = await asyncio.gather(*(worker.post(TEXT, prompt=[1, 2, 999]) for _ in range(50)))
    assert {status for status, _ in bad} == {400}
    assert (await good)["choices"] == expected["choices"]


async def test_a_model_without_a_chat_template_says_so(
    start_worker: Any, tiny_checkpoint: Any, tmp_path: Any
) -> None:
    (tmp_path / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    worker = await start_worker(engine={"model": tmp_path})
    status, answer = await worker.post(CHAT, messages=USER)
    assert status == 400
    assert "no chat template" in answer["error"]["message"]
    assert (await worker.complete(prompt="bytes do", max_tokens=3))["usage"]["prompt_tokens"] == 8
