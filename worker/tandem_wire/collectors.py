"""Turns the series of `tandem_wire.metrics` into Prometheus collectors on a registry that the caller owns."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_wire.metrics import Metric


class Collectors:
    """One collector per series, looked up by the series itself.

    Asking for a series that was not registered, or as another kind than it is, raises KeyError.
    """

    def __init__(self, metrics: Iterable[Metric], registry: CollectorRegistry) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in metrics:
            self._register(metric, registry)

    def counter(self, metric: Metric) -> Counter:
        return self._counters[metric.name]

    def gauge(self, metric: Metric) -> Gauge:
        return self._gauges[metric.name]

    def histogram(self, metric: Metric) -> Histogram:
        return self._histograms[metric.name]

    def _register(self, metric: Metric, registry: CollectorRegistry) -> None:
        if metric.kind == "counter":
            self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=registry)
        elif metric.kind == "gauge":
            self._gauges[metric.name] = Gauge(
                metric.name, metric.help, metric.labels, registry=registry, multiprocess_mode=metric.across
            )
        else:
            self._histograms[metric.name] = Histogram(
                metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry
            )
