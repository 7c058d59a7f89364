"""Readings -> the planner's observation."""

import math

from tandem_operator.planner.types import Observation, PoolObservation
from tandem_operator.telemetry.base import TelemetryError
from tandem_operator.telemetry.readings import Values


def assemble(values: Values, window: float) -> Observation:
    """What the readings say of the last `window` seconds. Raises TelemetryError for impossible numbers.

    A series that a reporting process has not made yet counts as zero.
    """
    for key, groups in values.items():
        for group, value in groups.items():
            if not (math.isfinite(value) and value >= 0):
                raise TelemetryError("absurd", f"metrics make no sense: {key} {'/'.join(group)} is {value}")
    pools = {
        group[0]: _pool(values, group, window) for group, workers in values["workers"].items() if workers > 0
    }
    if not values["routers"].get((), 0):
        return Observation(window, None, None, None, pools)
    ttft, tpot = _objective(values, "ttft"), _objective(values, "tpot")
    requests = sum(_objective(values, "both"))
    return Observation(window, requests, _share(ttft), _share(tpot), pools)


def _pool(values: Values, group: tuple[str, ...], window: float) -> PoolObservation:
    def of(key: str) -> float:
        return values[key].get(group, 0.0)

    workers, busy_seconds = of("workers"), of("prefill_seconds")
    share = _share_of_queue(values, group)
    wait = of("wait_seconds") / of("waits") if of("waits") else None
    if wait is not None and share:
        wait += _mean_wait(values)
    return PoolObservation(
        workers=round(workers),
        running=round(of("running")),
        waiting=round(of("waiting") + share * _total(values, "queued")),
        backlog_tokens=round(of("backlog") + share * _total(values, "queued_tokens")),
        kv_usage=of("kv_usage"),
        queue_wait=wait,
        prefill_busy=busy_seconds / (workers * window),
        prefill_rate=of("prefill_tokens") / busy_seconds if busy_seconds and of("prefill_tokens") else None,
        rate=of("waits") / window,
        decode_step=of("decode_seconds") / of("decode_steps") if of("decode_steps") else None,
    )


def _share_of_queue(values: Values, group: tuple[str, ...]) -> float:
    """What waits in the routers waits for the pools that compute prompts: each has a part, by its workers."""
    computing = {pool: values["workers"].get(pool, 0.0) for pool, n in values["prefill_tokens"].items() if n}
    total = sum(computing.values())
    return computing.get(group, 0.0) / total if total else 0.0


def _mean_wait(values: Values) -> float:
    exits = _total(values, "queue_exits")
    return _total(values, "queue_seconds") / exits if exits else 0.0


def _total(values: Values, key: str) -> float:
    return values[key].get((), 0.0)


def _objective(values: Values, name: str) -> tuple[float, float]:
    """Requests that met the objective, and that missed it."""
    groups = values["objectives"]
    return groups.get((name, "true"), 0.0), groups.get((name, "false"), 0.0)


def _share(counts: tuple[float, float]) -> float | None:
    met, missed = counts
    return met / (met + missed) if met + missed else None
