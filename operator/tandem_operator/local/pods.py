"""A Deployment and a loopback address -> the process that stands for one of its pods. Pure."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tandem_operator.api import Manifest
from tandem_operator.desired import names
from tandem_operator.local.expand import expand

DISCOVERY = "TANDEM_DISCOVERY"
_TANDEM = (sys.executable, "-m", "tandem_operator")


class NotLocalError(ValueError):
    """The manifest asks for something that only a cluster has."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An HTTP readiness probe. Times in seconds."""

    url: str
    period: float
    timeout: float
    failures: int


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process. `env` is what the manifest sets; `labels` are the pod's; `grace` is in seconds."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    address: str
    ports: Mapping[str, int]
    labels: Mapping[str, str]
    readiness: Probe
    grace: float

    @property
    def pool(self) -> str | None:
        """The worker's pool; None for the router."""
        return self.labels.get(names.POOL)


def process(deployment: Manifest, ordinal: int, address: str, discovery: str) -> ProcessSpec:
    """Pod number `ordinal` of the Deployment, listening on `address`.

    `discovery` is the value for `TANDEM_DISCOVERY` where the manifest sets it. Raises NotLocalError for
    volumes and fields of the pod that do not exist outside of a cluster.
    """
    template = deployment["spec"]["template"]
    pod = template["spec"]
    for volume in pod.get("volumes", ()):
        if "emptyDir" not in volume:
            raise NotLocalError(f"volume {volume['name']} needs a cluster; give the model as source.path")
    container = pod["containers"][0]
    name = f"{deployment['metadata']['name']}-{ordinal}"
    ports = {port["name"]: int(port["containerPort"]) for port in container["ports"]}
    env = _environment(container.get("env", ()), {"status.podIP": address, "metadata.name": name}, discovery)
    command = [expand(word, env) for word in (*container["command"], *container.get("args", ()))]
    return ProcessSpec(
        name=name,
        argv=(*_TANDEM, *command[1:]) if command[0] == "tandem" else tuple(command),
        env=env,
        address=address,
        ports=ports,
        labels=dict(template["metadata"]["labels"]),
        readiness=_probe(container["readinessProbe"], address, ports),
        grace=float(pod.get("terminationGracePeriodSeconds", 30)),
    )


def _environment(variables: Sequence[Manifest], fields: Mapping[str, str], discovery: str) -> dict[str, str]:
    """As the kubelet builds it: in order, each value expanded from those before it."""
    env: dict[str, str] = {}
    for variable in variables:
        name = variable["name"]
        if name == DISCOVERY:
            env[name] = discovery
        elif "valueFrom" not in variable:
            env[name] = expand(variable.get("value", ""), env)
        else:
            path = variable["valueFrom"].get("fieldRef", {}).get("fieldPath", "")
            if path not in fields:
                raise NotLocalError(f"environment variable {name} takes its value from the cluster")
            env[name] = fields[path]
    return env


def _probe(probe: Manifest, address: str, ports: Mapping[str, int]) -> Probe:
    get = probe["httpGet"]
    port = ports[get["port"]] if isinstance(get["port"], str) else get["port"]
    return Probe(
        url=f"http://{address}:{port}{get['path']}",
        period=float(probe.get("periodSeconds", 10)),
        timeout=float(probe.get("timeoutSeconds", 1)),
        failures=int(probe.get("failureThreshold", 3)),
    )
