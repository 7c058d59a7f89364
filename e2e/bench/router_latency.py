"""What the router adds to a request: the same two legs asked directly and through it, in turns, in one run.

    python e2e/bench/router_latency.py --requests 300

Workers are fake engines that answer at once, each in a process of its own: what is left is the way.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import click

HOST = "127.0.0.1"
PREFILL_PORT, DECODE_PORT, ROUTER_PORT = 18111, 18112, 18110
WORD = "a-longer-word-x "
WARM_UP = 20
START_SECONDS = 20

Times = tuple[float, float]
"""Seconds to the first byte of the answer's body, and to its end."""


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[None]:
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        started.terminate()
        await started.wait()


def endpoints() -> dict[str, Any]:
    common = {"address": HOST, "engine": "vllm", "model": "fake", "revision": "1"}
    ports = {"prefill": PREFILL_PORT, "decode": DECODE_PORT}
    workers = [
        common | {"name": role, "role": role, "pool": role, "port": port} for role, port in ports.items()
    ]
    return {"endpoints": workers}


async def until_ready(session: aiohttp.ClientSession) -> None:
    """The router is up and both workers answer."""
    urls = [(PREFILL_PORT, "health"), (DECODE_PORT, "health"), (ROUTER_PORT, "readyz")]
    async with asyncio.timeout(START_SECONDS):
        for port, path in urls:
            while not await _answers(session, f"http://{HOST}:{port}/{path}"):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.1)


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def routed(session: aiohttp.ClientSession, body: dict[str, Any], _number: int) -> Times:
    return await _read(session, ROUTER_PORT, body, {}, perf_counter())


async def direct(session: aiohttp.ClientSession, body: dict[str, Any], number: int) -> Times:
    """The hand-over by hand: the least that any router has to do."""
    started = perf_counter()
    headers = {"x-request-id": f"direct-{number}"}
    ask = body | {"stream": False, "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}
    async with session.post(_url(PREFILL_PORT), json=ask, headers=headers) as response:
        answer = await response.json()
    full = body | {"kv_transfer_params": answer["kv_transfer_params"]}
    return await _read(session, DECODE_PORT, full, headers, started)


def _url(port: int) -> str:
    return f"http://{HOST}:{port}/v1/completions"


async def _read(
    session: aiohttp.ClientSession, port: int, body: dict[str, Any], headers: dict[str, str], started: float
) -> Times:
    async with session.post(_url(port), json=body, headers=headers) as response:
        response.raise_for_status()
        await response.content.readany()
        first = perf_counter()
        await response.read()
    return first - started, perf_counter() - started


Way = Callable[[aiohttp.ClientSession, dict[str, Any], int], Awaitable[Times]]


async def measure(requests: int, prompt_bytes: int, *, stream: bool) -> dict[str, Any]:
    """Medians in milliseconds of both ways, asked in turns, and what the router added."""
    body = {"model": "fake", "prompt": WORD * (prompt_bytes // len(WORD)), "max_tokens": 8, "stream": stream}
    ways: dict[str, Way] = {"direct": direct, "routed": routed}
    taken: dict[str, list[Times]] = {name: [] for name in ways}
    async with aiohttp.ClientSession() as session:
        await until_ready(session)
        for number in range(WARM_UP + requests):
            for name, way in ways.items():
                times = await way(session, body, hash((number, prompt_bytes, stream)))
                if number >= WARM_UP:
                    taken[name].append(times)
    medians = {
        name: [statistics.median(column) * 1000 for column in zip(*times, strict=True)]
        for name, times in taken.items()
    }
    added = [routed - direct for direct, routed in zip(medians["direct"], medians["routed"], strict=True)]
    rows = {**medians, "added": added}
    return {name: {"first_ms": round(f, 3), "total_ms": round(t, 3)} for name, (f, t) in rows.items()}


async def run(requests: int) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = folder / "endpoints.json"
        file.write_text(json.dumps(endpoints()))
        for role, port in (("prefill", PREFILL_PORT), ("decode", DECODE_PORT)):
            await stack.enter_async_context(
                process("tandem_sim.engines", "--role", role, "--port", str(port))
            )
        await stack.enter_async_context(
            process(
                "tandem_router", "--discovery", f"file:{file}", "--host", HOST, "--port", str(ROUTER_PORT)
            )
        )
        for prompt_bytes in (256, 16_384):
            for stream in (False, True):
                row = await measure(requests, prompt_bytes, stream=stream)
                click.echo(json.dumps({"prompt_bytes": prompt_bytes, "stream": stream, **row}))


@click.command()
@click.option("--requests", default=300, show_default=True, type=click.IntRange(min=10), help="Of each kind.")
def main(requests: int) -> None:
    """Print the medians of direct and routed requests, and their difference."""
    asyncio.run(run(requests))


if __name__ == "__main__":
    main()
