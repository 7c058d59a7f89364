"""Ways from this machine to a Service: its cluster IP inside the namespaces, a port-forward elsewhere."""

import re
import subprocess
from typing import Protocol

from tandem_e2e.kubectl import Kubectl
from tandem_e2e.shell import until

PORT = 8000


class Doors(Protocol):
    """Finds Services."""

    def url(self, service: str) -> str:
        """The base URL of that Service now; it changes when the Service is made again."""
        ...

    def close(self) -> None: ...


class ClusterIps:
    """Service addresses work as they are."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def url(self, service: str) -> str:
        found = until(f"Service {service}", lambda: self._kubectl.get("service", service), 60)
        return f"http://{found['spec']['clusterIP']}:{PORT}"

    def close(self) -> None:
        return


class PortForwards:
    """One `kubectl port-forward` for each Service, made again when its pod has gone."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self._open: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def url(self, service: str) -> str:
        found = self._open.get(service)
        if found is None or found[0].poll() is not None:
            found = until(f"a port-forward to {service}", lambda: self._forward(service), 60)
            self._open[service] = found
        return found[1]

    def close(self) -> None:
        for process, _ in self._open.values():
            process.terminate()
            process.wait(10)

    def _forward(self, service: str) -> tuple[subprocess.Popen[str], str] | None:
        command = self._kubectl.command("port-forward", f"service/{service}", f":{PORT}")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline() if process.stdout else ""
        if match := re.search(r"127\.0\.0\.1:(\d+)", line):
            return process, f"http://127.0.0.1:{match[1]}"
        process.wait(10)
        return None
