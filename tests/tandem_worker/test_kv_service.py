"""Every call of the KV service, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tandem_wire import kv_pb2, kv_pb2_grpc
from tandem_worker.kv import KvLayout
from tandem_worker.transfer.chunks import pack_layout, unpack_chunk, unpack_layout

PROMPT = list(range(20))  # 2.5 blocks of 8


@pytest.fixture
async def client(start_worker: Any) -> Any:
    return await start_worker()


@pytest.fixture
async def stub(client: Any) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(client.kv_address) as channel:
        yield kv_pb2_grpc.WorkerStub(channel)


async def _prefill(client: Any, prompt: list[int] = PROMPT) -> dict[str, Any]:
    answer = await client.complete(prompt=prompt, kv_transfer_params={"do_remote_decode": True})
    params: dict[str, Any] = answer["kv_transfer_params"]
    return params


async def _fails(call: Any, code: grpc.StatusCode, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), word in (caught.value.details() or "")) == (code, True), caught.value


async def _read_all(stream: Any) -> list[Any]:
    return [message async for message in stream]


async def _read_on(stream: Any) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_describe(client: Any, stub: Any) -> None:
    description = await stub.Describe(kv_pb2.DescribeRequest())
    assert description.protocol_version == 1
    assert description.engine_id == client.worker.engine_id
    assert (description.model, description.role, description.num_blocks) == ("tiny", kv_pb2.ROLE_MIXED, 64)
    assert unpack_layout(description.layout) == KvLayout(2, 2, 8, 8, "float32")


async def test_pull_gives_the_blocks_from_any_first_block(client: Any, stub: Any) -> None:
    params = await _prefill(client)
    layout = client.worker.layout
    request = {"handle": params["remote_request_id"], "layout": pack_layout(layout)}
    (whole,) = await _read_all(stub.Pull(kv_pb2.PullRequest(**request)))
    assert (whole.first_block, whole.num_blocks) == (0, 3)
    unpack_chunk(whole, layout, 0, 3)
    (last,) = await _read_all(stub.Pull(kv_pb2.PullRequest(**request, first_block=2)))
    blocks = unpack_chunk(last, layout, 2, 1)
    block_ids = params["remote_block_ids"][0]
    assert blocks.data == await client.worker.engine.call(lambda engine: engine.read_blocks(block_ids[2:]))
    assert await _read_all(stub.Pull(kv_pb2.PullRequest(**request, first_block=3))) == []
    assert len(client.worker.leases) == 1
    assert (
        await client.metric("tandem_worker_kv_transfer_bytes_total", direction="out")
        == 4 * layout.block_bytes
    )


async def test_pull_refuses_what_would_be_the_wrong_kv(client: Any, stub: Any) -> None:
    handle = (await _prefill(client))["remote_request_id"]
    layout = client.worker.layout
    other = KvLayout(layout.num_layers, layout.num_kv_heads, layout.head_dim, 16, layout.dtype)
    bad = (
        ({"handle": "unknown"}, grpc.StatusCode.NOT_FOUND, "unknown_handle: "),
        ({"engine_id": "another"}, grpc.StatusCode.FAILED_PRECONDITION, "wrong_engine: "),
        ({"layout": pack_layout(other)}, grpc.StatusCode.FAILED_PRECONDITION, "layout_mismatch: "),
        ({"layout": None}, grpc.StatusCode.FAILED_PRECONDITION, "layout_mismatch: "),
        ({"num_tokens": 19}, grpc.StatusCode.FAILED_PRECONDITION, "prompt_mismatch: "),
        ({"prompt_digest": b"x" * 16}, grpc.StatusCode.FAILED_PRECONDITION, "prompt_mismatch: "),
    )
    for changes, code, word in bad:
        fields = {"handle": handle, "layout": pack_layout(layout), **changes}
        await _fails(_read_all(stub.Pull(kv_pb2.PullRequest(**fields))), code, word)
    assert handle in client.worker.leases


async def test_release_frees_at_once_and_only_once(client: Any, stub: Any) -> None:
    handle = (await _prefill(client))["remote_request_id"]
    assert client.worker.engine.load.kv_blocks_used == 3
    assert await client.metric("tandem_worker_kv_leases") == 1
    request = kv_pb2.ReleaseRequest(handle=handle, reason="pulled")
    assert (await stub.Release(request)).released
    await client.until(lambda worker: worker.engine.load.kv_blocks_used == 0)
    assert not (await stub.Release(request)).released
    assert not (await stub.Release(kv_pb2.ReleaseRequest(handle="never"))).released
    assert await client.metric("tandem_worker_kv_leases_ended_total", reason="pulled") == 1
    assert await client.metric("tandem_worker_kv_leases_ended_total") == 1
    assert await client.metric("tandem_worker_kv_leases") == 0


@pytest.mark.parametrize(
    ("reason", "counted"),
    [("cancelled", "cancelled"), ("failed", "failed"), ("", "cancelled"), ("my dog ate it", "cancelled")],
)
async def test_release_reasons_are_counted(client: Any, stub: Any, reason: str, counted: str) -> None:
    handle = (await _prefill(client))["remote_request_id"]
    await stub.Release(kv_pb2.ReleaseRequest(handle=handle, reason=reason))
    assert await client.metric("tandem_worker_kv_leases_ended_total", reason=counted) == 1


async def test_a_reservation_holds_room_until_released(client: Any, stub: Any) -> None:
    first = await stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=200))
    assert client.worker.engine.load.kv_blocks_used == 25
    second = await stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=200))
    assert first.reservation_id != second.reservation_id
    request = kv_pb2.ReserveRequest(request_id="r", num_tokens=200)
    await _fails(stub.Reserve(request), grpc.StatusCode.RESOURCE_EXHAUSTED, "200")
    assert (await stub.Release(kv_pb2.ReleaseRequest(handle=first.reservation_id))).released
    await client.until(lambda worker: worker.engine.load.kv_blocks_used == 25)
    await stub.Reserve(request)


async def test_a_reservation_ends_with_its_time(client: Any, stub: Any) -> None:
    await stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=20, ttl_ms=50))
    assert client.worker.engine.load.kv_blocks_used == 3
    await client.until(lambda worker: worker.engine.load.kv_blocks_used == 0)
    assert await client.metric("tandem_worker_kv_leases_ended_total", reason="expired") == 1


@pytest.mark.parametrize("num_tokens", [0, 256, 2**32 - 1])
async def test_impossible_reservations(stub: Any, num_tokens: int) -> None:
    request = kv_pb2.ReserveRequest(request_id="r", num_tokens=num_tokens)
    await _fails(stub.Reserve(request), grpc.StatusCode.INVALID_ARGUMENT, "255")


async def test_renew_extends(client: Any, stub: Any) -> None:
    params = await _prefill(client)
    handle = params["remote_request_id"]
    reply = await stub.Renew(kv_pb2.RenewRequest(handle=handle, ttl_ms=120_000))
    assert reply.expires_at_ms / 1000 == pytest.approx(params["remote_blocks_expiry_time"] + 90, abs=5)
    await _fails(stub.Renew(kv_pb2.RenewRequest(handle="never")), grpc.StatusCode.NOT_FOUND, "never")


async def test_the_load_is_told_now_and_after_each_change(client: Any, stub: Any) -> None:
    stream = stub.WatchLoad(kv_pb2.WatchLoadRequest())
    first = await stream.read()
    assert (first.num_running, first.kv_blocks_used, first.kv_blocks_total) == (0, 0, 64)
    assert (first.num_leases, first.draining, first.role) == (0, False, kv_pb2.ROLE_MIXED)
    await _prefill(client)
    while (load := await stream.read()).num_leases == 0:
        assert not load.draining
    assert load.kv_blocks_used == 3
    await stub.SetRole(kv_pb2.SetRoleRequest(role=kv_pb2.ROLE_DECODE))
    while load.role != kv_pb2.ROLE_DECODE:
        load = await stream.read()
    stream.cancel()


async def test_the_load_is_told_at_most_once_in_an_interval(client: Any, stub: Any) -> None:
    stream = stub.WatchLoad(kv_pb2.WatchLoadRequest(min_interval_ms=60_000))
    await stream.read()
    await client.complete(prompt=PROMPT, max_tokens=50, ignore_eos=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await stream.read()


async def test_kv_events_tell_what_is_cached_and_then_live(client: Any, stub: Any) -> None:
    await client.complete(prompt=PROMPT, max_tokens=1)
    stream = stub.WatchKvEvents(kv_pb2.WatchKvEventsRequest())
    snapshot = await stream.read()
    kinds = [event.WhichOneof("event") for event in snapshot.events]
    assert kinds == ["cleared", "stored", "stored"]
    one, two = (event.stored for event in snapshot.events[1:])
    assert (list(one.token_ids), list(two.token_ids)) == (PROMPT[:8], PROMPT[8:16])
    assert (one.parent_hash, two.parent_hash) == (b"", one.block_hash)
    await client.complete(prompt=[9] * 8, max_tokens=1)
    live = await stream.read()
    assert live.sequence == snapshot.sequence + 1
    assert [list(event.stored.token_ids) for event in live.events] == [[9] * 8]
    stream.cancel()
    again = stub.WatchKvEvents(kv_pb2.WatchKvEventsRequest(from_sequence=live.sequence))
    assert await again.read() == live


async def test_set_role_changes_what_is_taken(client: Any, stub: Any) -> None:
    reply = await stub.SetRole(kv_pb2.SetRoleRequest(role=kv_pb2.ROLE_DECODE))
    assert reply.previous == kv_pb2.ROLE_MIXED
    body = {"prompt": PROMPT, "kv_transfer_params": {"do_remote_decode": True}}
    status, answer = await client.post("/v1/completions", **body)
    assert (status, answer["error"]["code"]) == (503, "wrong_role")
    assert (
        await stub.SetRole(kv_pb2.SetRoleRequest(role=kv_pb2.ROLE_PREFILL))
    ).previous == kv_pb2.ROLE_DECODE
    await client.complete(**body)
    reserve = stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=9))
    await _fails(reserve, grpc.StatusCode.FAILED_PRECONDITION, "prefill")
    assert (await stub.Describe(kv_pb2.DescribeRequest())).role == kv_pb2.ROLE_PREFILL
    assert await client.metric("tandem_worker_requests_running", role="prefill") == 0
    assert await client.metric("tandem_worker_kv_leases", role="prefill") == 1
    assert await client.metric("tandem_worker_kv_leases", role="mixed") == 0


@pytest.mark.parametrize("role", [0, 9])
async def test_roles_that_are_none(stub: Any, role: int) -> None:
    request = kv_pb2.SetRoleRequest(role=role)  # type: ignore[arg-type]  # on purpose
    await _fails(stub.SetRole(request), grpc.StatusCode.INVALID_ARGUMENT, "no role")


async def test_drain_waits_for_leases(client: Any, stub: Any) -> None:
    handle = (await _prefill(client))["remote_request_id"]
    reply = await stub.Drain(kv_pb2.DrainRequest(deadline_ms=10))
    assert (reply.drained, reply.num_running, reply.num_leases) == (False, 0, 1)
    draining = asyncio.ensure_future(stub.Drain(kv_pb2.DrainRequest(deadline_ms=60_000)))
    await stub.Release(kv_pb2.ReleaseRequest(handle=handle, reason="pulled"))
    assert (await draining).drained
    status, answer = await client.post("/v1/completions", prompt=PROMPT)
    assert (status, answer["error"]["code"]) == (503, "draining")
    reserve = stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=9))
    await _fails(reserve, grpc.StatusCode.UNAVAILABLE, "draining")


async def test_a_dead_engine_is_told_to_all_callers(client: Any, stub: Any) -> None:
    handle = (await _prefill(client))["remote_request_id"]
    load, events = (
        stub.WatchLoad(kv_pb2.WatchLoadRequest()),
        stub.WatchKvEvents(kv_pb2.WatchKvEventsRequest()),
    )
    await asyncio.gather(load.read(), events.read())

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    client.worker.engine.post(lambda engine: setattr(engine, "step", fail))
    await client.post("/v1/completions", prompt=PROMPT)
    await _fails(_read_on(load), grpc.StatusCode.UNAVAILABLE, "device lost")
    await _fails(_read_on(events), grpc.StatusCode.UNAVAILABLE, "device lost")
    reserve = stub.Reserve(kv_pb2.ReserveRequest(request_id="r", num_tokens=9))
    await _fails(reserve, grpc.StatusCode.UNAVAILABLE, "device lost")
    pull = kv_pb2.PullRequest(handle=handle, layout=pack_layout(client.worker.layout))
    await _fails(_read_all(stub.Pull(pull)), grpc.StatusCode.UNAVAILABLE, "device lost")


async def test_a_request_over_the_limit_is_refused(stub: Any) -> None:
    request = kv_pb2.ReleaseRequest(handle="x" * (2 << 20))
    await _fails(stub.Release(request), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max")
