"""Text that two engines make together is the text of one, and the KV cache really moved."""

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import ceil
from typing import Any

import pytest
from openai import OpenAI

from tandem_vllm import checkpoint, client, engine_metrics, exchange
from tandem_vllm.client import Kind
from tandem_vllm.prompts import prompt, prompts
from tandem_vllm.stack import Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

BLOCK = 32
LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 1, 1000)
WORKERS = ("vllm-prefill-0", "vllm-decode-0", "disaggregated")
FULL_LENGTH: dict[str, Any] = {"extra_body": {"ignore_eos": True}}


class Pulled:
    """Blocks that the decode engine pulled since this was made."""

    def __init__(self, stack: Stack) -> None:
        self._url = stack.url("decode")
        self._before = engine_metrics.read(self._url).pulled_bytes

    def blocks(self, wanted: int) -> float:
        """The count, once it is `wanted` or time is up: engines publish it a moment after the answer."""
        return eventually(self._now, lambda blocks: blocks >= wanted)

    def _now(self) -> float:
        return (engine_metrics.read(self._url).pulled_bytes - self._before) / checkpoint.kv_bytes(BLOCK)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", ["completion", "chat"])
def test_text_is_that_of_one_engine(
    stack: Stack, router: OpenAI, alone: OpenAI, kind: Kind, stream: bool, length: int
) -> None:
    text = prompt(length, f"{kind} {stream} {length}")
    pulled = Pulled(stack)

    expected = client.ask(alone, text, kind=kind, stream=stream, **FULL_LENGTH)
    answer = client.ask(router, text, kind=kind, stream=stream, **FULL_LENGTH)

    assert answer.content == expected.content
    assert answer.workers == WORKERS
    wanted = ceil(answer.prompt_tokens / BLOCK)
    assert pulled.blocks(wanted) == wanted


def test_a_swapped_block_shows_in_the_text(stack: Stack, alone: OpenAI) -> None:
    """The comparison above can fail: with one block of another prompt, the text is another one."""
    mine, other = islice(prompts(3 * BLOCK + 1, "swapped"), 2)
    body = {"model": checkpoint.MODEL, "prompt": mine, "max_tokens": 48, "temperature": 0}
    params = exchange.prefill(stack.url("prefill"), body)
    foreign = exchange.prefill(stack.url("prefill"), {**body, "prompt": other})
    (blocks,), (foreign_blocks,) = params["remote_block_ids"], foreign["remote_block_ids"]
    swapped = {**params, "remote_block_ids": [[foreign_blocks[0], *blocks[1:]]]}

    text = exchange.decode(stack.url("decode"), body, swapped)
    exchange.decode(stack.url("decode"), {**body, "prompt": other}, foreign)  # which frees what was kept

    assert text != client.ask(alone, mine).text


def test_a_prefix_that_the_decode_engine_has_is_not_pulled_again(
    stack: Stack, router: OpenAI, alone: OpenAI
) -> None:
    shared = prompt(4 * BLOCK, "prefix")
    client.ask(router, shared + prompt(BLOCK, "one"))
    text = shared + prompt(2 * BLOCK, "other")
    pulled = Pulled(stack)

    answer = client.ask(router, text, **FULL_LENGTH)

    assert answer.content == client.ask(alone, text, **FULL_LENGTH).content
    assert answer.workers == WORKERS
    assert pulled.blocks(2) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8, "seed": 7},
        {"temperature": 1.0, "top_p": 0.9, "seed": 8, "presence_penalty": 0.5, "extra_body": {"top_k": 20}},
        {"temperature": 0, "frequency_penalty": 1.5},
        {"max_tokens": 1},
        {"max_tokens": 2},
        {"stop": ["e", "A", "7"]},
    ],
    ids=["seed", "penalties", "frequency", "one token", "two tokens", "stop"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_options_mean_the_same(router: OpenAI, alone: OpenAI, options: dict[str, Any], stream: bool) -> None:
    for text in islice(prompts(2 * BLOCK + 7, f"options {stream}"), 3):
        expected = client.ask(alone, text, stream=stream, **options)
        assert client.ask(router, text, stream=stream, **options).content == expected.content


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_that_ends_at_its_first_token(router: OpenAI, alone: OpenAI, stream: bool) -> None:
    text = next(
        t for t in prompts(BLOCK, "short") if client.ask(alone, t, max_tokens=2).completion_tokens == 1
    )
    expected = client.ask(alone, text, stream=stream)
    assert expected.finish_reason == "stop"
    assert client.ask(router, text, stream=stream).content == expected.content


def test_requests_at_the_same_time_do_not_mix(stack: Stack, router: OpenAI, alone: OpenAI) -> None:
    texts = [prompt(length, f"crowd {length}") for length in range(20, 340, 20)]
    expected = [client.ask(alone, text, **FULL_LENGTH).content for text in texts]
    pulled = Pulled(stack)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: client.ask(router, text, stream=True, **FULL_LENGTH), texts))

    assert [answer.content for answer in answers] == expected
    assert {answer.workers for answer in answers} == {WORKERS}
    wanted = sum(ceil(len(text) / BLOCK) for text in texts)
    assert pulled.blocks(wanted) == wanted


def test_the_id_of_an_answer_names_no_address(stack: Stack, router: OpenAI) -> None:
    answer = client.ask(router, "hello")
    assert not any(address in answer.id for address in stack.addresses)
