"""Manifests as the API server returns them -> what status is made from. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from tandem_operator.api import LLMService, LLMServiceStatus, Manifest, Role, WorkerPoolStatus
from tandem_operator.desired.names import SPEC_REPLICAS
from tandem_operator.desired.replicas import LivePool

Status = TypeVar("Status", LLMServiceStatus, WorkerPoolStatus)


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods of one Deployment or WorkerPool. `current`: its controller has acted on the newest spec."""

    desired: int = 0
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    current: bool = True
    failure: str | None = None

    @property
    def settled(self) -> bool:
        return self.current and self.desired == self.replicas == self.ready == self.updated


@dataclass(frozen=True, slots=True)
class ObservedPool:
    """A WorkerPool as the cluster has it."""

    name: str
    role: Role
    workload: Workload


def deployment(manifest: Manifest | None) -> Workload | None:
    """What a Deployment's status says; None where there is none."""
    if manifest is None:
        return None
    status: dict[str, Any] = manifest.get("status", {})
    current = status.get("observedGeneration", 0) >= manifest["metadata"].get("generation", 0)
    return Workload(
        desired=manifest["spec"].get("replicas", 1),
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        # Before the controller has seen a new template, its count speaks of the old one.
        updated=status.get("updatedReplicas", 0) if current else 0,
        current=current,
        failure=_failure(status.get("conditions", ())),
    )


def _failure(conditions: Iterable[Manifest]) -> str | None:
    for condition in conditions:
        kind, status = condition["type"], condition["status"]
        if (kind == "ReplicaFailure" and status == "True") or (kind == "Progressing" and status == "False"):
            return str(condition.get("message") or condition.get("reason"))
    return None


def pools(manifests: Iterable[Manifest], service: LLMService | None) -> tuple[ObservedPool, ...]:
    """The WorkerPools of a service, in the order of its spec where that is known."""
    order = {pool.name: index for index, pool in enumerate(service.spec.pools)} if service else {}
    found = [_pool(manifest) for manifest in manifests]
    return tuple(sorted(found, key=lambda pool: (order.get(pool.name, len(order)), pool.name)))


def _pool(manifest: Manifest) -> ObservedPool:
    spec = manifest["spec"]
    status = parse(WorkerPoolStatus, manifest)
    degraded = [item for item in status.conditions if item.type == "Degraded" and item.status == "True"]
    workload = Workload(
        desired=spec.get("replicas", 1),
        replicas=status.replicas,
        ready=status.ready,
        updated=status.updated,
        current=status.observed_generation == manifest["metadata"].get("generation", 0),
        failure=degraded[0].message if degraded else None,
    )
    return ObservedPool(spec["pool"], spec["role"], workload)


def live_pools(manifests: Iterable[Manifest]) -> dict[str, LivePool]:
    """What `desired.children` has to know of the WorkerPools that exist, by pool name."""
    return {
        manifest["spec"]["pool"]: LivePool(
            manifest["spec"].get("replicas", 1),
            _number(manifest["metadata"].get("annotations", {}).get(SPEC_REPLICAS)),
        )
        for manifest in manifests
    }


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def parse(kind: type[Status], manifest: Manifest) -> Status:
    """The status that was written last; an empty one if there is none or another version wrote it."""
    try:
        return kind.model_validate(manifest.get("status") or {})
    except ValidationError:
        return kind()
