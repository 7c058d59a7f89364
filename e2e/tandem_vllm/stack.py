"""A prefill engine, a decode engine and the router in front; beside them an engine it does not know."""

import os
import secrets
import time
from collections.abc import Sequence
from contextlib import ExitStack
from io import StringIO
from pathlib import Path

import yaml

from tandem_operator.local import endpoints
from tandem_operator.local.pods import ProcessSpec, process
from tandem_operator.local.source import deployments, one_service
from tandem_vllm import checkpoint, environment
from tandem_vllm.processes import Process

SERVICE = environment.REPO / "e2e/vllm/service.yaml"
ENGINES = ("prefill", "decode", "alone")
BEHIND_ROUTER = ("prefill", "decode")
ENGINE_READY_SECONDS = 400.0
ROUTER_READY_SECONDS = 30.0


class Stack:
    """What a run starts, in a folder of its own. `close` ends all of it, also after a failed `start`.

    `connector` is how the engines hand KV over; `engines` are some of ENGINES; `port` is the router's, which
    is taken on loopback too: two at the same time need two.
    """

    def __init__(
        self, folder: Path, connector: str = "nixl", engines: Sequence[str] = ENGINES, port: int = 8000
    ) -> None:
        self._folder, self._engines = folder, engines
        self._endpoints = folder / "endpoints.json"
        self._specs = _specs(f"file:{self._endpoints}", connector, port)
        self._processes: dict[str, Process] = {}

    def start(self) -> None:
        """Start everything and return once it serves."""
        checkpoint.write(self._folder / "checkpoint")
        for name in self._engines:
            self._start(name)
        deadline = time.monotonic() + ENGINE_READY_SECONDS
        for name in self._engines:
            self._wait_ready(name, deadline)
        self.tell_router(*BEHIND_ROUTER)
        self._start("router")
        self._wait_ready("router", time.monotonic() + ROUTER_READY_SECONDS)

    def tell_router(self, *names: str) -> None:
        """From now on these engines are the router's; it looks once a second."""
        known = [(self._specs[name], True) for name in names]
        endpoints.write(self._endpoints, endpoints.document(known, checkpoint.MODEL))

    def restart(self, name: str) -> None:
        """Start an engine that was killed, at the same address, and return once it serves."""
        self._start(name)
        self._wait_ready(name, time.monotonic() + ENGINE_READY_SECONDS)

    def close(self) -> None:
        with ExitStack() as ending:
            for each in self._processes.values():
                ending.callback(each.stop)

    def process(self, name: str) -> Process:
        """`router`, `prefill`, `decode` or `alone`."""
        return self._processes[name]

    def url(self, name: str) -> str:
        """Its base URL."""
        spec = self._specs[name]
        return f"http://{spec.address}:{spec.ports['http']}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of everything that runs."""
        return tuple(spec.address for spec in self._specs.values())

    def _start(self, name: str) -> None:
        spec = self._specs[name]
        # The folder stands for the pod's /tmp: vLLM leaves sockets and caches there.
        folder = str(self._folder)
        path = os.pathsep.join([str(environment.VENV / "bin"), os.defpath])
        env = {**spec.env, "PATH": path, "HOME": folder, "TMPDIR": folder}
        self._processes[name] = Process(spec.argv, env, self._folder, name)

    def _wait_ready(self, name: str, deadline: float) -> None:
        self._processes[name].wait_ready(self._specs[name].readiness.url, deadline)


def _specs(discovery: str, connector: str, port: int) -> dict[str, ProcessSpec]:
    """The router and one worker of every pool, as the operator would have them."""
    service = yaml.safe_load(SERVICE.read_text(encoding="utf-8"))
    service["spec"]["kvTransfer"] = {"connector": connector}
    service["spec"]["router"]["port"] = port
    made = deployments(one_service(StringIO(yaml.safe_dump(service))))
    # Every process has its own loopback address, as a pod has; random ones, so that two runs do not meet.
    network = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"
    pods = {"router": made.router, **made.pools}
    return {
        name: process(deployment, 0, f"{network}.{i}", discovery)
        for i, (name, deployment) in enumerate(pods.items(), 1)
    }
