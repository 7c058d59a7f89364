"""What the monitors select out of what is discovered, by Prometheus' own relabelling rules."""

import re
from pathlib import Path
from typing import Any

from tandem_e2e.discovery import endpoint_targets, pod_targets
from tandem_e2e.monitors import configuration

Object = dict[str, Any]


def pod(name: str, labels: dict[str, str], phase: str = "Running", address: str = "10.0.0.1") -> Object:
    ports = [{"name": "http", "containerPort": 8100}, {"name": "kv", "containerPort": 8200}]
    return {
        "metadata": {"name": name, "namespace": "demo", "labels": labels},
        "spec": {"containers": [{"name": "worker", "ports": ports}]},
        "status": {"phase": phase, "podIP": address} if address else {"phase": phase},
    }


def relabelled(job: Object, target: Object) -> dict[str, str] | None:
    """The target's labels after the job's rules; None if one of them drops it."""
    labels = dict(target["labels"])
    for rule in job["relabel_configs"]:
        value = ";".join(labels.get(source, "") for source in rule["source_labels"])
        matches = re.fullmatch(rule.get("regex", "(.*)"), value) is not None
        if rule.get("action") in ("keep", "drop"):
            if matches != (rule["action"] == "keep"):
                return None
        else:
            labels[rule["target_label"]] = value
    return {name: value for name, value in labels.items() if not name.startswith("__")}


def job(kind: str, **spec: Any) -> Object:
    monitor = {"kind": kind, "metadata": {"name": "m", "namespace": "system"}, "spec": spec}
    found: Object = configuration([monitor], Path("/targets"), "2s")["scrape_configs"][0]
    return found


PODS = job(
    "PodMonitor",
    namespaceSelector={"any": True},
    selector={"matchLabels": {"app.kubernetes.io/name": "tandem"}},
    podMetricsEndpoints=[{"port": "http"}],
)
TANDEM = {"app.kubernetes.io/name": "tandem"}


def test_a_pod_monitor_takes_the_named_port_of_pods_with_the_labels() -> None:
    targets = list(pod_targets([pod("worker-1", TANDEM), pod("other", {"app.kubernetes.io/name": "x"})]))
    kept = [relabelled(PODS, target) for target in targets]
    assert kept == [{"namespace": "demo", "pod": "worker-1"}, None, None, None]
    assert PODS["file_sd_configs"][0]["files"] == ["/targets/pod.json"]


def test_a_pod_without_address_or_life_is_no_target() -> None:
    assert not list(pod_targets([pod("starting", TANDEM, address="")]))
    [done, _] = pod_targets([pod("done", TANDEM, phase="Succeeded")])
    assert relabelled(PODS, done) is None


def test_a_service_monitor_takes_ready_addresses_in_its_own_namespace() -> None:
    services = job(
        "ServiceMonitor",
        selector={"matchLabels": {"app": "operator"}},
        endpoints=[{"port": "metrics", "honorLabels": True}],
    )
    subset = {
        "addresses": [{"ip": "10.0.0.9", "targetRef": {"name": "operator-1"}}],
        "notReadyAddresses": [{"ip": "10.0.0.8"}],
        "ports": [{"name": "metrics", "port": 9090}],
    }
    here = {"metadata": {"namespace": "system", "labels": {"app": "operator"}}, "subsets": [subset]}
    there = {"metadata": {"namespace": "demo", "labels": {"app": "operator"}}, "subsets": [subset]}
    [own, foreign] = endpoint_targets([here, there])
    assert own["targets"] == ["10.0.0.9:9090"]
    assert relabelled(services, own) == {"namespace": "system", "pod": "operator-1"}
    assert relabelled(services, foreign) is None
    assert services["honor_labels"] is True
