"""Pods as the API server writes them, to workers."""

import copy
from typing import Any

import pytest

from tandem_router.discovery.pods import endpoint_of, selector
from tandem_router.types import Endpoint, Role

POD: dict[str, Any] = {
    "metadata": {
        "name": "quickstart-prefill-7d9f",
        "labels": {
            "tandemserve.dev/service": "quickstart",
            "tandemserve.dev/pool": "prefill",
            "tandemserve.dev/role": "prefill",
            "tandemserve.dev/engine": "native",
            "tandemserve.dev/revision": "5f3c",
        },
    },
    "spec": {
        "containers": [
            {"name": "sidecar"},
            {
                "name": "worker",
                "ports": [{"name": "kv", "containerPort": 8200}, {"name": "http", "containerPort": 8100}],
            },
        ]
    },
    "status": {
        "podIP": "10.1.2.3",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    pod = copy.deepcopy(POD)
    *parents, last = path.split("|")
    place = pod
    for key in parents:
        place = place[key]
    place[last] = value
    return pod


def test_a_ready_pod_is_a_ready_worker() -> None:
    assert endpoint_of(POD, "recall") == Endpoint(
        name="quickstart-prefill-7d9f",
        address="10.1.2.3",
        port=8100,
        role=Role.PREFILL,
        pool="prefill",
        engine="native",
        model="recall",
        revision="5f3c",
        ready=True,
        kv_port=8200,
    )


ZONE = "topology.kubernetes.io/zone"
NOTES = {
    "tandemserve.dev/cost": "4.5",
    "tandemserve.dev/gpu": "h200 x4",
    "tandemserve.dev/topology-key": ZONE,
}


def test_what_the_operator_notes_on_a_pod_is_known_of_its_worker() -> None:
    pod = changed("metadata|annotations", NOTES)
    pod["spec"]["nodeName"] = "node-7"
    worker = endpoint_of(pod, "m")
    assert worker is not None
    assert (worker.cost, worker.gpu, worker.topology) == (4.5, "h200 x4", "node-7")
    pod["metadata"]["labels"][ZONE] = "a"
    worker = endpoint_of(pod, "m")
    assert worker is not None
    assert worker.topology == "a"


@pytest.mark.parametrize("cost", ["much", "-1", "nan", "inf", ""])
def test_a_cost_that_is_none_counts_as_one(cost: str) -> None:
    worker = endpoint_of(changed("metadata|annotations", {"tandemserve.dev/cost": cost}), "m")
    assert worker is not None
    assert (worker.cost, worker.topology) == (1.0, "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status|conditions", [{"type": "Ready", "status": "False"}]),
        ("status|conditions", []),
        ("status|conditions", None),
        ("metadata|deletionTimestamp", "2026-11-22T09:38:32Z"),
    ],
)
def test_a_pod_that_takes_no_new_requests(path: str, value: Any) -> None:
    endpoint = endpoint_of(changed(path, value), "recall")
    assert endpoint is not None
    assert not endpoint.ready


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status|podIP", None),
        ("status", {}),
        ("metadata|labels|tandemserve.dev/role", "router"),
        ("metadata|labels|tandemserve.dev/engine", "abacus"),
        ("metadata|labels", None),
        ("spec|containers", [{"name": "worker"}]),
    ],
)
def test_a_pod_that_is_no_worker_yet_or_ever(path: str, value: Any) -> None:
    assert endpoint_of(changed(path, value), "recall") is None


def test_workers_of_one_service_are_selected() -> None:
    assert selector("quickstart") == ("tandemserve.dev/service=quickstart,app.kubernetes.io/component=worker")
