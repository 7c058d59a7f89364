"""The legs of every protocol: only named fields change, ids are exact, secrets sign, nothing leaks."""

import hashlib
import hmac
import json
from typing import Any

import pytest

from tandem_router.engines import ENGINES, engines
from tandem_router.engines.base import Pairing, Probe
from tandem_router.engines.trtllm import AUTH_HEADER
from tandem_router.json_body import JsonBody, parse_object
from tandem_router.types import Endpoint, Role

KEY = 2**62 + 1
PREFILL = Endpoint("p", "10.0.0.7", 8100, Role.PREFILL, "prefill", "any", "m", "1", bootstrap_port=8999)
PUSH, MOONCAKE, SGLANG, TRTLLM = (ENGINES[n] for n in ("vllm-push", "vllm-mooncake", "sglang", "trtllm"))
REQUEST = (
    b'{"model": "m", "prompt": "hi", "max_tokens": 9, "stream": true, "seed": 9007199254740993, "x": 1.50}'
)
COORDINATES = {
    "remote_engine_id": "e-1",
    "remote_host": "10.0.0.7",
    "remote_port": 5600,
    "tp_size": 2,
    "pp_size": 1,
}


def request(**changes: Any) -> JsonBody:
    return parse_object(REQUEST).with_values(changes)


def pairing(found: Any = None, key: int = KEY) -> Pairing:
    return Pairing("req-1", key, PREFILL, found)


def legs(engine: Any, body: JsonBody, pair: Pairing, params: Any = None) -> tuple[Any, Any]:
    prefill, decode = engine.prepare_prefill(body, pair), engine.prepare_decode(body, pair, params)
    return json.loads(prefill.body), json.loads(decode.body)


@pytest.mark.parametrize("name", ENGINES)
def test_every_leg_keeps_what_is_not_named_byte_for_byte(name: str) -> None:
    engine = ENGINES[name]
    found = {"0": "e-1"} if name == "vllm-mooncake" else COORDINATES
    params = {"disaggregated_params": {}, "prompt_token_ids": None} if name == "trtllm" else COORDINATES
    decode = engine.prepare_decode(parse_object(REQUEST), pairing(found), params).body
    assert b'"seed": 9007199254740993' in decode
    assert b'"x": 1.50' in decode
    assert b'"max_tokens": 9' in decode
    prefill = engine.prepare_prefill(parse_object(REQUEST), pairing(found)).body
    assert b'"x": 1.50' in prefill
    assert json.loads(prefill)["stream"] is False


def test_sglang_legs_meet_in_one_room() -> None:
    prefill, decode = legs(SGLANG, request(), pairing())
    meeting = {"bootstrap_host": "10.0.0.7", "bootstrap_port": 8999, "bootstrap_room": KEY}
    for leg in (prefill, decode):
        assert {key: value for key, value in leg.items() if key.startswith("bootstrap")} == meeting
    assert prefill["max_tokens"] == decode["max_tokens"] == 9
    assert (prefill["stream"], decode["stream"]) == (False, True)
    assert SGLANG.concurrent(None)


def test_addresses_of_ipv6_are_bracketed_and_ports_have_a_default() -> None:
    six = Endpoint("p", "fd00::7", 8100, Role.PREFILL, "p", "sglang", "m", "1")
    leg = json.loads(SGLANG.prepare_decode(request(), Pairing("r", 1, six), None).body)
    assert (leg["bootstrap_host"], leg["bootstrap_port"]) == ("[fd00::7]", 8998)


def test_mooncake_asks_for_engine_ids_and_spreads_over_their_ranks() -> None:
    found = MOONCAKE.learn({"0": {"engine_id": "a", "worker_addr": {}}, "1": {"engine_id": "b"}})
    assert found == {"0": "a", "1": "b"}
    assert MOONCAKE.probe(PREFILL) == Probe(8999, "/query")
    for key, rank, engine_id in ((4, "0", "a"), (5, "1", "b")):
        prefill = MOONCAKE.prepare_prefill(request(), pairing(found, key))
        decode = MOONCAKE.prepare_decode(request(), pairing(found, key), None)
        asked = json.loads(prefill.body)["kv_transfer_params"]
        told = json.loads(decode.body)["kv_transfer_params"]
        assert prefill.headers == {"x-data-parallel-rank": rank}
        assert told == {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": asked["transfer_id"],
            "remote_bootstrap_addr": "http://10.0.0.7:8999",
            "remote_engine_id": engine_id,
        }


@pytest.mark.parametrize("answer", [{}, [], "x", {"0": 3}, {"0": {"engine_id": 7}}])
def test_an_odd_bootstrap_answer_teaches_nothing(answer: Any) -> None:
    assert MOONCAKE.learn(answer) is None


def test_push_is_serial_until_an_answer_has_told_the_coordinates() -> None:
    assert not PUSH.concurrent(None)
    answer = {"kv_transfer_params": COORDINATES | {"remote_request_id": "cmpl-1", "remote_block_ids": [[1]]}}
    found = PUSH.learn(answer)
    assert found == COORDINATES
    assert PUSH.concurrent(found)
    prefill, decode = legs(PUSH, request(), pairing(found))
    told = decode["kv_transfer_params"]
    assert told["transfer_id"] == prefill["kv_transfer_params"]["transfer_id"]
    assert told["remote_engine_id"] == "e-1"
    assert "remote_block_ids" not in told
    serial = json.loads(PUSH.prepare_decode(request(), pairing(), answer["kv_transfer_params"]).body)
    assert serial["kv_transfer_params"]["remote_request_id"] == "cmpl-1"
    assert PUSH.learn({"kv_transfer_params": {"remote_engine_id": "e-1"}}) is None


@pytest.mark.parametrize("engine", [PUSH, MOONCAKE])
def test_a_prefill_leg_beside_its_decode_leg_ends_by_its_limit_only(engine: Any) -> None:
    """KV is kept where the limit ended the leg; a stop string or the end token would free it."""
    body = request(stop=["."], stop_token_ids=[3], min_tokens=2, max_completion_tokens=9)
    prefill, decode = legs(engine, body, pairing({"0": "a"} if engine is MOONCAKE else COORDINATES))
    assert (prefill["max_tokens"], prefill["max_completion_tokens"], prefill["ignore_eos"]) == (1, 1, True)
    assert not {"stop", "stop_token_ids", "min_tokens", "stream_options"} & set(prefill)
    assert (decode["stop"], decode["min_tokens"]) == (["."], 2)


CONTEXT = {
    "choices": [
        {
            "finish_reason": "length",
            "disaggregated_params": {
                "request_type": "context_only",
                "first_gen_tokens": [17],
                "ctx_request_id": 2**53 + 1,
                "disagg_request_id": KEY,
                "encoded_opaque_state": "AAEC",
                "ctx_info_endpoint": ["tcp://a", "tcp://b"],
                "first_gen_log_probs": [[{"17": {"logprob": -0.1000000001}}]],
            },
        }
    ],
    "prompt_token_ids": [5, 6],
}


def test_trtllm_legs_carry_only_what_it_knows() -> None:
    body = request(max_completion_tokens=9, min_tokens=1, stream_options={"include_usage": False})
    prefill = json.loads(TRTLLM.prepare_prefill(body, pairing()).body)
    assert prefill == {
        "model": "m",
        "prompt": "hi",
        "max_tokens": 1,
        "stream": False,
        "seed": 9007199254740993,
        "x": 1.5,
        "disaggregated_params": {"request_type": "context_only", "disagg_request_id": KEY | 2**42},
    }
    read = TRTLLM.read_prefill(body, json.loads(json.dumps(CONTEXT)))
    assert read.params is not None
    decode = json.loads(TRTLLM.prepare_decode(body, pairing(), read.params).body)
    expected = CONTEXT["choices"][0]["disaggregated_params"] | {"request_type": "generation_only"}  # type: ignore[index]
    assert decode["disaggregated_params"] == expected
    assert decode["prompt"] == [5, 6]
    assert not {"kv_transfer_params", "prompt_token_ids", "bootstrap_room"} & set(decode)


def test_trtllm_ids_are_never_the_engines_own() -> None:
    leg = json.loads(TRTLLM.prepare_prefill(request(), pairing(key=3)).body)
    assert leg["disaggregated_params"]["disagg_request_id"] == 2**42 + 3


def test_trtllm_chat_gets_the_token_ids_beside_its_messages() -> None:
    body = parse_object(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    read = TRTLLM.read_prefill(body, CONTEXT)
    decode = json.loads(TRTLLM.prepare_decode(body, pairing(), read.params).body)
    assert (decode["prompt_token_ids"], "prompt" in decode) == ([5, 6], False)


@pytest.mark.parametrize(("finish", "finished"), [("stop", True), ("length", False), ("not_finished", False)])
def test_trtllm_context_that_stopped_needs_no_generation(finish: str, finished: bool) -> None:
    choice = CONTEXT["choices"][0] | {"finish_reason": finish}  # type: ignore[index]
    read = TRTLLM.read_prefill(request(), CONTEXT | {"choices": [choice]})
    assert (read.finished, read.params is None) == (finished, finished)


def test_trtllm_signs_protected_fields_with_the_deployments_key() -> None:
    signing = engines(trtllm_auth_key="secret")["trtllm"]
    read = signing.read_prefill(request(), CONTEXT)
    signed = signing.prepare_decode(request(), pairing(), read.params)
    text = b'{"ctx_info_endpoint":"tcp://a","encoded_opaque_state":"AAEC"}'
    assert signed.headers == {AUTH_HEADER: "sha256=" + hmac.new(b"secret", text, hashlib.sha256).hexdigest()}
    assert b"secret" not in signed.body
    assert TRTLLM.prepare_decode(request(), pairing(), read.params).headers == {}
    plain = {"disaggregated_params": {"ctx_request_id": 1}, "prompt_token_ids": None}
    assert signing.prepare_decode(request(), pairing(), plain).headers == {}
