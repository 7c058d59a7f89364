"""The planner: replicas per pool from one observation, the pools and the memory of earlier passes. Pure.

A pool grows when a signal stays at its limit (see `signals`): by as much as the signal exceeds it and at most
to double, by one if the signal is of the past. It shrinks one step at a time, after it has fitted into the
smaller size for a whole cool-down. It stays as it is while replicas start, while metrics still show a smaller
pool, while its queue is clearing, and when data is missing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tandem_operator.planner.memory import changed, is_settled, learn, refresh, seconds_to_clear
from tandem_operator.planner.shrink import obstacle
from tandem_operator.planner.signals import Signal, attainment_signals, load_signals, prefill_busy, worst
from tandem_operator.planner.types import (
    Decision,
    Missing,
    Observation,
    Plan,
    PlannedPool,
    PlannerConfig,
    PlannerState,
    PoolMemory,
    Reason,
)


@dataclass(frozen=True, slots=True)
class _Pass:
    observation: Observation
    pools: Sequence[PlannedPool]
    now: float
    config: PlannerConfig


_Outcome = tuple[Decision, PoolMemory]
_QUEUES = (Reason.QUEUE_WAIT, Reason.BACKLOG, Reason.WAITING)


def plan(
    observation: Observation | Missing,
    pools: Sequence[PlannedPool],
    state: PlannerState,
    now: float,
    config: PlannerConfig,
) -> Plan:
    """One decision per pool. `now` never goes back between passes; `state` is what the last pass returned."""
    outcomes = []
    for pool in pools:
        memory = refresh(state.pools.get(pool.name), pool, now, config)
        bounded = min(max(pool.current, pool.minimum), pool.maximum)
        if bounded != pool.current:
            text = f"outside the bounds {pool.minimum} to {pool.maximum}"
            outcomes.append((_to(pool, bounded, Reason.BOUNDS, text), changed(memory, bounded, now)))
        elif pool.current == 0:
            text = "scaled to zero; scale it up to have it planned"
            outcomes.append((_to(pool, 0, Reason.SCALED_TO_ZERO, text), memory))
        elif isinstance(observation, Missing):
            outcomes.append(_without_data(pool, memory, observation.text))
        else:
            outcomes.append(_decide(_Pass(observation, pools, now, config), pool, memory))
    memories = {decision.pool: memory for decision, memory in outcomes}
    return Plan(tuple(decision for decision, _ in outcomes), PlannerState(memories))


def _decide(at: _Pass, pool: PlannedPool, memory: PoolMemory) -> _Outcome:
    seen = at.observation.pools.get(pool.name)
    if seen is None:
        return _without_data(pool, memory, "no metrics from any worker of the pool")
    if at.observation.requests is None:
        return _without_data(pool, memory, "no metrics from any router")
    memory = learn(memory, seen, at.now, at.config)
    signals = load_signals(pool, seen, memory.prefill_rate, at.config)
    signal = worst(
        signals + attainment_signals(pool, at.observation, at.pools, memory.prefill_rate, at.config)
    )
    if signal.value >= 1:
        outcome = _grow(at, pool, replace(memory, over=memory.over + 1, fits_since=None), signal)
    else:
        outcome = _shrink(at, pool, replace(memory, over=0), signals)
    decision, memory = outcome
    queue = worst([s for s in signals if s.reason in _QUEUES])
    return decision, replace(memory, queue=(queue.value, at.now))


def _grow(at: _Pass, pool: PlannedPool, memory: PoolMemory, signal: Signal) -> _Outcome:
    wait = _reason_to_wait(at, pool, memory, signal)
    if wait:
        reason, text = wait
        return _to(pool, pool.current, reason, f"{signal.text}; {text}"), memory
    step = 1 if signal.lagging else max(1, math.ceil(pool.current * (min(signal.value, 2.0) - 1)))
    desired = min(pool.current + step, pool.maximum)
    rate = at.observation.pools[pool.name].rate
    return _to(pool, desired, signal.reason, signal.text), changed(memory, desired, at.now, rate)


def _reason_to_wait(
    at: _Pass, pool: PlannedPool, memory: PoolMemory, signal: Signal
) -> tuple[Reason, str] | None:
    now, config = at.now, at.config
    if pool.current >= pool.maximum:
        return Reason.AT_MAXIMUM, f"already at the maximum of {pool.maximum}"
    if memory.starting_since is not None and now - memory.starting_since < config.start_patience:
        return Reason.STARTING, f"{pool.current - pool.ready} of {pool.current} replicas are starting"
    if memory.over < config.confirmations:
        return Reason.CONFIRMING, f"seen {memory.over} of {config.confirmations} times"
    if memory.changed_at is not None and now - memory.changed_at < config.cooldown_up:
        return Reason.COOLDOWN, f"changed {now - memory.changed_at:.0f} s ago"
    if signal.lagging and not is_settled(memory, now, at.observation.window):
        return Reason.SETTLING, f"metrics of {at.observation.window:.0f} s still show the earlier size"
    seconds = seconds_to_clear(memory, signal.value, now)
    if signal.reason in _QUEUES and seconds < config.clearing:
        return Reason.SETTLING, f"gone in {seconds:.0f} s"
    return None


def _shrink(at: _Pass, pool: PlannedPool, memory: PoolMemory, signals: Sequence[Signal]) -> _Outcome:
    nearest = worst([*signals, *prefill_busy(pool, at.observation.pools[pool.name])])
    if nearest.value == 0:
        nearest = replace(nearest, text="idle")
    against = obstacle(nearest, pool, at.observation, memory, at.config)
    if against:
        return _to(pool, pool.current, Reason.STEADY, against), replace(memory, fits_since=None)
    fits_since = at.now if memory.fits_since is None else memory.fits_since
    quiet = at.now - max(fits_since, memory.changed_at if memory.changed_at is not None else fits_since)
    fits = f"{nearest.text}: {pool.current - 1} would do"
    if quiet < at.config.cooldown_down:
        text = f"{fits}, for {quiet:.0f} of {at.config.cooldown_down:.0f} s"
        return _to(pool, pool.current, Reason.COOLDOWN, text), replace(memory, fits_since=fits_since)
    decision = _to(pool, pool.current - 1, Reason.SURPLUS, f"{fits} for {quiet:.0f} s")
    return decision, changed(memory, decision.desired, at.now)


def _without_data(pool: PlannedPool, memory: PoolMemory, text: str) -> _Outcome:
    decision = _to(pool, pool.current, Reason.NO_DATA, text)
    return decision, replace(memory, over=0, fits_since=None)


def _to(pool: PlannedPool, desired: int, reason: Reason, text: str) -> Decision:
    return Decision(pool.name, pool.role, pool.current, desired, reason, text)
