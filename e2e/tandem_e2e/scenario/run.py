"""What the steps of a scenario share."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tandem_e2e.door import Doors
from tandem_e2e.kubectl import Kubectl, Object
from tandem_e2e.prometheus import Prometheus
from tandem_e2e.settings import REPO
from tandem_e2e.shell import until

SERVICE = "quickstart"
SAMPLE = REPO / "manifests/samples/quickstart.yaml"
NAMESPACE = "tandem-demo"
OPERATOR_NAMESPACE = "tandem-system"
SERVICE_LABEL = "tandemserve.dev/service"
POOL_LABEL = "tandemserve.dev/pool"
T = TypeVar("T")


@dataclass(slots=True)
class Run:
    """A cluster, the tools for it, and what earlier steps found out.

    `crash` kills the processes of a pod, where the run can reach them. `expected`: prompts and the texts that
    a mixed worker answers them with. `begun`: Unix time.
    """

    kubectl: Kubectl
    helm: Path
    image: str
    doors: Doors
    prometheus: Prometheus | None
    crash: Callable[[Object], None] | None = None
    expected: dict[str, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.time)

    @property
    def url(self) -> str:
        """Where the quickstart's router is reached from here."""
        return self.doors.url(SERVICE)

    def pool(self, name: str) -> Object:
        """The status of one pool of the quickstart; counts are 0 while it is unknown."""
        service = self.kubectl.get("llmservice", SERVICE) or {}
        pools = service.get("status", {}).get("pools", [])
        unknown = {"desired": 0, "replicas": 0, "ready": 0}
        return next((pool for pool in pools if pool["name"] == name), unknown)

    def pods(self, selector: str = f"{SERVICE_LABEL}={SERVICE}") -> list[Object]:
        """Pods that are not on their way out."""
        return [
            pod for pod in self.kubectl.all("pods", selector) if "deletionTimestamp" not in pod["metadata"]
        ]

    def settled(self, timeout: float = 120.0, **pools: int) -> None:
        """Wait until status and pods agree: so many workers, all ready, none on its way out."""

        def reached() -> bool:
            counts = ((self.pool(name), wanted) for name, wanted in pools.items())
            told = all(pool["ready"] == pool["replicas"] == wanted for pool, wanted in counts)
            workers = self.kubectl.all("pods", f"{SERVICE_LABEL}={SERVICE},{POOL_LABEL}")
            return told and len(workers) == sum(pools.values()) and all(map(_is_ready, workers))

        wanted = ", ".join(f"{name} {count}" for name, count in pools.items())
        until(f"pools to settle at {wanted}", reached, timeout)

    def available(self, service: str = SERVICE, timeout: float = 180.0) -> None:
        """Wait for the condition Available."""
        self.wait(
            f"{service} to be Available",
            lambda: self.kubectl.condition("llmservice", service, "Available").get("status") == "True",
            timeout,
        )

    def wait(self, what: str, check: Callable[[], T | None], timeout: float = 60.0) -> T:
        return until(what, check, timeout)


def _is_ready(pod: Object) -> bool:
    conditions = {found["type"]: found["status"] for found in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
