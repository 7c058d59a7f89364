"""How near a pool is to its limits: each signal is a number that reaches 1 where the pool should grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tandem_operator.planner.types import Observation, PlannedPool, PlannerConfig, PoolObservation, Reason

PREFILL_ROLES = ("prefill", "mixed")
DECODE_ROLES = ("decode", "mixed")
_BUSY_ENOUGH = 0.5
_REAL_WAIT = 0.1
"""Part of the TTFT objective below which a wait is only that for the next step."""


@dataclass(frozen=True, slots=True)
class Signal:
    """`value` 1 is the limit; `text` states what was measured against what.

    A `lagging` signal speaks of requests of some time ago, perhaps of a smaller pool; the others of now.
    """

    reason: Reason
    value: float
    text: str
    lagging: bool = False


def load_signals(
    pool: PlannedPool, seen: PoolObservation, rate: float | None, config: PlannerConfig
) -> tuple[Signal, ...]:
    """What grows with the load on each worker, and so shrinks when workers are added.

    `rate`: prompt tokens that one busy worker computes in a second; None if not known yet.
    """
    estimate = rate if pool.role in PREFILL_ROLES else None
    signals = [_queue(seen, estimate, config) if estimate else _queue_wait(seen, config)]
    if pool.role in DECODE_ROLES:
        signals += [_kv_usage(seen, config), _waiting(seen, config)]
    return tuple(signals)


def prefill_busy(pool: PlannedPool, seen: PoolObservation) -> tuple[Signal, ...]:
    """Share of the time spent on prompts: whether fewer workers could do the work, not when to add some."""
    if pool.role not in PREFILL_ROLES:
        return ()
    return (Signal(Reason.STEADY, seen.prefill_busy, f"prefill busy {seen.prefill_busy:.0%} of the time"),)


def attainment_signals(
    pool: PlannedPool,
    observation: Observation,
    pools: Sequence[PlannedPool],
    rate: float | None,
    config: PlannerConfig,
) -> tuple[Signal, ...]:
    """Missed objectives that more workers in this pool would help.

    Attainment is measured for the service, so of several pools that could be the cause only the busiest
    answers, and only if its workers share enough work now that another one would relieve them.
    """
    busy = {name: seen.prefill_busy for name, seen in observation.pools.items()}
    batch = {name: seen.running / seen.workers for name, seen in observation.pools.items()}
    seen = observation.pools[pool.name]
    signals = []
    queued = _is_queued(seen, rate, config) and busy[pool.name] >= _BUSY_ENOUGH
    if queued and pool.name == _busiest(pools, PREFILL_ROLES, busy):
        signals.append(_ttft(observation, config))
    if batch[pool.name] > 1 and pool.name == _busiest(pools, DECODE_ROLES, batch):
        signals.append(_tpot(observation, config))
    return tuple(signal for signal in signals if signal)


def missed_objective(pool: PlannedPool, observation: Observation, config: PlannerConfig) -> Signal | None:
    """An objective under its target that this pool's role has a part in, however busy the pool is."""
    ttft = _ttft(observation, config) if pool.role in PREFILL_ROLES else None
    return ttft or (_tpot(observation, config) if pool.role in DECODE_ROLES else None)


def worst(signals: Sequence[Signal]) -> Signal:
    return max(signals, key=lambda signal: signal.value)


def _queue(seen: PoolObservation, rate: float, config: PlannerConfig) -> Signal:
    """What the next prompt waits: both measured and computed from the backlog, so that neither a single long
    prompt nor a queue of the past counts."""
    drain = seen.backlog_tokens / (rate * seen.workers)
    backlog = f"backlog of {seen.backlog_tokens} tokens drains in {drain:.2f} s"
    if seen.queue_wait is None:
        return Signal(Reason.BACKLOG, _of_queue(drain, config), f"{backlog} of {config.slo.ttft:.2f} s TTFT")
    text = f"queue wait {_of_ttft(seen.queue_wait, config)}, {backlog}"
    return Signal(Reason.QUEUE_WAIT, _of_queue(min(drain, seen.queue_wait), config), text)


def _is_queued(seen: PoolObservation, rate: float | None, config: PlannerConfig) -> bool:
    """Whether prompts wait now, for long enough to matter."""
    drains_at_once = rate and seen.backlog_tokens / (rate * seen.workers) < _REAL_WAIT * config.slo.ttft
    return seen.waiting > 0 and not drains_at_once


def _queue_wait(seen: PoolObservation, config: PlannerConfig) -> Signal:
    wait = (seen.queue_wait or 0.0) if seen.waiting else 0.0
    text = f"queue wait {_of_ttft(wait, config)}"
    return Signal(Reason.QUEUE_WAIT, _of_queue(wait, config), text, lagging=True)


def _kv_usage(seen: PoolObservation, config: PlannerConfig) -> Signal:
    text = f"KV use {seen.kv_usage:.0%}, limit {config.kv_high:.0%}"
    return Signal(Reason.KV_USAGE, seen.kv_usage / config.kv_high, text)


def _waiting(seen: PoolObservation, config: PlannerConfig) -> Signal:
    stuck = seen.queue_wait is None or seen.queue_wait >= _REAL_WAIT * config.slo.ttft
    per_worker = seen.waiting / seen.workers if stuck else 0.0
    text = f"{seen.waiting} requests wait for a place on {seen.workers} workers"
    return Signal(Reason.WAITING, per_worker / config.waiting_per_worker, text)


def _ttft(observation: Observation, config: PlannerConfig) -> Signal | None:
    return _attainment(Reason.TTFT, "TTFT", observation.ttft_attainment, observation, config)


def _tpot(observation: Observation, config: PlannerConfig) -> Signal | None:
    return _attainment(Reason.TPOT, "TPOT", observation.tpot_attainment, observation, config)


def _attainment(
    reason: Reason, name: str, share: float | None, observation: Observation, config: PlannerConfig
) -> Signal | None:
    target = config.slo.attainment
    if share is None or share >= target or (observation.requests or 0) < config.min_requests:
        return None
    text = f"{name} met by {share:.0%} of requests, target {target:.0%}"
    return Signal(reason, 1 + (target - share) / target, text, lagging=True)


def _busiest(pools: Sequence[PlannedPool], roles: Sequence[str], load: Mapping[str, float]) -> str | None:
    able = [p.name for p in pools if p.role in roles and p.name in load and p.current < p.maximum]
    return max(able, key=lambda name: load[name], default=None)


def _of_queue(seconds: float, config: PlannerConfig) -> float:
    return seconds / (config.queue_share * config.slo.ttft)


def _of_ttft(seconds: float, config: PlannerConfig) -> str:
    return f"{seconds:.2f} s of {config.slo.ttft:.2f} s TTFT"
