"""`tandem worker` as a process: help, bad starts, signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from tandem_worker.command import command

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
START = [sys.executable, "-m", "tandem_worker", "--port", "0", "--kv-port", "0", "--threads", "1"]


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, tandem_worker.command; print({'torch', 'aiohttp', 'grpc', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_help_teaches() -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    for word in ("prefill", "decode", "mixed", "curl localhost:8100", "--lease-ttl", "readyz"):
        assert word in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "m", "--role", "boss"], "'boss' is not one of"),
        (["--model", "m", "--kv-memory", "lots"], "'lots' is no size"),
        (["--model", "m", "--kv-memory", "12XB"], "'12XB' is no size"),
        (["--model", "m", "--block-size", "0"], "0 is not in the range"),
        (["--model", "m", "--port", "70000"], "70000 is not in the range"),
        (["--model", "m", "--lease-ttl", "0"], "0.0 is not in the range"),
        (["--model", "m", "--host", "0.0.0.0"], "give --advertise-host"),
        (["--model", "m", "--max-batched-tokens", "8"], "max_batched_tokens is 8"),
        ([], "Missing option '--model'"),
    ],
)
def test_options_that_cannot_be(options: list[str], words: str) -> None:
    result = CliRunner().invoke(command, options)
    assert result.exit_code in (1, 2)
    assert words in result.output
    assert isinstance(result.exception, SystemExit)


def _start_badly(model: Path, *options: str, weights: tuple[str, ...] = ("--random-weights",)) -> str:
    arguments = ["--model", str(model), *weights, "--port", "0", "--kv-port", "0", *options]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.output.splitlines() if not re.match(r"\d{4}-", line)]
    assert len(lines) == 1, result.output
    assert lines[0].startswith("Error: ")
    return lines[0]


def _copy(checkpoint: Path, folder: Path, **config: object) -> Path:
    shutil.copytree(checkpoint, folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return folder


@pytest.mark.parametrize("weights", [(), ("--random-weights",)])
def test_a_folder_that_is_none(tmp_path: Path, weights: tuple[str, ...]) -> None:
    assert "nothing is not a folder" in _start_badly(tmp_path / "nothing", weights=weights)


def test_an_unknown_architecture(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = _copy(tiny_checkpoint, tmp_path / "m", architectures=["MambaForCausalLM"], model_type="mamba")
    assert "mamba" in _start_badly(folder).lower()


def test_weights_that_are_cut_off(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = _copy(tiny_checkpoint, tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    result = CliRunner().invoke(command, ["--model", str(folder), "--port", "0", "--kv-port", "0"])
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "model.safetensors" in result.output
    assert "Traceback" not in result.output


def test_a_tokenizer_that_is_cut_off(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = _copy(tiny_checkpoint, tmp_path / "m")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text()[:100])
    assert "tokenizer.json is no tokenizer" in _start_badly(folder)


def test_kv_memory_that_holds_no_block(tiny_checkpoint: Path) -> None:
    assert "kv_memory" in _start_badly(tiny_checkpoint, "--kv-memory", "10")


@pytest.mark.parametrize("option", ["--port", "--kv-port"])
def test_a_port_that_is_taken(tiny_checkpoint: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in _start_badly(tiny_checkpoint, option, str(port))


class Process:
    """A worker process that is ready; its log is read up to there."""

    def __init__(self, model: Path, *options: str) -> None:
        arguments = [
            *START,
            "--model",
            str(model),
            "--served-model-name",
            "tiny",
            "--random-weights",
            *options,
        ]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=ENV)
        self.log = ""
        self.url = ""

    def wait_until(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            found = re.search(pattern, line)
            if found is not None:
                return found
        raise AssertionError(f"the worker has ended:\n{self.log}")

    def wait_ready(self) -> None:
        self.url = self.wait_until(r"ready: .* on (http://\S+),")[1]

    def end(self) -> int:
        assert self.process.stderr is not None
        self.log += self.process.stderr.read()
        self.process.stderr.close()
        return self.process.wait(30)


@pytest.fixture
def process(tiny_checkpoint: Path) -> Process:
    return Process(tiny_checkpoint, "--kv-memory", "1Mi", "--drain-timeout", "20")


def test_sigterm_lets_running_requests_finish_and_exits_with_0(process: Process) -> None:
    process.wait_ready()
    with urllib.request.urlopen(process.url + "/readyz", timeout=30) as ready:
        assert json.loads(ready.read()) == {"status": "ok"}
    body = {"model": "tiny", "prompt": "a", "max_tokens": 300, "ignore_eos": True, "stream": True}
    request = urllib.request.Request(process.url + "/v1/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        first = response.readline()
        process.process.send_signal(signal.SIGTERM)
        rest = response.read()
    assert process.end() == 0
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"length"' in rest
    assert "Traceback" not in process.log
    assert "time is up" not in process.log
