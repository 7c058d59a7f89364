"""A decode engine that dies in mid-stream: another engine goes on, and the client gets the text of one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from tandem_vllm import client
from tandem_vllm.prompts import prompt
from tandem_vllm.stack import BEHIND_ROUTER, Stack
from tandem_vllm.waiting import eventually

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

LENGTH = 600
ASKED: dict[str, dict[str, Any]] = {
    "completion": {"max_tokens": LENGTH},
    "completion with a stop string": {"max_tokens": LENGTH, "stop": ["not there"]},
    "chat": {"max_tokens": LENGTH, "kind": "chat"},
    "chat without a limit": {"max_tokens": None, "kind": "chat"},
}


@pytest.fixture
def lost(stack: Stack) -> Iterator[Stack]:
    """The router may use the engine that is alone, too."""
    stack.tell_router(*BEHIND_ROUTER, "alone")
    assert eventually(lambda: _mixed_workers(stack), lambda count: count == 1) == 1
    yield stack
    stack.tell_router(*BEHIND_ROUTER)
    stack.restart("decode")


def test_another_engine_goes_on(lost: Stack, router: OpenAI, alone: OpenAI) -> None:
    begun: list[str] = []
    texts = {name: prompt(200, name) for name in ASKED}
    with ThreadPoolExecutor(len(ASKED)) as pool:
        answers = {
            name: pool.submit(_stream, router, texts[name], begun, **options)
            for name, options in ASKED.items()
        }
        assert eventually(lambda: len(begun), lambda count: count == len(ASKED), 60)
        lost.process("decode").kill()
        got = {name: answer.result() for name, answer in answers.items()}
    for name, options in ASKED.items():
        assert got[name] == client.ask(alone, texts[name], **_full(options)).content, name


def _mixed_workers(stack: Stack) -> float:
    with urlopen(f"{stack.url('router')}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    ready = {"role": "mixed", "state": "ready"}
    return sum(
        s.value for s in samples if s.name == "tandem_router_endpoints" and ready.items() <= s.labels.items()
    )


def _full(options: dict[str, Any]) -> dict[str, Any]:
    return {"extra_body": {"ignore_eos": True}, **options}


def _stream(router: OpenAI, text: str, begun: list[str], **options: Any) -> Any:
    """The content of a streamed answer; `begun` gets the prompt once a tenth of it is there."""
    return client.ask(
        router, text, stream=True, at_event=(LENGTH // 10, lambda: begun.append(text)), **_full(options)
    ).content
