"""Planners of services: started, fed, stopped; what they say and do in the cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tandem_operator.api import LLMService, Manifest
from tandem_operator.kube import Kube
from tandem_operator.planners import Planners
from tandem_operator.recorder import Recorder
from tandem_operator.scaling import ScaleTarget, ScalingDecision

MakeService = Callable[..., LLMService]
SLO = {"mode": "slo"}
POOLS = [{"name": "all", "role": "mixed", "minReplicas": 1, "maxReplicas": 4}]
LABELS = {"app.kubernetes.io/managed-by": "tandem-operator", "tandemserve.dev/service": "base"}


class Recording:
    """An autoscaler that a test drives: it waits, and hands out what it was given."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.current: Callable[[], LLMService]
        self.target: ScaleTarget

    async def __call__(self, current: Callable[[], LLMService], target: ScaleTarget) -> None:
        self.current, self.target = current, target
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


@pytest.fixture
def autoscaler() -> Recording:
    return Recording()


@pytest.fixture
def woken() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def planners(
    kube: Kube, autoscaler: Recording, woken: list[tuple[str, str]]
) -> AsyncIterator[Planners]:
    made = Planners(kube, Recorder(kube, float), autoscaler, lambda *key: woken.append(key), float)
    yield made
    await made.close()


def live(service: LLMService) -> Manifest:
    return {**service.manifest(), "metadata": {"name": "base", "namespace": "default", "uid": "uid-base"}}


async def started(planners: Planners, autoscaler: Recording, service: LLMService) -> ScaleTarget:
    planners.ensure(service, live(service))
    await asyncio.wait_for(autoscaler.started.wait(), 2)
    return autoscaler.target


async def test_only_mode_slo_has_a_planner(
    planners: Planners, autoscaler: Recording, make_service: MakeService
) -> None:
    manual, slo = make_service(pools=POOLS), make_service(pools=POOLS, autoscaling=SLO)
    planners.ensure(manual, live(manual))
    await asyncio.sleep(0)
    assert not autoscaler.started.is_set()
    await started(planners, autoscaler, slo)
    planners.ensure(manual, live(manual))
    await asyncio.wait_for(autoscaler.ended.wait(), 2)


async def test_a_planner_sees_edits_without_a_restart(
    planners: Planners, autoscaler: Recording, make_service: MakeService
) -> None:
    await started(planners, autoscaler, make_service(pools=POOLS, autoscaling=SLO))
    edited = make_service(pools=POOLS, autoscaling={**SLO, "interval": "1m"})
    planners.ensure(edited, live(edited))
    assert autoscaler.current().spec.autoscaling.interval == "1m"
    assert not autoscaler.ended.is_set()


async def test_a_planner_ends_with_its_service(
    planners: Planners, autoscaler: Recording, make_service: MakeService
) -> None:
    await started(planners, autoscaler, make_service(pools=POOLS, autoscaling=SLO))
    planners.stop("default", "base")
    await asyncio.wait_for(autoscaler.ended.wait(), 2)


async def test_a_decision_scales_the_pool_and_is_told(
    planners: Planners,
    autoscaler: Recording,
    api: Any,
    make_service: MakeService,
    woken: list[tuple[str, str]],
) -> None:
    api.put(pool_manifest(replicas=1))
    target = await started(planners, autoscaler, make_service(pools=POOLS, autoscaling=SLO))
    assert [(pool.name, pool.replicas) for pool in await target.pools()] == [("all", 1)]
    await target.enact(ScalingDecision("QueueWait", "requests wait 2 s", {"all": 3}))
    assert api.named("WorkerPool", "base-all")["spec"]["replicas"] == 3
    planned = planners.planned("default", "base")
    assert planned.change is not None
    assert (planned.change.last_decision, planned.change.reason) == ("all 1 -> 3", "requests wait 2 s")
    assert api.events("Scaled") == ["all 1 -> 3: requests wait 2 s"]
    assert woken == [("default", "base")]


async def test_steady_decisions_ask_for_a_pass_only_when_their_reason_changes(
    planners: Planners, autoscaler: Recording, make_service: MakeService, woken: list[tuple[str, str]]
) -> None:
    target = await started(planners, autoscaler, make_service(pools=POOLS, autoscaling=SLO))
    for reason in ("Steady", "Steady", "Cooldown", "Cooldown"):
        await target.enact(ScalingDecision(reason, "numbers"))
    assert len(woken) == 2


async def test_ready_pods_are_the_metric_sources(
    planners: Planners, autoscaler: Recording, api: Any, make_service: MakeService
) -> None:
    api.put(
        pod("worker", "10.0.0.1", "8100", {"tandemserve.dev/pool": "all", "tandemserve.dev/role": "mixed"})
    )
    api.put(pod("router", "10.0.0.2", "8000", {}))
    api.put(pod("starting", "10.0.0.3", "8100", {}, ready="False"))
    api.put({**pod("going", "10.0.0.4", "8100", {}), "spec": {}})
    api.named("Pod", "going")["metadata"]["deletionTimestamp"] = "now"
    target = await started(planners, autoscaler, make_service(pools=POOLS, autoscaling=SLO))
    sources = {source.url: (source.component, source.pool, source.role) for source in await target.sources()}
    assert sources == {
        "http://10.0.0.1:8100/metrics": ("worker", "all", "mixed"),
        "http://10.0.0.2:8000/metrics": ("router", None, None),
    }


def pool_manifest(replicas: int) -> Manifest:
    return {
        "apiVersion": "tandemserve.dev/v1alpha1",
        "kind": "WorkerPool",
        "metadata": {"name": "base-all", "namespace": "default", "labels": LABELS},
        "spec": {"pool": "all", "role": "mixed", "replicas": replicas},
    }


def pod(name: str, ip: str, port: str, labels: dict[str, str], ready: str = "True") -> Manifest:
    component = "worker" if labels else "router"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {**LABELS, **labels, "app.kubernetes.io/component": component},
            "annotations": {"prometheus.io/port": port},
        },
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    }
