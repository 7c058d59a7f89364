"""Prometheus configuration from ServiceMonitors and PodMonitors, as the Prometheus operator would make it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tandem_e2e.discovery import identifier

Object = dict[str, Any]


def configuration(monitors: Iterable[Object], targets: Path, interval: str) -> Object:
    """A prometheus.yml that scrapes what the monitors select out of the files of a Discovery."""
    jobs = [job for monitor in monitors for job in _jobs(monitor, targets)]
    return {"global": {"scrape_interval": interval, "scrape_timeout": interval}, "scrape_configs": jobs}


def _jobs(monitor: Object, targets: Path) -> list[Object]:
    if monitor["kind"] == "PodMonitor":
        role, subject, port, endpoints = "pod", "pod", "pod_container_port_name", "podMetricsEndpoints"
    else:
        role, subject, port, endpoints = "endpoints", "service", "endpoint_port_name", "endpoints"
    selection = monitor["spec"]
    labels = [
        _keep(f"{subject}_label_{identifier(name)}", value)
        for name, value in selection["selector"]["matchLabels"].items()
    ]
    return [
        {
            "job_name": f"{monitor['kind']}/{monitor['metadata']['name']}/{number}",
            "honor_labels": endpoint.get("honorLabels", False),
            "metrics_path": endpoint.get("path", "/metrics"),
            "file_sd_configs": [{"files": [f"{targets}/{role}.json"], "refresh_interval": "5s"}],
            "relabel_configs": [
                _keep("namespace", _namespaces(monitor)),
                *labels,
                _keep(port, endpoint["port"]),
                *_TARGET_LABELS,
            ],
        }
        for number, endpoint in enumerate(selection[endpoints])
    ]


def _namespaces(monitor: Object) -> str:
    chosen = monitor["spec"].get("namespaceSelector", {})
    if chosen.get("any"):
        return ".*"
    return "|".join(chosen.get("matchNames") or [monitor["metadata"]["namespace"]])


def _keep(source: str, value: str) -> Object:
    return {"action": "keep", "source_labels": [f"__meta_kubernetes_{source}"], "regex": value}


_TARGET_LABELS: list[Object] = [
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Failed|Succeeded"},
]
