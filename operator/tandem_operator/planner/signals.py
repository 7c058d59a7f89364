"""How near a pool is to its limits: each signal is a number that reaches 1 where the pool should grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tandem_operator.planner.types import Observation, PlannedPool, PlannerConfig, PoolObservation, Reason

PREFILL_ROLES = ("prefill", "mixed")
DECODE_ROLES = ("decode", "mixed")
_BUSY_ENOUGH = 0.5


@dataclass(frozen=True, slots=True)
class Signal:
    """`value` 1 is the limit; `text` states what was measured against what."""

    reason: Reason
    value: float
    text: str


def load_signals(
    pool: PlannedPool, seen: PoolObservation, rate: float | None, config: PlannerConfig
) -> tuple[Signal, ...]:
    """What grows with the load on each worker, and so shrinks when workers are added.

    `rate`: prompt tokens that one busy worker computes in a second; None if not known yet.
    """
    signals = [_queue_wait(seen, config)]
    if pool.role in PREFILL_ROLES and rate:
        signals.append(_backlog(seen, rate, config))
    if pool.role in DECODE_ROLES:
        signals.append(_kv_usage(seen, config))
        signals.append(_waiting(seen, config))
    return tuple(signals)


def prefill_busy(pool: PlannedPool, seen: PoolObservation) -> Signal | None:
    """Share of the time spent on prompts: whether fewer workers could do the work, not when to add some."""
    if pool.role not in PREFILL_ROLES:
        return None
    return Signal(Reason.STEADY, seen.prefill_busy, f"prefill busy {seen.prefill_busy:.0%} of the time")


def attainment_signals(
    pool: PlannedPool, observation: Observation, pools: Sequence[PlannedPool], config: PlannerConfig
) -> tuple[Signal, ...]:
    """Missed objectives that more workers in this pool would help.

    Attainment is measured for the service, so of several pools that could be the cause only the busiest
    answers, and only if its workers share enough work that another one would relieve them.
    """
    seen = observation.pools[pool.name]
    signals = []
    if (
        pool.role in PREFILL_ROLES
        and seen.prefill_busy >= _BUSY_ENOUGH
        and pool.name
        == _busiest(pools, PREFILL_ROLES, {n: o.prefill_busy for n, o in observation.pools.items()})
    ):
        signals.append(_attainment(Reason.TTFT, "TTFT", observation.ttft_attainment, observation, config))
    if (
        pool.role in DECODE_ROLES
        and seen.running > seen.workers
        and pool.name
        == _busiest(pools, DECODE_ROLES, {n: o.running / o.workers for n, o in observation.pools.items()})
    ):
        signals.append(_attainment(Reason.TPOT, "TPOT", observation.tpot_attainment, observation, config))
    return tuple(signal for signal in signals if signal)


def missed_objective(pool: PlannedPool, observation: Observation, config: PlannerConfig) -> Signal | None:
    """An objective under its target that this pool's role has a part in, however busy the pool is."""
    signals = []
    if pool.role in PREFILL_ROLES:
        signals.append(_attainment(Reason.TTFT, "TTFT", observation.ttft_attainment, observation, config))
    if pool.role in DECODE_ROLES:
        signals.append(_attainment(Reason.TPOT, "TPOT", observation.tpot_attainment, observation, config))
    return next((signal for signal in signals if signal), None)


def worst(signals: Sequence[Signal]) -> Signal:
    return max(signals, key=lambda signal: signal.value)


def _queue_wait(seen: PoolObservation, config: PlannerConfig) -> Signal:
    value = seen.queue_wait / (config.queue_share * config.slo.ttft)
    return Signal(Reason.QUEUE_WAIT, value, f"queue wait {_of_ttft(seen.queue_wait, config)}")


def _backlog(seen: PoolObservation, rate: float, config: PlannerConfig) -> Signal:
    drain = seen.backlog_tokens / (rate * seen.workers)
    text = f"backlog of {seen.backlog_tokens} tokens drains in {_of_ttft(drain, config)}"
    return Signal(Reason.BACKLOG, drain / (config.queue_share * config.slo.ttft), text)


def _kv_usage(seen: PoolObservation, config: PlannerConfig) -> Signal:
    text = f"KV use {seen.kv_usage:.0%}, limit {config.kv_high:.0%}"
    return Signal(Reason.KV_USAGE, seen.kv_usage / config.kv_high, text)


def _waiting(seen: PoolObservation, config: PlannerConfig) -> Signal:
    text = f"{seen.waiting} requests wait for a place on {seen.workers} workers"
    return Signal(Reason.WAITING, seen.waiting / (config.waiting_per_worker * seen.workers), text)


def _attainment(
    reason: Reason, name: str, share: float | None, observation: Observation, config: PlannerConfig
) -> Signal | None:
    target = config.slo.attainment
    if share is None or share >= target or (observation.requests or 0) < config.min_requests:
        return None
    return Signal(
        reason, 1 + (target - share) / target, f"{name} met by {share:.0%} of requests, target {target:.0%}"
    )


def _busiest(pools: Sequence[PlannedPool], roles: Sequence[str], load: Mapping[str, float]) -> str | None:
    able = [
        pool for pool in pools if pool.role in roles and pool.name in load and pool.current < pool.maximum
    ]
    return max(able, key=lambda pool: load[pool.name]).name if able else None


def _of_ttft(seconds: float, config: PlannerConfig) -> str:
    return f"{seconds:.2f} s of {config.slo.ttft:.2f} s TTFT"
