"""Every Prometheus series of Tandem, in one place: base units, prefix `tandem_`.

`docs/metrics.md` is made from it.
"""

from dataclasses import dataclass
from typing import Literal

LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One series. `name` is as exposed: a counter ends in `_total`.

    `across` says what a gauge is to processes that are scraped as one: their sum, or the largest.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    across: Literal["livesum", "livemax"] = "livemax"


def _counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"tandem_{name}_total", "counter", help_, labels)


def _gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"tandem_{name}", "gauge", help_, labels)


def _summed_gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(f"tandem_{name}", "gauge", help_, labels, across="livesum")


def _histogram(name: str, help_: str, *labels: str, buckets: tuple[float, ...] = LATENCY) -> Metric:
    return Metric(f"tandem_{name}", "histogram", help_, labels, buckets)


ROUTER_REQUESTS = _counter(
    "router_requests", "Requests answered, by HTTP status code.", "llmservice", "model", "code"
)
ROUTER_IN_FLIGHT = _summed_gauge(
    "router_requests_in_flight", "Requests being served now.", "llmservice", "model"
)
ROUTER_TTFT = _histogram(
    "router_ttft_seconds", "Request received to first token sent.", "llmservice", "model"
)
ROUTER_TPOT = _histogram(
    "router_tpot_seconds",
    "Mean time per output token after the first, per request.",
    "llmservice",
    "model",
    buckets=TOKEN_LATENCY,
)
ROUTER_DURATION = _histogram(
    "router_request_duration_seconds", "Request received to last byte sent.", "llmservice", "model"
)
ROUTER_QUEUE_WAIT = _histogram(
    "router_queue_wait_seconds",
    "Time in the router's queue until a start.",
    "llmservice",
    "class",
)
ROUTER_QUEUE_DEPTH = _summed_gauge(
    "router_queue_requests", "Requests that wait in the router.", "llmservice", "class"
)
ROUTER_QUEUE_TOKENS = _summed_gauge(
    "router_queue_tokens", "Prompt tokens of these, but for offline classes.", "llmservice", "class"
)
ROUTER_QUEUE_AGE = _gauge(
    "router_queue_oldest_seconds", "How long the oldest of these has waited.", "llmservice", "class"
)
ROUTER_REFUSED = _counter(
    "router_refused",
    "Requests that the queue refused, by reason (class_unattainable, queue_full, no_capacity,"
    " deadline_exceeded).",
    "llmservice",
    "class",
    "reason",
)
ROUTER_PREFILL = _histogram(
    "router_prefill_seconds", "The prefill leg: sent to answered.", "llmservice", "model"
)
ROUTER_HANDOVER = _histogram(
    "router_handover_seconds", "Prefill leg answered to first token of the decode leg.", "llmservice", "model"
)
ROUTER_OBJECTIVE = _gauge(
    "router_objective_seconds",
    "The objective that answers are held to (ttft, tpot).",
    "llmservice",
    "objective",
)
ROUTER_SLO = _counter(
    "router_slo_requests",
    "Finished requests by objective (ttft, tpot, both) and whether they met it.",
    "llmservice",
    "model",
    "objective",
    "attained",
)
ROUTER_PATH = _counter(
    "router_path",
    "Requests by the path they took (disaggregated, local, fallback) and why.",
    "llmservice",
    "model",
    "path",
    "reason",
)
ROUTER_PREDICTION_ERROR = _gauge(
    "router_prediction_error_ratio",
    "Median of |predicted - measured| / measured over the last 512 requests, of ttft or tpot.",
    "llmservice",
    "model",
    "objective",
)
ROUTER_BREAK_EVEN = _gauge(
    "router_break_even_tokens",
    "Uncached prompt tokens from which on a hand-over between idle workers of two pools pays; +Inf: never.",
    "llmservice",
    "prefill_pool",
    "decode_pool",
)
ROUTER_PROMPT_TOKENS = _counter(
    "router_prompt_tokens", "Prompt tokens, as the engines counted.", "llmservice", "model"
)
ROUTER_OUTPUT_TOKENS = _counter(
    "router_output_tokens", "Output tokens, as the engines counted.", "llmservice", "model"
)
ROUTER_DISCONNECTS = _counter(
    "router_client_disconnects",
    "Clients that left early, by phase (prefill, decode).",
    "llmservice",
    "model",
    "phase",
)
ROUTER_RETRIES = _counter(
    "router_retries", "Legs sent again after a failure, by leg.", "llmservice", "model", "leg"
)
ROUTER_KV_RELEASES = _counter(
    "router_kv_releases",
    "Handles that the router released itself, by reason.",
    "llmservice",
    "model",
    "reason",
)
ROUTER_STREAM_ERRORS = _counter(
    "router_stream_errors",
    "Streams that ended with an error after their first token, by reason.",
    "llmservice",
    "model",
    "reason",
)
ROUTER_RESUMED = _counter(
    "router_streams_resumed", "Streams that went on at another worker.", "llmservice", "model"
)
ROUTER_HEDGES = _counter(
    "router_hedges", "Slow prefills that were sent to a second worker.", "llmservice", "model"
)
ROUTER_NOT_RESUMED = _counter(
    "router_streams_not_resumed",
    "Streams whose worker was lost and that could not go on, by reason.",
    "llmservice",
    "model",
    "reason",
)
ROUTER_EJECTED = _gauge(
    "router_worker_ejected", "1 for each worker that is ejected now.", "llmservice", "pool", "worker"
)
ROUTER_EJECTIONS = _counter("router_ejections", "Ejections by reason.", "llmservice", "pool", "reason")
ROUTER_ENDPOINTS = _gauge("router_endpoints", "Workers known to the router.", "llmservice", "role", "state")

_WORKER = ("llmservice", "pool", "role")
WORKER_INFO = _gauge(
    "worker_info", "Constant 1; the labels tell what runs.", *_WORKER, "model", "revision", "device"
)
WORKER_RUNNING = _gauge("worker_requests_running", "Sequences in the running batch.", *_WORKER)
WORKER_WAITING = _gauge("worker_requests_waiting", "Sequences waiting for a place in the batch.", *_WORKER)
WORKER_BACKLOG = _gauge(
    "worker_prefill_backlog_tokens", "Prompt tokens accepted and not yet computed.", *_WORKER
)
WORKER_QUEUE_WAIT = _histogram(
    "worker_queue_wait_seconds", "Request accepted to its first scheduled step.", *_WORKER
)
WORKER_STEP = _histogram(
    "worker_step_seconds",
    "One engine step, by what it held (prefill, decode, mixed).",
    *_WORKER,
    "phase",
    buckets=TOKEN_LATENCY,
)
WORKER_PROMPT_TOKENS = _counter("worker_prompt_tokens", "Prompt tokens of accepted requests.", *_WORKER)
WORKER_PREFIX_HIT_TOKENS = _counter(
    "worker_prefix_hit_tokens", "Prompt tokens found in the prefix cache.", *_WORKER
)
WORKER_PREFILL_TOKENS = _counter("worker_prefill_tokens", "Prompt tokens computed.", *_WORKER)
WORKER_OUTPUT_TOKENS = _counter("worker_output_tokens", "Tokens sampled.", *_WORKER)
WORKER_PREEMPTIONS = _counter(
    "worker_preemptions", "Sequences put back to waiting for want of KV blocks.", *_WORKER
)
WORKER_KV_BLOCKS = _gauge(
    "worker_kv_blocks",
    "KV blocks by state: used, free (the rest), cached (for prefixes, used or free).",
    *_WORKER,
    "state",
)
WORKER_KV_USAGE = _gauge("worker_kv_usage_ratio", "Used KV blocks over all KV blocks, 0 to 1.", *_WORKER)
WORKER_LEASES = _gauge("worker_kv_leases", "Handles and reservations that are leased now.", *_WORKER)
WORKER_LEASES_ENDED = _counter(
    "worker_kv_leases_ended",
    "Leases that ended, by how (pulled, used, cancelled, failed, expired).",
    *_WORKER,
    "reason",
)
WORKER_TRANSFER_BYTES = _counter(
    "worker_kv_transfer_bytes", "KV bytes moved, by direction (in, out).", *_WORKER, "direction"
)
WORKER_TRANSFER_SECONDS = _histogram(
    "worker_kv_transfer_seconds", "One hand-over's transfer, by direction (in, out).", *_WORKER, "direction"
)
WORKER_TRANSFER_FAILURES = _counter(
    "worker_kv_transfer_failures", "Transfers that failed, by reason.", *_WORKER, "reason"
)

OPERATOR_RECONCILES = _counter(
    "operator_reconciles", "Reconcile passes by kind and result (ok, error).", "kind", "result"
)
OPERATOR_RECONCILE_SECONDS = _histogram("operator_reconcile_seconds", "One reconcile pass.", "kind")
_POOL = ("namespace", "llmservice", "pool", "role")
POOL_REPLICAS = _gauge("pool_replicas", "Replicas of a pool by state (desired, ready).", *_POOL, "state")
PLANNER_DESIRED = _gauge("planner_desired_replicas", "Replicas that the planner asked for last.", *_POOL)
PLANNER_DECISIONS = _counter(
    "planner_decisions",
    "Planner decisions that changed a pool, by direction (up, down) and reason.",
    *_POOL,
    "direction",
    "reason",
)
PLANNER_ERRORS = _counter(
    "planner_errors", "Planner passes without an observation, by reason.", "namespace", "llmservice", "reason"
)

ALL: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
