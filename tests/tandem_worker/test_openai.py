"""The OpenAI endpoints of a worker, over HTTP."""

import asyncio
import math
from typing import Any

import pytest

from tandem_worker.tokenizer import Tokenizer

PROMPT = "the quick brown fox jumps over it"


async def test_a_completion_has_the_fields_of_vllm_in_their_order(start_worker: Any) -> None:
    worker = await start_worker(revision="r7")
    answer = await worker.complete(prompt=PROMPT, max_tokens=5, ignore_eos=True)
    assert list(answer) == [
        *("id", "object", "created", "model", "choices", "service_tier", "system_fingerprint", "usage"),
        "kv_transfer_params",
    ]
    (choice,) = answer["choices"]
    assert list(choice) == [
        *("index", "text", "logprobs", "finish_reason", "stop_reason", "token_ids", "prompt_logprobs"),
        "prompt_token_ids",
    ]
    assert (answer["object"], answer["model"]) == ("text_completion", "tiny")
    assert (choice["finish_reason"], choice["stop_reason"], choice["logprobs"]) == ("length", None, None)
    assert answer["usage"] == {
        "prompt_tokens": 1 + len(PROMPT),
        "total_tokens": 6 + len(PROMPT),
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert answer["system_fingerprint"].endswith("-r7")
    assert answer["kv_transfer_params"] is None


async def test_a_chat_completion(start_worker: Any) -> None:
    worker = await start_worker()
    answer = await worker.chat("hi", max_completion_tokens=5, ignore_eos=True)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["prompt_tokens"] == len(["<s>", "<|user|>", "h", "i", "<|assistant|>"])
    assert answer["usage"]["completion_tokens"] == 5


async def test_a_streamed_completion_looks_like_vllms(start_worker: Any) -> None:
    worker = await start_worker()
    options = {"stream_options": {"include_usage": True}, "ignore_eos": True}
    *chunks, usage, done = await worker.events("/v1/completions", prompt=PROMPT, max_tokens=8, **options)
    assert done == "[DONE]"
    for chunk in chunks:
        assert list(chunk)[:5] == ["id", "object", "created", "model", "choices"]
        assert list(chunk["choices"][0]) == [
            *("index", "text", "logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids")
        ]
        assert chunk["object"] == "text_completion"
        assert chunk["id"] == usage["id"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "length"
    assert [chunk for chunk in chunks if "system_fingerprint" in chunk] == chunks[-1:]
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 8
    whole = await worker.complete(prompt=PROMPT, max_tokens=8, ignore_eos=True)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]


async def test_a_streamed_chat_begins_with_the_role(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "ignore_eos": True}
    first, *chunks, done = await worker.events("/v1/chat/completions", **body)
    assert done == "[DONE]"
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("usage" not in chunk for chunk in chunks)
    assert list(chunks[-1]["choices"][0]) == [
        *("index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids")
    ]
    whole = await worker.chat("hi", max_tokens=8, ignore_eos=True)
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]


async def test_the_request_id_names_the_answer(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    for sent, expected in (("req-1", "cmpl-req-1"), ("x" * 300, None), (None, None)):
        headers = {} if sent is None else {"x-request-id": sent}
        async with worker.session.post(
            f"{worker.url}/v1/completions", json=body, headers=headers
        ) as response:
            answer = await response.json()
            assert answer["id"] == f"cmpl-{response.headers['x-request-id']}"
            assert expected in (None, answer["id"])
            assert len(answer["id"]) < 50


async def test_token_ids_are_the_same_prompt_as_their_text(
    start_worker: Any, tiny_tokenizer: Tokenizer
) -> None:
    worker = await start_worker()
    text = (await worker.complete(prompt="ab", max_tokens=4))["choices"][0]["text"]
    token_ids = tiny_tokenizer.encode("ab", add_special_tokens=True)
    assert token_ids[0] == 256
    for prompt in (token_ids, [token_ids], ["ab"]):
        assert (await worker.complete(prompt=prompt, max_tokens=4))["choices"][0]["text"] == text


async def test_a_seed_repeats_the_answer(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"prompt": PROMPT, "max_tokens": 12, "temperature": 1.0, "ignore_eos": True}
    texts = [(await worker.complete(**body, seed=seed))["choices"][0]["text"] for seed in (1, 1, 2, -(2**63))]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    unseeded = {(await worker.complete(**body))["choices"][0]["text"] for _ in range(3)}
    assert len(unseeded) == 3


async def test_sampling_parameters_reach_the_engine(start_worker: Any) -> None:
    worker = await start_worker()
    greedy = (await worker.complete(prompt=PROMPT, max_tokens=12))["choices"][0]["text"]
    hot = {"prompt": PROMPT, "max_tokens": 12, "temperature": 2.0, "seed": 5}
    assert (await worker.complete(**hot))["choices"][0]["text"] != greedy
    for cut in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}):
        assert (await worker.complete(**hot, **cut))["choices"][0]["text"] == greedy
    for penalty in ({"repetition_penalty": 100.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        long = {"prompt": PROMPT, "max_tokens": 100, "ignore_eos": True, "logprobs": 0}
        plain = (await worker.complete(**long))["choices"][0]["logprobs"]["tokens"]
        penalised = (await worker.complete(**long, **penalty))["choices"][0]["logprobs"]["tokens"]
        assert len(set(penalised)) > len(set(plain))


async def test_a_second_prompt_finds_its_prefix(start_worker: Any) -> None:
    worker = await start_worker()
    await worker.complete(prompt=PROMPT, max_tokens=2)
    answer = await worker.complete(prompt=PROMPT, max_tokens=2)
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 32}
    assert await worker.metric("tandem_worker_prefix_hit_tokens_total") == 32
    assert await worker.metric("tandem_worker_prompt_tokens_total") == 2 * (1 + len(PROMPT))


async def test_prompts_of_different_salts_share_no_blocks(start_worker: Any) -> None:
    worker = await start_worker()
    texts, cached = set(), []
    for salt in ("a", "b", "a", None):
        more = {"cache_salt": salt} if salt else {}
        answer = await worker.complete(prompt=PROMPT, max_tokens=12, **more)
        texts.add(answer["choices"][0]["text"])
        cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
    assert cached == [0, 0, 32, 0]
    assert len(texts) == 1


async def _all_at_once(worker: Any, body: dict[str, Any]) -> list[str]:
    answers = await asyncio.gather(*(worker.complete(prompt=f"{i} {PROMPT}", **body) for i in range(20)))
    return [answer["choices"][0]["text"] for answer in answers]


async def test_many_at_once_get_what_each_gets_alone(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"max_tokens": 10, "temperature": 1.0, "seed": 3}
    together = await _all_at_once(worker, body)
    alone = [(await worker.complete(prompt=f"{i} {PROMPT}", **body))["choices"][0]["text"] for i in range(20)]
    assert together == alone


async def test_stop_strings_span_tokens_and_are_never_sent(start_worker: Any) -> None:
    worker = await start_worker()
    plain = await worker.complete(prompt=PROMPT, max_tokens=60, ignore_eos=True)
    text = plain["choices"][0]["text"]
    stop = text[20:23]
    cut = text[: text.find(stop)]
    for stops in (stop, [stop], ["never to be seen", stop]):
        answer = await worker.complete(prompt=PROMPT, max_tokens=60, ignore_eos=True, stop=stops)
        choice = answer["choices"][0]
        assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (cut, "stop", stop)
        assert answer["usage"]["completion_tokens"] < 60
    body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True, "stop": [stop]}
    *chunks, _ = await worker.events("/v1/completions", **body)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == cut
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    await worker.until(lambda it: it.engine.load.num_running == 0)


async def test_a_stop_token_ends_the_answer_unseen(start_worker: Any, tiny_tokenizer: Tokenizer) -> None:
    worker = await start_worker()
    body = {"prompt": PROMPT, "max_tokens": 20, "ignore_eos": True, "logprobs": 0}
    tokens = (await worker.complete(**body))["choices"][0]["logprobs"]["tokens"]
    at = next(i for i, token in enumerate(tokens) if i > 2 and token.isascii() and token not in tokens[:i])
    (stop_id,) = tiny_tokenizer.encode(tokens[at], add_special_tokens=False)
    choice = (await worker.complete(**body, stop_token_ids=[stop_id]))["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop_id)
    assert choice["logprobs"]["tokens"] == tokens[: at + 1]
    assert tokens[at] not in choice["text"]


async def test_the_end_of_sequence_ends_the_answer_unless_ignored(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"prompt": [257], "max_tokens": 200, "temperature": 2.0, "seed": 2}
    ended = await worker.complete(**body)
    assert (ended["choices"][0]["finish_reason"], ended["choices"][0]["stop_reason"]) == ("stop", None)
    assert "</s>" not in ended["choices"][0]["text"]
    going_on = await worker.complete(**body, ignore_eos=True)
    assert going_on["usage"]["completion_tokens"] == 200 > ended["usage"]["completion_tokens"]


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
async def test_chat_logprobs(start_worker: Any, num_top: int) -> None:
    worker = await start_worker()
    body = {"max_tokens": 6, "logprobs": True, "top_logprobs": num_top, "ignore_eos": True}
    content = (await worker.chat("hi", **body))["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    for entry in content:
        assert list(entry) == ["token", "logprob", "bytes", "top_logprobs"]
        assert entry["logprob"] <= 0
        assert entry["bytes"] == list(entry["token"].encode())
        assert len(entry["top_logprobs"]) == num_top
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert not values or values[0] == entry["logprob"]
        assert sum(map(math.exp, values)) <= 1 + 1e-6
    *chunks, _ = await worker.events(
        "/v1/chat/completions", messages=[{"role": "user", "content": "hi"}], **body
    )
    streamed = [entry for chunk in chunks[1:] for entry in chunk["choices"][0]["logprobs"]["content"]]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in content]


async def test_completion_logprobs(start_worker: Any) -> None:
    worker = await start_worker()
    body = {"prompt": PROMPT, "max_tokens": 6, "logprobs": 3, "ignore_eos": True}
    logprobs = (await worker.complete(**body))["choices"][0]["logprobs"]
    assert list(logprobs) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
    assert {len(values) for values in logprobs.values()} == {6}
    lengths = [len(token) for token in logprobs["tokens"]]
    assert logprobs["text_offset"] == [sum(lengths[:i]) for i in range(6)]
    for token, value, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert top[token] == value
    *chunks, _ = await worker.events("/v1/completions", **body)
    offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks]
    assert [offset for part in offsets for offset in part] == logprobs["text_offset"]


async def test_content_may_come_in_parts_and_extra_fields_are_ignored(start_worker: Any) -> None:
    worker = await start_worker()
    plain = await worker.chat("a\nb", max_tokens=4)
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "user", "content": parts}]
    status, answer = await worker.post(
        "/v1/chat/completions", messages=messages, max_tokens=4, user="me", metadata={"a": 1}, tools=[]
    )
    assert status == 200
    assert answer["choices"][0]["message"] == plain["choices"][0]["message"]


async def test_null_is_the_default(start_worker: Any) -> None:
    worker = await start_worker()
    names = ("n", "stream", "stream_options", "temperature", "top_p", "top_k", "seed", "stop", "logprobs")
    nulls = dict.fromkeys((*names, "max_tokens", "kv_transfer_params", "presence_penalty"))
    answer = await worker.complete(prompt=PROMPT, **nulls, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 16


async def test_models(start_worker: Any) -> None:
    worker = await start_worker()
    async with worker.session.get(f"{worker.url}/v1/models") as response:
        (model,) = (await response.json())["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("tiny", "model", 256)


async def test_chat_without_max_tokens_may_fill_the_context(start_worker: Any) -> None:
    worker = await start_worker(engine={"max_model_len": 32})
    answer = await worker.chat("hi", ignore_eos=True)
    assert answer["usage"]["total_tokens"] == 32
    assert answer["choices"][0]["finish_reason"] == "length"
