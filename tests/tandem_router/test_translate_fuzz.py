"""Whatever a client sends, translators answer with a chat completion's body or with a 400."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.dialects import DIALECTS, count_tokens
from tandem_router.errors import ApiError
from tandem_router.openai import Api, parse_request

LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=6)
TYPES = st.sampled_from(
    ["text", "image", "tool_use", "tool_result", "thinking", "document", "base64", "url", "message",
     "input_text", "input_image", "output_text", "function_call", "function_call_output", "reasoning",
     "function", "json_schema", "auto", "tool"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["type", "role", "content", "text", "source", "data", "url", "id", "name", "input", "tool_use_id",
     "call_id", "arguments", "output", "image_url", "format", "schema", "effort"]
)  # fmt: skip
ROLES = st.sampled_from(["user", "assistant", "system", "developer"])
VALUES = st.recursive(
    LEAVES | TYPES | ROLES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["messages", "input", "system", "instructions", "tools", "tool_choice", "text", "reasoning", "thinking",
     "output_config", "metadata", "stop_sequences", "stream", "temperature", "include", "store", "max_tokens"]
)  # fmt: skip
BLOCK = st.fixed_dictionaries(
    {"type": TYPES}, optional={"text": st.text(max_size=3), "content": VALUES, "id": VALUES}
)
TURN = st.fixed_dictionaries({"role": ROLES, "content": st.text(max_size=3) | st.lists(BLOCK, max_size=3)})
SOUND = st.fixed_dictionaries(
    {"model": st.just("m"), "max_tokens": st.just(3), "messages": st.lists(TURN, max_size=3),
     "input": st.lists(TURN | BLOCK, max_size=3)}
)  # fmt: skip


@pytest.mark.parametrize("path", sorted(DIALECTS))
@given(SOUND, st.dictionaries(FIELDS, VALUES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_nothing_but_a_body_or_a_refusal(path: str, sound: dict[str, Any], odd: dict[str, Any]) -> None:
    body = refused(lambda: DIALECTS[path](json.dumps(sound | odd).encode()).body)
    if body is not None:
        refused(lambda: parse_request(Api.CHAT, body, "r1"))


@given(SOUND, st.dictionaries(FIELDS, VALUES, max_size=3))
@settings(max_examples=60, deadline=None)
def test_tokens_are_counted_or_refused(sound: dict[str, Any], odd: dict[str, Any]) -> None:
    counted = refused(lambda: count_tokens(json.dumps(sound | odd).encode()))
    assert counted is None or json.loads(counted)["input_tokens"] >= 1


@given(st.binary(max_size=60), st.sampled_from(sorted(DIALECTS)))
@settings(max_examples=60)
def test_bytes_that_are_no_json(data: bytes, path: str) -> None:
    refused(lambda: DIALECTS[path](data).body)


def refused(make: Callable[[], bytes | Any]) -> Any:
    """What it makes; None if it is refused, as it should be."""
    try:
        return make()
    except ApiError as error:
        refusal = error
    assert refusal.status == 400
    assert refusal.message
    return None
