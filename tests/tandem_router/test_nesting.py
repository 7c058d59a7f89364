"""Bodies that would overflow an engine's parser do not get that far."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.errors import ApiError
from tandem_router.nesting import MAX_NESTING, too_deep
from tandem_router.openai import Api, parse_request


def nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if kind == "list" or (kind == "both" and level % 2) else {"a": value, "b": "]}"}
    return value


@pytest.mark.parametrize("kind", ["list", "object", "both"])
@pytest.mark.parametrize("text", ["", "[[[", "\\", '\\"[', "}" * 300, "{" * 300])
def test_depth_is_told_from_brackets_in_text(kind: str, text: str) -> None:
    for depth, expected in ((1, False), (MAX_NESTING - 1, False), (MAX_NESTING, True), (900, True)):
        data = json.dumps([text, nested(depth, kind), text]).encode()
        assert too_deep(data) is expected


def test_many_brackets_side_by_side_are_not_deep() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": 'a["b"]\\'}]}] * 500
    assert not too_deep(json.dumps({"messages": messages}).encode())
    assert not too_deep(json.dumps([nested(20, "both")] * 50).encode())


@given(st.recursive(st.text(max_size=5), lambda inner: st.lists(inner, max_size=4), max_leaves=40))
@settings(max_examples=60)
def test_nothing_shallow_is_refused(value: Any) -> None:
    assert not too_deep(json.dumps([value] * 30).encode())


def test_a_deep_body_is_a_400() -> None:
    data = b'{"model": "m", "prompt": "hi", "x": ' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(ApiError) as caught:
        parse_request(Api.COMPLETION, data, "r1")
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")
