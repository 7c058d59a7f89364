"""What one pass saw -> status. Pure; the clock is an argument."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tandem_operator.api import (
    AutoscalingStatus,
    LLMService,
    LLMServiceStatus,
    PoolStatus,
    Readiness,
    Role,
    WorkerPool,
    WorkerPoolStatus,
)
from tandem_operator.conditions import Finding, merge, timestamp
from tandem_operator.desired.names import selector
from tandem_operator.desired.router import url
from tandem_operator.observe import ObservedPool, Workload
from tandem_operator.paths import Paths, disaggregating
from tandem_operator.scaling import ScalingDecision

Reason = Literal["InvalidSpec", "NameConflict", "Refused"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the resource cannot be made real, and the text for people."""

    reason: Reason
    message: str


def is_settled(status: LLMServiceStatus | WorkerPoolStatus, generation: int) -> bool:
    """That generation was fully applied before: what is missing now was taken away by somebody."""
    faulty = any(item.reason in get_args(Reason) for item in status.conditions)
    return status.observed_generation == generation and not faulty


@dataclass(frozen=True, slots=True)
class Planned:
    """What the planner said last, and its last change."""

    decision: ScalingDecision | None = None
    change: AutoscalingStatus | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What one pass saw of a service."""

    pools: tuple[ObservedPool, ...] = ()
    router: Workload | None = None
    fault: Fault | None = None
    planned: Planned = Planned()
    paths: Paths | None = None


def service_status(
    service: LLMService | None, generation: int, previous: LLMServiceStatus, observed: Observed, now: float
) -> LLMServiceStatus:
    """The next status. `service` is None when its spec is invalid: what runs is counted all the same."""
    loads = {pool.name: pool.workload for pool in observed.pools} | {"router": observed.router or Workload()}
    findings = [
        _available(observed),
        _progressing(loads, observed.fault),
        _degraded(observed.fault, loads),
    ]
    if service is not None and (found := disaggregating(service, observed.paths)) is not None:
        findings.append(found)
    scaled = service is not None and service.spec.autoscaling.mode == "slo"
    if scaled:
        findings.append(_autoscaling(observed.planned.decision))
    return LLMServiceStatus(
        observed_generation=generation,
        url=url(service) if service else previous.url,
        readiness=_readiness(observed.pools),
        pools=tuple(_counts(pool) for pool in observed.pools),
        autoscaling=(observed.planned.change or previous.autoscaling) if scaled or not service else None,
        conditions=merge(previous.conditions, findings, generation, now),
    )


def pool_status(
    pool: WorkerPool | None,
    generation: int,
    previous: WorkerPoolStatus,
    workers: Workload | None,
    fault: Fault | None,
    now: float,
) -> WorkerPoolStatus:
    """The next status of a WorkerPool; `pool` is None when its spec is invalid."""
    load = workers or Workload()
    some = load.ready > 0 or (workers is not None and load.desired == 0)
    available = Finding(
        "Available",
        some,
        "Ready" if some else "NoneReady",
        f"{load.ready} of {load.desired} workers are ready",
    )
    findings = [available, _progressing({"workers": load}, fault), _degraded(fault, {"workers": load})]
    return WorkerPoolStatus(
        observed_generation=generation,
        replicas=load.replicas,
        ready=load.ready,
        updated=load.updated,
        selector=_selector(pool) if pool else previous.selector,
        conditions=merge(previous.conditions, findings, generation, now),
    )


def change(decision: ScalingDecision, before: Mapping[str, int], now: float) -> AutoscalingStatus:
    """A decision that resizes pools, as status shows it. `before`: replicas by pool."""
    moves = [f"{name} {before.get(name, 0)} -> {count}" for name, count in decision.replicas.items()]
    return AutoscalingStatus(
        last_decision=", ".join(moves)[:1024], reason=decision.message[:1024], time=timestamp(now)
    )


def _selector(pool: WorkerPool) -> str:
    chosen = selector(pool.spec.service, "worker", pool.spec.pool)
    return ",".join(f"{key}={value}" for key, value in chosen.items())


def _available(observed: Observed) -> Finding:
    ready = {pool.role for pool in observed.pools if pool.workload.ready}
    if observed.router is None or not observed.router.ready:
        return Finding("Available", False, "RouterNotReady", "no router is ready")
    if "mixed" in ready or ready >= {"prefill", "decode"}:
        return Finding(
            "Available", True, "Serving", "a router and the workers that a request needs are ready"
        )
    missing = [role for role in ("prefill", "decode") if role not in ready]
    return Finding("Available", False, "WorkersNotReady", f"no {' and no '.join(missing)} worker is ready")


def _progressing(loads: Mapping[str, Workload], fault: Fault | None) -> Finding:
    if fault is not None:
        return Finding("Progressing", False, fault.reason, "nothing is changed while the resource is refused")
    moving = {name: load for name, load in loads.items() if not load.settled}
    if not moving:
        return Finding("Progressing", False, "Settled", "everything is as specified")
    rolling = any(load.updated < load.desired or not load.current for load in moving.values())
    said = [f"{name}: {load.ready} of {load.desired} ready" for name, load in moving.items()]
    return Finding("Progressing", True, "RollingOut" if rolling else "Scaling", ", ".join(said))


def _degraded(fault: Fault | None, loads: Mapping[str, Workload]) -> Finding:
    if fault is not None:
        return Finding("Degraded", True, fault.reason, fault.message)
    failing = [f"{name}: {load.failure}" for name, load in loads.items() if load.failure]
    if failing:
        return Finding("Degraded", True, "PodsFailing", "; ".join(failing))
    return Finding("Degraded", False, "Healthy", "the spec is valid and nothing fails")


def _autoscaling(decision: ScalingDecision | None) -> Finding:
    if decision is None:
        return Finding("Autoscaling", None, "Starting", "the planner has not decided yet")
    # A message with numbers on every steady pass would write status on every pass.
    said = decision.message if decision.replicas or not decision.observed else "no pool has to change now"
    return Finding("Autoscaling", decision.observed, decision.reason, said)


def _counts(pool: ObservedPool) -> PoolStatus:
    load = pool.workload
    return PoolStatus(
        name=pool.name,
        role=pool.role,
        desired=load.desired,
        replicas=load.replicas,
        ready=load.ready,
        updated=load.updated,
    )


def _readiness(pools: Sequence[ObservedPool]) -> Readiness:
    return Readiness(
        prefill=_ratio(pools, "prefill"), decode=_ratio(pools, "decode"), mixed=_ratio(pools, "mixed")
    )


def _ratio(pools: Iterable[ObservedPool], role: Role) -> str | None:
    loads = [pool.workload for pool in pools if pool.role == role]
    if not loads:
        return None
    return f"{sum(load.ready for load in loads)}/{sum(load.desired for load in loads)}"
