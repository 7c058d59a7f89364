"""The worker's Prometheus series, and what sets them."""

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_wire import metrics as series
from tandem_wire.collectors import Collectors
from tandem_wire.metrics import Metric
from tandem_worker.engine_thread import EngineUpdate
from tandem_worker.request import EngineLoad, StepReport

SERIES = tuple(metric for metric in series.ALL if metric.name.startswith("tandem_worker_"))

Direction = Literal["in", "out"]


class WorkerMetrics:
    """Every series carries the worker's service, pool and role."""

    def __init__(self, registry: CollectorRegistry, service: str, pool: str, role: str) -> None:
        self.registry = registry
        self._collectors = Collectors(SERIES, registry)
        self._identity = (service, pool, role)
        self._info: tuple[str, str, str] | None = None
        self._load = EngineLoad()
        self._num_preemptions = 0
        self._num_leases = 0
        self._num_waiting_imports = 0

    def set_info(self, model: str, revision: str, device: str) -> None:
        self._info = (model, revision, device)
        self._set_gauges()

    def set_role(self, role: str) -> None:
        """Gauges move to the new role; counters and histograms go on under it."""
        self._identity = (*self._identity[:2], role)
        for metric in SERIES:
            if metric.kind == "gauge":
                self._collectors.gauge(metric).clear()
        self._set_gauges()

    def observe(self, update: EngineUpdate) -> None:
        self._load = update.load
        self._set_gauges()
        self._counter(series.WORKER_PREEMPTIONS).inc(update.load.num_preemptions - self._num_preemptions)
        self._num_preemptions = update.load.num_preemptions
        if update.report is not None and not update.report.is_idle:
            self._observe_step(update.report, update.step_seconds)

    def accepted(self, num_prompt_tokens: int) -> None:
        self._counter(series.WORKER_PROMPT_TOKENS).inc(num_prompt_tokens)

    def prefix_hit(self, num_tokens: int) -> None:
        self._counter(series.WORKER_PREFIX_HIT_TOKENS).inc(num_tokens)

    def emitted(self, num_tokens: int) -> None:
        self._counter(series.WORKER_OUTPUT_TOKENS).inc(num_tokens)

    def imports_waiting(self, number: int) -> None:
        self._num_waiting_imports = number
        self._set_gauges()

    def leases_open(self, number: int) -> None:
        self._num_leases = number
        self._set_gauges()

    def lease_ended(self, reason: str) -> None:
        self._counter(series.WORKER_LEASES_ENDED, reason).inc()

    def transferred(self, direction: Direction, num_bytes: int, seconds: float) -> None:
        self._counter(series.WORKER_TRANSFER_BYTES, direction).inc(num_bytes)
        self._histogram(series.WORKER_TRANSFER_SECONDS, direction).observe(seconds)

    def transfer_failed(self, reason: str) -> None:
        self._counter(series.WORKER_TRANSFER_FAILURES, reason).inc()

    def _observe_step(self, report: StepReport, seconds: float) -> None:
        phase = "mixed"
        if report.num_prefill_tokens == 0:
            phase = "decode"
        elif report.num_decode_tokens == 0:
            phase = "prefill"
        self._histogram(series.WORKER_STEP, phase).observe(seconds)
        self._counter(series.WORKER_PREFILL_TOKENS).inc(report.num_prefill_tokens)
        self.emitted(len(report.outputs))
        for wait in report.queue_waits:
            self._histogram(series.WORKER_QUEUE_WAIT).observe(wait)

    def _set_gauges(self) -> None:
        load = self._load
        if self._info is not None:
            self._gauge(series.WORKER_INFO, *self._info).set(1)
        self._gauge(series.WORKER_RUNNING).set(load.num_running)
        self._gauge(series.WORKER_WAITING).set(load.num_waiting + self._num_waiting_imports)
        self._gauge(series.WORKER_BACKLOG).set(load.prefill_backlog_tokens)
        self._gauge(series.WORKER_KV_BLOCKS, "used").set(load.kv_blocks_used)
        self._gauge(series.WORKER_KV_BLOCKS, "cached").set(load.kv_blocks_cached)
        self._gauge(series.WORKER_KV_BLOCKS, "free").set(load.kv_blocks_total - load.kv_blocks_used)
        self._gauge(series.WORKER_KV_USAGE).set(load.kv_blocks_used / max(1, load.kv_blocks_total))
        self._gauge(series.WORKER_LEASES).set(self._num_leases)

    def _counter(self, metric: Metric, *labels: str) -> Counter:
        return self._collectors.counter(metric).labels(*self._identity, *labels)

    def _gauge(self, metric: Metric, *labels: str) -> Gauge:
        return self._collectors.gauge(metric).labels(*self._identity, *labels)

    def _histogram(self, metric: Metric, *labels: str) -> Histogram:
        return self._collectors.histogram(metric).labels(*self._identity, *labels)
