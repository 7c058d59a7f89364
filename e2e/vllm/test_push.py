"""KV that the prefill engine writes: both legs go out at once, and the text is that of one engine."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from openai import OpenAI

from tandem_vllm import client, engine_metrics
from tandem_vllm.prompts import prompt
from tandem_vllm.stack import Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

WORKERS = ("vllm-prefill-0", "vllm-decode-0", "disaggregated")
FULL_LENGTH: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def pushed(pushing: Stack) -> Iterator[OpenAI]:
    with client.connect(pushing.url("router")) as connected:
        yield connected


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_text_is_that_of_one_engine_and_the_kv_came_from_the_other(
    pushing: Stack, pushed: OpenAI, alone: OpenAI, stream: bool
) -> None:
    decode = pushing.url("decode")
    before = engine_metrics.read(decode).pulled_tokens
    texts = [prompt(length, f"push {stream} {length}") for length in (33, 97, 300)]
    answers = [client.ask(pushed, text, stream=stream, **FULL_LENGTH) for text in texts]
    expected = [client.ask(alone, text, stream=stream, **FULL_LENGTH) for text in texts]
    assert [answer.content for answer in answers] == [answer.content for answer in expected]
    assert {answer.workers for answer in answers} == {WORKERS}
    came = eventually(lambda: engine_metrics.read(decode).pulled_tokens - before, lambda n: n >= 425)
    assert came >= 425


def test_requests_at_the_same_time_do_not_mix(pushed: OpenAI, alone: OpenAI) -> None:
    texts = [prompt(length, f"push crowd {length}") for length in range(40, 360, 40)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda text: client.ask(pushed, text, stream=True, **FULL_LENGTH), texts))
    assert [answer.content for answer in answers] == [
        client.ask(alone, text, **FULL_LENGTH).content for text in texts
    ]
    assert {answer.workers for answer in answers} == {WORKERS}


def test_answers_that_end_early_end_as_they_should(pushed: OpenAI, alone: OpenAI) -> None:
    """The prefill leg runs to its limit whatever stops the request, so that its KV is kept."""
    for seed in range(6):
        text = prompt(50, f"push stop {seed}")
        assert (
            client.ask(pushed, text, stop=["e", "A", "7"]).content
            == client.ask(alone, text, stop=["e", "A", "7"]).content
        )
