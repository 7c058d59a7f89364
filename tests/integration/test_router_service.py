"""The router as a service: limits, health, metrics, the command and its end."""

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from tandem_router.command import command
from tandem_sim.engines.faults import Fault
from tandem_sim.engines.server import running
from tandem_sim.engines.settings import Settings
from tandem_sim.fleet import CONFIG, endpoint_of, fleet, pair

BODY: dict[str, Any] = {"model": "fake", "prompt": "a word " * 600, "max_tokens": 4}


async def fetch(url: str, method: str = "GET", **more: Any) -> tuple[int, str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **more) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_more_requests_than_the_limit_are_told_to_come_back() -> None:
    async with fleet(Settings(), config=replace(CONFIG, max_in_flight=2)) as fakes:
        (engine,) = fakes.engines
        engine.faults.inject(Fault.HANG, times=2)
        waiting = [
            asyncio.ensure_future(fetch(f"{fakes.url}/v1/completions", "POST", json=BODY)) for _ in "ab"
        ]
        async with asyncio.timeout(5):
            await engine.until(lambda: engine.stats.running == 2)
        status, body, headers = await fetch(f"{fakes.url}/v1/completions", "POST", json=BODY)
        assert (status, json.loads(body)["error"]["code"]) == (429, "router_overloaded")
        assert headers["Retry-After"] == "1"
        for task in waiting:
            task.cancel()
        async with asyncio.timeout(5):
            await engine.until(lambda: engine.stats.running == 0)
        assert (await fetch(f"{fakes.url}/v1/completions", "POST", json=BODY))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("POST", "/v1/audio/speech", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
    ],
)
async def test_what_is_not_there(method: str, path: str, status: int, code: str) -> None:
    async with fleet() as fakes:
        got, body, _ = await fetch(f"{fakes.url}{path}", method)
        assert (got, json.loads(body)["error"]["code"]) == (status, code)


async def test_too_many_headers() -> None:
    async with fleet(Settings()) as fakes:
        headers = {f"x-{number}": "1" for number in range(110)}
        status, body, _ = await fetch(f"{fakes.url}/v1/completions", "POST", json=BODY, headers=headers)
        assert (status, json.loads(body)["error"]["code"]) == (431, "too_many_headers")


async def test_health_and_readiness() -> None:
    async with fleet(*pair()) as fakes:
        prefill, decode = fakes.endpoints()
        assert (await fetch(f"{fakes.url}/healthz"))[0] == 200
        for endpoints, status in (([prefill, decode], 200), ([decode], 200), ([prefill], 503), ([], 503)):
            fakes.publish(endpoints)
            assert (await fetch(f"{fakes.url}/readyz"))[0] == status
        assert (await fetch(f"{fakes.url}/healthz"))[0] == 200


async def test_metrics_tell_of_requests_and_workers() -> None:
    async with fleet(*pair(), config=replace(CONFIG, slo_ttft=5.0, slo_tpot=5.0)) as fakes:
        await fetch(f"{fakes.url}/v1/completions", "POST", json=BODY | {"stream": True})
        await fetch(f"{fakes.url}/v1/completions", "POST", json=BODY | {"model": "other"})
        _, text, headers = await fetch(f"{fakes.url}/metrics")
        assert headers["Content-Type"].startswith("text/plain")
        mine = 'llmservice="test",model="fake"'
        for line in (
            f'tandem_router_requests_total{{code="200",{mine}}} 1.0',
            'tandem_router_requests_total{code="404",llmservice="test",model="unknown"} 1.0',
            f'tandem_router_path_total{{{mine},path="disaggregated",reason="pair_available"}} 1.0',
            f"tandem_router_ttft_seconds_count{{{mine}}} 1.0",
            f"tandem_router_handover_seconds_count{{{mine}}} 1.0",
            f"tandem_router_prompt_tokens_total{{{mine}}} 1200.0",
            f"tandem_router_output_tokens_total{{{mine}}} 4.0",
            f'tandem_router_slo_requests_total{{attained="true",{mine},objective="both"}} 1.0',
            f"tandem_router_requests_in_flight{{{mine}}} 0.0",
            'tandem_router_endpoints{llmservice="test",role="decode",state="ready"} 1.0',
        ):
            assert line in text


async def test_many_requests_at_once_share_the_workers() -> None:
    base = Settings(token_seconds=0.01)
    async with fleet(*pair(base), *pair(base)) as fakes:
        urls = [f"{fakes.url}/v1/completions"] * 60
        answers = await asyncio.gather(*(fetch(url, "POST", json=BODY | {"stream": True}) for url in urls))
        assert [status for status, _, _ in answers] == [200] * 60
        assert len({"".join(re.findall('"text":"([^"]*)"', body)) for _, body, _ in answers}) == 1
        assert {headers["x-tandem-decode"] for _, _, headers in answers} == {"decode-1", "decode-3"}
        # Equal prompts are drawn to the prefill worker that has computed them.
        assert min(engine.stats.finished for engine in fakes.of("decode")) >= 15
        assert dict(fakes.runtime.loads) == {}


@asynccontextmanager
async def router_process(endpoints: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`tandem router` as a process of its own, once it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tandem_router", "--discovery", f"file:{endpoints}"),
        *("--host", "127.0.0.1", "--port", "0", "--drain-timeout", "10s"),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            while b"listening on" not in (line := await process.stderr.readline()):
                assert line, "the router ended before it listened"
        yield process, f"http://127.0.0.1:{int(line.rsplit(b':', 1)[1])}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_ready_is(url: str, status: int) -> None:
    while (await fetch(f"{url}/readyz"))[0] != status:  # noqa: ASYNC110 - another process has no event for us
        await asyncio.sleep(0.05)


async def test_a_signal_lets_requests_end_and_refuses_readiness(tmp_path: Path) -> None:
    async with running(Settings(token_seconds=0.3)) as engine:
        endpoints = tmp_path / "endpoints.json"
        endpoints.write_text(json.dumps({"endpoints": [asdict(endpoint_of(engine, 0))]}))
        async with router_process(endpoints) as (process, url):
            async with asyncio.timeout(20):
                await until_ready_is(url, 200)
                asked = asyncio.ensure_future(
                    fetch(f"{url}/v1/completions", "POST", json=BODY | {"stream": True})
                )
                await engine.until(lambda: engine.stats.running == 1)
                process.send_signal(signal.SIGTERM)
                await until_ready_is(url, 503)
                status, body, _ = await asked
                assert await process.wait() == 0
            assert status == 200
            assert body.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--discovery"),
        (["--discovery", "dns:x"], "file:PATH or kubernetes:NAMESPACE/SERVICE"),
        (["--discovery", "file:x", "--slo-ttft", "fast"], "no duration"),
        (
            ["--discovery", "file:x", "--settings", '{"scheduling": {"picker": "fastest"}}'],
            "unknown policy 'fastest'; known: ",
        ),
        (
            ["--discovery", "file:x", "--settings", '{"prediction": {"profiles": [{"profile": "x"}]}}'],
            "no profile 'x'; known: ",
        ),
        (["--discovery", "file:x", "--port", "70000"], "70000"),
    ],
)
def test_wrong_arguments_end_with_one_clear_line(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(command, arguments, env={"TANDEM_DISCOVERY": None})
    assert result.exit_code != 0
    assert complaint in result.output.splitlines()[-1]
    assert "Traceback" not in result.output


def test_without_a_cluster_the_watch_ends_with_one_clear_line(tmp_path: Path) -> None:
    arguments = ["--discovery", "kubernetes:ns/name", "--host", "127.0.0.1", "--port", "0"]
    env = {"KUBECONFIG": str(tmp_path / "none"), "KUBERNETES_SERVICE_HOST": None}
    result = CliRunner().invoke(command, arguments, env=env)
    assert result.exit_code == 1
    assert "no Kubernetes API to ask" in result.output.splitlines()[-1]


def test_help_teaches() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    for word in (
        "--discovery",
        "TANDEM_DISCOVERY",
        "kubernetes:NAMESPACE/SERVICE",
        "500ms",
        "/readyz",
        "x-tandem-path",
    ):
        assert word in text
