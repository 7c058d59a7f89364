"""What router and worker pods have in common: addresses, probes, security, graceful end."""

from collections.abc import Mapping, Sequence
from typing import Any

from tandem_operator.api import EnvVar, Manifest

USER = 65532
POD_IP = "$(POD_IP)"
# Each an emptyDir of the pod alone, so what S108 warns of, a folder shared with others, it is not.
TMP = "/tmp"  # noqa: S108 - a mount path in the pod
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - likewise


def downward_env() -> list[Manifest]:
    """The pod's own address and name; `POD_IP` in arguments is expanded from it."""
    fields = {"POD_IP": "status.podIP", "POD_NAME": "metadata.name"}
    return [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]


def env(values: Mapping[str, str], extra: Sequence[EnvVar] = ()) -> list[Manifest]:
    """Downward addresses, then `values`, then what the user adds or sets otherwise."""
    chosen = {**values, **{variable.name: variable.value for variable in extra}}
    return [*downward_env(), *({"name": name, "value": value} for name, value in chosen.items())]


def probe(path: str, period: int, failures: int, timeout: int = 2) -> Manifest:
    """An HTTP probe on the container's port `http`, times in seconds."""
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def ports(named: Mapping[str, int]) -> list[Manifest]:
    """Container ports. The protocol is part of the key in server-side apply, so it is always given."""
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in named.items()]


def scrape(port: int) -> dict[str, str]:
    """Annotations by which Prometheus finds a pod."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}


def container_security() -> Manifest:
    """What the restricted pod security standard asks of a container, and a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security() -> Manifest:
    """No root, and a group that may write to mounted volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def deployment_spec(*, replicas: int, selector: Mapping[str, str], template: Manifest) -> dict[str, Any]:
    """A Deployment that starts a new pod before it ends an old one, so capacity never falls in a rollout."""
    return {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "selector": {"matchLabels": dict(selector)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": template,
    }
