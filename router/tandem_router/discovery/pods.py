"""From a pod, as the API server writes it, to a worker. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from tandem_router.engines import ENGINES
from tandem_router.types import Endpoint, Role

_PREFIX = "tandemserve.dev"
PORT_NAME, KV_PORT_NAME, BOOTSTRAP_PORT_NAME = "http", "kv", "bootstrap"


def selector(service: str) -> str:
    """The label selector of a service's workers."""
    return f"{_PREFIX}/service={service},app.kubernetes.io/component=worker"


def endpoint_of(pod: Mapping[str, Any], model: str) -> Endpoint | None:
    """The worker in this pod; None while it has no address, and for pods that are no worker.

    A pod that is being deleted takes no new requests, whatever its Ready condition says.
    """
    meta, spec, status = (pod.get(key) or {} for key in ("metadata", "spec", "status"))
    labels, notes = (meta.get(key) or {} for key in ("labels", "annotations"))
    role, engine = labels.get(f"{_PREFIX}/role"), labels.get(f"{_PREFIX}/engine", "")
    address, port = status.get("podIP"), _port(spec, PORT_NAME)
    if role not in tuple(Role) or engine not in ENGINES or not address or port is None:
        return None
    return Endpoint(
        name=meta["name"],
        address=address,
        port=port,
        role=Role(role),
        pool=labels.get(f"{_PREFIX}/pool", ""),
        engine=engine,
        model=model,
        revision=labels.get(f"{_PREFIX}/revision", ""),
        ready=_is_ready(status) and not meta.get("deletionTimestamp"),
        gpu=notes.get(f"{_PREFIX}/gpu", ""),
        topology=_place(labels, notes, spec),
        cost=_cost(notes),
        kv_port=_port(spec, KV_PORT_NAME) or 0,
        bootstrap_port=_port(spec, BOOTSTRAP_PORT_NAME) or 0,
    )


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _place(labels: Mapping[str, str], notes: Mapping[str, str], spec: Mapping[str, Any]) -> str:
    """Where the pod is, if the service asks. Only in clusters with PodTopologyLabels do pods have their
    node's labels; of others the node is known.
    """
    key = notes.get(f"{_PREFIX}/topology-key")
    return (labels.get(key) or spec.get("nodeName") or "") if key else ""


def _cost(notes: Mapping[str, str]) -> float:
    try:
        cost = float(notes.get(f"{_PREFIX}/cost", "1"))
    except ValueError:
        return 1.0
    return cost if 0 <= cost < math.inf else 1.0


def _port(spec: Mapping[str, Any], name: str) -> int | None:
    for container in spec.get("containers") or []:
        for port in container.get("ports") or []:
            if port.get("name") == name:
                number = port.get("containerPort")
                return number if isinstance(number, int) else None
    return None
