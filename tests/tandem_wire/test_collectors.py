"""The series of `tandem_wire.metrics` as Prometheus collectors."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tandem_wire import metrics
from tandem_wire.collectors import Collectors


def test_every_series_is_exposed_under_its_own_name() -> None:
    registry = CollectorRegistry()
    Collectors(metrics.ALL, registry)
    text = generate_latest(registry).decode()
    for metric in metrics.ALL:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text


def test_values_arrive_with_labels_and_buckets() -> None:
    registry = CollectorRegistry()
    collectors = Collectors(metrics.ALL, registry)
    collectors.counter(metrics.WORKER_LEASES_ENDED).labels("svc", "p", "prefill", "expired").inc()
    collectors.gauge(metrics.WORKER_RUNNING).labels("svc", "p", "prefill").set(3)
    collectors.histogram(metrics.WORKER_STEP).labels("svc", "p", "prefill", "decode").observe(0.004)
    labels = {"llmservice": "svc", "pool": "p", "role": "prefill"}
    ended = registry.get_sample_value("tandem_worker_kv_leases_ended_total", labels | {"reason": "expired"})
    step = registry.get_sample_value(
        "tandem_worker_step_seconds_bucket", labels | {"phase": "decode", "le": "0.005"}
    )
    assert ended == 1
    assert registry.get_sample_value("tandem_worker_requests_running", labels) == 3
    assert step == 1


def test_a_series_that_was_not_registered_is_an_error() -> None:
    collectors = Collectors([metrics.WORKER_RUNNING], CollectorRegistry())
    with pytest.raises(KeyError):
        collectors.gauge(metrics.WORKER_WAITING)
    with pytest.raises(KeyError):
        collectors.counter(metrics.WORKER_RUNNING)
