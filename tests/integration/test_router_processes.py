"""A router of two processes on one port, and one that speaks TLS: as they run in production."""

import asyncio
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tandem_router import processes
from tandem_router.http.tls import Certificate
from tandem_router.processes import Supervisor
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import endpoint_of

BODY: dict[str, Any] = {"model": "fake", "prompt": "a word " * 600, "max_tokens": 4}


@asynccontextmanager
async def router(endpoints: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """`tandem router` as a process of its own, and its port once all of it listens and has workers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tandem_router", "--discovery", f"file:{endpoints}", "--host", "127.0.0.1"),
        *("--port", "0", "--drain-timeout", "10s", *options),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    count = int(options[options.index("--processes") + 1]) if "--processes" in options else 1
    log: list[str] = []
    try:
        async with asyncio.timeout(30):
            while sum("listening on" in line or " ready" in line for line in log) < 2 * count:
                log.append((await process.stderr.readline()).decode())
                assert log[-1], "the router ended before it listened"
        port = next(int(line.rsplit(":", 1)[1]) for line in log if "listening on" in line)
        yield process, port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


def file_of(tmp_path: Path, engine: Any) -> Path:
    endpoints = tmp_path / "endpoints.json"
    endpoints.write_text(json.dumps({"endpoints": [asdict(endpoint_of(engine, 0))]}))
    return endpoints


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def post(port: int, **more: Any) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/v1/completions", json=BODY | more) as response,
    ):
        return response.status, await response.text()


async def counted(port: int) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as response,
    ):
        text = await response.text()
    found = re.search(r'tandem_router_requests_total\{code="200".*\} (\d+)', text)
    return float(found[1]) if found else 0.0


async def until_counted(port: int, count: float) -> None:
    """An answer is counted just after its last byte."""
    async with asyncio.timeout(10):
        while await counted(port) != count:  # noqa: ASYNC110 - another process has no event for us
            await asyncio.sleep(0.05)


async def test_two_processes_share_the_port_and_count_together(tmp_path: Path) -> None:
    async with (
        running(Settings()) as engine,
        router(file_of(tmp_path, engine), "--processes", "2") as (process, port),
    ):
        assert len(children_of(process.pid)) == 2
        answers = await asyncio.gather(*(post(port, stream=bool(n % 2)) for n in range(40)))
        assert [status for status, _ in answers] == [200] * 40
        await until_counted(port, 40)
        assert {await counted(port) for _ in range(6)} == {40.0}


async def test_a_process_that_dies_is_replaced_and_its_count_stays(tmp_path: Path) -> None:
    async with (
        running(Settings()) as engine,
        router(file_of(tmp_path, engine), "--processes", "2") as (process, port),
    ):
        for _ in range(10):
            await post(port)
        await until_counted(port, 10)
        first = children_of(process.pid)
        os.kill(first[0], signal.SIGKILL)
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b" ready" not in await process.stderr.readline():
                pass
        assert len(set(children_of(process.pid)) - set(first)) == 1
        assert [(await post(port))[0] for _ in range(10)] == [200] * 10
        await until_counted(port, 20)


async def test_a_signal_lets_the_requests_of_all_processes_end(tmp_path: Path) -> None:
    async with (
        running(Settings(token_seconds=0.2)) as engine,
        router(file_of(tmp_path, engine), "--processes", "2") as (process, port),
    ):
        asked = [asyncio.ensure_future(post(port, stream=True)) for _ in range(8)]
        async with asyncio.timeout(20):
            await engine.until(lambda: engine.stats.running == 8)
            process.send_signal(signal.SIGTERM)
            answers = await asyncio.gather(*asked)
            assert await process.wait() == 0
        assert all(status == 200 and body.rstrip().endswith("data: [DONE]") for status, body in answers)


async def test_processes_that_end_again_and_again_end_the_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RESTART_PAUSE_SECONDS", 0.0)
    started = tmp_path / "started"
    code = f"open({str(started)!r}, 'a').write('x'); raise SystemExit(3)"
    failing = Supervisor([sys.executable, "-S", "-c", code], dict(os.environ), str(tmp_path))
    async with asyncio.timeout(20):
        assert await failing.run(2) == 3
    assert len(started.read_text()) <= 2 + processes.MAX_RESTARTS


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-days", "1", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_clients_over_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "one")
    async with (
        running(Settings()) as engine,
        router(file_of(tmp_path, engine), "--tls-cert", str(certificate), "--tls-key", str(key)) as (_, port),
    ):
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:
            for stream in (True, False):
                async with session.post(
                    f"https://127.0.0.1:{port}/v1/completions", json=BODY | {"stream": stream}
                ) as response:
                    assert response.status == 200
                    assert "choices" in await response.text()
            async with session.get(f"https://127.0.0.1:{port}/readyz") as response:
                assert response.status == 200
        with pytest.raises(aiohttp.ClientError):
            await post(port)


def test_a_changed_certificate_is_read_again_and_a_bad_one_is_not(tmp_path: Path) -> None:
    loaded = Certificate(*make_certificate(tmp_path, "one"))
    assert not loaded.refresh()
    certificate, key = make_certificate(tmp_path, "two")
    assert loaded.refresh()
    key.write_text("no key")
    assert not loaded.refresh()
    certificate.unlink()
    assert not loaded.refresh()
