"""Both encodings of vLLM and SGLang's arrays give the same events; what cannot be read says so."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem_router.kv_events import Cleared, Removed, Stored
from tandem_router.kv_events.decode import BadEventsError, decode_batch

SIZE = 2


def batch(*events: Any) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def test_arrays_and_maps() -> None:
    array = ["BlockStored", [5, -6], None, [1, 2, 3, 4], SIZE, None, "GPU", None]
    named = {
        "type": "BlockStored",
        "block_hashes": [b"x", b"y"],
        "parent_block_hash": b"p",
        "token_ids": [1, 2, 3, 4],
        "block_size": SIZE,
        "lora_id": 3,
        "medium": "GPU",
        "lora_name": "sql",
        "extra_keys": [["sql", "salt"], None],
        "group_idx": 0,
        "kv_cache_spec_kind": "full",
        "something_new": 1,
    }
    expected = Stored((5, -6), None, (1, 2, 3, 4), SIZE, medium="GPU")
    assert decode_batch(batch(array)) == [expected]
    [found] = decode_batch(batch(named))
    assert found == Stored((b"x", b"y"), b"p", (1, 2, 3, 4), SIZE, "sql", "GPU", (("salt",), ()))


def test_short_arrays_as_sglang_sends_them() -> None:
    events = (["BlockStored", [7], 5, [1, 2], 2, None], ["BlockRemoved", [7]], ["AllBlocksCleared"])
    assert decode_batch(batch(*events)) == [Stored((7,), 5, (1, 2), 2), Removed((7,)), Cleared()]


def test_other_groups_of_layers_and_unknown_events_are_passed_over() -> None:
    removed = {"type": "BlockRemoved", "block_hashes": [1], "medium": "CPU", "group_idx": 0}
    other = {**removed, "group_idx": 1}
    assert decode_batch(batch(other, ["NewKind", 1], removed)) == [Removed((1,), "CPU")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([1.0]),
        batch(["BlockStored", ["text"], None, [1], 1]),
        batch(["BlockStored", [1, 2], None, [1], 1]),
        batch(["BlockStored", [1], None, [1], 0]),
        batch("text"),
        batch({"block_hashes": []}),
    ],
)
def test_what_cannot_be_read_says_so(payload: bytes) -> None:
    with pytest.raises(BadEventsError):
        decode_batch(payload)


@given(st.binary(max_size=60))
@settings(max_examples=150)
def test_no_bytes_break_it(payload: bytes) -> None:
    with suppress(BadEventsError):
        decode_batch(payload)
