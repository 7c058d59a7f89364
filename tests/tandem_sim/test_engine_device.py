"""Simulated engines as load targets: time, room, caches, and what they say of themselves."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest
import zmq
import zmq.asyncio
from click.testing import CliRunner

from tandem_perf.latency import DecodeModel, LatencyModel, PrefillModel, TransferModel
from tandem_sim.engines.command import command
from tandem_sim.engines.engine import SimEngine
from tandem_sim.engines.kv_events import END, as_int
from tandem_sim.engines.prefix_cache import Cleared, PrefixCache, Removed, Stored
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import EventFormat, Protocol, Settings
from tandem_sim.engines.text import digest_of, ids_after, token_ids, tokens_of, word_of
from tandem_wire.kv_pb2 import DescribeRequest, WatchLoadRequest
from tandem_wire.kv_pb2_grpc import WorkerStub

PROMPT = " ".join(f"w{n}" for n in range(40))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def post(
    session: aiohttp.ClientSession, engine: SimEngine, path: str = "completions", **body: Any
) -> Any:
    body = {"model": "fake", "max_tokens": 4} | body
    async with session.post(f"http://127.0.0.1:{engine.port}/v1/{path}", json=body) as response:
        return response.status, await response.json()


def test_a_prompt_that_ends_with_its_answer_gives_the_rest() -> None:
    whole = ids_after(digest_of(PROMPT), 8)
    begun = PROMPT + "".join(map(word_of, whole[:3]))
    assert ids_after(digest_of(begun), 5) == whole[3:]
    assert ids_after(digest_of(token_ids(PROMPT) + whole[:3]), 5) == whole[3:]
    assert ids_after(digest_of(PROMPT + " more"), 5) != whole[:5]


async def test_prompts_take_turns_and_decodes_share_steps(session: aiohttp.ClientSession) -> None:
    latency = LatencyModel(PrefillModel(0.02, 0.0, 0.0), DecodeModel(0.02, 0.0, 0.0), TransferModel(0.0, 1e9))
    async with running(Settings(latency=latency)) as engine:
        clock = asyncio.get_running_loop().time
        began = clock()
        await asyncio.gather(*(post(session, engine, prompt=f"{n}") for n in range(5)))
        together = clock() - began
        for n in range(5):
            await post(session, engine, prompt=f"{n}")
        apart = clock() - began - together
    # Together: five prompts one after another, then the last of them decodes.
    assert 0.16 <= together < 0.8 * apart


async def test_places_are_limited_and_more_is_refused_as_busy(session: aiohttp.ClientSession) -> None:
    async with running(Settings(token_seconds=0.05, max_running=1, max_waiting=1)) as engine:
        answers = [asyncio.ensure_future(post(session, engine, prompt="a b")) for _ in range(3)]
        statuses = sorted([(await answer)[0] for answer in answers])
        assert statuses == [200, 200, 429]
        assert (engine.compute.running, engine.compute.waiting, engine.compute.kv_used) == (0, 0, 0)


async def test_kv_room_makes_requests_wait_and_leavers_give_it_back(session: aiohttp.ClientSession) -> None:
    async with running(Settings(token_seconds=0.2, kv_tokens=10)) as engine:
        first = asyncio.ensure_future(post(session, engine, prompt="a b c d"))
        await engine.until(lambda: engine.compute.kv_used == 8)
        second = asyncio.ensure_future(post(session, engine, prompt="a b c d"))
        await engine.until(lambda: engine.compute.waiting == 1)
        second.cancel()
        await engine.until(lambda: engine.compute.waiting == 0)
        first.cancel()
        await engine.until(lambda: engine.compute.kv_used == 0)


async def test_a_prefix_that_was_computed_is_reported_as_cached(session: aiohttp.ClientSession) -> None:
    async with running(Settings(prefix_cache=True, block_size=16)) as engine:
        _, first = await post(session, engine, prompt=PROMPT)
        _, second = await post(session, engine, prompt=PROMPT + " and more")
    assert "prompt_tokens_details" not in first["usage"]
    assert second["usage"]["prompt_tokens_details"] == {"cached_tokens": 32}


@pytest.mark.parametrize("fmt", ["array", "map"])
async def test_kv_events_in_both_encodings_and_their_replay(
    session: aiohttp.ClientSession, fmt: EventFormat
) -> None:
    settings = Settings(prefix_cache=True, block_size=16, kv_tokens=48, events=fmt, events_topic="kv@a@b")
    async with running(settings) as engine:
        assert engine.publisher is not None
        context = zmq.asyncio.Context()
        replay = context.socket(zmq.DEALER)
        replay.connect(f"tcp://127.0.0.1:{engine.publisher.replay_port}")
        await post(session, engine, prompt=PROMPT)
        await post(session, engine, prompt=" ".join(f"x{n}" for n in range(32)))
        engine.restart()
        await replay.send_multipart([b"", (0).to_bytes(8, "big")])
        batches = []
        async with asyncio.timeout(5):
            while (parts := await replay.recv_multipart())[2] != END:
                batches.append((parts[1], parts[2], msgspec.msgpack.decode(parts[3])))
        replay.close(linger=0)
        context.term()
    assert [int.from_bytes(number, "big") for _, number, _ in batches] == [0, 1, 2]
    assert {topic for topic, _, _ in batches} == {b"kv@a@b"}
    names = PrefixCache(16, 0).names(token_ids(PROMPT))
    stored, second, cleared = [events for _, _, (_, events, rank) in batches if rank == 0]
    if fmt == "array":
        kind, hashes, parent, ids, block_size, *_ = stored[0]
        assert hashes == [as_int(name) for name in names]
        assert [event[0] for event in second] == ["BlockStored", "BlockRemoved"]
        assert cleared == [["AllBlocksCleared"]]
    else:
        kind, hashes, parent = (stored[0][key] for key in ("type", "block_hashes", "parent_block_hash"))
        ids, block_size = stored[0]["token_ids"], stored[0]["block_size"]
        assert hashes == names
        assert [event["type"] for event in second] == ["BlockStored", "BlockRemoved"]
        assert cleared == [{"type": "AllBlocksCleared"}]
    assert (kind, parent, ids, block_size) == ("BlockStored", None, token_ids(PROMPT)[:32], 16)


async def test_events_are_published_as_they_happen(session: aiohttp.ClientSession) -> None:
    async with running(Settings(prefix_cache=True, events="array")) as engine:
        assert engine.publisher is not None
        context = zmq.asyncio.Context()
        subscriber = context.socket(zmq.SUB)
        subscriber.subscribe(b"")
        subscriber.connect(f"tcp://127.0.0.1:{engine.publisher.port}")
        async with asyncio.timeout(5):
            while not await subscriber.poll(20):
                engine.restart()
            assert (await subscriber.recv_multipart())[0] == b""
        subscriber.close(linger=0)
        context.term()


def test_a_cache_stores_what_is_new_and_gives_up_the_oldest() -> None:
    cache = PrefixCache(2, 3)
    (first,) = cache.store([1, 2, 3, 4])
    assert isinstance(first, Stored)
    assert (len(first.hashes), first.parent, first.token_ids) == (2, None, (1, 2, 3, 4))
    assert cache.store([1, 2, 3, 4, 5]) == []
    stored, removed = cache.store([1, 2, 9, 9, 8, 8])
    assert isinstance(stored, Stored)
    assert isinstance(removed, Removed)
    assert (stored.parent, removed.hashes) == (first.hashes[0], (first.hashes[1],))
    assert (cache.look([1, 2, 3, 4]), cache.look([1, 2]), cache.look([7, 7])) == (2, 1, 0)
    assert cache.clear() == [Cleared()]
    assert len(cache) == 0


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        ("nixl", 'vllm:num_requests_running{engine="0",model_name="fake"} 0'),
        ("mooncake", 'vllm:cache_config_info{block_size="16",engine="0",'),
        ("sglang", 'sglang:max_total_num_tokens{model_name="fake"} 160'),
        ("trtllm", 'trtllm_kv_cache_max_blocks{model_name="fake"} 10'),
    ],
)
async def test_metrics_have_the_names_of_the_engine(
    session: aiohttp.ClientSession, protocol: Protocol, line: str
) -> None:
    async with (
        running(Settings(protocol=protocol, kv_tokens=160)) as engine,
        session.get(f"http://127.0.0.1:{engine.port}/metrics") as response,
    ):
        assert line in await response.text()


async def test_shapes_beyond_plain_text(session: aiohttp.ClientSession) -> None:
    text = "".join(tokens_of(digest_of("a b"), 4))
    async with running(Settings()) as engine:
        _, several = await post(session, engine, prompt="a b", n=2, echo=True, logprobs=1)
        assert [choice["text"] for choice in several["choices"]] == ["a b" + text] * 2
        assert len(several["choices"][0]["logprobs"]["tokens"]) == 4
        tool = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
        _, called = await post(
            session, engine, "chat/completions", messages=[{"role": "user", "content": "a"}], tools=[tool]
        )
        choice = called["choices"][0]
        assert (choice["finish_reason"], choice["message"]["tool_calls"][0]["function"]["name"]) == (
            "tool_calls",
            "look_up",
        )
        _, ids = await post(session, engine, prompt="a b", return_token_ids=True)
        assert ids["choices"][0]["token_ids"] == ids_after(digest_of("a b"), 4)
        _, vectors = await post(session, engine, "embeddings", input=["a", "b"])
        assert [each["index"] for each in vectors["data"]] == [0, 1]


def test_the_command_teaches() -> None:
    shown = CliRunner().invoke(command, ["--help"])
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("nixl-push", "/sim/faults", "killed_after_prefill"))
    wrong = CliRunner().invoke(command, ["--profile", "nothing/like/this"])
    assert (wrong.exit_code, "known:" in wrong.output) == (2, True)


async def test_a_native_engine_tells_its_load(session: aiohttp.ClientSession) -> None:
    settings = Settings(protocol="native", token_seconds=0.05, kv_tokens=160, model="m")
    async with (
        running(settings) as engine,
        grpc.aio.insecure_channel(f"127.0.0.1:{engine.site.kv_port}") as channel,
    ):
        stub = WorkerStub(channel)
        described = await stub.Describe(DescribeRequest())
        assert (described.model, described.engine_id, described.num_blocks) == ("m", engine.kv.engine_id, 10)
        watch = aiter(stub.WatchLoad(WatchLoadRequest(min_interval_ms=1)))
        assert (await anext(watch)).num_running == 0
        asked = asyncio.ensure_future(post(session, engine, prompt=PROMPT))
        async with asyncio.timeout(5):
            load = await anext(watch)
            assert (load.num_running, load.kv_blocks_used, load.kv_blocks_total) == (1, 2, 10)
            while (await anext(watch)).num_running:
                pass
        assert (await asked)[0] == 200
