"""Passes over services and pools against an API server in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tandem_operator.api import Manifest
from tandem_operator.conditions import Notice
from tandem_operator.images import Images
from tandem_operator.kube import ApiError, Kube
from tandem_operator.path_watch import PathWatch
from tandem_operator.planners import Planners
from tandem_operator.pool_pass import PoolPass
from tandem_operator.recorder import Recorder
from tandem_operator.report import Outcome
from tandem_operator.scaling import MetricsSource
from tandem_operator.service_pass import ServicePass

Patched = Callable[[Manifest], Manifest]


class Operator:
    """Runs passes until nothing is left to do, as watch events would make the controller do."""

    def __init__(self, kube: Kube, api: Any) -> None:
        self.now = 0.0
        recorder = Recorder(kube, self.clock)

        self.planned = asyncio.Event()
        self.planning_ended = asyncio.Event()
        planners = Planners(kube, recorder, self._plan, lambda *_: None, self.clock)
        self.api = api
        self.paths = PathWatch(self._sources, lambda *_: None, self.clock)
        self.services = ServicePass(kube, recorder, planners, self.paths, Images(), self.clock)
        self.pools = PoolPass(kube, recorder, self.clock)

    async def _plan(self, *_: object) -> None:
        self.planned.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.planning_ended.set()

    async def _sources(self, *_: str) -> list[MetricsSource]:
        return []

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    async def run(self) -> Outcome:
        """Passes over everything until a round writes nothing; the service's last outcome."""
        for _ in range(10):
            before = len(self.api.writes)
            outcome = await self.services.run("default", "base")
            for name in self.api.names("WorkerPool"):
                await self.pools.run("default", name)
            if len(self.api.writes) == before:
                return outcome
        raise AssertionError(f"it never settles: {self.api.writes[-8:]}")


@pytest.fixture
async def operator(kube: Kube, api: Any) -> AsyncIterator[Operator]:
    made = Operator(kube, api)
    yield made
    await made.paths.close()


@pytest.fixture
async def running(operator: Operator, api: Any, manifest: Patched) -> Operator:
    """The good service, applied, its pods ready."""
    api.put(manifest({}))
    await operator.run()
    for name in api.names("Deployment"):
        ready(api, name)
    await operator.run()
    return operator


def ready(api: Any, name: str) -> None:
    """The deployment controller and the kubelet have done their work."""
    deployment = api.named("Deployment", name)
    count = deployment["spec"]["replicas"]
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": count,
        "readyReplicas": count,
        "updatedReplicas": count,
    }


def conditions(api: Any) -> dict[str, tuple[str, str]]:
    found = api.named("LLMService", "base")["status"]["conditions"]
    return {item["type"]: (item["status"], item["reason"]) for item in found}


async def test_a_new_service_gets_its_children_and_becomes_available(running: Operator) -> None:
    api = running.api
    assert api.names("Deployment") == ["base-decode", "base-prefill", "base-router"]
    assert api.names("WorkerPool") == ["base-decode", "base-prefill"]
    assert conditions(api) == {
        "Available": ("True", "Serving"),
        "Progressing": ("False", "Settled"),
        "Degraded": ("False", "Healthy"),
        "Disaggregating": ("Unknown", "TooFewRequests"),
    }
    status = api.named("LLMService", "base")["status"]
    assert status["observedGeneration"] == 1
    assert status["readiness"] == {"prefill": "1/1", "decode": "1/1"}


async def test_a_settled_service_costs_no_write(running: Operator) -> None:
    before = len(running.api.writes)
    await running.run()
    assert len(running.api.writes) == before


async def test_one_pass_writes_status_at_most_once(operator: Operator, api: Any, manifest: Patched) -> None:
    api.put(manifest({}))
    await operator.services.run("default", "base")
    assert [path for _, path in api.writes].count(
        "/apis/tandemserve.dev/v1alpha1/namespaces/default/llmservices/base/status"
    ) == 1


async def test_what_somebody_deletes_comes_back(running: Operator) -> None:
    api = running.api
    for kind, name in (("Service", "base"), ("Deployment", "base-decode"), ("ConfigMap", "base-client")):
        api.remove(kind, name)
    await running.run()
    assert "base" in api.names("Service")
    assert "base-decode" in api.names("Deployment")
    assert "ConfigMap base-client: it was deleted" in api.events("Restored")


async def test_what_somebody_edits_is_put_back(running: Operator) -> None:
    api = running.api
    api.edit("Deployment", "base-decode", replicas=9)
    api.edit("Service", "base", ports=[{"name": "http", "port": 1, "targetPort": "http", "protocol": "TCP"}])
    await running.run()
    assert api.named("Deployment", "base-decode")["spec"]["replicas"] == 1
    assert api.named("Service", "base")["spec"]["ports"][0]["port"] == 8000
    assert "Deployment base-decode: spec.replicas was 9, is 1 again" in api.events("Restored")


async def test_scaling_a_pool_scales_its_deployment_and_stays(running: Operator) -> None:
    api = running.api
    api.edit("WorkerPool", "base-decode", replicas=3)
    await running.run()
    assert api.named("Deployment", "base-decode")["spec"]["replicas"] == 3
    assert conditions(api)["Progressing"] == ("True", "RollingOut")
    ready(api, "base-decode")
    await running.run()
    assert api.named("WorkerPool", "base-decode")["spec"]["replicas"] == 3
    assert conditions(api)["Progressing"] == ("False", "Settled")


async def test_the_services_own_number_wins_when_it_changes(running: Operator) -> None:
    api = running.api
    api.edit("WorkerPool", "base-decode", replicas=3)
    await running.run()
    pools = copy.deepcopy(api.named("LLMService", "base")["spec"]["pools"])
    pools[1]["replicas"] = 2
    api.edit("LLMService", "base", pools=pools)
    await running.run()
    assert api.named("Deployment", "base-decode")["spec"]["replicas"] == 2


async def test_scaling_past_the_bounds_is_taken_back(running: Operator) -> None:
    api = running.api
    pools = [{"name": "all", "role": "mixed", "maxReplicas": 2}]
    api.edit("LLMService", "base", pools=pools)
    await running.run()
    api.edit("WorkerPool", "base-all", replicas=50)
    await running.pools.run("default", "base-all")
    assert api.named("Deployment", "base-all")["spec"]["replicas"] == 2, "not for a moment more than allowed"
    await running.run()
    assert api.named("WorkerPool", "base-all")["spec"]["replicas"] == 2


async def test_a_bad_spec_changes_nothing_and_says_what_is_wrong(running: Operator) -> None:
    api = running.api
    before = copy.deepcopy({path: item for path, item in api.objects.items() if "/llmservices/" not in path})
    api.edit(
        "LLMService", "base", kvTransfer={"connector": "nixl"}, model={"name": "x", "source": {"path": "y"}}
    )
    outcome = await running.run()
    assert outcome.fault is not None
    assert conditions(api)["Degraded"] == ("True", "InvalidSpec")
    assert conditions(api)["Available"] == ("True", "Serving"), "what runs goes on"
    told = "connector nixl needs engine type vllm or sglang or trtllm"
    assert api.events("InvalidSpec") == [f"spec.kvTransfer.connector: {told}"]
    after = {path: item for path, item in api.objects.items() if path in before}
    assert after == before
    assert api.named("LLMService", "base")["status"]["observedGeneration"] == 2


async def test_a_mended_spec_recovers(running: Operator) -> None:
    api = running.api
    api.edit("LLMService", "base", kvTransfer={"connector": "nixl"})
    await running.run()
    api.edit("LLMService", "base", kvTransfer={"connector": "auto"})
    await running.run()
    assert conditions(api)["Degraded"] == ("False", "Healthy")
    assert api.events("Recovered") == ["the spec is valid and nothing fails"]


async def test_children_that_the_api_server_refuses_leave_everything_as_it_was(running: Operator) -> None:
    api = running.api
    before = copy.deepcopy(api.objects)
    bad = "spec.template.spec.containers[0].resources.requests: must be less than or equal to cpu limit"
    api.refuse = lambda manifest: bad if "8Gi" in str(manifest) and manifest["kind"] == "Deployment" else None
    pools = [{"name": "all", "role": "mixed", "resources": {"requests": {"memory": "8Gi"}}}]
    api.edit("LLMService", "base", pools=pools, model={"name": "new", "source": {"path": "y"}})
    outcome = await running.run()
    assert outcome.fault is not None
    assert conditions(api)["Degraded"] == ("True", "Refused")
    assert bad in api.events("Refused")[0]
    kept = {path for path in before if "/llmservices/" not in path}
    assert {path: api.objects[path] for path in kept} == {path: before[path] for path in kept}
    assert "base-all" not in api.names("WorkerPool")


async def test_a_strangers_object_of_the_same_name_is_left_alone(
    operator: Operator, api: Any, manifest: Patched
) -> None:
    theirs = api.put(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "base", "namespace": "default"},
            "spec": {"x": 1},
        }
    )
    api.put(manifest({}))
    outcome = await operator.run()
    assert outcome.fault is not None
    assert conditions(api)["Degraded"] == ("True", "NameConflict")
    assert api.named("Service", "base") == theirs
    assert api.names("Deployment") == [], "nothing is begun that cannot be finished"


async def test_a_pool_that_is_taken_out_of_the_spec_goes(running: Operator) -> None:
    api = running.api
    api.edit("LLMService", "base", pools=[{"name": "all", "role": "mixed"}])
    await running.run()
    assert api.names("WorkerPool") == ["base-all"]
    assert "WorkerPool base-prefill, WorkerPool base-decode" in api.events("Deleted")


async def test_children_of_an_earlier_service_of_that_name_are_waited_for(
    operator: Operator, api: Any, manifest: Patched
) -> None:
    api.put(manifest({}))
    await operator.run()
    api.remove("LLMService", "base")
    api.put(manifest({}))
    outcome = await operator.run()
    assert outcome.fault is not None
    assert outcome.fault.reason == "NameConflict"
    for path in [path for path in api.objects if "/llmservices/" not in path and "/events/" not in path]:
        del api.objects[path]
    assert (await operator.run()).fault is None


async def test_a_service_that_is_gone_or_going_is_not_touched(
    operator: Operator, api: Any, manifest: Patched
) -> None:
    assert await operator.services.run("default", "base") == Outcome()
    going = manifest({})
    going["metadata"]["deletionTimestamp"] = "now"
    api.put(going)
    assert await operator.services.run("default", "base") == Outcome()
    assert api.writes == []


@pytest.mark.parametrize("on", ["", "/roles", "/deployments"])
async def test_an_api_server_that_fails_is_an_error_to_try_again_after(running: Operator, on: str) -> None:
    running.api.failing, running.api.failing_on = 500, on
    with pytest.raises(ApiError):
        await running.services.run("default", "base")


async def test_a_pool_whose_spec_is_wrong_says_so_and_keeps_its_workers(running: Operator) -> None:
    api = running.api
    before = copy.deepcopy(api.named("Deployment", "base-decode"))
    api.edit("WorkerPool", "base-decode", role="encode")
    outcome = await running.pools.run("default", "base-decode")
    assert outcome.fault is not None
    assert outcome.fault.message.startswith("spec.role")
    assert api.named("Deployment", "base-decode") == before


async def test_a_planner_runs_as_long_as_its_service(running: Operator) -> None:
    pools = [{"name": "all", "role": "mixed", "minReplicas": 1, "maxReplicas": 2}]
    running.api.edit("LLMService", "base", autoscaling={"mode": "slo"}, pools=pools)
    await running.run()
    await asyncio.wait_for(running.planned.wait(), 2)
    running.api.remove("LLMService", "base")
    await running.services.run("default", "base")
    await asyncio.wait_for(running.planning_ended.wait(), 2)


async def test_a_flood_of_news_writes_only_some_events(running: Operator, kube: Kube) -> None:
    recorder = Recorder(kube, lambda: 0.0)
    service = running.api.named("LLMService", "base")
    await recorder.publish(service, [Notice("Normal", "Flood", str(number)) for number in range(100)])
    assert len(running.api.events("Flood")) == 20


async def test_events_that_cannot_be_written_stop_nothing(running: Operator) -> None:
    running.api.refuse = lambda manifest: "no room" if manifest["kind"] == "Event" else None
    running.api.remove("Service", "base")
    await running.run()
    assert "base" in running.api.names("Service")
