"""A prefill engine that dies costs time, never an answer; one that comes back is used again."""

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest
from openai import OpenAI

from tandem_vllm import client, exchange
from tandem_vllm.prompts import prompt
from tandem_vllm.stack import Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

DISAGGREGATED = ("prefill", "decode", "disaggregated")
FALLBACK = (None, "decode", "fallback")


def test_a_prefill_engine_dies_and_comes_back(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    held = prompt(100, "held")
    body = {"model": "tiny", "prompt": held, "max_tokens": 48, "temperature": 0}
    params = exchange.prefill(stack.url("prefill"), body)
    try:
        _die_under_load(stack, router, alone)
        assert exchange.decode(stack.url("decode"), body, params) == client.ask(alone, held).text
        for stream in (False, True):
            _assert_served(router, alone, prompt(100, f"fallback {stream}"), stream, FALLBACK)
    finally:
        stack.restart("prefill")
    for stream in (False, True):
        _assert_served(router, alone, prompt(100, f"back {stream}"), stream, DISAGGREGATED)


def _die_under_load(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    """Kill the engine while requests are on their way: each of them is answered all the same."""
    texts = [prompt(300, f"load {i}") for i in range(16)]
    expected = [client.ask(alone, text).content for text in texts]
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.ask, router, text, stream=i % 2 == 0) for i, text in enumerate(texts)]
        wait(answers, return_when=FIRST_COMPLETED)
        stack.kill("prefill")
    assert [answer.result().content for answer in answers] == expected
    assert FALLBACK in {answer.result().workers for answer in answers}


def _assert_served(
    router: OpenAI, alone: OpenAI, text: str, stream: bool, workers: tuple[str | None, str | None, str | None]
) -> None:
    answer = client.ask(router, text, stream=stream)
    assert answer.content == client.ask(alone, text, stream=stream).content
    assert answer.workers == workers
