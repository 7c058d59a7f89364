"""What simulated engines hold against a router that gets a protocol wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Protocol, Settings
from tandem_sim.engines.text import digest_of, tokens_of

PROMPT = "the program is free software"
TEXT = "".join(tokens_of(digest_of(PROMPT), 4))
BODY = {"model": "fake", "prompt": PROMPT, "max_tokens": 4}
SOON = 0.2


class Pair:
    """A prefill and a decode engine, asked without a router."""

    def __init__(self, session: aiohttp.ClientSession, prefill: SimEngine, decode: SimEngine) -> None:
        self.session, self.prefill, self.decode = session, prefill, decode

    async def post(self, engine: SimEngine, headers: Any = None, **changes: Any) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{engine.port}/v1/completions"
        async with self.session.post(
            url, json=BODY | changes, headers={"x-request-id": "r", **(headers or {})}
        ) as response:
            is_json = response.content_type == "application/json"
            return response.status, await (response.json() if is_json else response.text())

    def together(self, prefill: Any, decode: Any) -> "asyncio.Future[Any]":
        one_token = {"max_tokens": 1} | prefill
        return asyncio.gather(self.post(self.prefill, **one_token), self.post(self.decode, **decode))

    async def hangs(self, waiting: "asyncio.Future[Any]") -> None:
        done, _ = await asyncio.wait([waiting], timeout=SOON)
        assert not done
        waiting.cancel()


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def pair(protocol: Protocol, **changes: Any) -> Pair:
            base = Settings(protocol=protocol, **changes)
            engines = [
                await stack.enter_async_context(running(replace(base, role=role)))
                for role in ("prefill", "decode")
            ]
            return Pair(session, *engines)

        yield pair


def text(answer: tuple[int, Any]) -> str:
    assert answer[0] == 200, answer
    return str(answer[1]["choices"][0]["text"])


def kv(**params: Any) -> dict[str, Any]:
    return {"kv_transfer_params": params}


def room(pair: Pair, number: int) -> dict[str, Any]:
    port = pair.prefill.site.bootstrap_port
    return {"bootstrap_host": "127.0.0.1", "bootstrap_port": port, "bootstrap_room": number}


async def test_sglang_legs_meet_in_a_room_or_wait(start: Any) -> None:
    pair = await start("sglang")
    together = await pair.together(room(pair, 2**62 + 1), room(pair, 2**62 + 1))
    assert text(together[1]) == TEXT
    await pair.hangs(pair.together(room(pair, 1), room(pair, 2)))
    assert (await pair.post(pair.decode))[0] == 400


async def test_sglang_gives_up_on_a_partner_that_never_comes(start: Any) -> None:
    pair = await start("sglang", wait_seconds=0.1)
    assert (await pair.post(pair.prefill, **room(pair, 1)))[0] == 500
    assert (await pair.post(pair.decode, **room(pair, 2)))[0] == 500
    status, events = await pair.post(pair.decode, stream=True, **room(pair, 3))
    assert (status, '"code":500' in events) == (200, True)
    assert pair.prefill.kv.stats()["open"] == 0


async def mooncake(pair: Pair, engine_id: str | None = None, **changes: Any) -> dict[str, Any]:
    address = f"http://127.0.0.1:{pair.prefill.site.bootstrap_port}"
    async with pair.session.get(f"{address}/query") as response:
        ranks = await response.json()
    params = {
        "do_remote_prefill": True,
        "transfer_id": "x",
        "remote_bootstrap_addr": address,
        "remote_engine_id": engine_id or ranks["0"]["engine_id"],
    }
    return kv(**params | changes)


async def test_mooncake_matches_transfer_ids_and_engine_ids(start: Any) -> None:
    pair = await start("mooncake", ranks=2)
    ask = kv(do_remote_decode=True, transfer_id="x")
    decode = await mooncake(pair)
    assert text((await pair.together(ask, decode))[1]) == TEXT
    await pair.hangs(pair.together(ask, await mooncake(pair, transfer_id="y")))
    wrong = await mooncake(pair, engine_id="of an earlier run")
    assert (await pair.post(pair.decode, **wrong))[0] == 500
    pair.prefill.restart()
    assert (await pair.post(pair.decode, **decode))[0] == 500
    other_rank = {"headers": {"x-data-parallel-rank": "1"}} | ask
    await pair.hangs(pair.together(other_rank, await mooncake(pair)))
    assert (await pair.post(pair.prefill, {"x-data-parallel-rank": "2"}, **ask))[0] == 400


async def test_push_matches_by_transfer_id_or_else_by_request_id(start: Any) -> None:
    pair = await start("nixl-push")
    ask, told = {"do_remote_decode": True}, {"do_remote_prefill": True, "remote_request_id": "r"}
    answer = (await pair.post(pair.prefill, max_tokens=1, **kv(**ask, transfer_id="first")))[1]
    keys = ("remote_engine_id", "remote_host", "remote_port", "tp_size")
    told |= {key: answer["kv_transfer_params"][key] for key in keys}
    assert text(await pair.post(pair.decode, **kv(**told, transfer_id="first"))) == TEXT
    assert text((await pair.together(kv(**ask), kv(**told)))[1]) == TEXT
    await pair.hangs(pair.together(kv(**ask, transfer_id="a"), kv(**told, transfer_id="b")))
    incomplete = {key: value for key, value in told.items() if key != "tp_size"}
    assert (await pair.post(pair.decode, **kv(**incomplete)))[0] == 500
    pair.prefill.restart()
    assert (await pair.post(pair.decode, **kv(**told)))[0] == 500


async def context(pair: Pair, number: int = 2**62 + 1) -> tuple[dict[str, Any], list[int]]:
    params = {"request_type": "context_only", "disagg_request_id": number}
    status, answer = await pair.post(pair.prefill, max_tokens=1, disaggregated_params=params)
    assert status == 200, answer
    got = answer["choices"][0]["disaggregated_params"]
    return got | {"request_type": "generation_only"}, answer["prompt_token_ids"]


async def test_trtllm_is_exact_about_ids_and_fields(start: Any) -> None:
    pair = await start("trtllm")
    params, ids = await context(pair)
    assert params["ctx_request_id"] == 2**62 + 1
    rounded = params | {"ctx_request_id": int(float(params["ctx_request_id"]))}
    assert (await pair.post(pair.decode, disaggregated_params=rounded))[0] == 500
    assert text(await pair.post(pair.decode, prompt=ids, disaggregated_params=params)) == TEXT
    assert (await pair.post(pair.decode, prompt=ids, disaggregated_params=params))[0] == 500
    for field in (kv(), {"bootstrap_room": 1}, {"min_p": 0.1, "rid": "x"}):
        status, answer = await pair.post(pair.decode, **field)
        assert (status, "Extra inputs" in answer["error"]["message"]) == (400, True)
    assert (await pair.post(pair.decode, disaggregated_params={"request_type": "generation_only"}))[0] == 400
    assert text(await pair.post(pair.decode)) == TEXT


async def test_trtllm_with_a_key_takes_only_signed_params(start: Any) -> None:
    pair = await start("trtllm", auth_key="secret")
    params, _ = await context(pair)
    status, _ = await pair.post(
        pair.decode, {"x-trtllm-disagg-auth": "sha256=00"}, disaggregated_params=params
    )
    assert status == 400


@pytest.mark.parametrize(("protocol", "status"), [("nixl", 500), ("native", 502)])
async def test_a_restart_makes_handles_void(start: Any, protocol: Protocol, status: int) -> None:
    pair = await start(protocol)
    asked = await pair.post(pair.prefill, max_tokens=1, **kv(do_remote_decode=True))
    pair.prefill.restart()
    assert (await pair.post(pair.decode, **kv(**asked[1]["kv_transfer_params"])))[0] == status


@pytest.mark.parametrize(("protocol", "status"), [("nixl", 200), ("native", 502)])
async def test_lost_kv_means_what_it_means_to_the_engine(start: Any, protocol: Protocol, status: int) -> None:
    pair = await start(protocol)
    pair.prefill.faults.inject(Fault.LOST_KV)
    asked = await pair.post(pair.prefill, max_tokens=1, **kv(do_remote_decode=True))
    got = await pair.post(pair.decode, **kv(**asked[1]["kv_transfer_params"]))
    assert got[0] == status
    assert status != 200 or text(got) != TEXT


async def test_a_killed_engine_refuses_connections_and_its_partner_fails_at_once(start: Any) -> None:
    pair = await start("nixl")
    pair.prefill.faults.inject(Fault.KILLED_AFTER_PREFILL)
    asked = await pair.post(pair.prefill, max_tokens=1, **kv(do_remote_decode=True))
    assert asked[0] == 200
    async with asyncio.timeout(1):
        assert (await pair.post(pair.decode, **kv(**asked[1]["kv_transfer_params"])))[0] == 500
    with pytest.raises(aiohttp.ClientConnectionError):
        await pair.post(pair.prefill)


async def test_a_slow_link_and_a_slow_start_take_their_time(start: Any) -> None:
    pair = await start("nixl", slow_seconds=0.15, start_seconds=0.1)
    assert (await pair.post(pair.decode))[0] == 503
    await asyncio.sleep(0.1)
    asked = await pair.post(pair.prefill, max_tokens=1, **kv(do_remote_decode=True))
    pair.decode.faults.inject(Fault.SLOW_LINK)
    began = asyncio.get_running_loop().time()
    assert text(await pair.post(pair.decode, **kv(**asked[1]["kv_transfer_params"]))) == TEXT
    assert asyncio.get_running_loop().time() - began >= 0.15
