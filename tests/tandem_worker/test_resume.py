"""An answer that one worker began and another goes on with: the parts are the whole, wherever the cut is."""

from typing import Any

import pytest

PROMPT = "the quick brown fox"
LENGTH = 24
ENGINE = {"block_size": 4, "max_batched_tokens": 16}
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.3, "seed": 11, "top_p": 0.95, "frequency_penalty": 0.7, "repetition_penalty": 1.2}
COMPLETION = {"prompt": PROMPT}
CHAT = {"messages": [{"role": "user", "content": PROMPT}]}
USAGE = {"stream_options": {"include_usage": True}}


def _path(body: dict[str, Any]) -> str:
    return "/v1/chat/completions" if "messages" in body else "/v1/completions"


async def _stream(worker: Any, **body: Any) -> list[Any]:
    """The chunks of an answer with its token ids, and its usage chunk at the end."""
    events: list[Any] = await worker.events(_path(body), return_token_ids=True, **USAGE, **body)
    assert events.pop() == "[DONE]"
    return events


def _text(chunks: list[Any]) -> str:
    parts = [choice.get("text") or choice.get("delta", {}).get("content", "") for choice in _choices(chunks)]
    return "".join(parts)


def _choices(chunks: list[Any]) -> list[Any]:
    return [choice for chunk in chunks for choice in chunk["choices"]]


def _ids(chunks: list[Any]) -> list[int]:
    return [token_id for choice in _choices(chunks) for token_id in choice.get("token_ids") or ()]


def _prompt_ids(chunks: list[Any]) -> list[int]:
    first = chunks[0]
    ids: list[int] = first.get("prompt_token_ids") or first["choices"][0]["prompt_token_ids"]
    return ids


def _rest_of(body: dict[str, Any], begun: list[Any]) -> dict[str, Any]:
    """The request for what follows the chunks `begun`."""
    ids = _ids(begun)
    resume = {"prompt_token_ids": _prompt_ids(begun), "token_ids": ids}
    return {**body, "max_tokens": body["max_tokens"] - len(ids), "resume": resume}


@pytest.mark.parametrize("ask", [COMPLETION, CHAT], ids=["completion", "chat"])
@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_the_parts_are_the_whole_at_every_cut(
    start_worker: Any, ask: dict[str, Any], sampling: dict[str, Any]
) -> None:
    """The random model writes bytes, so most cuts are inside of characters."""
    worker = await start_worker(engine=ENGINE)
    body = {**ask, **sampling, "max_tokens": LENGTH, "ignore_eos": True}
    whole = await _stream(worker, **body)
    assert len(_ids(whole)) == LENGTH
    cuts = [cut for cut in range(1, len(whole) - 1) if 0 < len(_ids(whole[:cut])) < LENGTH]
    assert len(cuts) > 5
    for cut in cuts:
        rest = await _stream(worker, **_rest_of(body, whole[:cut]))
        assert _text(whole[:cut]) + _text(rest) == _text(whole)
        assert _ids(whole[:cut]) + _ids(rest) == _ids(whole)
        assert _choices(rest)[-1]["finish_reason"] == "length"
        assert [c for c in _choices(rest) if c.get("delta", {}).get("role")] == []
        for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert rest[-1]["usage"][key] == whole[-1]["usage"][key]


async def test_a_stop_string_across_the_cut_is_found(start_worker: Any) -> None:
    worker = await start_worker(engine=ENGINE)
    body = {**COMPLETION, **SEEDED, "max_tokens": LENGTH, "ignore_eos": True}
    text = _text(await _stream(worker, **body))
    stop = text[6:12]
    body |= {"stop": [stop]}
    whole = await _stream(worker, **body)
    assert _text(whole) == text[: text.index(stop)]
    for count in range(1, len(_ids(whole))):
        resume = {"prompt_token_ids": _prompt_ids(whole), "token_ids": _ids(whole)[:count]}
        rest = await _stream(worker, **{**body, "max_tokens": LENGTH - count, "resume": resume})
        assert _text(whole).endswith(_text(rest))
        assert _choices(rest)[-1]["stop_reason"] == stop
        assert rest[-1]["usage"]["completion_tokens"] == len(_ids(whole))


async def test_logprobs_go_on_where_they_were(start_worker: Any) -> None:
    worker = await start_worker(engine=ENGINE)
    body = {**COMPLETION, **GREEDY, "max_tokens": 12, "ignore_eos": True, "logprobs": 2}
    whole = await _stream(worker, **body)
    rest = await _stream(worker, **_rest_of(body, whole[:5]))
    for key in ("tokens", "text_offset"):
        assert [x for c in _choices(rest) for x in c["logprobs"][key]] == [
            x for c in _choices(whole[5:]) for x in c["logprobs"][key]
        ]


async def test_it_goes_on_by_a_hand_over_too(start_worker: Any) -> None:
    prefill = await start_worker(role="prefill", engine=ENGINE)
    decode = await start_worker(role="decode", engine=ENGINE)
    body = {**CHAT, **SEEDED, "max_tokens": LENGTH, "ignore_eos": True}
    whole = await _stream(decode, **body)
    cut = len(whole) // 2
    rest_body = _rest_of(body, whole[:cut])
    leg = {**rest_body, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
    _, first = await prefill.post("/v1/chat/completions", **leg)
    params = first["kv_transfer_params"]
    assert params["remote_num_tokens"] == len(_prompt_ids(whole)) + len(_ids(whole[:cut]))
    rest = await _stream(decode, **rest_body, kv_transfer_params=params)
    assert _text(whole[:cut]) + _text(rest) == _text(whole)
    assert rest[-1]["usage"]["completion_tokens"] == LENGTH


async def test_whole_answers_show_ids_too(start_worker: Any) -> None:
    worker = await start_worker(engine=ENGINE)
    completion = await worker.complete(prompt=[1, 2, 3], max_tokens=4, ignore_eos=True, return_token_ids=True)
    (choice,) = completion["choices"]
    assert choice["prompt_token_ids"] == [1, 2, 3]
    assert len(choice["token_ids"]) == 4
    chat = await worker.chat("hi", max_tokens=4, ignore_eos=True, return_token_ids=True)
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]
    assert len(chat["choices"][0]["token_ids"]) == 4


@pytest.mark.parametrize(
    "resume",
    [
        {"prompt_token_ids": [1], "token_ids": []},
        {"prompt_token_ids": [], "token_ids": [1]},
        {"prompt_token_ids": [1], "token_ids": [9999]},
        {"prompt_token_ids": [1], "token_ids": [-1]},
        {"token_ids": [1]},
    ],
)
async def test_a_bad_resume_is_refused(start_worker: Any, resume: Any) -> None:
    worker = await start_worker(engine=ENGINE)
    status, answer = await worker.post("/v1/completions", prompt="x", resume=resume)
    assert status == 400
    assert "resume" in answer["error"]["param"]
