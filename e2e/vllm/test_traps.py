"""What real vLLM does when a hand-over goes wrong, asked directly, and what clients get behind the router."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from json import loads
from typing import Any

import pytest
from openai import OpenAI

from tandem_vllm import checkpoint, client, engine_metrics, exchange
from tandem_vllm.prompts import prompt, prompts
from tandem_vllm.stack import Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

LEASE_SECONDS = 30.0
FULL_LENGTH: dict[str, Any] = {"extra_body": {"ignore_eos": True}}
FILLERS = 24
"""Prompts of 1,000 tokens that use all of the prefill engine's 512 blocks of 32 again."""


def body(text: str) -> exchange.Json:
    return {"model": checkpoint.MODEL, "prompt": text, "max_tokens": 48, "temperature": 0, "ignore_eos": True}


def test_kv_is_wrong_after_its_lease_and_the_router_does_not_use_it(
    stack: Stack, router: OpenAI, alone: OpenAI
) -> None:
    """A decode engine that stands still for longer than the lease; meanwhile the blocks are used again."""
    direct, whole, streamed = islice(prompts(200, "lease"), 3)
    prefill, decode = stack.url("prefill"), stack.process("decode")
    params = exchange.prefill(prefill, body(direct))
    decode.pause()
    try:
        with ThreadPoolExecutor(2) as pool:
            answers = [
                pool.submit(client.ask, router, text, stream=text == streamed, **FULL_LENGTH)
                for text in (whole, streamed)
            ]
            time.sleep(LEASE_SECONDS + 2)
            assert eventually(lambda: engine_metrics.read(prefill).expired_leases, bool, 15) >= 1
            for text in islice(prompts(1000, "filler"), FILLERS):
                exchange.whole(prefill, {**body(text), "max_tokens": 1})
            decode.resume()
            text = exchange.decode(stack.url("decode"), body(direct), params)
            got = [answer.result() for answer in answers]
    finally:
        decode.resume()

    assert text != client.ask(alone, direct, **FULL_LENGTH).text, "vLLM refuses expired KV now: good news"
    assert [answer.content for answer in got] == [
        client.ask(alone, text, **FULL_LENGTH).content for text in (whole, streamed)
    ]
    assert got[1].workers[2] == "fallback"


def test_a_load_that_fails_is_an_error_in_a_good_stream(stack: Stack) -> None:
    text = prompt(100, "unknown engine")
    params = exchange.prefill(stack.url("prefill"), body(text))
    gone = {**params, "remote_engine_id": "00000000-0000-0000-0000-000000000000", "remote_port": 1}
    status, events = exchange.decode_events(stack.url("decode"), body(text), gone)
    assert status == 200
    assert loads(events[0])["error"]["code"] == 500
    assert exchange.decode(stack.url("decode"), body(text), params) != ""


def test_several_tokens_may_come_in_one_event(router: OpenAI, alone: OpenAI) -> None:
    texts = [prompt(64, f"several {i}") for i in range(16)]
    expected = [client.ask(alone, text, **FULL_LENGTH).content for text in texts]
    for _ in range(5):
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda text: client.ask(router, text, stream=True, **FULL_LENGTH), texts))
        assert [answer.content for answer in answers] == expected
        if any(answer.events < answer.completion_tokens for answer in answers):
            return
    pytest.skip("every token came in an event of its own: the machine is too fast today")


def test_a_killed_prefill_engine_fails_its_partner_at_once(
    stack: Stack, router: OpenAI, alone: OpenAI
) -> None:
    text = prompt(100, "killed")
    params = exchange.prefill(stack.url("prefill"), body(text))
    try:
        stack.process("prefill").kill()
        began = time.monotonic()
        assert exchange.decode_status(stack.url("decode"), body(text), params) == 500
        assert time.monotonic() - began < 5
        answer = client.ask(router, text)
    finally:
        stack.restart("prefill")
    assert answer.content == client.ask(alone, text).content
    assert answer.workers[2] in ("fallback", "local")
