"""Names, labels, annotations and owner references of everything that the operator makes."""

from collections.abc import Mapping
from typing import Literal

from tandem_operator.api import API_VERSION, Connector, EngineType, LLMService, Manifest, WorkerPool

MANAGER = "tandem-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
SERVICE = "tandemserve.dev/service"
POOL = "tandemserve.dev/pool"
ROLE = "tandemserve.dev/role"
ENGINE = "tandemserve.dev/engine"
REVISION = "tandemserve.dev/revision"
COST = "tandemserve.dev/cost"
GPU = "tandemserve.dev/gpu"
TOPOLOGY_KEY = "tandemserve.dev/topology-key"
SPEC_REPLICAS = "tandemserve.dev/spec-replicas"

HTTP_PORT = 8100
KV_PORT = 8200

Component = Literal["router", "worker"]

_VLLM_PROTOCOLS: Mapping[Connector, str] = {"nixl-push": "vllm-push", "mooncake": "vllm-mooncake"}


def labels(service: str, component: Component) -> dict[str, str]:
    """Labels of every child of a service."""
    return {
        "app.kubernetes.io/name": "tandem",
        MANAGED_BY: MANAGER,
        "app.kubernetes.io/instance": service,
        COMPONENT: component,
        SERVICE: service,
    }


def pool_labels(pool: WorkerPool) -> dict[str, str]:
    """Labels of a pool's Deployment; the pods also carry the revision."""
    spec = pool.spec
    engine = protocol(spec.engine.type, spec.connector)
    return {**labels(spec.service, "worker"), POOL: spec.pool, ROLE: spec.role, ENGINE: engine}


def protocol(engine: EngineType, connector: Connector) -> str:
    """The router's name for how these workers hand over: vLLM's connectors differ on the wire."""
    return _VLLM_PROTOCOLS.get(connector, engine) if engine == "vllm" else engine


def selector(service: str, component: Component, pool: str | None = None) -> dict[str, str]:
    """Labels that never change in the life of a Deployment, so they may select its pods."""
    chosen = {SERVICE: service, COMPONENT: component}
    return chosen if pool is None else {**chosen, POOL: pool}


def owner(parent: LLMService | WorkerPool) -> Manifest:
    """The reference that makes the garbage collector delete a child with its parent."""
    return {
        "apiVersion": API_VERSION,
        "kind": parent.kind,
        "name": parent.metadata.name,
        "uid": parent.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(
    parent: LLMService | WorkerPool,
    name: str,
    child_labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """Metadata of a child. A parent without uid (a file, not yet in a cluster) gives no owner reference."""
    meta: Manifest = {"name": name, "namespace": parent.metadata.namespace, "labels": dict(child_labels)}
    if annotations:
        meta["annotations"] = dict(annotations)
    if parent.metadata.uid:
        meta["ownerReferences"] = [owner(parent)]
    return meta


def router_name(service: str) -> str:
    return f"{service}-router"


def pool_name(service: LLMService, pool: str) -> str:
    return f"{service.metadata.name}-{pool}"
