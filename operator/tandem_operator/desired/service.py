"""A service's children: the router and one WorkerPool a pool."""

from collections.abc import Mapping
from typing import Any

from tandem_operator.api import API_VERSION, LLMService, Manifest, Pool, WorkerPoolSpec
from tandem_operator.desired.names import (
    ENGINE,
    POOL,
    ROLE,
    SPEC_REPLICAS,
    labels,
    metadata,
    pool_name,
    protocol,
)
from tandem_operator.desired.replicas import LivePool, resolve
from tandem_operator.desired.revision import connector, revision
from tandem_operator.desired.router import router_children
from tandem_operator.images import DEFAULT_IMAGES, Images


def children(
    service: LLMService, images: Images = DEFAULT_IMAGES, live: Mapping[str, LivePool] | None = None
) -> list[Manifest]:
    """Everything that the operator makes for one LLMService, in the order in which it is applied.

    `live` holds the WorkerPools that exist, by pool name: their size is kept unless the service's number
    changed.
    """
    known = live or {}
    pools = [_worker_pool(service, pool, images, known.get(pool.name)) for pool in service.spec.pools]
    return [*router_children(service, images), *pools]


def _worker_pool(service: LLMService, pool: Pool, images: Images, live: LivePool | None) -> Manifest:
    spec = service.spec
    image = spec.engine.image or images.engine(spec.engine.type)
    worker_spec = WorkerPoolSpec(
        service=service.metadata.name,
        pool=pool.name,
        role=pool.role,
        replicas=resolve(pool, live),
        min_replicas=pool.min_replicas,
        max_replicas=pool.max_replicas,
        model=spec.model,
        engine=spec.engine.model_copy(update={"image": image}),
        connector=connector(service),
        topology_key=spec.kv_transfer.topology_key,
        accelerator=pool.accelerator,
        cost=pool.cost,
        resources=pool.resources,
        args=pool.args,
        revision=revision(service, images),
    )
    child_labels = {
        **labels(service.metadata.name, "worker"),
        POOL: pool.name,
        ROLE: pool.role,
        ENGINE: protocol(spec.engine.type, worker_spec.connector),
    }
    annotations = {SPEC_REPLICAS: str(pool.replicas)}
    return {
        "apiVersion": API_VERSION,
        "kind": "WorkerPool",
        "metadata": metadata(service, pool_name(service, pool.name), child_labels, annotations),
        "spec": _without_empty(worker_spec.manifest()),
    }


def _without_empty(value: Any) -> Any:
    """Without empty lists and mappings: server-side apply turns one that had items before into null."""
    if isinstance(value, dict):
        lean = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in lean.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value
