"""The router's series, as `tandem_wire.metrics` names them."""

import math
import warnings
from collections import Counter as Tally
from collections.abc import Mapping
from functools import cache
from itertools import product
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_perf.slo import mean_tpot
from tandem_router.queueing.state import Backlog
from tandem_router.queueing.tiers import Tier
from tandem_router.record import Record
from tandem_router.types import Endpoint, Role
from tandem_wire import metrics as names
from tandem_wire.collectors import Collectors
from tandem_wire.metrics import Metric

SERIES = tuple(metric for metric in names.ALL if metric.name.startswith("tandem_router_"))
_STATES = ("ready", "not_ready")


class RouterMetrics:
    """Counts finished requests and what happens on their way. Objectives are in seconds, None for none."""

    def __init__(
        self,
        service: str,
        slo_ttft: float | None = None,
        slo_tpot: float | None = None,
        classes: Mapping[str, Tier] = MappingProxyType({}),
    ) -> None:
        """`classes` are held to their own objectives, offline ones to none."""
        self._classes = classes
        self.registry = CollectorRegistry()
        self._objectives = {"ttft": slo_ttft or math.inf, "tpot": slo_tpot or math.inf}
        given = [name for name, seconds in self._objectives.items() if seconds < math.inf]
        self._counted = [*given, "both"] if given else []
        collectors = Collectors(SERIES, self.registry)

        # Finding a child by its labels costs more than counting with it.
        @cache
        def counter(metric: Metric, *labels: str) -> Counter:
            return collectors.counter(metric).labels(service, *labels)

        @cache
        def gauge(metric: Metric, *labels: str) -> Gauge:
            return collectors.gauge(metric).labels(service, *labels)

        @cache
        def histogram(metric: Metric, *labels: str) -> Histogram:
            return collectors.histogram(metric).labels(service, *labels)

        self._service, self._ejected = service, collectors.gauge(names.ROUTER_EJECTED)
        self._counter, self._gauge, self._histogram = counter, gauge, histogram
        for objective in given:
            gauge(names.ROUTER_OBJECTIVE, objective).set(self._objectives[objective])

    def expect(self, model: str) -> None:
        """Lets the model's attainment start at 0: Prometheus' `increase` cannot see a series' first step."""
        for objective, attained in product(self._counted, ("true", "false")):
            self._counter(names.ROUTER_SLO, model, objective, attained)

    def in_flight(self, model: str, change: int) -> None:
        self._gauge(names.ROUTER_IN_FLIGHT, model).inc(change)

    def disconnected(self, model: str, phase: str) -> None:
        self._counter(names.ROUTER_DISCONNECTS, model, phase).inc()

    def retried(self, model: str, leg: str) -> None:
        self._counter(names.ROUTER_RETRIES, model, leg).inc()

    def released(self, model: str, reason: str) -> None:
        self._counter(names.ROUTER_KV_RELEASES, model, reason).inc()

    def resumed(self, model: str) -> None:
        self._counter(names.ROUTER_RESUMED, model).inc()

    def hedged(self, model: str) -> None:
        self._counter(names.ROUTER_HEDGES, model).inc()

    def not_resumed(self, model: str, reason: str) -> None:
        self._counter(names.ROUTER_NOT_RESUMED, model, reason).inc()

    def ejected(self, endpoint: Endpoint, reason: str | None) -> None:
        """None: the worker is back. Only ejected workers have a series."""
        if reason is None:
            self._ejected.labels(self._service, endpoint.pool, endpoint.name).set(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # several processes keep the series, at 0
                self._ejected.remove(self._service, endpoint.pool, endpoint.name)
        else:
            self._ejected.labels(self._service, endpoint.pool, endpoint.name).set(1)
            self._counter(names.ROUTER_EJECTIONS, endpoint.pool, reason).inc()

    def endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        tally = Tally((e.role, "ready" if e.ready else "not_ready") for e in endpoints)
        for role in Role:
            for state in _STATES:
                self._gauge(names.ROUTER_ENDPOINTS, role, state).set(tally[role, state])

    def predicted(
        self, errors: Mapping[tuple[str, str], float], break_evens: Mapping[tuple[str, str], float]
    ) -> None:
        """Median errors by model and objective; tokens by prefill and decode pool."""
        for (model, objective), error in errors.items():
            self._gauge(names.ROUTER_PREDICTION_ERROR, model, objective).set(error)
        for (prefill, decode), tokens in break_evens.items():
            self._gauge(names.ROUTER_BREAK_EVEN, prefill, decode).set(tokens)

    def finished(self, record: Record, now: float) -> None:
        """Counts a request that was answered, well or not. One whose client left is not counted here."""
        model = record.model
        self._counter(names.ROUTER_REQUESTS, model, str(record.code)).inc()
        self._histogram(names.ROUTER_DURATION, model).observe(now - record.received)
        if record.choice is not None and record.code < 500:
            self._counter(names.ROUTER_PATH, model, record.choice.path, record.choice.reason).inc()
        if record.usage is not None:
            self._counter(names.ROUTER_PROMPT_TOKENS, model).inc(record.usage.prompt_tokens)
            self._counter(names.ROUTER_OUTPUT_TOKENS, model).inc(record.usage.output_tokens)
        if record.stream_error is not None:
            self._counter(names.ROUTER_STREAM_ERRORS, model, record.stream_error).inc()
        if record.refusal is not None:
            self._counter(names.ROUTER_REFUSED, record.service_class, record.refusal).inc()
        elif record.choice is not None:
            self._histogram(names.ROUTER_QUEUE_WAIT, record.service_class).observe(record.queued)
        self._phases(record)

    def waiting(self, classes: Mapping[str, Backlog]) -> None:
        """What waits now, by class."""
        for name, backlog in classes.items():
            self._gauge(names.ROUTER_QUEUE_DEPTH, name).set(backlog.requests)
            self._gauge(names.ROUTER_QUEUE_TOKENS, name).set(backlog.tokens)
            self._gauge(names.ROUTER_QUEUE_AGE, name).set(backlog.oldest)

    def _phases(self, record: Record) -> None:
        tpot = _tpot(record)
        for metric, seconds in (
            (names.ROUTER_PREFILL, record.prefill_seconds),
            (names.ROUTER_HANDOVER, record.handover_seconds),
            (names.ROUTER_TTFT, record.ttft),
            (names.ROUTER_TPOT, tpot),
        ):
            if seconds is not None:
                self._histogram(metric, record.model).observe(seconds)
        if self._counted and record.stream:
            self._attainment(record, tpot)

    def _attainment(self, record: Record, tpot: float | None) -> None:
        """Streams only: a plain answer does not show when its first token came."""
        objectives, tier = self._objectives, self._classes.get(record.service_class)
        if tier is not None:
            if tier.offline:
                return
            objectives = {"ttft": tier.ttft or math.inf, "tpot": tier.tpot or math.inf}
        if record.failed:
            met = {"ttft": False, "tpot": False, "both": False}
        elif record.ttft is not None:
            ttft_met = record.ttft <= objectives["ttft"]
            tpot_met = tpot is None or tpot <= objectives["tpot"]
            met = {"ttft": ttft_met, "tpot": tpot_met, "both": ttft_met and tpot_met}
        else:
            return
        for objective in self._counted:
            self._counter(names.ROUTER_SLO, record.model, objective, str(met[objective]).lower()).inc()


def _tpot(record: Record) -> float | None:
    if record.ttft is None or record.last_token is None or record.usage is None:
        return None
    return mean_tpot(record.ttft, record.last_token - record.received, record.usage.output_tokens)
