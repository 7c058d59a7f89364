"""Real decode workers are killed while they stream: every stream ends complete, with one worker's text."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tandem_router.config import RouterConfig
from tandem_router.runtime import Runtime
from tandem_router.server import listening, new_runtime, publisher
from tandem_router.types import Endpoint, Role

KILLS = int(os.environ.get("TANDEM_TEST_KILLS", "1"))
"""The workers' starts take most of the test's time."""
START_TRIES = 400
CLIENTS = 8
TOKENS = 160
CONFIG = RouterConfig("", ("127.0.0.1",), 0, model="tiny", service="test", request_timeout=60.0)
GREEDY: dict[str, Any] = {"temperature": 0}
SEEDED: dict[str, Any] = {"temperature": 1.2, "seed": 5, "top_p": 0.9, "presence_penalty": 0.5}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def endpoint(name: str, role: Role, port: int) -> Endpoint:
    return Endpoint(name, "127.0.0.1", port, role, role, "native", "tiny", "r")


@dataclass
class WorkerProcess:
    """`python -m tandem_worker` on ports of its own, which it keeps when it is started again."""

    name: str
    model: Path
    port: int
    kv_port: int
    process: Process | None = None

    @property
    def endpoint(self) -> Endpoint:
        return endpoint(self.name, Role.DECODE, self.port)

    async def start(self) -> None:
        options = {
            "--model": self.model,
            "--served-model-name": "tiny",
            "--role": Role.DECODE,
            "--port": self.port,
            "--kv-port": self.kv_port,
            "--device": "cpu",
            "--threads": 1,
            "--kv-blocks": 512,
            "--block-size": 8,
            "--max-batched-tokens": 128,
            "--max-model-len": 400,
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tandem_worker", "--random-weights", *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with aiohttp.ClientSession() as session:
            for _ in range(START_TRIES):
                if await self._is_ready(session):
                    return
                await asyncio.sleep(0.1)
        raise TimeoutError(f"{self.name} does not get ready")

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{self.port}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()


@asynccontextmanager
async def service(model: Path, prefill: Endpoint) -> AsyncIterator[tuple[str, Runtime, list[WorkerProcess]]]:
    """A router, a prefill worker and two decode workers, which are given."""
    workers = [WorkerProcess(f"decode-{index}", model, free_port(), free_port()) for index in range(2)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            stack.push_async_callback(worker.kill)
        await asyncio.gather(*(worker.start() for worker in workers))
        runtime = await stack.enter_async_context(new_runtime(CONFIG))
        port = await stack.enter_async_context(listening(runtime))
        publisher(runtime)([prefill, *(worker.endpoint for worker in workers)])
        yield f"http://127.0.0.1:{port}", runtime, workers


def body_of(index: int) -> tuple[str, dict[str, Any]]:
    """Different prompts, both APIs, greedy and seeded."""
    text = f"{index} tell me a story of {'many ' * (3 * index)}things"
    sampling = SEEDED if index % 4 > 1 else GREEDY
    body = {"model": "tiny", "max_tokens": TOKENS, "ignore_eos": True, "stream": True, **sampling}
    body["stream_options"] = {"include_usage": True}
    if index % 2:
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": text}]}
    return "/v1/completions", body | {"prompt": text}


@dataclass
class Told:
    text: str = ""
    usage: Any = None
    finish: str | None = None
    done: bool = False
    error: Any = None


async def told(
    session: aiohttp.ClientSession, url: str, index: int, begun: asyncio.Event | None = None
) -> Told:
    """What a client gets; `begun` is set when a fifth of it is there."""
    path, body = body_of(index)
    got, chunks = Told(), 0
    async with session.post(url + path, json=body) as response:
        async for line in response.content:
            data = line.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                got.done = True
            elif data:
                chunk = json.loads(data)
                got.error = chunk.get("error") or got.error
                got.usage = chunk.get("usage") or got.usage
                for choice in chunk.get("choices", ()):
                    got.text += choice["text"] if "text" in choice else choice["delta"].get("content") or ""
                    got.finish = choice["finish_reason"] or got.finish
                chunks += 1
                if begun is not None and chunks > TOKENS / 5:
                    begun.set()
    return got


def without_cached(answer: Told) -> Told:
    counts = {key: answer.usage[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return replace(answer, usage=counts)


@pytest.mark.timeout(60 + 15 * KILLS)
async def test_no_stream_is_lost_when_decode_workers_are_killed(
    tiny_checkpoint: Path, start_worker: Any, record_testsuite_property: Callable[[str, object], None]
) -> None:
    engine = {"block_size": 8, "num_blocks": 512, "max_batched_tokens": 128, "max_model_len": 400}
    prefill = await start_worker(role="prefill", engine=engine)
    given = endpoint("prefill", Role.PREFILL, prefill.running.http_port)
    async with (
        service(tiny_checkpoint, given) as (url, runtime, workers),
        aiohttp.ClientSession() as session,
    ):
        whole = await asyncio.gather(*(told(session, prefill.url, index) for index in range(CLIENTS)))
        expected = [without_cached(answer) for answer in whole]
        assert all(answer.done and answer.finish == "length" for answer in expected)
        for round_ in range(KILLS):
            victim = workers[round_ % 2]
            begun = asyncio.Event()
            clients = [asyncio.ensure_future(told(session, url, i, begun)) for i in range(CLIENTS)]
            await begun.wait()
            await victim.kill()
            for answer, right in zip(await asyncio.gather(*clients), expected, strict=True):
                assert without_cached(answer) == right
            if round_ < KILLS - 1:
                await victim.start()
        labels = {"llmservice": "test", "model": "tiny"}
        resumed = runtime.metrics.registry.get_sample_value("tandem_router_streams_resumed_total", labels)
        assert resumed is not None
        assert resumed >= KILLS, "each kill hit some streams"
        record_testsuite_property("streams", KILLS * CLIENTS)
        record_testsuite_property("went on elsewhere", resumed)
        assert dict(runtime.loads) == {}
