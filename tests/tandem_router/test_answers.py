"""What workers tell each other does not reach clients."""

import json

import pytest

from tandem_router.answers import public_body

CHOICE = {"index": 0, "text": 'say "kv_transfer_params"', "finish_reason": "stop"}
OPAQUE = {"encoded_opaque_state": "10.0.0.1"}


@pytest.mark.parametrize(
    "more",
    [
        {"kv_transfer_params": {"remote_host": "10.0.0.1"}},
        {"ec_transfer_params": {"peer": "10.0.0.1"}, "kv_transfer_params": {"a": 1}},
        {"disaggregated_params": OPAQUE},
        {"choices": [CHOICE | {"disaggregated_params": OPAQUE}]},
    ],
)
def test_hosts_and_blocks_are_taken_out(more: dict[str, object]) -> None:
    answer = {"id": "1", "choices": [CHOICE], "usage": {"prompt_tokens": 2**60 + 1}}
    assert json.loads(public_body(json.dumps(answer | more).encode())) == answer


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({"choices": [CHOICE]}).encode(),
        b'{"choices":[],"kv_transfer_params":null}',
        b'{"error": {"message": "disaggregated_params are odd"}}',
        b"kv_transfer_params",
        b'{"choices": "disaggregated_params"}',
    ],
)
def test_everything_else_stays(data: bytes) -> None:
    assert public_body(data).replace(b" ", b"") == data.replace(b" ", b"")
