import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from click.testing import CliRunner

from tandem_operator.commands.up import command

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "manifests/samples/quickstart.yaml"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def failure(*arguments: str) -> str:
    """The one line that the command ends with."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code in (1, 2)
    return result.output.strip().splitlines()[-1]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart with one worker a pool, in a folder of its own from which the command runs."""
    manifest = yaml.safe_load(QUICKSTART.read_text())
    manifest["spec"]["model"]["source"]["path"] = str(ROOT / "models/recall")
    for pool in manifest["spec"]["pools"]:
        pool["replicas"] = 1
    path = tmp_path / "service.yaml"
    path.write_text(yaml.safe_dump(manifest))
    monkeypatch.chdir(tmp_path)
    return path


def test_a_missing_file_and_a_bad_one_are_said(tmp_path: Path) -> None:
    assert "No such file or directory" in failure("-f", str(tmp_path / "none.yaml"))
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [")
    assert failure("-f", str(bad)) == f"Error: {bad} is no YAML: line 1, column 5: {yaml_problem('a: [')}"


def yaml_problem(text: str) -> str | None:
    try:
        yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        return error.problem
    return None


def test_a_missing_model_is_said(service: Path) -> None:
    service.write_text(service.read_text().replace(str(ROOT / "models/recall"), "models/none"))
    assert (
        failure("-f", str(service))
        == f"Error: model folder models/none does not exist (looked from {Path.cwd()})"
    )


def test_a_port_in_use_is_said(service: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        expected = f"Error: port {port} is in use on 127.0.0.1; choose another with --port"
        assert failure("-f", str(service), "--port", str(port)) == expected


def test_a_process_that_cannot_start_ends_the_command_with_its_words(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = yaml.safe_load(service.read_text())
    manifest["spec"]["engine"] = {"type": "vllm"}
    service.write_text(yaml.safe_dump(manifest))
    monkeypatch.setenv("PATH", str(service.parent))
    line = failure("-f", str(service), "--port", str(free_port()))
    assert line.startswith("Error: quickstart-")
    assert line.endswith("ended with status 1: cannot run vllm: No such file or directory")


@asynccontextmanager
async def up(service: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """`tandem up`, ready to serve."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tandem_operator", "up", "-f", str(service), "--port", str(port)),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(100):
            line = b""
            while b"is ready at" not in line:
                line = await process.stdout.readline()
                assert line, "it ended before it was ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def group(leader: int) -> set[int]:
    """Children of a process, by the kernel's word."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    return {int(pid) for pid in children}


@pytest.mark.timeout(150)
async def test_the_quickstart_answers_from_two_processes_and_leaves_none(service: Path) -> None:
    port = free_port()
    async with up(service, port) as process:
        children = group(process.pid)
        body = {
            "model": "recall",
            "messages": [{"role": "user", "content": "colour = teal\nport = 8443\nanimal = otter\nport?"}],
            "temperature": 0,
        }
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            answer = json.loads(await response.text())
            assert response.headers["x-tandem-prefill"] == "quickstart-prefill-0"
            assert response.headers["x-tandem-decode"] == "quickstart-decode-0"
            assert response.headers["x-tandem-path"] == "disaggregated"
        assert answer["choices"][0]["message"]["content"] == "8443"
        assert len(children) == 3
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
        assert not any(map(exists, children))
    assert [path.name for path in (service.parent / ".tandem").iterdir()] == [f"quickstart-{port}"]
