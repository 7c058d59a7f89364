"""A prefill engine that dies costs time, never an answer; one that comes back is used again."""

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import pytest
from openai import OpenAI

from tandem_vllm import client, engine_metrics
from tandem_vllm.client import Answer
from tandem_vllm.prompts import prompt
from tandem_vllm.stack import Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

DISAGGREGATED = ("vllm-prefill-0", "vllm-decode-0", "disaggregated")
FALLBACK = (None, "vllm-decode-0", "fallback")
LOCAL = (None, "vllm-decode-0", "local")


def test_it_dies_under_load_and_comes_back(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    texts = {prompt(300, f"load {i}"): i % 2 == 0 for i in range(16)}
    late, later = prompt(100, "late"), prompt(100, "later")
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = _ask_all(pool, router, texts)
            wait(answers, return_when=FIRST_COMPLETED)
            stack.process("prefill").kill()
        without = client.ask(router, late)
    finally:
        stack.restart("prefill")
    again = client.ask(router, later)

    expected = [client.ask(alone, text).content for text in texts]
    assert [answer.result().content for answer in answers] == expected
    assert without.content == client.ask(alone, late).content
    # By then the router may have taken the dead engine out, and need not find out again.
    assert without.workers in (FALLBACK, LOCAL)
    assert again.content == client.ask(alone, later).content
    assert again.workers == DISAGGREGATED


def test_it_dies_between_the_legs(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    texts = {prompt(100, "whole"): False, prompt(100, "streamed"): True}
    before = engine_metrics.read(stack.url("prefill")).prompt_tokens
    prefill, decode = stack.process("prefill"), stack.process("decode")
    try:
        with ThreadPoolExecutor(2) as pool:
            decode.pause()
            try:
                answers = _ask_all(pool, router, texts)
                assert eventually(lambda: _holds_kv(stack, before + 200), bool)
                prefill.kill()
            finally:
                decode.resume()
    finally:
        stack.restart("prefill")

    expected = [client.ask(alone, text).content for text in texts]
    assert [answer.result().content for answer in answers] == expected
    assert [answer.result().workers for answer in answers] == [FALLBACK, FALLBACK]


def _ask_all(pool: ThreadPoolExecutor, router: OpenAI, texts: Mapping[str, bool]) -> list[Future[Answer]]:
    """Ask for every text, as a stream where it says so."""
    return [pool.submit(client.ask, router, text, stream=stream) for text, stream in texts.items()]


def _holds_kv(stack: Stack, tokens: float) -> bool:
    """Whether the prefill engine is done with that many tokens since its start, and keeps KV."""
    engine = engine_metrics.read(stack.url("prefill"))
    return engine.prompt_tokens >= tokens and engine.waits_for_pull
