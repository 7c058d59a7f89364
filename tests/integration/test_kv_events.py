"""The index follows real publishers: vLLM's events over ZMQ, the native worker's over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tandem_router.kv_events.follower import KvFollower
from tandem_router.kv_index import KvIndex
from tandem_router.kv_keys import root_key
from tandem_router.types import Endpoint, Role
from tandem_sim.engines.kv_events import Publisher, publishing
from tandem_sim.engines.prefix_cache import Cleared, Removed, Stored
from tandem_wire.router_settings import KvEvents

PROMPT = tuple(range(1, 65))
FIRST = Stored((b"a" * 32, b"b" * 32), None, PROMPT[:32])
SECOND = Stored((b"c" * 32,), b"b" * 32, PROMPT[32:48])


def vllm(name: str = "w") -> Endpoint:
    return Endpoint(name, "127.0.0.1", 8100, Role.PREFILL, "p", "vllm", "m", "1")


def matched(index: KvIndex, name: str = "w") -> int:
    return index.match(PROMPT, root_key("m", ""), "", 0.0).get(name, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for comes over the wire
            await asyncio.sleep(0.005)


@asynccontextmanager
async def following(publisher: Publisher) -> AsyncIterator[tuple[KvIndex, KvFollower]]:
    index = KvIndex()
    follower = KvFollower(KvEvents(port=publisher.port, replay_port=publisher.replay_port), index)
    follower.know([vllm()])
    try:
        yield index, follower
    finally:
        await follower.close()


@pytest.mark.parametrize("fmt", ["array", "map"])
async def test_events_of_both_encodings_earlier_ones_included(fmt: Any) -> None:
    async with publishing("127.0.0.1", 0, 0, topic="kv@w@m", fmt=fmt, block_size=16) as publisher:
        publisher.publish([FIRST])
        async with following(publisher) as (index, follower):
            await until(lambda: matched(index) == 32)
            publisher.publish([SECOND])
            await until(lambda: matched(index) == 48)
            publisher.publish([Removed((b"b" * 32,))])
            await until(lambda: matched(index) == 16)
            publisher.publish([Cleared(), FIRST])
            await until(lambda: matched(index) == 32)
            follower.know([])
            assert matched(index) == 0


async def test_a_gap_is_filled_by_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        source = publishing("127.0.0.1", 0, 0, topic="", fmt="map", block_size=16)
        publisher = await stack.enter_async_context(source)
        index, _ = await stack.enter_async_context(following(publisher))
        publisher.publish([Stored((b"z" * 32,), None, (9,) * 16)])
        await until(lambda: len(index) == 1)
        publisher.publish([Cleared()])
        with monkeypatch.context() as patch:
            patch.setattr(publisher._pub, "send_multipart", lambda *_: None)
            publisher.publish([FIRST])
        publisher.publish([SECOND])
        await until(lambda: matched(index) == 48)


async def test_an_engine_that_starts_again_has_nothing_cached() -> None:
    async with AsyncExitStack() as stack:
        first = publishing("127.0.0.1", 0, 0, topic="", fmt="array", block_size=16)
        async with first as publisher:
            ports = publisher.port, publisher.replay_port
            index, _ = await stack.enter_async_context(following(publisher))
            publisher.publish([FIRST])
            publisher.publish([SECOND])
            await until(lambda: matched(index) == 48)
        again = await stack.enter_async_context(
            publishing("127.0.0.1", *ports, topic="", fmt="array", block_size=16)
        )

        def repeat() -> bool:
            again.publish([FIRST])
            return matched(index) == 32

        await until(repeat)


async def test_the_native_stream(start_worker: Any) -> None:
    worker = await start_worker(engine={"block_size": 4})
    await worker.complete(prompt=list(PROMPT[:9]), max_tokens=1)
    index = KvIndex()
    follower = KvFollower(KvEvents(), index)
    port = int(worker.kv_address.rpartition(":")[2])
    follower.know([Endpoint("w", "127.0.0.1", 1, Role.PREFILL, "p", "native", "m", "1", kv_port=port)])
    try:
        await until(lambda: matched(index) == 8)
        await worker.complete(prompt=list(PROMPT[:33]), max_tokens=1)
        await until(lambda: matched(index) == 32)
    finally:
        await follower.close()
