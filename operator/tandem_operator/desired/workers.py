"""A WorkerPool's Deployment."""

from tandem_operator.api import Manifest, WorkerPool
from tandem_operator.desired import pods
from tandem_operator.desired.engines import MODEL_MOUNT, PRESETS, Preset
from tandem_operator.desired.names import (
    COST,
    GPU,
    HTTP_PORT,
    REVISION,
    TOPOLOGY_KEY,
    metadata,
    pool_labels,
    selector,
)
from tandem_operator.desired.replicas import clamp


def pool_children(pool: WorkerPool) -> list[Manifest]:
    """Everything that the operator makes for one WorkerPool."""
    return [_deployment(pool)]


def _deployment(pool: WorkerPool) -> Manifest:
    spec = pool.spec
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(pool, pool.metadata.name, pool_labels(pool)),
        "spec": pods.deployment_spec(
            replicas=clamp(spec.replicas, spec.min_replicas, spec.max_replicas),
            selector=selector(spec.service, "worker", spec.pool),
            template=_template(pool),
        ),
    }


def _template(pool: WorkerPool) -> Manifest:
    preset = PRESETS[pool.spec.engine.type]
    return {
        "metadata": {
            "labels": {**pool_labels(pool), REVISION: pool.spec.revision},
            "annotations": {**pods.scrape(HTTP_PORT), **_told_to_router(pool)},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": preset.grace,
            "containers": [_container(pool, preset)],
            "volumes": _volumes(pool, preset),
        },
    }


def _told_to_router(pool: WorkerPool) -> dict[str, str]:
    """What the router knows of a worker beside its labels. Defaults go without saying."""
    spec, told = pool.spec, dict[str, str]()
    if spec.cost != 1.0:
        told[COST] = f"{spec.cost:g}"
    if spec.accelerator:
        kind = spec.accelerator.product or spec.accelerator.resource
        told[GPU] = kind if spec.accelerator.count == 1 else f"{kind} x{spec.accelerator.count}"
    if spec.topology_key:
        told[TOPOLOGY_KEY] = spec.topology_key
    return told


def _container(pool: WorkerPool, preset: Preset) -> Manifest:
    engine = pool.spec.engine
    container: Manifest = {
        "name": "worker",
        "image": engine.image,
        "command": list(preset.command),
        "args": [*preset.arguments(pool), *engine.args, *pool.spec.args],
        "env": pods.env({**preset.env, **preset.settings(pool)}, engine.env),
        "ports": pods.ports(preset.ports),
        "startupProbe": pods.probe(preset.live, period=1, failures=1800),
        "livenessProbe": pods.probe(preset.live, period=10, failures=6, timeout=5),
        "readinessProbe": pods.probe(preset.ready, period=2, failures=2),
        "securityContext": pods.container_security(),
        "volumeMounts": _mounts(pool, preset),
    }
    if resources := _resources(pool):
        container["resources"] = resources
    if preset.drain_delay:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(preset.drain_delay)]}}}
    return container


def _resources(pool: WorkerPool) -> Manifest:
    spec = pool.spec
    resources: Manifest = spec.resources.manifest() if spec.resources else {"requests": {}, "limits": {}}
    if spec.accelerator:
        count = str(spec.accelerator.count)
        for section in ("requests", "limits"):
            resources[section][spec.accelerator.resource] = count
    return {section: values for section, values in resources.items() if values}


def _volumes(pool: WorkerPool, preset: Preset) -> list[Manifest]:
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if preset.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    if claim := pool.spec.model.source.pvc:
        volumes.append(
            {"name": "model", "persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": True}}
        )
    return volumes


def _mounts(pool: WorkerPool, preset: Preset) -> list[Manifest]:
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": pods.TMP}]
    if preset.shared_memory:
        mounts.append({"name": "shm", "mountPath": pods.SHARED_MEMORY})
    if pool.spec.model.source.pvc:
        mounts.append({"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True})
    return mounts
