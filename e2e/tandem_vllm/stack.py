"""A prefill engine, a decode engine and the router in front; beside them an engine without hand-over."""

import json
import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tandem_operator.desired import names
from tandem_vllm import checkpoint, environment, manifests
from tandem_vllm.manifests import Program
from tandem_vllm.processes import Process

SERVICE = environment.REPO / "e2e/vllm/service.yaml"
ENGINE_READY_SECONDS = 240.0
ROUTER_READY_SECONDS = 30.0

_CONNECTOR = "--kv-transfer-config"


class Stack:
    """What a run starts, in a folder of its own. `close` ends all of it, also after a failed `start`."""

    def __init__(self, folder: Path) -> None:
        # Every process has its own loopback address, as a pod has; random ones, so that two runs do not meet.
        network = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"
        self._folder = folder
        self._addresses = {
            name: f"{network}.{i}" for i, name in enumerate(("router", "prefill", "decode", "alone"), 1)
        }
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        """Start everything and return once it serves."""
        checkpoint.write(self._folder / "checkpoint")
        for name in ("prefill", "decode", "alone"):
            self._start(name, self._engine(name))
        deadline = time.monotonic() + ENGINE_READY_SECONDS
        for name in ("prefill", "decode", "alone"):
            self._wait_ready(name, "/health", deadline)
        endpoints = self._write_endpoints()
        self._start("router", manifests.router(SERVICE, self._addresses["router"], f"file:{endpoints}"))
        self._wait_ready("router", "/readyz", time.monotonic() + ROUTER_READY_SECONDS)

    def url(self, name: str) -> str:
        """Base URL of `router`, `prefill`, `decode` or `alone`."""
        port = 8000 if name == "router" else names.HTTP_PORT
        return f"http://{self._addresses[name]}:{port}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of everything that runs."""
        return tuple(self._addresses.values())

    def kill(self, name: str) -> None:
        """End a process as a crash of its machine does."""
        self._processes[name].kill()

    def restart(self, name: str) -> None:
        """Start an engine that was killed, at the same address, and return once it serves."""
        self._start(name, self._engine(name))
        self._wait_ready(name, "/health", time.monotonic() + ENGINE_READY_SECONDS)

    def close(self) -> None:
        for process in self._processes.values():
            process.stop()

    def _engine(self, name: str) -> Program:
        pool = "decode" if name == "alone" else name
        program = manifests.worker(SERVICE, pool, self._addresses[name])
        return _without_connector(program) if name == "alone" else program

    def _start(self, name: str, program: Program) -> None:
        self._processes[name] = Process(program.command, self._environment(program.env), self._folder, name)

    def _environment(self, env: Mapping[str, str]) -> dict[str, str]:
        # The folder stands for the pod's /tmp: vLLM leaves sockets and caches there.
        folder = str(self._folder)
        path = os.pathsep.join([str(environment.VENV / "bin"), str(Path(sys.executable).parent), os.defpath])
        return {**env, "PATH": path, "HOME": folder, "TMPDIR": folder}

    def _wait_ready(self, name: str, path: str, deadline: float) -> None:
        self._processes[name].wait_ready(self.url(name) + path, deadline)

    def _write_endpoints(self) -> Path:
        file = self._folder / "endpoints.json"
        file.write_text(json.dumps({"endpoints": [self._endpoint(name) for name in ("prefill", "decode")]}))
        return file

    def _endpoint(self, name: str) -> dict[str, Any]:
        labels = self._engine(name).labels
        return {
            "name": name,
            "address": self._addresses[name],
            "port": names.HTTP_PORT,
            "role": labels[names.ROLE],
            "pool": labels[names.POOL],
            "engine": labels[names.ENGINE],
            "model": "tiny",
            "revision": labels[names.REVISION],
            "ready": True,
        }


def _without_connector(program: Program) -> Program:
    at = program.command.index(_CONNECTOR)
    return replace(program, command=(*program.command[:at], *program.command[at + 2 :]))
