"""What is read from the metrics, as data: both telemetries take the same series in the same way."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tandem_wire import metrics


class Fold(StrEnum):
    """How series become one number per group: their latest values, or their increase over the window."""

    SUM = "sum"
    MEAN = "avg"
    COUNT = "count"
    INCREASE = "increase"


@dataclass(frozen=True, slots=True)
class Reading:
    """Series `sample` whose labels match, folded for each value of the labels `by`."""

    key: str
    sample: str
    fold: Fold
    by: tuple[str, ...] = ("pool",)
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Values = Mapping[str, Mapping[tuple[str, ...], float]]
"""Reading key -> values of its `by` labels -> number."""

_PROMPT_STEPS = {"phase": ("prefill", "mixed")}
_TOKEN_STEPS = {"phase": ("decode", "mixed")}

READINGS = (
    Reading("workers", metrics.WORKER_INFO.name, Fold.COUNT),
    Reading("running", metrics.WORKER_RUNNING.name, Fold.SUM),
    Reading("waiting", metrics.WORKER_WAITING.name, Fold.SUM),
    Reading("backlog", metrics.WORKER_BACKLOG.name, Fold.SUM),
    Reading("kv_usage", metrics.WORKER_KV_USAGE.name, Fold.MEAN),
    Reading("wait_seconds", f"{metrics.WORKER_QUEUE_WAIT.name}_sum", Fold.INCREASE),
    Reading("waits", f"{metrics.WORKER_QUEUE_WAIT.name}_count", Fold.INCREASE),
    Reading("prefill_seconds", f"{metrics.WORKER_STEP.name}_sum", Fold.INCREASE, match=_PROMPT_STEPS),
    Reading("prefill_tokens", metrics.WORKER_PREFILL_TOKENS.name, Fold.INCREASE),
    Reading("decode_seconds", f"{metrics.WORKER_STEP.name}_sum", Fold.INCREASE, match=_TOKEN_STEPS),
    Reading("decode_steps", f"{metrics.WORKER_STEP.name}_count", Fold.INCREASE, match=_TOKEN_STEPS),
    Reading("queued", metrics.ROUTER_QUEUE_DEPTH.name, Fold.SUM, by=()),
    Reading("queued_tokens", metrics.ROUTER_QUEUE_TOKENS.name, Fold.SUM, by=()),
    Reading("queue_seconds", f"{metrics.ROUTER_QUEUE_WAIT.name}_sum", Fold.INCREASE, by=()),
    Reading("queue_exits", f"{metrics.ROUTER_QUEUE_WAIT.name}_count", Fold.INCREASE, by=()),
    Reading("routers", metrics.ROUTER_ENDPOINTS.name, Fold.COUNT, by=()),
    Reading("objectives", metrics.ROUTER_SLO.name, Fold.INCREASE, by=("objective", "attained")),
)

PATHS = Reading("paths", metrics.ROUTER_PATH.name, Fold.INCREASE, by=("path", "reason"))
"""Not the planner's: how requests were served, and why so."""


def promql(reading: Reading, selector: Mapping[str, str], window: float) -> str:
    """The reading as a PromQL instant query over series with the labels of `selector`."""
    matchers = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in selector.items()]
    matchers += [f'{name}=~"{"|".join(values)}"' for name, values in reading.match.items()]
    series = f"{reading.sample}{{{','.join(matchers)}}}"
    if reading.fold is Fold.INCREASE:
        return f"sum by ({', '.join(reading.by)}) (increase({series}[{window * 1000:.0f}ms]))"
    return f"{reading.fold} by ({', '.join(reading.by)}) ({series})"
