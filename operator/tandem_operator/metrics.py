"""The operator's own series."""

from prometheus_client import CollectorRegistry

from tandem_operator.api import PoolStatus
from tandem_operator.planner.publish import PLANNER_METRICS, PlannerMetrics
from tandem_wire import metrics
from tandem_wire.collectors import Collectors

SERIES = (
    metrics.OPERATOR_RECONCILES,
    metrics.OPERATOR_RECONCILE_SECONDS,
    metrics.POOL_REPLICAS,
    *PLANNER_METRICS,
)


class OperatorMetrics:
    """Counts passes and shows pool sizes; a pool that is gone loses its series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        collectors = Collectors(SERIES, registry)
        self._passes = collectors.counter(metrics.OPERATOR_RECONCILES)
        self._seconds = collectors.histogram(metrics.OPERATOR_RECONCILE_SECONDS)
        self._replicas = collectors.gauge(metrics.POOL_REPLICAS)
        self._shown: dict[tuple[str, str], set[tuple[str, ...]]] = {}
        self.planner = PlannerMetrics(collectors)

    def passed(self, kind: str, seconds: float, *, failed: bool) -> None:
        """One pass ended."""
        self._passes.labels(kind, "error" if failed else "ok").inc()
        self._seconds.labels(kind).observe(seconds)

    def pools(self, namespace: str, service: str, pools: tuple[PoolStatus, ...]) -> None:
        """The pools of a service as they are now; none when it is gone."""
        shown: set[tuple[str, ...]] = set()
        for pool in pools:
            for state, value in (("desired", pool.desired), ("ready", pool.ready)):
                labels: tuple[str, ...] = (namespace, service, pool.name, pool.role, state)
                self._replicas.labels(*labels).set(value)
                shown.add(labels)
        for gone in self._shown.pop((namespace, service), set()) - shown:
            self._replicas.remove(*gone)
        if shown:
            self._shown[namespace, service] = shown
