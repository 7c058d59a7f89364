"""Hand-overs that cannot be: a clear 5xx before the first byte, nothing leaked, and never wrong tokens."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from tandem_wire import kv_pb2, kv_pb2_grpc
from tandem_worker.lease import EndReason
from tandem_worker.transfer.chunks import pack_chunk

ASK = {"do_remote_decode": True}
PROMPT = [(7 * i * i + i) % 250 for i in range(20)]
BODY: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 6, "ignore_eos": True}


@pytest.fixture
async def prefill(start_worker: Any) -> Any:
    return await start_worker(role="prefill")


@pytest.fixture
async def decode(start_worker: Any) -> Any:
    return await start_worker(role="decode")


async def _params(prefill: Any, prompt: list[int] = PROMPT) -> dict[str, Any]:
    answer = await prefill.complete(prompt=prompt, kv_transfer_params=ASK)
    params: dict[str, Any] = answer["kv_transfer_params"]
    return params


async def _refused(decode: Any, params: dict[str, Any], code: str, status: int = 502, **body: Any) -> Any:
    """Streamed or not, the answer is a plain error; nothing of the attempt stays behind."""
    for stream in (False, True):
        got, answer = await decode.post(
            "/v1/completions", **(BODY | body), stream=stream, kv_transfer_params=params
        )
        assert (got, answer["error"]["code"]) == (status, code), answer
    await decode.until(lambda worker: worker.engine.load.kv_blocks_used == 0 and worker.num_running == 0)
    return answer["error"]["message"]


async def _use_up(worker: Any) -> None:
    """Other prompts take the blocks that became free."""
    for start in range(4):
        await worker.complete(prompt=[(start * 50 + i) % 250 for i in range(200)], max_tokens=1)


async def test_unclaimed_kv_is_freed_after_its_time_and_refused_then(start_worker: Any, decode: Any) -> None:
    prefill = await start_worker(role="prefill", lease_ttl=0.05)
    params = await _params(prefill)
    await prefill.until(lambda worker: worker.engine.load.kv_blocks_used == 0)
    assert await prefill.metric("tandem_worker_kv_leases_ended_total", reason="expired") == 1
    assert await prefill.metric("tandem_worker_kv_leases") == 0
    await _use_up(prefill)
    message = await _refused(decode, params, "kv_unknown_handle")
    assert params["remote_request_id"] in message
    assert "expired" in message
    assert await decode.metric("tandem_worker_kv_transfer_failures_total", reason="unknown_handle") == 2


async def test_a_handle_is_good_for_one_pull(prefill: Any, decode: Any) -> None:
    params = await _params(prefill)
    await decode.complete(**BODY, kv_transfer_params=params)
    await prefill.until(lambda worker: len(worker.leases) == 0)
    await _refused(decode, params, "kv_unknown_handle")


async def test_a_failed_import_leaves_the_handle_for_another_try(prefill: Any, decode: Any) -> None:
    params = await _params(prefill)
    await _refused(decode, params | {"remote_engine_id": "of an earlier start"}, "kv_wrong_engine")
    assert len(prefill.worker.leases) == 1
    await decode.complete(**BODY, kv_transfer_params=params)


async def test_a_dead_peer(prefill: Any, decode: Any) -> None:
    params = await _params(prefill)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    message = await _refused(decode, params | {"remote_port": port}, "kv_unreachable")
    assert "hand-over" in message


async def test_a_handle_of_another_prompt(prefill: Any, decode: Any) -> None:
    other = await _params(prefill, [*PROMPT[:-1], PROMPT[-1] + 1])
    assert "other tokens" in await _refused(decode, other, "kv_prompt_mismatch")
    shorter = await _params(prefill, PROMPT[:-1])
    assert "19 tokens" in await _refused(decode, shorter, "kv_prompt_mismatch")


@pytest.mark.parametrize("change", [{"block_size": 4}, {"dtype": "bfloat16"}])
async def test_workers_of_another_layout(start_worker: Any, prefill: Any, change: dict[str, Any]) -> None:
    decode = await start_worker(role="decode", engine=change)
    await _refused(decode, await _params(prefill), "kv_layout_mismatch")


class BrokenPeer(kv_pb2_grpc.WorkerServicer):
    """A prefill worker whose Pull goes wrong in the way that is asked for."""

    def __init__(self, pull: Callable[[], AsyncIterator[kv_pb2.KvChunk]]) -> None:
        self._pull = pull

    async def Pull(self, request: Any, context: Any) -> AsyncIterator[kv_pb2.KvChunk]:  # noqa: N802
        async for chunk in self._pull():
            yield chunk


@pytest.fixture
async def serve_peer() -> AsyncIterator[Any]:
    servers: list[grpc.aio.Server] = []

    async def start(pull: Callable[[], AsyncIterator[kv_pb2.KvChunk]]) -> int:
        server = grpc.aio.server()
        kv_pb2_grpc.add_WorkerServicer_to_server(BrokenPeer(pull), server)
        port: int = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        await server.stop(None)


async def _good_chunk(prefill: Any, params: dict[str, Any]) -> kv_pb2.KvChunk:
    block_ids = params["remote_block_ids"][0]
    data = await prefill.worker.engine.call(lambda engine: engine.read_blocks(block_ids))
    return pack_chunk(range(len(block_ids)), data)


def _damaged(chunk: kv_pb2.KvChunk, **changes: Any) -> kv_pb2.KvChunk:
    copy = kv_pb2.KvChunk.FromString(chunk.SerializeToString())
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


async def test_kv_that_arrives_damaged_is_never_used(prefill: Any, decode: Any, serve_peer: Any) -> None:
    params = await _params(prefill)
    good = await _good_chunk(prefill, params)
    flipped = bytes([good.data[0] ^ 1]) + good.data[1:]
    bad = (
        _damaged(good, data=flipped),
        _damaged(good, data=good.data[:-1]),
        _damaged(good, first_block=1),
        _damaged(good, num_blocks=0, data=b""),
        _damaged(good, num_blocks=9),
        None,
    )
    for chunk in bad:

        async def pull(chunk: kv_pb2.KvChunk | None = chunk) -> AsyncIterator[kv_pb2.KvChunk]:
            if chunk is not None:
                yield chunk

        port = await serve_peer(pull)
        await _refused(decode, params | {"remote_port": port}, "kv_corrupt")
    assert await decode.metric("tandem_worker_kv_transfer_failures_total", reason="corrupt") == 2 * len(bad)

    async def pull_well() -> AsyncIterator[kv_pb2.KvChunk]:
        yield good

    port = await serve_peer(pull_well)
    expected = await prefill.complete(**BODY)
    answer = await decode.complete(**BODY, kv_transfer_params=params | {"remote_port": port})
    assert answer["choices"][0]["text"] == expected["choices"][0]["text"]


async def test_a_peer_that_dies_in_the_middle(prefill: Any, decode: Any, serve_peer: Any) -> None:
    async def pull() -> AsyncIterator[kv_pb2.KvChunk]:
        raise RuntimeError("out of memory")
        yield

    port = await serve_peer(pull)
    await _refused(decode, (await _params(prefill)) | {"remote_port": port}, "kv_failed")


async def test_a_client_that_leaves_while_kv_is_pulled(prefill: Any, decode: Any, serve_peer: Any) -> None:
    pulling, ended = asyncio.Event(), asyncio.Event()

    async def pull() -> AsyncIterator[kv_pb2.KvChunk]:
        pulling.set()
        try:
            await asyncio.Event().wait()
            yield kv_pb2.KvChunk()
        finally:
            ended.set()

    params = (await _params(prefill)) | {"remote_port": await serve_peer(pull)}
    request = asyncio.create_task(decode.post("/v1/completions", **BODY, kv_transfer_params=params))
    await pulling.wait()
    assert decode.worker.engine.load.kv_blocks_used == 3
    request.cancel()
    await ended.wait()
    await decode.until(lambda worker: worker.engine.load.kv_blocks_used == 0 and worker.num_running == 0)


async def test_a_client_that_leaves_releases_the_handle(start_worker: Any, prefill: Any) -> None:
    """The decode worker is full, so the import waits for room; then nobody wants it any more."""
    decode = await start_worker(role="decode", engine={"max_num_seqs": 1})
    busy = asyncio.create_task(decode.complete(prompt=[1], max_tokens=240, ignore_eos=True))
    await decode.until(lambda worker: worker.engine.load.num_running == 1)
    params = await _params(prefill)
    request = asyncio.create_task(decode.post("/v1/completions", **BODY, kv_transfer_params=params))
    await decode.until(lambda worker: worker.num_waiting == 1)
    assert await decode.metric("tandem_worker_requests_waiting") == 1
    request.cancel()
    await prefill.until(lambda worker: len(worker.leases) == 0)
    assert await prefill.metric("tandem_worker_kv_leases_ended_total", reason="cancelled") == 1
    await busy


async def test_an_import_waits_for_room(start_worker: Any, prefill: Any) -> None:
    decode = await start_worker(role="decode", engine={"max_num_seqs": 1})
    busy = asyncio.create_task(decode.complete(prompt=[1], max_tokens=200, ignore_eos=True))
    await decode.until(lambda worker: worker.engine.load.num_running == 1)
    request = asyncio.create_task(decode.complete(**BODY, kv_transfer_params=await _params(prefill)))
    await decode.until(lambda worker: worker.num_waiting == 1)
    assert not busy.done()
    assert (await request)["usage"]["completion_tokens"] == 6
    assert (await busy)["usage"]["completion_tokens"] == 200


async def test_an_import_that_finds_no_room_in_time(
    start_worker: Any, prefill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem_worker.importer.ROOM_SECONDS", 0.02)
    decode = await start_worker(role="decode", engine={"num_blocks": 4, "max_model_len": 32})
    await decode.worker.engine.call(lambda engine: engine.reserve("all", 32))
    params = await _params(prefill)
    status, answer = await decode.post("/v1/completions", **BODY, kv_transfer_params=params)
    assert (status, answer["error"]["code"]) == (503, "no_room")
    assert len(prefill.worker.leases) == 1
    await decode.worker.engine.call(lambda engine: engine.release_reservation("all"))
    await decode.complete(**BODY, kv_transfer_params=params)


async def test_reserved_room_is_used_by_its_request(start_worker: Any, prefill: Any) -> None:
    decode = await start_worker(role="decode", engine={"num_blocks": 4, "max_model_len": 32})
    async with grpc.aio.insecure_channel(decode.kv_address) as channel:
        request = kv_pb2.ReserveRequest(request_id="r", num_tokens=len(PROMPT))
        reservation = await kv_pb2_grpc.WorkerStub(channel).Reserve(request)
    params = await _params(prefill)
    drained = asyncio.create_task(decode.worker.drain(60))
    await decode.until(lambda worker: worker.is_draining)
    await _refused_while_draining(decode, params)
    params["reservation_id"] = reservation.reservation_id
    answer = await decode.complete(**BODY, kv_transfer_params=params)
    assert answer["usage"]["completion_tokens"] == 6
    assert await decode.metric("tandem_worker_kv_leases_ended_total", reason="used") == 1
    assert await drained
    await decode.until(lambda worker: worker.engine.load.kv_blocks_used == 0)


async def test_a_handle_is_no_reservation(prefill: Any, start_worker: Any) -> None:
    """A mixed worker's held KV must not end because somebody names it as reserved room."""
    mixed = await start_worker()
    held = (await _params(mixed))["remote_request_id"]
    params = (await _params(prefill)) | {"reservation_id": held}
    await mixed.complete(**BODY, kv_transfer_params=params)
    assert held in mixed.worker.leases
    assert mixed.worker.leases.release(held, EndReason.CANCELLED)
    await mixed.until(lambda worker: worker.engine.load.kv_blocks_used == 0)


async def _refused_while_draining(decode: Any, params: dict[str, Any]) -> None:
    status, answer = await decode.post("/v1/completions", **BODY, kv_transfer_params=params)
    assert (status, answer["error"]["code"]) == (503, "draining")


async def test_roles_refuse_the_other_leg(prefill: Any, decode: Any) -> None:
    params = await _params(prefill)
    status, answer = await prefill.post("/v1/completions", **BODY, kv_transfer_params=params)
    assert (status, answer["error"]["code"]) == (503, "wrong_role")
    status, answer = await decode.post("/v1/completions", **BODY, kv_transfer_params=ASK)
    assert (status, answer["error"]["code"]) == (503, "wrong_role")
    for worker in (prefill, decode):
        await worker.complete(**BODY)
