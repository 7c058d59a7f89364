"""The resource goes, and everything with it."""

from tandem_e2e.kubectl import Object
from tandem_e2e.scenario.run import SERVICE, SERVICE_LABEL, Run


def remove(this: Run) -> None:
    """`kubectl delete`, and no object of any kind carries the service's label."""
    listed = this.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").splitlines()
    kinds = ",".join(kind for kind in listed if not kind.startswith("events"))
    label = f"{SERVICE_LABEL}={SERVICE}"
    before = {found["kind"] for found in this.kubectl.all(kinds, label)}
    assert {"Deployment", "Service", "ConfigMap", "Role", "WorkerPool", "Pod"} <= before, f"found {before}"
    this.kubectl("delete", "llmservice", SERVICE)

    def left() -> list[Object]:
        return this.kubectl.all(kinds, label)

    this.wait("nothing to be left", lambda: not left(), 180)
