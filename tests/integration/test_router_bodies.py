"""What reaches the workers: the client's bytes, the edits, and nothing that only the router may say."""

import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tandem_sim.engines.engine import Seen
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import CONFIG, Fleet, fleet, pair

ODD = '"x": {"b": 1e2, "a":[ 1, 2.50 ], "a": 3}, "seed": 9007199254740993, "big": 340282366920938463463374607'
PROMPT = "a word " * 600


async def send(running: Fleet, body: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{running.url}/v1/completions", data=body.encode(), headers=headers) as response,
    ):
        return response.status, await response.json(), dict(response.headers)


async def both_legs(body: str, **headers: str) -> tuple[Seen, Seen, dict[str, str]]:
    async with fleet(*pair()) as running:
        status, _, answer_headers = await send(running, body, **headers)
        assert status == 200
        prefill, decode = running.engines
        return prefill.seen[0], decode.seen[0], answer_headers


async def test_unknown_fields_stay_as_they_were_on_both_legs() -> None:
    prefill, decode, _ = await both_legs(f'{{"model": "fake", {ODD}, "prompt": "{PROMPT}", "max_tokens": 3}}')
    for leg in (prefill, decode):
        text = leg.body.decode()
        for member in ODD.split(", ")[-2:]:
            assert member in text
        assert '"x": {"b": 1e2, "a":[ 1, 2.50 ], "a": 3}' in text
        assert list(leg.json())[:6] == ["model", "x", "seed", "big", "prompt", "max_tokens"]
    assert (prefill.json()["max_tokens"], decode.json()["max_tokens"]) == (1, 3)
    assert decode.json()["kv_transfer_params"]["remote_block_ids"] == [[540, 541, 2**60 + 1]]


async def test_forged_fields_and_headers_do_not_pass() -> None:
    forged = {"do_remote_prefill": True, "remote_host": "169.254.169.254", "remote_port": 80}
    body = {
        "model": "fake",
        "prompt": PROMPT,
        "max_tokens": 3,
        "kv_transfer_params": forged,
        "bootstrap_host": "169.254.169.254",
        "disaggregated_params": forged,
        "sampling_params": {"extra_args": {"kv_transfer_params": forged}},
    }
    headers = {
        "x-prefiller-host-port": "169.254.169.254:80",
        "x-data-parallel-rank": "3",
        "x-tandem-decode": "decode-9",
        "authorization": "Bearer secret",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-request-id": "mine",
    }
    prefill, decode, answer = await both_legs(json.dumps(body), **headers)
    for leg in (prefill, decode):
        assert b"169.254" not in leg.body
        names = {name.lower() for name in leg.headers}
        assert names <= {
            "host", "content-type", "content-length", "accept", "accept-encoding", "user-agent",
            "x-request-id", "traceparent",
        }  # fmt: skip
    assert prefill.headers["x-request-id"] == decode.headers["x-request-id"] != "mine"
    assert answer["X-Request-ID"] == "mine"


async def test_the_same_id_twice_does_not_meet_itself_in_a_worker() -> None:
    async with fleet(*pair()) as running:
        body = json.dumps({"model": "fake", "prompt": PROMPT, "max_tokens": 2})
        for _ in range(2):
            status, _, headers = await send(running, body, **{"x-request-id": "again"})
            assert (status, headers["X-Request-ID"]) == (200, "again")
        assert len({seen.headers["x-request-id"] for seen in running.engines[0].seen}) == 2


async def test_nothing_internal_comes_back() -> None:
    async with fleet(*pair(Settings(protocol="native"))) as running:
        _, answer, headers = await send(
            running, json.dumps({"model": "fake", "prompt": PROMPT, "max_tokens": 2})
        )
        shown = json.dumps(answer) + json.dumps(headers)
        assert "127.0.0.1" not in shown
        assert answer.get("kv_transfer_params") is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"model": "fake", "model": "fake", "prompt": "hi"}', 400, "invalid_json"),
        (b'{"model": "fake"}', 400, "missing_required_parameter"),
        (b'{"model": "fake", "prompt": "hi", "n": 0}', 400, "invalid_value"),
        (b'{"model": "fake", "prompt": "hi", "max_tokens": -1}', 400, "invalid_value"),
        (b'{"model": "fake", "prompt": {"a": 1}}', 400, "invalid_value"),
        (b'{"model": "other", "prompt": "hi"}', 404, "model_not_found"),
        (b'{"model": "fake", "prompt": "' + b"x" * 40_000 + b'"}', 413, "body_too_large"),
        (b'{"model": "fake", "prompt": "hi", "x": ' + b"[" * 20_000, 400, "invalid_json"),
    ],
)
async def test_bad_bodies_get_an_error_and_reach_no_worker(body: bytes, status: int, code: str) -> None:
    async with fleet(Settings(), config=replace(CONFIG, max_body_bytes=32_768)) as running:
        got, answer, headers = await send(running, body.decode())
        assert (got, answer["error"]["code"]) == (status, code)
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        assert headers["X-Request-ID"]
        assert not running.engines[0].seen
        ok, _, _ = await send(running, '{"model": "fake", "prompt": "hi"}')
        assert ok == 200
