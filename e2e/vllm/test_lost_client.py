"""A client that leaves takes its work along: both engines end up idle."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from json import dumps
from urllib.parse import urlsplit

import pytest
from openai import OpenAI

from tandem_vllm import checkpoint, client, engine_metrics
from tandem_vllm.engine_metrics import EngineMetrics
from tandem_vllm.prompts import prompt
from tandem_vllm.stack import Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

ENDLESS = {"model": checkpoint.MODEL, "max_tokens": 1500, "temperature": 0, "ignore_eos": True}
# vLLM has no request that frees KV which nobody pulled: it goes with its lease of 30 s.
LEASE_ENDED = 45.0


@contextmanager
def _request(stack: Stack, text: str) -> Iterator[HTTPConnection]:
    """A streamed completion that was sent; leaving closes the connection."""
    connection = HTTPConnection(urlsplit(stack.url("router")).netloc, timeout=30)
    try:
        body = dumps({**ENDLESS, "prompt": text, "stream": True})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        yield connection
    finally:
        connection.close()


def _engines(stack: Stack) -> list[EngineMetrics]:
    return [engine_metrics.read(stack.url(name)) for name in ("prefill", "decode")]


def _become_idle(stack: Stack, timeout: float) -> bool:
    return eventually(lambda: all(engine.idle for engine in _engines(stack)), bool, timeout)


@pytest.fixture(autouse=True)
def _idle_before(stack: Stack) -> None:
    assert _become_idle(stack, timeout=LEASE_ENDED)


def test_leaving_in_the_middle_of_the_stream(stack: Stack) -> None:
    with _request(stack, prompt(200, "middle")) as connection:
        answer = connection.getresponse()
        assert answer.headers["x-tandem-path"] == "disaggregated"
        assert answer.read(1000)
        assert engine_metrics.read(stack.url("decode")).running == 1

    assert _become_idle(stack, timeout=5)


def test_leaving_between_the_legs(stack: Stack) -> None:
    prefill, decode = stack.url("prefill"), stack.process("decode")
    decode.pause()
    try:
        with _request(stack, prompt(200, "between")):
            assert eventually(lambda: engine_metrics.read(prefill).waits_for_pull, bool)
    finally:
        decode.resume()

    assert _become_idle(stack, timeout=LEASE_ENDED)


def test_leaving_at_any_moment_before_the_first_token(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    for milliseconds in range(0, 150, 10):
        with _request(stack, prompt(500, f"early {milliseconds}")):
            time.sleep(milliseconds / 1000)

    assert _become_idle(stack, timeout=LEASE_ENDED)
    text = prompt(100, "after")
    assert client.ask(router, text).content == client.ask(alone, text).content
