"""Prompts that begin alike have hashes that begin alike, in every process."""

import json
import time

from tandem_router.openai import Api, Asker, parse_request
from tandem_router.prefix import BOUNDS, prefix_hashes, root_of, tokens_in
from tandem_router.types import RequestInfo

ROOT = root_of("m", "", "")


def chat(*contents: str, tenant: str = "", **more: object) -> RequestInfo:
    messages = [{"role": "user", "content": content} for content in contents]
    data = json.dumps({"model": "m", "messages": messages, **more}).encode()
    return parse_request(Api.CHAT, data, "r", Asker(tenant)).info


def common(a: RequestInfo, b: RequestInfo) -> int:
    pairs = zip(a.prefix, b.prefix, strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), min(len(a.prefix), len(b.prefix)))


def test_a_conversation_goes_on_with_the_hashes_that_it_had() -> None:
    turns = ["x" * 3000, "y" * 3000, "z" * 3000]
    first, second = chat(*turns[:2]), chat(*turns)
    assert len(first.prefix) == 11
    assert common(first, second) == len(first.prefix)
    assert common(first, chat(turns[0], "other" + turns[1])) == 5


def test_tenants_models_and_tools_share_nothing() -> None:
    text = "x" * 3000
    others = [chat(text, tenant="b"), chat(text, tools=[{"type": "function"}])]
    assert all(common(chat(text, tenant="a"), other) == 0 for other in others)
    assert root_of("m", "", "") != root_of("m2", "", "")


def test_the_hashes_are_the_same_in_every_process() -> None:
    assert prefix_hashes(memoryview(b"a" * 1024), ROOT) == (2988746383, 2983926215)


def test_short_prompts_have_no_blocks_and_long_ones_not_too_many() -> None:
    assert chat("hello").prefix == ()
    started = time.process_time()
    info = chat("x" * 2**20)
    assert time.process_time() - started < 0.1
    assert len(info.prefix) == len(BOUNDS) == 128
    assert tokens_in(info, 128) == BOUNDS[-1] // 4
    assert tokens_in(info, 0) == 0
