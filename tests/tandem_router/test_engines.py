"""The legs as engines want them asked, as in recorded exchanges with vLLM."""

import json
from typing import Any

import pytest

from tandem_router.engines import ENGINES
from tandem_router.engines.base import Pairing, ReleaseCall
from tandem_router.json_body import JsonBody, parse_object
from tandem_router.types import Endpoint, Role

VLLM, NATIVE = ENGINES["vllm"], ENGINES["native"]
PREFILL = Endpoint("p", "10.0.0.7", 8100, Role.PREFILL, "prefill", "vllm", "m", "1")
PAIRING = Pairing("req-1", 2**62 + 1, PREFILL)
PARAMS = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[540, 541, 2**60 + 1]],
    "remote_engine_id": "0b2b44ef",
    "remote_request_id": "cmpl-req-1",
    "remote_host": "10.0.0.7",
    "remote_port": 8200,
    "first_token_ids": [17],
    "something_new": {"kept": [1.5, None]},
}


def body(**values: Any) -> JsonBody:
    return parse_object(json.dumps({"model": "m", "prompt": "hi", **values}).encode())


def answer(finish: str | None = "length", params: Any = PARAMS) -> JsonBody:
    whole = {
        "id": "cmpl-1",
        "choices": [{"text": "a", "finish_reason": finish}],
        "kv_transfer_params": params,
    }
    return parse_object(json.dumps(whole).encode())


@pytest.mark.parametrize("engine", [VLLM, NATIVE])
def test_the_prefill_leg_asks_for_one_token_and_keeps_the_rest(engine: Any) -> None:
    request = body(
        max_tokens=50, stream=True, stream_options={"include_usage": True}, min_tokens=9, top_k=3, odd=[1]
    )
    leg = json.loads(engine.prepare_prefill(request, PAIRING).body)
    params = leg.pop("kv_transfer_params")
    assert leg == {"model": "m", "prompt": "hi", "max_tokens": 1, "stream": False, "top_k": 3, "odd": [1]}
    assert params["do_remote_decode"] is True
    assert params["do_remote_prefill"] is False
    assert [
        params[key] for key in ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")
    ] == [None] * 4


def test_max_completion_tokens_is_limited_where_it_is_used() -> None:
    leg = json.loads(VLLM.prepare_prefill(body(max_completion_tokens=50), PAIRING).body)
    assert (leg["max_tokens"], leg["max_completion_tokens"]) == (1, 1)
    assert "max_completion_tokens" not in json.loads(VLLM.prepare_prefill(body(), PAIRING).body)


def test_the_decode_leg_is_the_request_with_the_params() -> None:
    request = body(max_tokens=50, min_tokens=2, seed=9007199254740993)
    leg = json.loads(VLLM.prepare_decode(request, PAIRING, PARAMS).body)
    assert leg == {**dict(request), "kv_transfer_params": PARAMS}
    assert VLLM.prepare_whole(request).body == request.encode()


@pytest.mark.parametrize("options", [None, {"include_usage": False, "continuous_usage_stats": True}])
def test_a_stream_is_always_asked_for_usage(options: Any) -> None:
    leg = json.loads(VLLM.prepare_whole(body(stream=True, stream_options=options)).body)
    assert leg["stream_options"] == {**(options or {}), "include_usage": True}


@pytest.mark.parametrize(
    ("given", "finish", "params", "expected"),
    [
        ({}, "length", PARAMS, (PARAMS, False)),
        ({}, "stop", None, (None, True)),
        ({"min_tokens": 5}, "stop", None, (None, False)),
        ({}, "length", {}, (None, False)),
        ({}, "length", "odd", (None, False)),
        ({}, None, PARAMS, (PARAMS, False)),
    ],
)
def test_what_a_prefill_answer_means(given: Any, finish: Any, params: Any, expected: Any) -> None:
    read = VLLM.read_prefill(body(**given), answer(finish, params))
    assert (read.params, read.finished) == expected


@pytest.mark.parametrize("odd", [b"{}", b'{"choices": []}', b'{"choices": [3]}', b'{"choices": {}}'])
def test_an_odd_prefill_answer_is_no_hand_over(odd: bytes) -> None:
    read = VLLM.read_prefill(body(), parse_object(odd))
    assert (read.params, read.finished) == (None, False)


def test_the_lease_is_the_shorter_of_the_default_and_what_is_told() -> None:
    assert VLLM.lease({"remote_blocks_expiry_time": None}, 1000.0) == 30.0
    assert NATIVE.lease({"remote_blocks_expiry_time": 1008.0}, 1000.0) == 8.0
    assert NATIVE.lease({"remote_blocks_expiry_time": 9000.0}, 1000.0) == 30.0
    assert NATIVE.lease({"remote_blocks_expiry_time": 990.0}, 1000.0) < 0


def test_only_native_handles_can_be_released() -> None:
    assert VLLM.release(PARAMS) is None
    assert NATIVE.release(PARAMS) == ReleaseCall("10.0.0.7", 8200, "cmpl-req-1")


@pytest.mark.parametrize(
    "changes", [{"remote_host": None}, {"remote_port": 0}, {"remote_port": True}, {"remote_request_id": 7}]
)
def test_a_handle_without_a_sound_address_is_left_alone(changes: dict[str, Any]) -> None:
    assert NATIVE.release(PARAMS | changes) is None
