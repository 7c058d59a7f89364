"""What happens around requests: clients leave, queues fill, workers drain or load, an engine dies."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from tandem_worker.lease import EndReason
from tandem_worker.lease_keeper import HeldPrompt, LeaseKeeper
from tandem_worker.request import Request, SamplingParams
from tandem_worker.server.app import make_app
from tandem_worker.server.serving import Serving

LONG = {"prompt": "hello", "max_tokens": 200, "ignore_eos": True}


def _is_free(worker: Any) -> bool:
    return bool(worker.engine.load.kv_blocks_used == 0 and worker.num_running == 0)


async def _is_running(client: Any, number: int = 1) -> None:
    await client.until(lambda worker: worker.engine.load.num_running == number)


async def test_a_client_that_leaves_in_a_stream_frees_its_blocks(start_worker: Any) -> None:
    client = await start_worker()
    body = {"model": "tiny", **LONG, "stream": True}
    async with client.session.post(f"{client.url}/v1/completions", json=body) as response:
        await response.content.readline()
        assert client.worker.engine.load.kv_blocks_used > 0
        response.close()
    await client.until(_is_free)
    assert await client.metric("tandem_worker_kv_blocks", state="used") == 0
    assert await client.metric("tandem_worker_output_tokens_total") < 200


@pytest.mark.parametrize("extra", [{}, {"kv_transfer_params": {"do_remote_decode": True}}])
async def test_a_client_that_leaves_without_a_word_frees_its_blocks(
    start_worker: Any, extra: dict[str, Any]
) -> None:
    client = await start_worker(engine={"max_batched_tokens": 8})
    body = LONG | {"prompt": "hello " * 40, "max_tokens": 10} | extra
    request = asyncio.create_task(client.post("/v1/completions", **body))
    await _is_running(client)
    request.cancel()
    await client.until(_is_free)
    assert len(client.worker.leases) == 0
    assert await client.metric("tandem_worker_output_tokens_total") < 10


async def test_kv_that_was_computed_but_not_leased_is_freed(start_worker: Any) -> None:
    """The client of a prefill leg leaves after the last step and before the answer."""
    client = await start_worker()
    request = Request("r", tuple(range(20)), SamplingParams(max_tokens=1), hold_kv=True)
    async with client.worker.run(request) as outputs:
        assert [output.finish_reason async for output in outputs] == ["length"]
        await client.until(lambda worker: worker.engine.load.kv_blocks_used == 3)
    await client.until(_is_free)


async def test_leases_end_with_the_keepers_clock(start_worker: Any) -> None:
    client = await start_worker()
    worker, now = client.worker, 100.0
    keeper = LeaseKeeper(worker.engine, worker.metrics, worker.changed, clock=lambda: now)
    request = Request("r", tuple(range(20)), SamplingParams(max_tokens=1), hold_kv=True)
    async with worker.run(request) as outputs:
        assert [output.finish_reason async for output in outputs] == ["length"]
        assert keeper.grant("r", HeldPrompt(20, b""), ttl=30) == 130
        now = 129.9
        keeper.sweep()
        assert keeper.find("r") == HeldPrompt(20, b"")
        assert keeper.renew("r", ttl=30) == 159.9
        now = 159.9
        assert keeper.find("r") is None
        assert keeper.renew("r", ttl=30) is None
        assert not keeper.release("r", EndReason.PULLED)
        await client.until(lambda it: it.engine.load.kv_blocks_used == 0)
    assert await client.metric("tandem_worker_kv_leases_ended_total", reason="expired") == 1


async def test_more_requests_than_may_wait_are_told_to_come_back(start_worker: Any) -> None:
    client = await start_worker(engine={"max_num_seqs": 2}, max_waiting=1)
    running = [asyncio.create_task(client.post("/v1/completions", **LONG)) for _ in range(3)]
    await client.until(lambda worker: worker.num_running == 3)
    body = {"model": "tiny", "prompt": "late", "max_tokens": 1}
    async with client.session.post(f"{client.url}/v1/completions", json=body) as response:
        answer = await response.json()
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert answer["error"]["code"] == "overloaded"
    assert [status for status, _ in await asyncio.gather(*running)] == [200] * 3
    await client.complete(prompt="late", max_tokens=1)


async def test_draining_finishes_what_runs_and_refuses_the_rest(start_worker: Any) -> None:
    client = await start_worker()
    running = asyncio.create_task(client.complete(**LONG))
    await _is_running(client)
    draining = asyncio.create_task(client.worker.drain(60))
    await client.until(lambda worker: worker.is_draining)
    status, answer = await client.post("/v1/completions", prompt="late")
    assert (status, answer["error"]["code"]) == (503, "draining")
    async with client.session.get(f"{client.url}/readyz") as response:
        assert (response.status, (await response.json())["status"]) == (503, "draining")
    async with client.session.get(f"{client.url}/healthz") as response:
        assert response.status == 200
    assert await draining
    assert (await running)["usage"]["completion_tokens"] == 200


async def test_a_drain_ends_with_its_deadline(start_worker: Any) -> None:
    client = await start_worker()
    running = asyncio.create_task(client.complete(**LONG))
    await _is_running(client)
    assert not await client.worker.drain(0.001)
    await running


def _break(client: Any) -> None:
    """Makes the engine fail in its next step, as a device would."""

    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    client.worker.engine.post(lambda engine: setattr(engine, "step", fail))


async def test_a_dead_engine_fails_every_request_and_says_so(
    start_worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = await start_worker(engine={"max_num_seqs": 2})
    body = {"model": "tiny", **LONG, "stream": True}
    async with client.session.post(f"{client.url}/v1/completions", json=body) as response:
        await response.content.readline()
        waiting = [asyncio.create_task(client.post("/v1/completions", **LONG)) for _ in range(4)]
        await client.until(lambda worker: worker.num_running == 5)
        _break(client)
        rest = await response.text()
    assert '"code":"engine_dead"' in rest
    assert rest.endswith("data: [DONE]\n\n")
    for status, answer in await asyncio.gather(*waiting):
        assert (status, answer["error"]["code"]) == (503, "engine_dead")
        assert "device lost" in answer["error"]["message"]
    status, answer = await client.post("/v1/completions", prompt="later")
    assert (status, answer["error"]["code"]) == (503, "engine_dead")
    for path in ("/healthz", "/readyz"):
        async with client.session.get(client.url + path) as health:
            assert health.status == 503
            assert "device lost" in (await health.json())["status"]
    assert "device lost" in caplog.text


async def test_an_engine_that_dies_at_the_first_token_is_a_plain_error(start_worker: Any) -> None:
    client = await start_worker()
    _break(client)
    status, answer = await client.post("/v1/completions", **LONG, stream=True)
    assert (status, answer["error"]["code"]) == (503, "engine_dead")


async def test_a_command_that_fails_hurts_only_its_caller(start_worker: Any) -> None:
    client = await start_worker()
    with pytest.raises(ZeroDivisionError):
        await client.worker.engine.call(lambda _: 1 // 0)
    client.worker.engine.post(lambda _: 1 // 0)
    await client.complete(prompt="goes on", max_tokens=1)


async def test_until_the_model_is_loaded_the_worker_lives_but_is_not_ready() -> None:
    async with TestClient(TestServer(make_app(Serving(CollectorRegistry())))) as client:
        assert (await client.get("/healthz")).status == 200
        ready = await client.get("/readyz")
        assert (ready.status, await ready.json()) == (503, {"status": "loading"})
        for path in ("/v1/completions", "/v1/chat/completions"):
            response = await client.post(path, json={"model": "tiny", "prompt": "a"})
            assert (response.status, (await response.json())["error"]["code"]) == (503, "loading")
            assert response.headers["Retry-After"] == "1"
        assert (await client.get("/v1/models")).status == 503


async def test_metrics_tell_what_the_worker_is_and_does(start_worker: Any) -> None:
    client = await start_worker(role="decode", service="chat", pool="blue", revision="r1")
    await client.complete(prompt="hello there, you", max_tokens=5, ignore_eos=True)
    labels = {"llmservice": "chat", "pool": "blue", "role": "decode"}
    assert await client.metric("tandem_worker_info", **labels, model="tiny", revision="r1", device="cpu") == 1
    assert await client.metric("tandem_worker_output_tokens_total", **labels) == 5
    assert await client.metric("tandem_worker_prompt_tokens_total", **labels) == 17
    assert await client.metric("tandem_worker_queue_wait_seconds_count", **labels) == 1
    assert await client.metric("tandem_worker_step_seconds_count", **labels, phase="prefill") == 1
    assert await client.metric("tandem_worker_step_seconds_count", **labels, phase="decode") == 4
    assert await client.metric("tandem_worker_kv_blocks", **labels, state="free") == 64
    assert await client.metric("tandem_worker_kv_blocks", **labels, state="cached") == 2
    assert await client.metric("tandem_worker_kv_usage_ratio", **labels) == 0
