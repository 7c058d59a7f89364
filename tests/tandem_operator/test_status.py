"""What status says about what is there."""

from collections.abc import Callable
from typing import Any

import pytest

from tandem_operator import observe
from tandem_operator.api import (
    Condition,
    LLMService,
    LLMServiceStatus,
    Manifest,
    WorkerPool,
    WorkerPoolStatus,
)
from tandem_operator.conditions import Notice, notices
from tandem_operator.desired import children
from tandem_operator.observe import ObservedPool, Workload
from tandem_operator.scaling import ScalingDecision
from tandem_operator.status import Fault, Observed, Planned, change, is_settled, pool_status, service_status

MakeService = Callable[..., LLMService]

FULL = Workload(2, 2, 2, 2)
EMPTY = Workload(2, 2, 0, 2)
NOTHING = LLMServiceStatus()
SLO = {
    "autoscaling": {"mode": "slo"},
    "pools": [{"name": "all", "role": "mixed", "minReplicas": 1, "maxReplicas": 2}],
}


def split(prefill: Workload, decode: Workload, router: Workload | None = FULL, **more: Any) -> Observed:
    pools = (ObservedPool("prefill", "prefill", prefill), ObservedPool("decode", "decode", decode))
    return Observed(pools, router, **more)


def condition(status: LLMServiceStatus | WorkerPoolStatus, kind: str) -> Condition:
    return next(item for item in status.conditions if item.type == kind)


def test_a_service_is_available_with_a_router_and_a_worker_of_each_role(make_service: MakeService) -> None:
    one = Workload(2, 2, 1, 2)
    status = service_status(make_service(), 1, NOTHING, split(one, one), 0.0)
    assert condition(status, "Available").status == "True"


def test_a_mixed_worker_is_enough(make_service: MakeService) -> None:
    observed = Observed((ObservedPool("all", "mixed", Workload(2, 1, 1, 1)),), FULL)
    assert condition(service_status(make_service(), 1, NOTHING, observed, 0.0), "Available").status == "True"


@pytest.mark.parametrize(
    ("observed", "reason", "message"),
    [
        (split(FULL, FULL, None), "RouterNotReady", "no router is ready"),
        (split(FULL, FULL, EMPTY), "RouterNotReady", "no router is ready"),
        (split(FULL, EMPTY), "WorkersNotReady", "no decode worker is ready"),
        (split(EMPTY, EMPTY), "WorkersNotReady", "no prefill and no decode worker is ready"),
    ],
)
def test_what_is_missing_is_named(
    make_service: MakeService, observed: Observed, reason: str, message: str
) -> None:
    found = condition(service_status(make_service(), 1, NOTHING, observed, 0.0), "Available")
    assert (found.status, found.reason, found.message) == ("False", reason, message)


def test_counts_and_ratios_are_shown(make_service: MakeService) -> None:
    status = service_status(make_service(), 4, NOTHING, split(FULL, Workload(3, 2, 1, 2)), 0.0)
    assert status.observed_generation == 4
    assert (status.readiness.prefill, status.readiness.decode, status.readiness.mixed) == ("2/2", "1/3", None)
    decode = status.pools[1]
    assert (decode.desired, decode.replicas, decode.ready, decode.updated) == (3, 2, 1, 2)
    assert status.url == "http://base.default.svc:8000"


@pytest.mark.parametrize(
    ("load", "status", "reason"),
    [
        (FULL, "False", "Settled"),
        (Workload(3, 2, 2, 3), "True", "Scaling"),
        (Workload(2, 3, 2, 1), "True", "RollingOut"),
        (Workload(2, 2, 2, 2, current=False), "True", "RollingOut"),
        (Workload(1, 2, 2, 2), "True", "Scaling"),
    ],
)
def test_progress_tells_a_rollout_from_scaling(
    make_service: MakeService, load: Workload, status: str, reason: str
) -> None:
    found = condition(service_status(make_service(), 1, NOTHING, split(FULL, load), 0.0), "Progressing")
    assert (found.status, found.reason) == (status, reason)


def test_a_fault_degrades_and_what_runs_is_still_counted() -> None:
    before = LLMServiceStatus(url="http://kept")
    status = service_status(
        None, 2, before, split(FULL, FULL, fault=Fault("InvalidSpec", "spec.x: wrong")), 0.0
    )
    assert condition(status, "Degraded").message == "spec.x: wrong"
    assert condition(status, "Available").status == "True"
    assert status.readiness.prefill == "2/2"
    assert status.url == "http://kept"
    assert not is_settled(status, 2)


def test_pods_that_cannot_start_degrade_the_service(make_service: MakeService) -> None:
    failing = Workload(2, 0, 0, 0, failure="exceeded quota")
    found = condition(service_status(make_service(), 1, NOTHING, split(FULL, failing), 0.0), "Degraded")
    assert (found.status, found.reason, found.message) == ("True", "PodsFailing", "decode: exceeded quota")


def test_a_condition_keeps_its_time_until_its_status_turns(make_service: MakeService) -> None:
    service = make_service()
    first = service_status(service, 1, NOTHING, split(EMPTY, EMPTY), 0.0)
    second = service_status(service, 1, first, split(EMPTY, FULL), 60.0)
    third = service_status(service, 1, second, split(FULL, FULL), 120.0)
    times = [condition(status, "Available").last_transition_time for status in (first, second, third)]
    assert times == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-01T00:02:00Z"]


def test_the_same_observation_gives_the_same_status(make_service: MakeService) -> None:
    service, seen = make_service(), split(FULL, EMPTY)
    status = service_status(service, 1, NOTHING, seen, 0.0)
    assert service_status(service, 1, status, seen, 999.0) == status


def test_the_planners_last_change_stays_until_the_next(make_service: MakeService) -> None:
    service = make_service(**SLO)
    decision = ScalingDecision("QueueWait", "queue wait 2 s", {"all": 2})
    planned = Planned(decision, change(decision, {"all": 1}, 60.0))
    first = service_status(service, 1, NOTHING, Observed(planned=planned), 60.0)
    steady = ScalingDecision("Steady", "all 2: queue wait 0.1 s")
    second = service_status(service, 1, first, Observed(planned=Planned(steady)), 75.0)
    assert first.autoscaling is not None
    assert first.autoscaling.last_decision == "all 1 -> 2"
    assert first.autoscaling.time == "1970-01-01T00:01:00Z"
    assert second.autoscaling == first.autoscaling
    said = condition(second, "Autoscaling").message
    assert said == "no pool has to change now", "numbers of a steady pass would write every time"


def test_a_planner_without_data_says_so(make_service: MakeService) -> None:
    decision = ScalingDecision("NoData", "Prometheus does not answer", observed=False)
    status = service_status(make_service(**SLO), 1, NOTHING, Observed(planned=Planned(decision)), 0.0)
    found = condition(status, "Autoscaling")
    assert (found.status, found.reason, found.message) == ("False", "NoData", "Prometheus does not answer")


def test_without_a_planner_nothing_is_said_of_it(make_service: MakeService) -> None:
    status = service_status(make_service(), 1, NOTHING, split(FULL, FULL), 0.0)
    assert "Autoscaling" not in [item.type for item in status.conditions]


def deployment(**status: Any) -> Manifest:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}


def test_a_deployment_that_has_not_seen_its_spec_has_updated_nothing() -> None:
    old = deployment(observedGeneration=1, replicas=2, readyReplicas=2, updatedReplicas=2)
    assert observe.deployment(old) == Workload(2, 2, 2, 0, current=False)


@pytest.mark.parametrize(
    "failing",
    [
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
        {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "too slow",
        },
    ],
)
def test_a_deployment_that_fails_says_why(failing: Manifest) -> None:
    fine = {"type": "Available", "status": "False", "message": "minimum availability"}
    found = observe.deployment(deployment(observedGeneration=2, conditions=[fine, failing]))
    assert found is not None
    assert found.failure == failing["message"]


def test_a_pools_status_selects_its_workers(make_service: MakeService) -> None:
    manifest = next(each for each in children(make_service()) if each["kind"] == "WorkerPool")
    status = pool_status(WorkerPool.model_validate(manifest), 3, WorkerPoolStatus(), FULL, None, 0.0)
    assert status.selector == (
        "tandemserve.dev/service=base,app.kubernetes.io/component=worker,tandemserve.dev/pool=prefill"
    )
    assert (status.replicas, status.ready, status.updated, status.observed_generation) == (2, 2, 2, 3)
    assert condition(status, "Available").status == "True"


def test_a_status_that_another_version_wrote_is_started_anew() -> None:
    assert observe.parse(LLMServiceStatus, {"status": {"conditions": "none"}}) == LLMServiceStatus()


def test_becoming_available_and_unavailable_is_told_once(make_service: MakeService) -> None:
    service = make_service()
    starting = service_status(service, 1, NOTHING, split(EMPTY, FULL), 0.0)
    ready = service_status(service, 1, starting, split(FULL, FULL), 1.0)
    broken = service_status(service, 1, ready, split(FULL, EMPTY), 2.0)
    assert notices((), starting.conditions) == []
    assert [notice.reason for notice in notices(starting.conditions, ready.conditions)] == ["Available"]
    assert notices(ready.conditions, ready.conditions) == []
    assert notices(ready.conditions, broken.conditions) == [
        Notice("Warning", "WorkersNotReady", "no decode worker is ready")
    ]


def test_a_fault_its_change_and_its_end_are_told() -> None:
    def faulty(message: str | None) -> LLMServiceStatus:
        fault = Fault("InvalidSpec", message) if message else None
        return service_status(None, 1, NOTHING, split(FULL, FULL, fault=fault), 0.0)

    def told(before: str | None, now: str | None) -> list[tuple[str, str]]:
        found = notices(faulty(before).conditions, faulty(now).conditions)
        return [(notice.reason, notice.message) for notice in found]

    assert told(None, "a") == [("InvalidSpec", "a")]
    assert told("a", "a") == []
    assert told("a", "b") == [("InvalidSpec", "b")]
    assert told("a", None) == [("Recovered", "the spec is valid and nothing fails")]
