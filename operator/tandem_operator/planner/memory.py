"""What the planner remembers of a pool between passes, and how that changes."""

import math
from dataclasses import replace

from tandem_operator.planner.types import (
    Floor,
    Limit,
    PlannedPool,
    PlannerConfig,
    PoolMemory,
    PoolObservation,
)


def refresh(memory: PoolMemory | None, pool: PlannedPool, now: float, config: PlannerConfig) -> PoolMemory:
    """The memory brought up to date with the pool. A change made elsewhere counts like an own one."""
    if memory is None:
        memory = PoolMemory(pool.current)
    if memory.current != pool.current:
        memory = changed(memory, pool.current, now)
    starting_since, settled_at = None, memory.settled_at
    if pool.ready < pool.current:
        starting_since = now if memory.starting_since is None else memory.starting_since
        if settled_at is not None and starting_since - settled_at < config.start_patience:
            settled_at = now
    limits = {size: limit for size, limit in memory.limits.items() if now - limit.at < config.remember}
    return replace(memory, starting_since=starting_since, settled_at=settled_at, limits=limits)


def learn(memory: PoolMemory, seen: PoolObservation, now: float, config: PlannerConfig) -> PoolMemory:
    """What this observation tells of the hardware: the speed of prefill, and the shortest decode step."""
    floor, step = memory.step_floor, seen.decode_step
    if step is not None and (floor is None or step < floor.seconds or now - floor.at > config.remember):
        floor = Floor(step, now)
    return replace(memory, prefill_rate=seen.prefill_rate or memory.prefill_rate, step_floor=floor)


def is_settled(memory: PoolMemory, now: float, window: float) -> bool:
    """Whether metrics over `window` speak of the pool as it is. One that never starts is passed over."""
    return memory.settled_at is None or memory.starting_since is not None or now - memory.settled_at >= window


def seconds_to_clear(memory: PoolMemory, queue: float, now: float) -> float:
    """When the queue is gone if it goes on falling as since the last pass; infinite if it does not fall."""
    if memory.queue is None:
        return math.inf
    before, at = memory.queue
    return queue * (now - at) / (before - queue) if queue < before else math.inf


def changed(memory: PoolMemory, replicas: int, now: float, rate: float | None = None) -> PoolMemory:
    """The pool goes to `replicas`. `rate`: requests per second that the earlier size was too small for."""
    limits = memory.limits
    if rate is not None:
        known = limits.get(memory.current)
        limits = {**limits, memory.current: Limit(min(rate, known.rate) if known else rate, now)}
    grew = replicas > memory.current
    return replace(
        memory,
        current=replicas,
        changed_at=now,
        settled_at=now if grew else memory.settled_at,
        over=0,
        fits_since=None,
        limits=limits,
    )
