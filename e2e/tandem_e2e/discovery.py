"""Kubernetes discovery for a Prometheus that was built without it, as Debian's is: targets in files."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tandem_e2e.kubectl import Kubectl
from tandem_e2e.shell import CommandError

Object = dict[str, Any]
PERIOD = 2.0
META = "__meta_kubernetes_"


def identifier(label: str) -> str:
    """A label's name as Prometheus spells it in `__meta_` labels."""
    return "".join(character if character.isalnum() else "_" for character in label)


def pod_targets(pods: list[Object]) -> Iterator[Object]:
    """What `role: pod` discovers: every named port of every container of a pod that has an address."""
    for pod in pods:
        address = pod["status"].get("podIP")
        for container in pod["spec"]["containers"] if address else ():
            for port in container.get("ports", ()):
                labels = {
                    f"{META}namespace": pod["metadata"]["namespace"],
                    f"{META}pod_name": pod["metadata"]["name"],
                    f"{META}pod_phase": pod["status"]["phase"],
                    f"{META}pod_container_port_name": port.get("name", ""),
                    **_labels("pod", pod),
                }
                yield {"targets": [f"{address}:{port['containerPort']}"], "labels": labels}


def endpoint_targets(endpoints: list[Object]) -> Iterator[Object]:
    """What `role: endpoints` discovers: every ready address of every Service; Endpoints share its labels."""
    for found in endpoints:
        for subset in found.get("subsets", ()):
            for port in subset.get("ports", ()):
                for address in subset.get("addresses", ()):
                    labels = {
                        f"{META}namespace": found["metadata"]["namespace"],
                        f"{META}pod_name": address.get("targetRef", {}).get("name", ""),
                        f"{META}endpoint_port_name": port.get("name", ""),
                        **_labels("service", found),
                    }
                    yield {"targets": [f"{address['ip']}:{port['port']}"], "labels": labels}


def _labels(subject: str, manifest: Object) -> dict[str, str]:
    found = manifest["metadata"].get("labels") or {}
    return {f"{META}{subject}_label_{identifier(name)}": value for name, value in found.items()}


class Discovery:
    """Keeps `pod.json` and `endpoints.json` in a folder true, until the block ends."""

    def __init__(self, folder: Path, kubectl: Kubectl) -> None:
        self._folder = folder
        self._kubectl = kubectl
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD):
            try:
                found = json.loads(self._kubectl("get", "pods,endpoints", "--all-namespaces", "-o", "json"))
            except CommandError as error:
                print(f"discovery: {error}", flush=True)
                continue
            kinds: dict[str, list[Object]] = {"Pod": [], "Endpoints": []}
            for manifest in found["items"]:
                kinds[manifest["kind"]].append(manifest)
            self._write("pod", list(pod_targets(kinds["Pod"])))
            self._write("endpoints", list(endpoint_targets(kinds["Endpoints"])))

    def _write(self, role: str, targets: list[Object]) -> None:
        partial = self._folder / f"{role}.partial"
        partial.write_text(json.dumps(targets))
        partial.rename(self._folder / f"{role}.json")
